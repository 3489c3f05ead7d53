"""Training sets: for each row of (entity, moment) the value of every feature as it was at that moment.

A point-in-time join. Rows are asked of the stores some thousands at a time, each distinct entity once a
message; where memory does not reach far enough the history files are read, and the question is asked again
with their rows. With `known_at` only what had arrived by then counts: that is answered from the journal and
the history files alone, which keep every version of a corrected value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import trio

from actors.aggregates import aggregate
from actors.columns import Indices, Numbering, Times, shards_of
from actors.domain import Feature
from actors.errors import Unavailable
from actors.grid import Grid, join, kinds_of
from actors.mailbox import Mailbox
from actors.messages import Aggregated, Past, PastWindow
from actors.partition import DiskRows
from actors.rows import Ranges, Rows, bisect_right, last_of_each, spans
from actors.settings import CELLS_PER_QUESTION, HISTORY_READERS, WINDOWED_ROWS_PER_QUESTION
from actors.storage.protocol import Storage
from actors.timestamps import NEVER
from actors.values import Array, Nulls, blank, dtype_of, empty

_ATTEMPTS = 5


class Wanted(NamedTuple):
    """A column of a training set. Durations in microseconds.

    Without `aggregation` the latest value, not older than `lookback`; with it the aggregate over the
    observations in (moment - window, moment].
    """

    name: str
    feature: Feature
    lookback: int | None = None
    aggregation: str | None = None
    window: int = 0


class Filled(NamedTuple):
    """A column that was asked for: one value per row. `value_type` says how to render it."""

    name: str
    value_type: str
    values: Array
    nulls: Nulls


class Moments(NamedTuple):
    """Rows of a training set: an entity id and a moment each; `known`: the last arrival to count, None for all."""

    entities: Sequence[str]
    at: Times
    known: Times | None = None

    def rows(self, cut: slice) -> Moments:
        """Some of them."""
        return Moments(self.entities[cut], self.at[cut], None if self.known is None else self.known[cut])


class _Part(NamedTuple):
    """The rows of one shard: which they are, their distinct entities, and whose each row is."""

    shard: int
    rows: Indices
    entities: list[str]
    owner: Indices


class TrainingSets:
    """Asks the stores. Safe for concurrent use by tasks of one thread."""

    def __init__(self, stores: Sequence[Mailbox], storage: Storage) -> None:
        self._stores = stores
        self._storage = storage
        self._readers = trio.CapacityLimiter(HISTORY_READERS)

    async def fill(self, moments: Moments, wanted: Sequence[Wanted], now: int) -> list[Filled]:
        """The columns in the order asked, for at least one row."""
        found: dict[int, Filled] = {}
        plain: dict[str, list[int]] = {}
        for place, column in enumerate(wanted):
            if moments.known is not None:
                found[place] = await self._as_known(moments, column, now)
            elif column.aggregation is not None:
                found[place] = await self._aggregated(moments, column, now)
            else:
                plain.setdefault(column.feature.entity, []).append(place)
        for entity_type, places in plain.items():
            own = [wanted[place] for place in places]
            found.update(zip(places, await self._latest(entity_type, moments, own, now), strict=True))
        return [found[place] for place in range(len(wanted))]

    def _parts(self, entity_type: str, entities: Sequence[str]) -> list[_Part]:
        numbers = Numbering()
        owner = np.fromiter(map(numbers.__getitem__, entities), np.int64, len(entities)) - 1
        distinct: list[str] = list(numbers)
        shard_of = shards_of(entity_type, distinct, len(self._stores))
        parts = []
        for shard in range(len(self._stores)):
            mine = np.flatnonzero(shard_of == shard)
            if len(mine):
                renumbered = np.full(len(distinct), -1, np.int64)
                renumbered[mine] = np.arange(len(mine))
                owners = renumbered[owner]
                rows = np.flatnonzero(owners >= 0)
                parts.append(_Part(shard, rows, [distinct[place] for place in mine.tolist()], owners[rows]))
        return parts

    # The latest values

    async def _latest(
        self, entity_type: str, moments: Moments, wanted: Sequence[Wanted], now: int
    ) -> list[Filled]:
        step = max(1, CELLS_PER_QUESTION // len(wanted))
        cuts = [slice(start, start + step) for start in range(0, len(moments.at), step)]
        pieces = [await self._grid(entity_type, moments.rows(cut), wanted, now) for cut in cuts]
        whole = pieces[0] if len(pieces) == 1 else join(pieces, np.arange(len(moments.at)))
        cells = whole.cells()
        return [
            Filled(column.name, column.feature.value_type, cells[place].values, cells[place].nulls | hidden)
            for place, (column, hidden) in enumerate(
                zip(wanted, _hidden(whole, wanted, moments, now), strict=True)
            )
        ]

    async def _grid(self, entity_type: str, moments: Moments, wanted: Sequence[Wanted], now: int) -> Grid:
        features = [column.feature for column in wanted]
        parts = self._parts(entity_type, moments.entities)
        visible = [_visible_from(column, moments.at, now) for column in wanted]
        grids = []
        for part in parts:
            own = [starts[part.rows] for starts in visible]
            grids.append(await self._part(part, moments.at[part.rows], features, own))
        back = np.empty(len(moments.at), np.int64)
        back[np.concatenate([part.rows for part in parts])] = np.arange(len(back))
        return join(grids, back)

    async def _part(self, part: _Part, at: Times, features: Sequence[Feature], visible: Sequence[Times]) -> Grid:
        kinds = kinds_of(features)
        disk: dict[str, DiskRows] = {}
        for _ in range(_ATTEMPTS):
            question = Past(
                features[0].entity, part.entities, part.owner, at, features, kinds, visible, dict(disk)
            )
            grid: Grid = await self._stores[part.shard].ask(question)
            if grid.cold is None or not grid.cold.any():
                return grid
            for index in np.flatnonzero(grid.cold.any(axis=1)).tolist():
                cold = grid.cold[index]
                missing = [part.entities[one] for one in np.unique(part.owner[cold]).tolist()]
                first, last = int(visible[index][cold].min()), int(at[cold].max())
                disk[features[index].id] = await self._read(features[index], missing, first, last)
        raise Unavailable("the history kept changing while it was read")

    async def _read(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> DiskRows:
        return await trio.to_thread.run_sync(
            self._storage.read, feature, entities, start, end, limiter=self._readers, abandon_on_cancel=True
        )

    # Aggregates

    async def _aggregated(self, moments: Moments, column: Wanted, now: int) -> Filled:
        step = WINDOWED_ROWS_PER_QUESTION
        cuts = [slice(start, start + step) for start in range(0, len(moments.at), step)]
        pieces = [await self._aggregated_piece(moments.rows(cut), column, now) for cut in cuts]
        values = np.concatenate([piece.values for piece in pieces])
        nulls = np.concatenate([piece.nulls for piece in pieces])
        return Filled(column.name, pieces[0].value_type, values, nulls)

    async def _aggregated_piece(self, moments: Moments, column: Wanted, now: int) -> Aggregated:
        parts = self._parts(column.feature.entity, moments.entities)
        answers = []
        for part in parts:
            at = moments.at[part.rows]
            start = np.maximum(at - column.window, _oldest(column.feature, now) - 1)
            answers.append(await self._windows(part, start, at, column))
        order = np.argsort(np.concatenate([part.rows for part in parts]))
        values = np.concatenate([answer.values for answer in answers])[order]
        nulls = np.concatenate([answer.nulls for answer in answers])[order]
        return Aggregated(values, nulls, answers[0].value_type)

    async def _windows(self, part: _Part, start: Times, at: Times, column: Wanted) -> Aggregated:
        assert column.aggregation is not None
        disk = None
        for _ in range(_ATTEMPTS):
            question = PastWindow(part.entities, part.owner, start, at, column.feature, column.aggregation, disk)
            answer: Aggregated = await self._stores[part.shard].ask(question)
            if not answer.cold:
                return answer
            missing = [part.entities[place] for place in answer.cold]
            disk = await self._read(column.feature, missing, int(start.min()) + 1, int(at.max()))
        raise Unavailable("the history kept changing while it was read")

    # As known at a moment

    async def _as_known(self, moments: Moments, column: Wanted, now: int) -> Filled:
        return await trio.to_thread.run_sync(
            as_known, self._storage, moments, column, now, limiter=self._readers, abandon_on_cancel=True
        )


def as_known(storage: Storage, moments: Moments, column: Wanted, now: int) -> Filled:
    """A column out of what had arrived by `moments.known`. Blocks; for a worker thread."""
    assert moments.known is not None
    numbers = Numbering()
    owner = np.fromiter(map(numbers.__getitem__, moments.entities), np.int64, len(moments.at)) - 1
    start = _visible_from(column, moments.at, now)
    rows = storage.versions(column.feature, list(numbers), int(start.min()), int(moments.at.max()))
    low, high = spans(rows, owner)
    begin = bisect_right(rows.times, low, high, start - 1)
    end = np.maximum(begin, bisect_right(rows.times, low, high, moments.at))
    if column.aggregation is None:
        return _newest_known(rows, begin, end, moments.known, column)
    ranges = _known_ranges(rows, begin, end, moments.known)
    answer = aggregate(ranges, column.aggregation, column.feature.value_type)
    return Filled(column.name, answer.value_type, answer.values, answer.nulls)


def _newest_known(rows: Rows, begin: Indices, end: Indices, known: Times, column: Wanted) -> Filled:
    """Of rows by (slot, time, arrival) the last of each stretch that had arrived."""
    count, value_type = len(begin), column.feature.value_type
    if rows.size == 0:
        return Filled(column.name, value_type, empty(column.feature, count), np.ones(count, np.bool_))
    position = end - 1
    late = np.arange(count)
    while len(late):  # one version further back each time, for those that need it
        here = position[late]
        late = late[(here >= begin[late]) & (rows.arrived[here] > known[late])]
        position[late] -= 1
    missing = position < begin
    return Filled(column.name, value_type, rows.values[position], rows.nulls[position] | missing)


def _known_ranges(rows: Rows, begin: Indices, end: Indices, known: Times) -> Ranges:
    """The rows of each stretch that had arrived, of those of one time the last."""
    counts = end - begin
    owner = np.repeat(np.arange(len(begin)), counts)
    position = (
        np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(begin, counts)
    )
    arrived = rows.arrived[position] <= known[owner]
    owner, position = owner[arrived], position[arrived]
    last = last_of_each(owner, rows.times[position])
    owner, position = owner[last], position[last]
    offsets = np.searchsorted(owner, np.arange(len(begin) + 1))
    return Ranges(offsets, rows.times[position], rows.values[position], rows.nulls[position])


def _oldest(feature: Feature, now: int) -> int:
    """The first event time that retention lets answer."""
    return NEVER + 2 if feature.kept_age is None else now - feature.kept_age


def _visible_from(column: Wanted, at: Times, now: int) -> Times:
    """For each moment the first event time that may answer: int64[n]."""
    oldest = _oldest(column.feature, now)
    reach = column.window - 1 if column.aggregation is not None else column.lookback
    if reach is None:
        return np.full(len(at), oldest, np.int64)
    return np.maximum(at - reach, oldest)


def _hidden(grid: Grid, wanted: Sequence[Wanted], moments: Moments, now: int) -> list[Nulls]:
    """Where a value is too old to count, or was never written: a bool[n] per column."""
    return [grid.times[place] < _visible_from(column, moments.at, now) for place, column in enumerate(wanted)]


def blank_column(column: Wanted) -> Filled:
    """The column for no rows."""
    no_rows = Ranges(np.zeros(1, np.int64), np.zeros(0, np.int64), empty(column.feature, 0), np.zeros(0, np.bool_))
    value_type: str = column.feature.value_type
    if column.aggregation is not None:
        value_type = aggregate(no_rows, column.aggregation, value_type).value_type
    return Filled(column.name, value_type, blank(dtype_of(value_type), no_rows.values.shape), no_rows.nulls)
