"""A client that requests a large answer and reads it slowly."""

from __future__ import annotations

import socket

import msgspec
import trio

from loadtest.machine.messages import head_of
from loadtest.machine.requests import serve
from loadtest.workloads.shape import Shape, feature_id

SIP_BYTES = 4_096
SIP_SECONDS = 0.1
MOST_ENTITIES = 10_000
"""The service's limit of one read."""


class Sipped(msgspec.Struct):
    """What slow readers received."""

    bytes: int = 0
    answers: int = 0
    failures: int = 0


def large_read(shape: Shape) -> bytes:
    """The latest values of as many entities as may be read at once."""
    ids = [shape.entity_id(entity) for entity in range(min(shape.population, MOST_ENTITIES))]
    features = [feature_id(feature) for feature in range(shape.features)]
    return serve(ids, features)


async def read_slowly(host: str, port: int, request: bytes, sipped: Sipped) -> None:
    """Request and read at 40 KB/s, until cancelled or refused. The window is small: the service has to wait."""
    try:
        with trio.socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SIP_BYTES)
            await connection.connect((host, port))
            while True:
                await _send_all(connection, request)
                await _sip_answer(connection, sipped)
    except OSError:
        sipped.failures += 1


async def _sip_answer(connection: trio.socket.SocketType, sipped: Sipped) -> None:
    """One answer to its end. Raises ConnectionError if it is not HTTP, or not 200."""
    head, begun, had = None, b"", 0
    while head is None or had < head.end + (head.length or 0):
        await trio.sleep(SIP_SECONDS)
        sip = await connection.recv(SIP_BYTES)
        if not sip:
            raise ConnectionError("closed in the middle of an answer")
        had += len(sip)
        sipped.bytes += len(sip)
        if head is None:
            begun += sip
            head = head_of(begun)
            if head is not None and head.status != 200:
                raise ConnectionError(f"a large read was answered with {head.status}")
    sipped.answers += 1


async def _send_all(connection: trio.socket.SocketType, request: bytes) -> None:
    while request:
        request = request[await connection.send(request) :]
