"""Kept connections end when they should, and say so.

Three things that Quart-Trio and Hypercorn leave undone between them:

- Quart-Trio cancels a request's tasks as soon as Hypercorn reports the response as sent, which is in the middle
  of Hypercorn's own bookkeeping: the connection's idle timer would never be started, so that it closed neither
  after KEEP_ALIVE_SECONDS nor at a shutdown. The last send of a response is shielded.
- An answer given before the body was read (a 404, a 413) makes Hypercorn close the connection. Where the rest of
  the body does not come soon, the answer says so, and a client does not send its next request in vain.
- Once the process is to stop, each response closes its connection; a client that keeps sending would otherwise
  hold the shutdown up.
"""

from __future__ import annotations

import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)

from web.streamed_body import no_more_wanted, room_for_more

REST_OF_BODY_SECONDS = 1.0


def ending_connections(app: ASGIFramework, stop: trio.Event) -> ASGIFramework:
    """The application with well-behaved connections; `stop` is set when the process is to end."""

    async def asgi(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        whole = trio.Event()

        async def receive_well() -> ASGIReceiveEvent:
            await room_for_more(scope)
            event = await receive()
            if event["type"] != "http.request" or not event.get("more_body", False):
                whole.set()
            return event

        async def send_well(event: ASGISendEvent) -> None:
            if event["type"] == "http.response.body" and not event.get("more_body", False):
                with trio.CancelScope(shield=True):
                    await send(event)
                return
            if event["type"] == "http.response.start":
                no_more_wanted(scope)
                if await _closes():
                    event["headers"] = [*event["headers"], (b"connection", b"close")]
            await send(event)

        async def _closes() -> bool:
            if scope["type"] == "http" and not whole.is_set():
                with trio.move_on_after(REST_OF_BODY_SECONDS):
                    await whole.wait()  # Quart goes on reading meanwhile
            return stop.is_set() or (scope["type"] == "http" and not whole.is_set())

        await app(scope, receive_well, send_well)

    return asgi
