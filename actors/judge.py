"""Judge: validates rows against the registry without blocking the event loop. It writes nothing.

Few rows are validated at once, many in steps between which other tasks run, and rows of features whose patterns
may be slow to match in a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from actors.clock import ArrivalClock
from actors.follower import Follower
from actors.ingest.sent import Ingested, Sent, ingest
from actors.registry import FeatureRegistry
from actors.settings import PATTERN_SEARCHERS, PATTERN_STEPS_AT_ONCE, TABLES_AT_ONCE
from actors.turns import Steps, at_once, by_turns
from actors.types.patterns import one_budget

T = TypeVar("T")


class Judge:
    """Validates rows, and gives an event time to those that come without one.

    Over a shared store that time is not before any arrival of another process.
    """

    def __init__(self, registry: FeatureRegistry, clock: ArrivalClock, follower: Follower | None) -> None:
        self._registry = registry
        self._clock = clock
        self._follower = follower
        self._searchers = trio.CapacityLimiter(PATTERN_SEARCHERS)
        self.tables = trio.CapacityLimiter(TABLES_AT_ONCE)
        """To be held while an Arrow table is read and validated."""

    async def stamp(self) -> int:
        """The event time of values that come without one. Raises Unavailable."""
        if self._follower is not None:
            await self._follower.catch_up()
        return self._clock.stamp()

    def at_once(self, sent: Sent) -> Ingested:
        """Validate a few rows, without asking a shared store for the present."""
        return ingest(self._registry, sent, self._clock.stamp())

    async def rows(self, sent: Sent, size: int) -> Ingested:
        """Validate rows of `size` bytes. A shared store is visited only if a row has no event time."""
        now = await self.stamp() if None in sent.timestamps else self._clock.stamp()
        if not self._takes_time(size):
            return ingest(self._registry, sent, now)
        return await self.in_thread(lambda: ingest(self._registry, sent, now), size)

    async def by_turns(self, judging: Callable[[int], Steps[T]], size: int) -> T:
        """Run `judging`, which is given the event time for rows that have none, in steps or in a worker thread."""
        now = await self.stamp()
        if not self._takes_time(size):
            return await by_turns(judging(now))
        return await self.in_thread(lambda: at_once(judging(now)), size)

    async def in_thread(self, judge: Callable[[], T], size: int) -> T:
        """Run `judge` in a worker thread. Rows whose patterns may be slow share PATTERN_SEARCHERS of them."""

        def judging() -> T:
            with one_budget():
                return judge()

        return await trio.to_thread.run_sync(judging, limiter=self._searchers if self._takes_time(size) else None)

    def _takes_time(self, size: int) -> bool:
        return size * self._registry.pattern_instructions > PATTERN_STEPS_AT_ONCE
