"""Kept connections end when they should, and say so.

Four things that Quart-Trio and Hypercorn leave undone between them:

- Quart-Trio cancels a request's tasks as soon as Hypercorn reports the response as sent, which is in the middle
  of Hypercorn's own bookkeeping: the connection's idle timer would never be started, so that it closed neither
  after KEEP_ALIVE_SECONDS nor at a shutdown. The last send of a response is shielded.
- An answer given before the body was read (a 404, a 413) makes Hypercorn close the connection. Where the rest of
  the body does not come soon, the answer says so, and a client does not send its next request in vain.
- A timer that is a task is started after each response and stopped before the next, and outlives the connection;
  `IdleTimer` is one task a connection, which looks at when the connection was last used.
- Once the process is to stop, each response closes its connection; a client that keeps sending would otherwise
  hold the shutdown up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf

import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    Event,
    Scope,
    TaskGroup,
)

from web.streamed_body import no_more_wanted, room_for_more

REST_OF_BODY_SECONDS = 1.0


class IdleTimer:
    """In the place of Hypercorn's: closes a connection that is idle for too long, or when the process stops.

    `since`: trio's time at which the connection became idle, infinite while it is at work.
    """

    def __init__(self, seconds: float, terminated: Event, close: Callable[[], Awaitable[None]]) -> None:
        self.since = inf
        self._seconds = seconds
        self._terminated = terminated
        self._close = close
        self._scope: trio.CancelScope | None = None

    async def restart(self, task_group: TaskGroup, _: object) -> None:
        """The connection is idle from now on."""
        self.since = trio.current_time()
        if self._scope is None:
            self._scope = trio.CancelScope()
            task_group.spawn(self._run, self._scope)

    async def stop(self) -> None:
        """The connection is at work."""
        self.since = inf

    def end(self) -> None:
        """The connection has ended."""
        if self._scope is not None:
            self._scope.cancel()

    async def _run(self, scope: trio.CancelScope) -> None:
        with scope:
            while not self._terminated.is_set() and (left := self.since + self._seconds - trio.current_time()) > 0:
                with trio.move_on_after(min(left, self._seconds)):
                    await self._terminated.wait()
            if self.since < inf:
                with trio.CancelScope(shield=True):
                    await self._close()


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
