"""What storages in a server have in common: there is no journal of values, and no history beside them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from actors.domain import Feature
from actors.errors import StartupError, Unavailable
from actors.stats.windows import Merge
from actors.storage.protocol import (
    Claims,
    Erased,
    Flush,
    HistoryPlan,
    Known,
    LoadedRows,
    Newest,
    Quick,
    SavedSummaries,
    SummaryKey,
)
from actors.storage.shared.parts import by_time
from actors.table.columns import Block
from actors.table.partition import DiskRows
from actors.table.rows import Rows
from actors.timestamps import NEVER

COARSENING_SECONDS = 60.0


class SharedSummaries(Protocol):
    """This process's part of the statistics, and those of all processes."""

    @property
    def position(self) -> int:
        """What of this process's has been counted."""

    def replay(self, after: int) -> Iterator[tuple[int, list[Block]]]:
        """What has not been counted, without entities."""

    def save(self, position: int, parts: Mapping[SummaryKey, bytes], merge: Merge) -> None:
        """Merge some more into those of all."""

    def read(self, feature: Feature, start: int, end: int) -> SavedSummaries:
        """By window."""

    def read_whole(self, feature: Feature) -> SavedSummaries:
        """Of a whole stream."""

    def totals(self) -> tuple[int, dict[SummaryKey, bytes]]:
        """Of all whole streams, and the position."""

    def coarsen(self, now: int, merge: Merge) -> None:
        """Merge what has grown old."""

    def all(self) -> Iterator[tuple[SummaryKey, bytes]]:
        """Every one."""


async def never(questions: Sequence[Newest]) -> None:
    """No question is quick."""


@contextmanager
def starting() -> Iterator[None]:
    """What goes wrong within is why the process cannot start."""
    try:
        yield
    except Unavailable as error:
        raise StartupError(error.detail) from error


class SharedStorageBase(ABC):
    """The part of `SharedStorage` that is the same whatever the server."""

    def __init__(self, monitored: SharedSummaries, claims: Claims) -> None:
        self.claims = claims
        self._summaries = monitored
        self._seen = 0
        self._coarsen_at = 0.0

    @property
    def versions_seen(self) -> int:
        """The version of the registry that was read or made last."""
        return self._seen

    # Reading

    @asynccontextmanager
    async def quick(self) -> AsyncIterator[Quick]:
        """None is."""
        yield never

    @abstractmethod
    def ranges(self, features: Sequence[Feature], entities: Sequence[str], start: int, end: int) -> list[DiskRows]:
        """See `SharedStorage`."""

    def read(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> DiskRows:
        """The ranges of one feature."""
        return self.ranges([feature], entities, start, end)[0]

    def versions(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> Rows:
        """The same in another order."""
        return by_time(self.read(feature, entities, start, end).rows)

    # What a journal and history files are kept for elsewhere

    def erased(self) -> Sequence[Erased]:
        """None: their rows go within the commit."""
        return ()

    def erase(self) -> Mapping[Erased, Mapping[str, int]]:
        """Nothing is left to do."""
        return {}

    def replay(self, after: int) -> Iterator[tuple[int, list[Block]]]:
        """What the statistics have not counted, without entities."""
        return self._summaries.replay(after)

    def damaged(self) -> Sequence[str]:
        """The server sees to that by itself."""
        return ()

    def uncounted(self) -> Mapping[str, str]:
        """All is counted."""
        return {}

    def trimmed(self) -> int:
        """Nothing that has not been counted is ever trimmed."""
        return 0

    def flush(self, known: Known, now: int) -> Flush:
        """There is nothing to move."""
        return Flush(0, 0)

    def compact(self, known: Known, now: int) -> None:  # noqa: B027
        """The server sees to that by itself."""

    def plan(self, budget: int) -> HistoryPlan:
        """Nothing is loaded."""
        return HistoryPlan(0, NEVER, ())

    def load(self, plan: HistoryPlan, features: Mapping[str, Feature]) -> Iterator[LoadedRows]:
        """Nothing."""
        return iter(())

    # The monitor's

    def save_summaries(self, position: int, parts: Mapping[SummaryKey, bytes], merge: Merge) -> None:
        """Into those of all processes."""
        self._summaries.save(position, parts, merge)

    def read_summaries(self, feature: Feature, start: int, end: int) -> SavedSummaries:
        """Those of all processes."""
        return self._summaries.read(feature, start, end)

    def read_whole(self, feature: Feature) -> SavedSummaries:
        """That of all processes."""
        return self._summaries.read_whole(feature)

    def whole_summaries(self) -> tuple[int, Mapping[SummaryKey, bytes]]:
        """Those of all processes, with the position of this one."""
        return self._summaries.totals()

    def coarsen_summaries(self, now: int, merge: Merge) -> None:
        """Those of all processes, once in a while: each process merges far more often than windows grow old."""
        if time.monotonic() >= self._coarsen_at:
            self._coarsen_at = time.monotonic() + COARSENING_SECONDS
            self._summaries.coarsen(now, merge)

    def monitored(self) -> int:
        """This process's."""
        return self._summaries.position

    def all_summaries(self) -> Iterator[tuple[SummaryKey, bytes]]:
        """Those of all processes."""
        return self._summaries.all()
