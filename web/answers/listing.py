"""Lists of any length: a long one goes out in pieces, each encoded once the client has taken the one before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

import msgspec
import trio
from quart import Response

from actors.settings import LISTED_BYTES_PER_TURN, SLICE_BYTES
from web.bodies.requests import JSON_TYPE, said

_BYTES_OF_ANY = 512
"""Each item counts for at least this many bytes: making it takes as long as encoding them."""


async def listed(lists: Mapping[str, Iterable[object]], more: Mapping[str, object] | None = None) -> Response:
    """The answer `{name: [item, ...], ..., **more}`. The iterables of `lists` may make their items lazily."""
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
    """The next piece, empty after the last one. Each time `pieces` yields an empty one, other tasks get a turn."""
    for piece in pieces:
        if piece:
            return piece
        await trio.lowlevel.checkpoint()
    return b""


def _pieces(lists: Mapping[str, Iterable[object]], more: Mapping[str, object]) -> Iterator[bytes]:
    """The text in pieces; an empty piece means that other tasks may have a turn."""
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
