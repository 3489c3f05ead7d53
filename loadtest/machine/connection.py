"""A blocking, persistent HTTP/1.1 connection with little overhead: prepared bytes out, bytes in."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from loadtest.machine.messages import Address, Answer, head_of

TIMEOUT_SECONDS = 60.0
_CHUNK_BYTES = 262_144


class Connection:
    """One connection; requests go one after the other. A context manager."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._address, TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """The body of the answer. Raises RuntimeError with its beginning if the status is not 2xx."""
        self._socket.sendall(request)
        received = self._receive()
        while (head := head_of(received)) is None:
            received += self._receive()
        if head.length is None:
            raise RuntimeError("the answer has no Content-Length")
        if len(received) < (end := head.end + head.length):
            whole = bytearray(received)
            while len(whole) < end:
                whole += self._receive()
            received = bytes(whole)
        if head.closes:  # servers limit how many requests a connection may make
            self._socket.close()
            self._connect()
        return Answer(head.status, received[head.end :]).good()

    def _receive(self) -> bytes:
        received = self._socket.recv(_CHUNK_BYTES)
        if not received:
            raise ConnectionError("the service closed the connection")
        return received

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def together(addresses: Sequence[Address], requests: Sequence[bytes], connections: int) -> float:
    """Seconds until all requests are answered, shared out among connections, which use the services in turn."""

    def ask(number: int) -> None:
        with Connection(addresses[number % len(addresses)]) as connection:
            for request in requests[number::connections]:
                connection.ask(request)

    with ThreadPoolExecutor(connections) as pool:
        began = time.perf_counter()
        list(pool.map(ask, range(connections)))
        return time.perf_counter() - began
