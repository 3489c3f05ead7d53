"""Compressed request bodies: gzip is decompressed in small pieces, as the handler takes them.

So the limits on bodies hold for the decompressed bytes, and a body over the limit is refused before it is
decompressed any further.
"""

from __future__ import annotations

import zlib
from http import HTTPStatus

import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    HTTPScope,
    Scope,
)

from actors.errors import InvalidInput
from web.errors import PROBLEM_TYPE, problem
from web.hypercorn.admission import say
from web.hypercorn.streamed_body import refuse_body

_TAKEN = ("gzip", "x-gzip")
_PIECE_BYTES = 64 * 1024
_BODY_SECONDS = 1.0
_GZIP = 16 + zlib.MAX_WBITS


def decoding_bodies(app: ASGIFramework) -> ASGIFramework:
    """The application, with request bodies decompressed."""

    async def asgi(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == b"content-encoding"]
        coding = b",".join(given).decode("latin-1").strip().lower()
        if coding in ("", "identity"):
            await app(scope, receive, send)
        elif coding in _TAKEN:
            about = (b"content-encoding", b"content-length")
            scope["headers"] = [header for header in scope["headers"] if header[0] not in about]
            await app(scope, _Unzipped(scope, receive).receive, send)
        else:
            await _pass_over(receive)
            status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
            body = problem(status, f"Content-Encoding: {coding} is not taken; send gzip, or the body as it is")
            await say(send, status, body, PROBLEM_TYPE, (b"accept-encoding", b"gzip, identity"))

    return asgi


async def _pass_over(receive: ASGIReceiveCallable) -> None:
    """Read and drop the body, if it arrives soon: then the connection can stay open."""
    with trio.move_on_after(_BODY_SECONDS):
        while (event := await receive())["type"] == "http.request" and event.get("more_body", False):
            pass


class _Unzipped:
    """The events of a request, its body decompressed."""

    def __init__(self, scope: HTTPScope, receive: ASGIReceiveCallable) -> None:
        self._scope = scope
        self._receive = receive
        self._unzip = zlib.decompressobj(_GZIP)
        self._waiting = b""
        self._begun = self._more = self._last = self._over = False

    async def receive(self) -> ASGIReceiveEvent:
        """The next piece of the body, or another event, such as a disconnect."""
        while not self._over:
            if self._waiting or self._more:
                try:
                    piece = self._next_piece()
                except zlib.error as error:
                    return self._refused(str(error).rpartition(": ")[2])
                await trio.lowlevel.checkpoint()  # even if the piece is empty
                if piece:
                    return _body(piece, more=True)
            elif self._last:
                if self._begun and not self._unzip.eof:
                    return self._refused("it ends too early")
                self._over = True
                return _body(b"", more=False)
            else:
                event = await self._receive()
                if event["type"] != "http.request":
                    return event
                self._waiting, self._last = bytes(event.get("body", b"")), not event.get("more_body", False)
        return await self._rest()

    def _next_piece(self) -> bytes:
        if self._unzip.eof:  # another gzip member follows
            self._unzip = zlib.decompressobj(_GZIP)
        self._begun = True
        piece = self._unzip.decompress(self._waiting, _PIECE_BYTES)
        self._waiting = self._unzip.unused_data if self._unzip.eof else self._unzip.unconsumed_tail
        self._more = len(piece) == _PIECE_BYTES and not self._unzip.eof
        return piece

    def _refused(self, why: str) -> ASGIReceiveEvent:
        self._over = True
        refuse_body(self._scope, InvalidInput(f"the body is not valid gzip: {why}"))
        return _body(b"", more=not self._last)

    async def _rest(self) -> ASGIReceiveEvent:
        event = await self._receive()
        return event if event["type"] != "http.request" else _body(b"", more=bool(event.get("more_body", False)))


def _body(data: bytes, more: bool) -> ASGIReceiveEvent:
    return {"type": "http.request", "body": data, "more_body": more}
