"""Everything that was observed of some features, entity by entity: for exports and for the rows of training sets.

The ids are listed page by page, and the observations of each page are read from the journal and the history files
alone. So this takes memory for one page, whatever there is, and holds no store up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import numpy as np
import trio

from actors.amount import Amount, bytes_of
from actors.domain import Feature
from actors.errors import TooMuchAtOnce
from actors.listing import Listing
from actors.settings import IDS_READ_AT_ONCE, MAX_ROWS_FROM_DISK, OBSERVED_PER_LOT
from actors.storage.listed import IdsQuestion
from actors.storage.protocol import History
from actors.table.columns import Indices, Times
from actors.table.rows import Rows, last_of_each, order
from actors.timestamps import LAST_MOMENT, YEAR_ONE
from actors.types.type import Array, Nulls
from actors.types.values import empty


class ObservedLot(NamedTuple):
    """Observations in the order of (entity, event time), where any of the features has one.

    Row i is about entities[owner[i]] at at[i] (microseconds). `columns`, by feature: values, and bool[rows] where
    nothing or a null was observed.
    """

    entities: Sequence[str]
    owner: Indices
    at: Times
    columns: Sequence[tuple[Array, Nulls]]


class Whole(NamedTuple):
    """What to read: features of one entity type, event times in [start, end], and what had arrived by `known`.

    `entities`: whose observations, in this order; None for those of all entities, in the order of their ids.
    `now`: the wall clock, for retention ages.
    """

    features: Sequence[Feature]
    start: int
    end: int
    now: int
    known: int
    entities: Sequence[str] | None = None


class _Part(NamedTuple):
    entities: Sequence[str]
    start: int
    end: int

    def halves(self) -> tuple[_Part, _Part] | None:
        """Half of the entities each, or of the range if there is one entity; None if it cannot be split."""
        if len(self.entities) > 1:
            middle = len(self.entities) // 2
            return self._replace(entities=self.entities[:middle]), self._replace(entities=self.entities[middle:])
        if self.start == self.end:
            return None
        between = (self.start + self.end) // 2
        return self._replace(end=between), self._replace(start=between + 1)


class Observations:
    """Reads what was observed, in worker threads."""

    def __init__(self, listing: Listing, history: History, readers: trio.CapacityLimiter, most_bytes: int) -> None:
        """`readers`: limits the threads that read history files. `most_bytes`: how much is read at once."""
        self._listing = listing
        self._history = history
        self._readers = readers
        self._most_bytes = most_bytes

    async def lots(self, asked: Whole) -> AsyncIterator[ObservedLot]:
        """Yield the observations, some entities at a time. Raises TooMuchAtOnce if one moment has too many."""
        start, end = max(asked.start, YEAR_ONE), min(asked.end, LAST_MOMENT)
        most, after = IDS_READ_AT_ONCE, ""
        while start <= end:
            entities, following = await self._page(asked, after, most)
            values = 0
            parts = [_Part(entities, start, end)] if entities else []
            while parts:
                part = parts.pop()
                try:
                    lot = await self._read(asked, part)
                except TooMuchAtOnce:
                    halves = part.halves()
                    if halves is None:
                        raise
                    parts += reversed(halves)
                else:
                    values += len(lot.at) * len(asked.features)
                    if len(lot.at):
                        yield lot
            if following is None:
                return
            after = following
            # One entity may have a row or a million: the next page is made to have about OBSERVED_PER_LOT.
            most = max(1, min(IDS_READ_AT_ONCE, 4 * most, most * OBSERVED_PER_LOT // max(1, values)))

    async def _page(self, asked: Whole, after: str, most: int) -> tuple[Sequence[str], str | None]:
        """The next entities and the place to go on from, None at the end."""
        if asked.entities is None:
            question = IdsQuestion(asked.features[0].entity, asked.features, "", after, most)
            return await self._listing.page(question, lambda page: (page.ids.to_pylist(), page.after))
        begin = int(after or 0)
        end = begin + most
        return asked.entities[begin:end], str(end) if end < len(asked.entities) else None

    async def _read(self, asked: Whole, part: _Part) -> ObservedLot:
        return await trio.to_thread.run_sync(
            _read, self._history, asked, part, self._most_bytes, limiter=self._readers, abandon_on_cancel=True
        )


def _read(history: History, asked: Whole, part: _Part, most_bytes: int) -> ObservedLot:
    held, found = Amount(f"{len(asked.features)} features", MAX_ROWS_FROM_DISK, most_bytes), list[Rows]()
    for feature in asked.features:
        start = part.start if feature.kept_age is None else max(part.start, asked.now - feature.kept_age)
        rows = history.versions(feature, part.entities, start, part.end)
        rows = rows.take(rows.arrived <= asked.known)
        rows = rows.take(last_of_each(rows.slots, rows.times))
        held.add(rows.size, bytes_of(rows.values))
        found.append(rows)
    return _beside(asked.features, part.entities, found)


def _beside(features: Sequence[Feature], entities: Sequence[str], found: Sequence[Rows]) -> ObservedLot:
    """Put the observations of several features side by side. Each has sorted, distinct (slot, time)."""
    slots = np.concatenate([rows.slots for rows in found])
    times = np.concatenate([rows.times for rows in found])
    where = order(slots, times)
    slots, times = slots[where], times[where]
    last = last_of_each(slots, times)
    place = np.empty(len(where), np.int64)
    place[where] = np.cumsum(last) - last  # of each observation among the distinct (slot, time)
    owner, at, columns, begin = slots[last].astype(np.int64), times[last], list[tuple[Array, Nulls]](), 0
    for feature, rows in zip(features, found, strict=True):
        own = place[begin : begin + rows.size]
        begin += rows.size
        values, nulls = empty(feature, len(at)), np.ones(len(at), np.bool_)
        values[own], nulls[own] = rows.values, rows.nulls
        columns.append((values, nulls))
    return ObservedLot(entities, owner, at, columns)
