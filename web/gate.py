"""The gate: no request comes to a handler but through it, whichever lane it takes.

A request enters, is inside while it is answered, and leaves. What keeps it out is said in `Gate.enter` and nowhere
else; what is known of those inside, the bytes of their bodies and how they fare, is known of both lanes. The fast
lane (`fastlane.py`) enters by itself; for all other requests the gate is the ASGI application.

It stands from the first moment: until the service is behind it, the process is alive and not ready.
"""

from __future__ import annotations

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

VISIT_KEY = "timewell.visit"
_ABOUT_HEALTH = {"/health/live": (200, Health("live")), "/health/ready": (503, Health("waiting for the storage"))}


class Head(NamedTuple):
    """What the gate knows of a request. `headers`: those of `Gate.looked_at`, by their names in lower case."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]


class Visit:
    """A request inside. `status`: that of its answer, 0 while there is none."""

    __slots__ = ("_asked", "_began", "_traffic", "_turned_back", "body", "status")

    def __init__(self, gate: Gate, asked: Head, connection: object) -> None:
        self.status = 0
        self.body = BodyUnderWay(gate.bodies, connection)
        self._asked, self._traffic = asked, gate.traffic
        self._began = time.perf_counter()
        self._turned_back = False

    def turn_back(self) -> None:
        """It is to take the other lane, where it enters anew."""
        self._turned_back = True

    def leave(self, route: str | None) -> None:
        """It has been answered, or its client has left. `route`: the pattern of its path, if it leads anywhere."""
        self.body.end()
        if self._turned_back:
            return
        # What is not routed has a name of the client's making, of which there is no end.
        method = self._asked.method if route else NONE
        took = time.perf_counter() - self._began
        self._traffic.seen(method, self._asked.path, route or NONE, self.status, took)


class Gate:
    """One for the process. `traffic`, `bodies`: of all requests; `stop` is set when the process is to end."""

    looked_at: frozenset[bytes] = frozenset()
    """Header fields that `enter` looks at, in lower case: each lane hands on these."""

    def __init__(self, stop: trio.Event) -> None:
        self.traffic = Traffic()
        self.bodies = BodiesUnderWay()
        self.stop = stop
        self._app: ASGIFramework | None = None

    def open(self, app: ASGIFramework) -> None:
        """From now on requests are answered by the application."""
        self._app = ending_connections(decoding_bodies(_counting(app)), self.stop)

    def enter(self, asked: Head, connection: object) -> Visit:
        """Let a request in. Raises a TimewellError, which is its answer, where it may not."""
        if self._app is None and asked.path not in _ABOUT_HEALTH:
            raise Unavailable("the service is starting: its storage is not open yet")
        return Visit(self, asked, connection)

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """The lane of all requests but the hot ones."""
        if scope["type"] == "websocket":  # by HTTP/2; none is spoken
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
        finally:
            route = about.get(ROUTE_KEY)
            visit.leave(None if route is None else str(route))

    async def _turn_away(self, asked: Head, error: TimewellError, send: ASGISendCallable) -> None:
        began, answer = time.perf_counter(), answer_to(error)
        await refuse(send, answer)
        self.traffic.seen(NONE, asked.path, NONE, answer.status, time.perf_counter() - began)


def _counting(app: ASGIFramework) -> ASGIFramework:
    """The application, for which the bytes of bodies count as they reach it."""

    async def asgi(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        about: Any = scope
        visit: Visit = about[VISIT_KEY]
        await app(scope, counted(scope, receive, visit.body), send)

    return asgi


async def _starting(scope: Scope, _: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """What is behind the gate before the service is."""
    about: Any = scope
    status, health = _ABOUT_HEALTH[about["path"]]
    await say(send, status, msgspec.json.encode(health), JSON_TYPE)
