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
import pyarrow as pa
import trio

from actors.aggregates import aggregate, of_no_rows, together
from actors.columns import Indices, Numbering, Times, shards_of
from actors.domain import Feature
from actors.errors import Unavailable
from actors.grid import Cells
from actors.messages import Aggregated, Past, PastWindow
from actors.partition import DiskRows
from actors.rows import Ranges, Rows, bisect_right, last_of_each, order, spans
from actors.serving import FeatureServingEngine
from actors.settings import CELLS_PER_QUESTION, WINDOWED_ROWS_AT_ONCE, WINDOWED_ROWS_PER_QUESTION
from actors.storage.protocol import Storage
from actors.timestamps import NEVER
from actors.values import Array, Nulls, empty

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
    """Some rows of one shard, by entity and moment: which they are, their distinct entities, whose each row is."""

    shard: int
    rows: Indices
    entities: list[str]
    owner: Indices


class TrainingSets:
    """Asks the stores. Safe for concurrent use by tasks of one thread."""

    def __init__(self, serving: FeatureServingEngine, storage: Storage) -> None:
        """`serving` reads the history files for both, within one limit of readers."""
        self._serving = serving
        self._stores = serving.stores
        self._storage = storage

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

    def _parts(self, entity_type: str, moments: Moments, most: int) -> list[_Part]:
        """The rows by shard, in the order of entity and moment, at most so many at a time."""
        encoded = pa.array(moments.entities, pa.string()).dictionary_encode()
        codes, distinct = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
        shard_of = shards_of(entity_type, distinct, len(self._stores))
        ordered = order(codes, moments.at)
        owners = shard_of[codes[ordered]]
        parts = []
        for shard in range(len(self._stores)):
            mine = ordered[owners == shard]
            for start in range(0, len(mine), most):
                rows = mine[start : start + most]
                fresh = np.diff(codes[rows], prepend=-1) != 0
                entities = [distinct[code] for code in codes[rows[fresh]].tolist()]
                parts.append(_Part(shard, rows, entities, np.cumsum(fresh) - 1))
        return parts

    # The latest values

    async def _latest(
        self, entity_type: str, moments: Moments, wanted: Sequence[Wanted], now: int
    ) -> list[Filled]:
        count = len(moments.at)
        filled = [
            Filled(one.name, one.feature.value_type, empty(one.feature, count), np.ones(count, np.bool_))
            for one in wanted
        ]
        for part in self._parts(entity_type, moments, max(1, CELLS_PER_QUESTION // len(wanted))):
            at = moments.at[part.rows]
            visible = [_visible_from(column, at, now) for column in wanted]
            found = await self._part(part, at, [column.feature for column in wanted], visible)
            for column, cells, oldest in zip(filled, found, visible, strict=True):
                column.values[part.rows] = cells.values
                column.nulls[part.rows] = cells.nulls | (cells.times < oldest)
        return filled

    async def _part(
        self, part: _Part, at: Times, features: Sequence[Feature], visible: Sequence[int | Times]
    ) -> list[Cells]:
        disk: dict[str, DiskRows] = {}
        for _ in range(_ATTEMPTS):
            question = Past(features[0].entity, part.entities, part.owner, at, features, visible, dict(disk))
            found: list[Cells] = await self._stores[part.shard].ask(question)
            cold = [index for index, cells in enumerate(found) if cells.cold is not None and cells.cold.any()]
            if not cold:
                return found
            for index in cold:
                where = found[index].cold
                missing = [part.entities[one] for one in np.unique(part.owner[where]).tolist()]
                # For all their rows, and with those read before: whatever leaves memory meanwhile is at hand then.
                before = disk.get(features[index].id)
                entities = _union(missing, before)
                first = int(np.min(visible[index]))
                disk[features[index].id] = await self._serving.read_history(
                    features[index], entities, first, int(at.max())
                )
        raise Unavailable("the history kept changing while it was read")

    # Aggregates

    async def _aggregated(self, moments: Moments, column: Wanted, now: int) -> Filled:
        parts = self._parts(column.feature.entity, moments, WINDOWED_ROWS_PER_QUESTION)
        answers = []
        for part in parts:
            at = moments.at[part.rows]
            start = np.maximum(at - column.window, _oldest(column.feature, now) - 1)
            answers.append(await self._windows(part, start, at, column))
        back = np.argsort(np.concatenate([part.rows for part in parts]))
        values = np.concatenate([answer.values for answer in answers])[back]
        nulls = np.concatenate([answer.nulls for answer in answers])[back]
        return Filled(column.name, answers[0].value_type, values, nulls)

    async def _windows(self, part: _Part, start: Times, at: Times, column: Wanted) -> Aggregated:
        assert column.aggregation is not None
        disk = None
        for _ in range(_ATTEMPTS):
            question = PastWindow(part.entities, part.owner, start, at, column.feature, column.aggregation, disk)
            answer: Aggregated = await self._stores[part.shard].ask(question)
            if not answer.cold:
                return answer
            missing = _union([part.entities[place] for place in answer.cold], disk)
            disk = await self._serving.read_history(column.feature, missing, int(start.min()) + 1, int(at.max()))
        raise Unavailable("the history kept changing while it was read")

    # As known at a moment

    async def _as_known(self, moments: Moments, column: Wanted, now: int) -> Filled:
        return await trio.to_thread.run_sync(
            as_known, self._storage, moments, column, now, limiter=self._serving.readers, abandon_on_cancel=True
        )


def _union(missing: Sequence[str], before: DiskRows | None) -> list[str]:
    return list(dict.fromkeys([*missing, *(before.entities if before is not None else ())]))


def as_known(storage: Storage, moments: Moments, column: Wanted, now: int) -> Filled:
    """A column out of what had arrived by `moments.known`. Blocks; for a worker thread."""
    assert moments.known is not None
    numbers = Numbering()
    owner = np.fromiter(map(numbers.__getitem__, moments.entities), np.int64, len(moments.at)) - 1
    start = np.broadcast_to(_visible_from(column, moments.at, now), moments.at.shape)
    rows = storage.versions(column.feature, list(numbers), int(start.min()), int(moments.at.max()))
    low, high = spans(rows, owner)
    begin = bisect_right(rows.times, low, high, start - 1)
    end = np.maximum(begin, bisect_right(rows.times, low, high, moments.at))
    if column.aggregation is None:
        return _newest_known(rows, begin, end, moments.known, column)
    answers = []
    for first in range(0, len(begin), WINDOWED_ROWS_AT_ONCE):
        cut = slice(first, first + WINDOWED_ROWS_AT_ONCE)
        ranges = _known_ranges(rows, begin[cut], end[cut], moments.known[cut])
        answers.append(aggregate(ranges, column.aggregation, column.feature.value_type))
    answer = together(answers)
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


def _visible_from(column: Wanted, at: Times, now: int) -> int | Times:
    """The first event time that may answer, where it depends on the moment one for each: int64[n]."""
    oldest = _oldest(column.feature, now)
    reach = column.window - 1 if column.aggregation is not None else column.lookback
    return oldest if reach is None else np.maximum(at - reach, oldest)


def blank_column(column: Wanted) -> Filled:
    """The column for no rows."""
    if column.aggregation is not None:
        answer = of_no_rows(column.feature, column.aggregation)
        return Filled(column.name, answer.value_type, answer.values, answer.nulls)
    return Filled(column.name, column.feature.value_type, empty(column.feature, 0), np.zeros(0, np.bool_))
