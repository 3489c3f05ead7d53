"""A keep-alive HTTP/1.1 connection that costs the driver next to nothing: ready-made bytes out, bytes in."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any, Self

import msgspec

TIMEOUT_SECONDS = 60.0
Address = tuple[str, int]


def get(path: str) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, body: Any) -> bytes:
    """A POST request with a JSON body."""
    data = msgspec.json.encode(body)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


class Connection:
    """One connection; requests go one after the other. A context manager."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._address, TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """The body of the answer. Raises RuntimeError with it where the status is not 2xx."""
        self._socket.sendall(request)
        received = self._receive()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        head, body = bytes(received[:end]).lower(), received[end + 4 :]
        missing = _content_length(head) - len(body)
        while missing > 0:
            more = self._receive()
            missing -= len(more)
            body += more
        if not head.startswith(b"http/1.1 2"):
            raise RuntimeError(bytes(body).decode(errors="replace")[:1_000])
        if b"\r\nconnection: close" in head:  # servers limit how many requests a connection may make
            self._socket.close()
            self._connect()
        return bytes(body)

    def _receive(self) -> bytearray:
        received = self._socket.recv(262_144)
        if not received:
            raise ConnectionError("the service closed the connection")
        return bytearray(received)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._socket.close()


def _content_length(head: bytes) -> int:
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if not found:
        raise RuntimeError("the answer has no Content-Length")
    return int(rest.partition(b"\r\n")[0])
