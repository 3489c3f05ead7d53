"""A listener that answers with the bytes it is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

Talk = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[int]:
    """The port of a loopback listener that talks in this way with each client."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, talk, [listener])
        yield int(listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()
