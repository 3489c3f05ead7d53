"""The open loop: hands requests to connections at their instants and records the results.

A pacer gives each request that is due to the connection that has been free for longest. While none is free, those
that become free take overdue requests by themselves; latency still counts from the instant.

An event loop sleeps in whole milliseconds, which is longer than many answers take. So the pacer spins through the
last ones if the process has its own core. Spinning with nothing to do is the driver's slack, and the length of a
turn of the loop bounds how late it can be.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import trio

from loadtest.machine.messages import Answer
from loadtest.openloop.recording import INSTANTS, Recording

SPIN_SECONDS = 0.002
DRAIN_SECONDS = 10.0
"""How long answers are awaited after the last instant."""
SHORTEST_REST_SECONDS = 0.001
HELD_UP_SECONDS = 0.002
MOST_SAMPLES = 2_000
MOST_SAMPLE_BYTES = 64 * 1024 * 1024
Asker = Callable[[bytes], Awaitable[Answer]]


class Lane(NamedTuple):
    """The rows of the recording that are this driver's: first, first + step, ..."""

    first: int = 0
    step: int = 1


class Drive(NamedTuple):
    """The results of a drive besides the recording.

    `busy`: the share of time that the driver had something to do. `held_up`: seconds in turns of the loop that
    took longer than HELD_UP_SECONDS, `longest` the longest of them. `samples`: bodies of 2xx answers by row.
    """

    busy: float
    held_up: float
    longest: float
    samples: list[tuple[int, bytes]]


EVERY_ROW = Lane()


class _Connection:
    """Waits in line for `row`, the request to send next."""

    __slots__ = ("free_since", "row", "task")

    def __init__(self) -> None:
        self.task = trio.lowlevel.current_task()
        self.free_since = 0.0
        self.row = -1


class OpenLoop:
    """One driver's part of a run. `request_of`: the request of a row."""

    def __init__(
        self,
        recording: Recording,
        request_of: Callable[[int], bytes],
        lane: Lane = EVERY_ROW,
        *,
        spins: bool = False,
    ) -> None:
        self._scheduled, self._ready, self._sent, self._done = (recording[name] for name in INSTANTS)
        self._status, self._count = recording["status"], len(recording)
        self._request_of, self._step, self._spins = request_of, lane.step, spins
        self._next = lane.first
        self._open = len(range(lane.first, self._count, lane.step))
        self._sample_every = max(1, self._count // MOST_SAMPLES)
        self._sample_room = MOST_SAMPLE_BYTES
        self._samples: list[tuple[int, bytes]] = []
        self._idle: deque[_Connection] = deque()
        self._began = 0.0
        self._clock: Callable[[], float] = trio.current_time
        self._events = 0
        self._slack = self._held_up = self._longest = 0.0
        self._finished = trio.Event()

    async def run(self, askers: Sequence[Asker], began: float | None = None) -> Drive:
        """Send everything, over one connection for each asker. `began`: the trio time of instant 0."""
        started, processor = trio.current_time(), time.process_time()
        self._began = started if began is None else began
        self._clock = trio.lowlevel.current_clock().current_time
        async with trio.open_nursery() as nursery:
            for asker in askers:
                nursery.start_soon(self._connection, asker)
            with trio.move_on_at(self._began + self._scheduled[-1] + DRAIN_SECONDS):
                try:
                    await self._pace()
                finally:
                    busy = self._busy(started, processor)
                await self._finished.wait()
            nursery.cancel_scope.cancel()
        return Drive(busy, self._held_up, self._longest, self._samples)

    def _busy(self, started: float, processor: float) -> float:
        """The share of the time since `started` that was not slack; `processor`: its time then."""
        elapsed = trio.current_time() - started
        spent = elapsed - self._slack if self._spins else time.process_time() - processor
        return min(1.0, max(0.0, spent / elapsed)) if elapsed else 0.0

    def _now(self) -> float:
        return self._clock() - self._began

    def _due(self) -> bool:
        return self._next < self._count and self._scheduled[self._next] <= self._now()

    def _take(self) -> int:
        """Claim the next row."""
        row = self._next
        self._next += self._step
        return row

    async def _pace(self) -> None:
        """Hand out requests as they fall due, to the last."""
        while self._next < self._count:
            wait = self._scheduled[self._next] - self._now()
            if wait <= 0 and self._idle:
                connection = self._idle.popleft()
                connection.row = self._take()
                trio.lowlevel.reschedule(connection.task)
            elif wait > SPIN_SECONDS:
                await self._rest(wait - SPIN_SECONDS if self._spins else wait)
            elif self._spins:
                await self._spin()
            else:
                await self._rest(max(wait, SHORTEST_REST_SECONDS))

    async def _rest(self, seconds: float) -> None:
        before = self._now()
        await trio.sleep(seconds)
        self._slack += self._now() - before

    async def _spin(self) -> None:
        """One turn of the event loop."""
        before, events = self._now(), self._events
        await trio.lowlevel.checkpoint()
        took = self._now() - before
        if events == self._events:
            self._slack += took
        if took > HELD_UP_SECONDS:
            self._held_up += took
            self._longest = max(self._longest, took)

    async def _connection(self, asker: Asker) -> None:
        """Take a row, send it, record the result; for ever."""
        me = _Connection()
        while True:
            if self._due():
                me.row = self._take()
            else:
                self._idle.append(me)
                await trio.lowlevel.wait_task_rescheduled(_may_be_cancelled)
            await self._ask(asker, me.row, me.free_since)
            me.free_since = self._done[me.row]

    async def _ask(self, asker: Asker, row: int, free_since: float) -> None:
        self._ready[row] = max(self._scheduled[row], free_since)
        self._sent[row] = self._now()
        self._events += 1
        try:
            answer = await asker(self._request_of(row))
        except OSError:
            await trio.lowlevel.checkpoint()
        else:
            self._status[row] = answer.status
            if row % self._sample_every == 0:
                self._sample(row, answer)
        self._done[row] = self._now()
        self._events += 1
        self._open -= 1
        if not self._open:
            self._finished.set()

    def _sample(self, row: int, answer: Answer) -> None:
        if 200 <= answer.status < 300 and self._sample_room > 0:
            self._samples.append((row, answer.body))
            self._sample_room -= len(answer.body)


def _may_be_cancelled(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED
