"""Kept connections are closed when they should be, and the last response says so.

Four things that Quart-Trio and Hypercorn leave undone between them:

- Quart-Trio cancels a request's tasks as soon as Hypercorn reports the response as sent, which is in the middle
  of Hypercorn's bookkeeping: the connection's idle timer would never be started, so that the connection was closed
  neither after KEEP_ALIVE_SECONDS nor at a shutdown. So that report is held back until the last send of the
  response has returned, but not for long: it may also mean that a client of HTTP/2 has left, whose answer nobody
  will take.
- After an answer that is given before the body was read (a 404, a 413), Hypercorn closes the connection. If the
  rest of the body does not come soon, the answer says so, and the client does not send its next request in vain.
- Hypercorn's idle timer is a task that is started after each response and stopped before the next, and outlives
  the connection. `IdleTimer` is one task per connection, which looks at when the connection was last used.
- Once the process is to stop, each response closes its connection; otherwise a client that keeps sending would
  hold the shutdown up.

It could go if Quart-Trio let the report of a sent response end before it cancels, and Hypercorn closed idle
connections when it stops.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
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

from web.hypercorn.streamed_body import no_more_wanted, room_for_more

REST_OF_BODY_SECONDS = 1.0
BOOKKEEPING_SECONDS = 1.0


class IdleTimer:
    """Closes a connection that is idle for too long, or when the process stops. Takes the place of Hypercorn's.

    `since`: the time (trio's) at which the connection became idle; infinite while it is at work.
    """

    def __init__(
        self, seconds: float, terminated: Event, close: Callable[[], Awaitable[None]], cut_off: Callable[[], None]
    ) -> None:
        """`cut_off` is called when the connection is cancelled: Hypercorn's sends are shielded and would go on."""
        self.since = inf
        self._seconds = seconds
        self._terminated = terminated
        self._close = close
        self._cut_off = cut_off
        self._scope: trio.CancelScope | None = None
        self._at_rest = trio.Event()

    async def restart(self, task_group: TaskGroup, _: object) -> None:
        """Note that the connection is idle from now on."""
        self.since = trio.current_time()
        if self._scope is None:
            self._scope = trio.CancelScope()
            task_group.spawn(self._run, self._scope)
        elif self._terminated.is_set():
            self._at_rest.set()

    async def stop(self) -> None:
        """Note that the connection is at work."""
        self.since = inf

    @contextmanager
    def running(self) -> Iterator[None]:
        """End the timer with the block. If the block is cancelled, so is the timer, which then calls `cut_off`."""
        try:
            yield
        except trio.Cancelled:
            raise
        except BaseException:
            self._end()
            raise
        self._end()

    def _end(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def _run(self, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self._due()
            except trio.Cancelled:
                if not scope.cancel_called:
                    self._cut_off()
                raise
            with trio.CancelScope(shield=True):
                await self._close()

    async def _due(self) -> None:
        while not self._terminated.is_set() and (left := self.since + self._seconds - trio.current_time()) > 0:
            with trio.move_on_after(min(left, self._seconds)):
                await self._terminated.wait()
        if self.since == inf:  # the process stops, and this connection is at work
            await self._at_rest.wait()


def ending_connections(app: ASGIFramework, stop: trio.Event) -> ASGIFramework:
    """The application, with connections closed as described above. `stop`: set when the process is to end."""

    async def asgi(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        exchange = _Exchange(scope, receive, send, stop)
        await app(scope, exchange.receive, exchange.send)

    return asgi


class _Exchange:
    """A request and its response."""

    def __init__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable, stop: trio.Event
    ) -> None:
        self._scope, self._receive, self._send, self._stop = scope, receive, send, stop
        self._whole, self._ending, self._ended = trio.Event(), trio.Event(), trio.Event()

    async def receive(self) -> ASGIReceiveEvent:
        await room_for_more(self._scope)
        event = await self._receive()
        if event["type"] == "http.disconnect" and self._ending.is_set():
            with trio.move_on_after(BOOKKEEPING_SECONDS):
                await self._ended.wait()
        if event["type"] != "http.request" or not event.get("more_body", False):
            self._whole.set()
        return event

    async def send(self, event: ASGISendEvent) -> None:
        if event["type"] == "http.response.start":
            no_more_wanted(self._scope)
            if await self._closes():
                event["headers"] = [*event["headers"], (b"connection", b"close")]
        last = event["type"] == "http.response.body" and not event.get("more_body", False)
        if last:
            self._ending.set()
        await self._send(event)
        if last:
            self._ended.set()

    async def _closes(self) -> bool:
        if self._scope["type"] == "http" and not self._whole.is_set():
            with trio.move_on_after(REST_OF_BODY_SECONDS):
                await self._whole.wait()  # Quart goes on reading meanwhile
        return self._stop.is_set() or (self._scope["type"] == "http" and not self._whole.is_set())
