"""Server-sent events (the HTML standard, section 9.2): `id`, `event` and `data` of each event as it happens."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import trio

from actors.monitoring.events import Event, Events
from actors.timestamps import format_timestamp

HEARTBEAT_SECONDS = 15.0
"""A comment this often keeps proxies from closing a quiet connection, and detects that the client has gone."""


async def stream(events: Events, after: int | None) -> AsyncIterator[bytes]:
    """The events as text: from now on, or those that follow the event id `after`. Ends when the process stops."""
    with events.listening(after) as incoming:
        yield b": listening\n\n"
        while True:
            event: Event | None = None
            with trio.move_on_after(HEARTBEAT_SECONDS):
                try:
                    event = await anext(incoming)
                except StopAsyncIteration:
                    return
            yield b": still here\n\n" if event is None else _text(event)


def _text(event: Event) -> bytes:
    data = msgspec.json.encode({"time": format_timestamp(event.id), **event.data})
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.id, event.kind.encode(), data)
