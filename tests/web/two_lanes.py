"""Front ends with and without the fast lane, spoken to over socket pairs in one trio loop.

The clock stands still (trio's MockClock) and both ends of a connection are in one process. So all that some bytes
lead to has happened once no task can run and no worker thread is at work (`settled`): nothing waits on the wall
clock, nothing races, and time-outs pass when a test says so.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

import pytest
import trio
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.domain import FeatureChange, Group, ValueType
from actors.opening import AnyStorage, open_router
from actors.router import Router
from actors.settings import Settings
from actors.timestamps import parse_timestamp
from web.answers.worker import places
from web.app import create_app
from web.fastlane import Connection, FastLane, Hot
from web.gate import Gate, Visit
from web.hypercorn.connections import install
from web.process import _config
from web.routes.serving import serve_latest

Lane = Literal["on", "off"]
NOW = "2026-03-01T12:00:00Z"
TYPES: dict[str, ValueType] = {"a": "number", "b": "string", "c": "json"}
MOST_BODY_BYTES = 4_096
SETTINGS: dict[str, Any] = {
    "storage_type": "memory",
    "shards": 2,
    "checkpoint_seconds": 1e6,
    "monitor_seconds": 1e6,
    "agreement_sample": 0.0,
    "max_body_bytes": MOST_BODY_BYTES,
    "stalled_seconds": 60.0,
}
JOIN_SECONDS = 20.0


class FrontEnd:
    """A server over a router of its own, but for the listening."""

    def __init__(self, router: Router, settings: Settings, nursery: trio.Nursery, gate: type[Gate]) -> None:
        self.nursery = nursery
        self.router = router
        self.settings = settings
        self.stop = trio.Event()
        self.gate = gate(self.stop)
        self.gate.open(create_app(router, settings, self.gate.traffic))
        self.under_way, self.traffic = self.gate.bodies, self.gate.traffic
        self.context = WorkerContext(None)
        self.crashes: list[str] = []
        self.connections = 0
        self.wires: list[Wire] = []
        self.config = _config(settings)
        self._wrapped = wrap_app(self.gate, self.config.wsgi_max_body_size, "asgi")
        if settings.fast_lane == "on":
            self.config.connection = partial(Connection, FastLane(router, settings, self.gate))
        install()

    def connect(self) -> Wire:
        """A new connection."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.nursery.start_soon(self.serve, trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))
        self.wires.append(Wire(ours))
        return self.wires[-1]

    async def serve(self, stream: Any) -> None:
        """Serve one connection. What would end the process is noted."""
        self.connections += 1
        try:
            await self.config.connection(self._wrapped, self.config, self.context, ConnectionState({}), stream)
        except Exception as error:
            self.crashes.append(repr(error))
        finally:
            self.connections -= 1
            await trio.aclose_forcefully(stream)

    def requests(self) -> dict[str, float]:
        """How many requests were seen, by method, route and status."""
        samples = (sample for metric in self.traffic.registry.collect() for sample in metric.samples)
        counts = (sample for sample in samples if sample.name == "timewell_request_seconds_count")
        return {str(sample.labels): sample.value for sample in counts}

    async def shut_down(self) -> None:
        """As Hypercorn does when it is told to stop."""
        self.stop.set()
        await self.context.terminated.set()


@asynccontextmanager
async def front_end(
    lane: Lane, storage: AnyStorage | None = None, gate: type[Gate] = Gate, **settings: Any
) -> AsyncIterator[FrontEnd]:
    """A front end over the features of TYPES and their group `all`, at a fixed present."""
    chosen = Settings(**{**SETTINGS, **settings}, fast_lane=lane)
    async with open_router(chosen, storage, lambda: parse_timestamp(NOW, "now")) as router:
        for name, value_type in TYPES.items():
            await router.register(FeatureChange(entity="user", name=name, value_type=value_type))
        await router.put_group(Group(name="all", entity="user", features=tuple(TYPES), created=0, updated=0))
        async with trio.open_nursery() as nursery:
            front = FrontEnd(router, chosen, nursery, gate)
            try:
                yield front
            finally:
                for wire in front.wires:
                    wire.close()
                nursery.cancel_scope.cancel()


