"""The gate: every request passes it on the way to a handler, whichever lane it takes.

A request enters, is inside while it is answered, and leaves. `Gate.enter` is the only place that decides who
may enter. The bytes of bodies and the outcomes of requests are counted here, for both lanes. The fast lane
(`fastlane.py`) calls `enter` itself; for all other requests the gate is the ASGI application.

The gate exists from the first moment: until the storage is open, it answers that the process is alive and not
ready.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import trio
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope

from actors.errors import TimewellError, Unavailable
from timewell.wire import Health
from web.bodies.encodings import decoding_bodies
from web.bodies.requests import JSON_TYPE
from web.errors import answer_to
from web.hypercorn.admission import BodiesUnderWay, BodyUnderWay, counted, refuse, say
from web.hypercorn.keepalive import ending_connections
from web.hypercorn.streamed_body import ROUTE_KEY
from web.traffic import NONE, Traffic

log = logging.getLogger("timewell.requests")
VISIT_KEY = "timewell.visit"
_ABOUT_HEALTH = {"/health/live": (200, Health("live")), "/health/ready": (503, Health("waiting for the storage"))}


class Head(NamedTuple):
    """What the gate sees of a request. `headers`: those in `Gate.looked_at`, by name in lower case."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]


class Visit:
    """A request inside the gate. `status`: of its answer, 0 while there is none."""

    __slots__ = ("_asked", "_began", "_traffic", "_turned_back", "body", "status")

    def __init__(self, gate: Gate, asked: Head, connection: object) -> None:
        self.status = 0
        self.body = BodyUnderWay(gate.bodies, connection)
        self._asked, self._traffic = asked, gate.traffic
        self._began = time.perf_counter()
        self._turned_back = False

    def turn_back(self) -> None:
        """Hand the request over to the other lane, where it enters anew and is counted."""
        self._turned_back = True

    def leave(self, route: str | None) -> None:
        """End the visit: it was answered, or its client has left. `route`: the matched pattern, if any."""
        self.body.end()
        if self._turned_back:
            return
        # Without a route the client may invent any method; each would be a label of its own in the metrics.
        method = self._asked.method if route else NONE
        took = time.perf_counter() - self._began
        self._traffic.seen(method, self._asked.path, route or NONE, self.status, took)


class Gate:
    """The gate of the process. `traffic`, `bodies`: of all requests. `stop`: set when the process is to end."""

    looked_at: frozenset[bytes] = frozenset()
    """Header fields that `enter` looks at, in lower case. Both lanes pass these on, and only these."""

    def __init__(self, stop: trio.Event) -> None:
        self.traffic = Traffic()
        self.bodies = BodiesUnderWay()
        self.stop = stop
        self._app: ASGIFramework | None = None

    def open(self, app: ASGIFramework) -> None:
        """Have the application answer requests from now on."""
        self._app = ending_connections(decoding_bodies(_counting(app)), self.stop)

    def enter(self, asked: Head, connection: object) -> Visit:
        """Let a request in, or raise the TimewellError that is its answer."""
        if self._app is None and asked.path not in _ABOUT_HEALTH:
            raise Unavailable("the service is starting: its storage is not open yet")
        return Visit(self, asked, connection)

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer a request as an ASGI application: the lane of all requests but the hot ones."""
        if scope["type"] == "websocket":  # possible over HTTP/2; no route speaks it
            await send({"type": "websocket.close", "code": 1000, "reason": None})
        if scope["type"] != "http":
            return
        headers = {name: value for name, value in scope["headers"] if name in self.looked_at}
        asked = Head(scope["method"], scope["path"], headers)
        try:
            visit = self.enter(asked, scope.get("client") or object())
        except TimewellError as error:
            await self._turn_away(asked, error, send)
            return

        async def sending(event: ASGISendEvent) -> None:
            if event["type"] == "http.response.start":
                visit.status = event["status"]
            await send(event)

        about: Any = scope
        about[VISIT_KEY] = visit
        try:
            await (self._app or _starting)(scope, receive, sending)
        except* Exception as group:
            await _fail(asked, visit, group, sending)
        finally:
            route = about.get(ROUTE_KEY)
            visit.leave(None if route is None else str(route))

    async def _turn_away(self, asked: Head, error: TimewellError, send: ASGISendCallable) -> None:
        began, answer = time.perf_counter(), answer_to(error)
        await refuse(send, answer)
        self.traffic.seen(NONE, asked.path, NONE, answer.status, time.perf_counter() - began)


async def _fail(asked: Head, visit: Visit, group: BaseExceptionGroup[Exception], send: ASGISendCallable) -> None:
    """Answer a failure that the application left over, or say in the log why its answer ends too early.

    A status that is sent cannot be taken back. Hypercorn ends the connection, or with HTTP/2 resets the stream, so
    that no client takes the part for the whole.
    """
    error = _first(group)
    if not visit.status:
        await refuse(send, answer_to(error))
        return
    reason = error.detail if isinstance(error, TimewellError) else "an unexpected error"
    unexpected = None if isinstance(error, TimewellError) else group
    log.error("%s %s: the answer was cut off: %s", asked.method, asked.path, reason, exc_info=unexpected)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error: Exception | BaseExceptionGroup[Exception] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _counting(app: ASGIFramework) -> ASGIFramework:
    """The application, with the bytes of request bodies counted as they reach it."""

    async def asgi(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        about: Any = scope
        visit: Visit = about[VISIT_KEY]
        await app(scope, counted(scope, receive, visit.body), send)

    return asgi


async def _starting(scope: Scope, _: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """The application behind the gate until the storage is open: it answers the health routes only."""
    about: Any = scope
    status, health = _ABOUT_HEALTH[about["path"]]
    await say(send, status, msgspec.json.encode(health), JSON_TYPE)
