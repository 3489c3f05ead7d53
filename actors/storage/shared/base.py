"""Base classes of history and summaries in a shared store."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from actors.domain import Feature
from actors.errors import StartupError, Unavailable
from actors.stats.windows import Merge
from actors.storage.protocol import LatestQuestion, Quick, Values
from actors.storage.shared.parts import by_time
from actors.table.partition import DiskRows
from actors.table.rows import Rows

COARSENING_SECONDS = 60.0


async def never(questions: Sequence[LatestQuestion]) -> None:
    """A Quick that never answers: all queries have to be put to `Values.latest`."""


@asynccontextmanager
async def none_quick() -> AsyncIterator[Quick]:
    """The `Values.quick` of a shared store that is only asked from worker threads."""
    yield never


@contextmanager
def starting() -> Iterator[None]:
    """Turn errors within the context into StartupError."""
    try:
        yield
    except Unavailable as error:
        raise StartupError(error.detail) from error


class SharedHistory:
    """The methods of `History` that can be answered by `Values.ranges`."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def read(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> DiskRows:
        """The observations of some entities in a range of event time. Raises TooLarge."""
        return self._values.ranges([feature], entities, start, end)[0]

    def versions(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> Rows:
        """The same observations, sorted by (slot, event time, arrival)."""
        return by_time(self.read(feature, entities, start, end).rows)


class SharedSummaries(ABC):
    """Summaries that all processes merge into. Positions are those of this process."""

    _coarsen_at = 0.0

    def coarsen(self, now: int, merge: Merge) -> None:
        """Coarsen at most every COARSENING_SECONDS, as each process saves far more often than windows grow old."""
        if time.monotonic() >= self._coarsen_at:
            self._coarsen_at = time.monotonic() + COARSENING_SECONDS
            self.coarsen_now(now, merge)

    @abstractmethod
    def coarsen_now(self, now: int, merge: Merge) -> None:
        """Merge windows that have grown old into wider ones."""