def paths_taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that take the lane from now on."""
    paths: list[str] = []
    answer = Connection._answer

    async def noted(self: Connection, hot: Hot, asked: bytes | bytearray, visit: Visit) -> None:
        paths.append(hot.asked.path)
        await answer(self, hot, asked, visit)

    monkeypatch.setattr(Connection, "_answer", noted)
    return paths


async def settled() -> None:
    """Return once nothing can happen any more unless time passes or bytes come."""
    limiters = trio.to_thread.current_default_thread_limiter(), places()
    await wait_all_tasks_blocked()
    while any(limiter.borrowed_tokens for limiter in limiters):
        await trio.lowlevel.checkpoint()
        if not any(limiter.borrowed_tokens for limiter in limiters):
            await wait_all_tasks_blocked()


class Wire:
    """The client's end of a connection. `received`: all bytes that came; `ended`: the server closed it."""

    def __init__(self, end: socket.socket) -> None:
        self.received = b""
        self.ended = False
        self._end = end

    async def send(self, data: bytes) -> None:
        """Send all of it, or as much as the server takes before it closes or stops reading."""
        full = False
        while data and not self.ended:
            try:
                data = data[self._end.send(data) :]
            except BlockingIOError:
                if full:
                    return
                full = True
                await self.take()
            except OSError:
                return
            else:
                full = False

    async def take(self) -> bytes:
        """All that the server has answered, once no more can come."""
        before = -1
        while before != len(self.received):
            before = len(self.received)
            await settled()
            self._drain()
        return self.received

    def _drain(self) -> None:
        try:
            while not self.ended:
                data = self._end.recv(65_536)
                self.received += data
                self.ended = not data
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True

    async def linger(self, *seconds: float) -> bytes:
        """Let time pass, in these steps, and take what is answered."""
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        await self.take()
        for step in seconds:
            clock.jump(step)
            await self.take()
        return self.received

    def finish(self) -> None:
        """Send no more: the server reads an end of file."""
        try:
            self._end.shutdown(socket.SHUT_WR)
        except OSError:
            self.ended = True

    def close(self) -> None:
        """Leave."""
        self._end.close()


class Piece(NamedTuple):
    """Bytes, and whether the server comes to see them before those that follow."""

    data: bytes
    alone: bool


class Outcome(NamedTuple):
    """What some bytes led to: what was answered by several moments, what crashed, what was written and counted."""

    stages: list[tuple[bytes, bool]]
    left_open: bool
    crashes: list[str]
    state: bytes
    requests: dict[str, float]


LINGER = ((1, 1, 1, 1), (61, 1, 1, 1), (80,))
"""Seconds that pass until time-outs of a body's rest, of a body and of an idle connection have passed."""


async def exchange(front: FrontEnd, pieces: Sequence[Piece], eof: bool, probe: bytes) -> Outcome:
    """Send the pieces on a connection of their own; then an end of file at once, or after all time-outs."""
    wire = front.connect()
    front.crashes, before = [], front.requests()
    stages, finished = [], False
    for piece in pieces:
        await wire.send(piece.data)
        if piece.alone:
            await wire.take()
    for stage in ((), *LINGER) if eof else (*LINGER, ()):
        await wire.take()
        if not stage:
            finished = True
            wire.finish()
            await wire.take()
        await wire.linger(*stage)
        # Hypercorn itself keeps an idle connection whose client has left until its time is over.
        stages.append((wire.received, wire.ended and not finished))
    wire.close()
    await settled()
    left_open = bool(front.connections)
    state = await serve_latest(front.router, front.settings, probe)
    seen = {labels: count - before.get(labels, 0) for labels, count in front.requests().items()}
    return Outcome(stages, left_open, front.crashes, state, {labels: n for labels, n in seen.items() if n})


class TwoLanes:
    """A front end with the lane and one without, in a thread of their own. Use as a context manager.

    The Date header stands still with the clock. (It is hard to leave out of what is compared: HTTP/2 packs it.)
    """

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._date = patch("hypercorn.config.format_date_time", return_value="Sun, 01 Mar 2026 12:00:00 GMT")
        self._thread = threading.Thread(
            target=trio.run, args=[self._run], kwargs={"clock": MockClock()}, daemon=True
        )

    async def _run(self) -> None:
        async with front_end("on") as on, front_end("off") as off:
            self._fronts = (on, off)
            self._token = trio.lowlevel.current_trio_token()
            self._over = trio.Event()
            self._ready.set()
            await self._over.wait()

    def compare(self, pieces: Sequence[Piece], eof: bool, probe: bytes) -> tuple[Outcome, Outcome]:
        """What the same bytes lead to with the lane and without."""

        async def both() -> tuple[Outcome, Outcome]:
            on, off = [await exchange(front, pieces, eof, probe) for front in self._fronts]
            return on, off

        return trio.from_thread.run(both, trio_token=self._token)

    def __enter__(self) -> TwoLanes:
        self._date.start()
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join(JOIN_SECONDS)
        self._date.stop()
        assert not self._thread.is_alive(), "the loop does not end"
