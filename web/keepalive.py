"""Kept connections end when they should: after their time, and at a shutdown.

Quart-Trio cancels a request's tasks as soon as Hypercorn reports the response as sent, which is in the middle
of Hypercorn's own bookkeeping for that connection: its idle timer would never be started, and the connection
neither closed after KEEP_ALIVE_SECONDS nor at a shutdown. So the last send of a response is shielded. And
once the process is to stop, each response closes its connection; a client that keeps sending would otherwise
hold the shutdown up.
"""

from __future__ import annotations

import trio
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope


def ending_connections(app: ASGIFramework, stop: trio.Event) -> ASGIFramework:
    """The application with well-behaved connections; `stop` is set when the process is to end."""

    async def asgi(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def send_well(event: ASGISendEvent) -> None:
            if event["type"] == "http.response.body" and not event.get("more_body", False):
                with trio.CancelScope(shield=True):
                    await send(event)
                return
            if event["type"] == "http.response.start" and stop.is_set():
                event["headers"] = [*event["headers"], (b"connection", b"close")]
            await send(event)

        await app(scope, receive, send_well)

    return asgi
