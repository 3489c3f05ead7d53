"""Lists of whatever length: what is long goes out in pieces, each made once the client has the one before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

import msgspec
import trio
from quart import Response

from actors.settings import LISTED_BYTES_PER_TURN, SLICE_BYTES
from web.bodies.requests import JSON_TYPE, said

_BYTES_OF_ANY = 512
"""An item counts for at least so many bytes: to make it takes as long as to encode these."""


async def listed(lists: Mapping[str, Iterable[object]], more: Mapping[str, object] | None = None) -> Response:
    """`{"name": [...], ...}`, and what else there is. Items may be made as they are asked for."""
    pieces = _pieces(lists, more or {})
    first, second = await _next(pieces), await _next(pieces)
    if not second:
        return said(first)
    response = Response(_joined(first, second, pieces), 200, content_type=JSON_TYPE)
    response.timeout = None
    return response


async def _joined(first: bytes, second: bytes, rest: Iterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    while second:
        yield second
        second = await _next(rest)


async def _next(pieces: Iterator[bytes]) -> bytes:
    """The next piece, nothing after the last; others have their turn where there is none yet."""
    for piece in pieces:
        if piece:
            return piece
        await trio.lowlevel.checkpoint()
    return b""


def _pieces(lists: Mapping[str, Iterable[object]], more: Mapping[str, object]) -> Iterator[bytes]:
    """All the text, with nothing where others may have their turn."""
    text, done, before = bytearray(), 0, b"{"
    for name, items in lists.items():
        text += before + msgspec.json.encode(name) + b":["
        before = b""
        for item in items:
            encoded = msgspec.json.encode(item)
            text += before + encoded
            before, done = b",", done + max(len(encoded), _BYTES_OF_ANY)
            if done > LISTED_BYTES_PER_TURN:
                yield b""
                done = 0
            if len(text) > SLICE_BYTES:
                yield bytes(text)
                text.clear()
        text += b"]"
        before = b","
    for name, value in more.items():
        text += b"," + msgspec.json.encode(name) + b":" + msgspec.json.encode(value)
    yield bytes(text) + b"}"
