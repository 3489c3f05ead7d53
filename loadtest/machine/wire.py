"""An HTTP/1.1 client on trio with little overhead: prepared bytes out, status and body in.

A plain non-blocking socket and one wait per request. Of an answer it reads only the status, the length and
whether the connection closes. Not supported: pipelining, TLS, HEAD requests, trailers.
"""

from __future__ import annotations

import socket

import trio

from loadtest.machine.messages import Answer, Head, head_of

_CHUNK_BYTES = 65_536


async def connect(host: str, port: int) -> Wire:
    """A connection with Nagle's delay turned off. Raises OSError."""
    return Wire(host, port, await _opened(host, port))


class Wire:
    """A persistent connection for one request at a time.

    After the server closes it, an error or a cancelled `ask`, the next request opens a new one.
    """

    __slots__ = ("_host", "_port", "_socket")

    def __init__(self, host: str, port: int, opened: socket.socket) -> None:
        self._host, self._port = host, port
        self._socket: socket.socket | None = opened

    async def ask(self, request: bytes) -> Answer:
        """Send a request and receive its answer.

        Raises OSError if the connection fails or ends too soon, ConnectionError (a subclass) also if the answer
        is not HTTP.
        """
        try:
            if self._socket is None:
                self._socket = await _opened(self._host, self._port)
            connection = self._socket
            try:
                sent = connection.send(request)
            except BlockingIOError:
                sent = 0
            if sent < len(request):
                await _send_rest(connection, request, sent)
            received = await _receive(connection)
            while (head := head_of(received)) is None:
                received += await _receive(connection)
            body = received[head.end :]
            if head.length != len(body):
                body = await _whole_body(connection, head, body)
        except BaseException:
            self._close()
            raise
        if head.closes:
            self._close()
        return Answer(head.status, body)

    async def aclose(self) -> None:
        self._close()
        await trio.lowlevel.checkpoint()

    def _close(self) -> None:
        if self._socket is not None:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._socket = None


async def _opened(host: str, port: int) -> socket.socket:
    opened = trio.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await opened.connect((host, port))
    except BaseException:
        opened.close()
        raise
    plain = socket.socket(opened.family, opened.type, opened.proto, fileno=opened.detach())
    plain.setblocking(False)
    return plain


async def _send_rest(connection: socket.socket, request: bytes, sent: int) -> None:
    rest = memoryview(request)
    while sent < len(rest):
        await trio.lowlevel.wait_writable(connection)
        try:
            sent += connection.send(rest[sent:])
        except BlockingIOError:
            continue


async def _receive(connection: socket.socket) -> bytes:
    """At least one byte."""
    while True:
        await trio.lowlevel.wait_readable(connection)
        try:
            received = connection.recv(_CHUNK_BYTES)
        except BlockingIOError:
            continue
        if not received:
            raise ConnectionError("the connection was closed before the answer was complete")
        return received


async def _whole_body(connection: socket.socket, head: Head, begun: bytes) -> bytes:
    if head.length is None:
        return await _unchunked(connection, begun)
    if len(begun) > head.length:
        raise ConnectionError("more came than the answer declared")
    body = bytearray(head.length)
    body[: len(begun)] = begun
    rest = memoryview(body)[len(begun) :]
    while rest:
        await trio.lowlevel.wait_readable(connection)
        try:
            count = connection.recv_into(rest)
        except BlockingIOError:
            continue
        if not count:
            raise ConnectionError("the connection was closed in the middle of a body")
        rest = rest[count:]
    return bytes(body)


async def _unchunked(connection: socket.socket, begun: bytes) -> bytes:
    """The body of a chunked answer."""
    received, at = bytearray(begun), 0
    parts: list[bytes] = []
    while True:
        line = received.find(b"\r\n", at)
        if line < 0:
            received += await _receive(connection)
            continue
        try:
            size = int(received[at:line].partition(b";")[0], 16)
        except ValueError:
            raise ConnectionError("not a chunk") from None
        start, at = line + 2, line + 4 + size
        while len(received) < at:
            received += await _receive(connection)
        if not size:
            return b"".join(parts)
        parts.append(bytes(received[start : start + size]))
