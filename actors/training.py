"""Training sets: for each row (entity, moment), the value of every feature as of that moment.

This is a point-in-time join. The rows are sorted by shard and entity, once for all columns, and the stores are
asked about some thousands of them at a time, with each distinct entity once per message. If memory does not reach
back far enough, the history files are read and the store is asked again with their rows (`completing.py`). With
`known_at` only what had arrived by then counts; that is answered from the journal and the history files alone,
which keep every version of a corrected value.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import trio

from actors.amount import UNCOUNTED, Amount, bytes_of, in_lots
from actors.completing import AtHand, Missing
from actors.domain import Feature
from actors.messages import Aggregated, EntitySlots, Past, PastWindow, Whereabouts
from actors.nearest import Enough
from actors.serving import FeatureServingEngine
from actors.settings import CELLS_PER_QUESTION, CELLS_PER_TURN, ROWS_PER_TURN, WINDOWED_ROWS_PER_QUESTION
from actors.storage.protocol import History
from actors.table.aggregates import aggregate, of_no_rows, together
from actors.table.columns import Indices, Times, picked
from actors.table.grid import Cells
from actors.table.ids import Entities, Ids
from actors.table.ranged import by_rows
from actors.table.rows import Ranges, Rows, bisect_right, grouped, last_of_each, offsets_of
from actors.table.sharding import finding_shards
from actors.timestamps import NEVER
from actors.turns import Steps, by_turns
from actors.types.type import Array, Nulls
from actors.types.values import empty, width_of


class Wanted(NamedTuple):
    """A column to compute. Durations are in microseconds.

    Without `aggregation`: the latest value that is not older than `lookback`. With it: the aggregate over the
    observations in (moment - window, moment]. `role`: in which role of the rows the feature's entities are.
    """

    name: str
    feature: Feature
    lookback: int | None = None
    aggregation: str | None = None
    window: int = 0
    role: int = 0


class Filled(NamedTuple):
    """A computed column: one value per row. `value_type` says how to render the values.

    Columns that are null in the same rows may share one `nulls` array.
    """

    name: str
    value_type: str
    values: Array
    nulls: Nulls


class Spine(NamedTuple):
    """Rows of a training set: a moment each (int64[n]), and an entity of each role.

    `known`: for each row the last arrival that counts (int64[n]), or None to count all.
    """

    roles: Sequence[Entities]
    at: Times
    known: Times | None = None

    def rows(self, cut: slice) -> Spine:
        """A slice of the rows."""
        known = None if self.known is None else self.known[cut]
        return Spine([entities[cut] for entities in self.roles], self.at[cut], known)


class _Asked(NamedTuple):
    """The rows with their entities numbered: row i is about entities[owner[i]]."""

    entities: list[str]
    owner: Indices
    at: Times


_Found = TypeVar("_Found")


class _Part(NamedTuple):
    """Some rows of one shard; row i is about entities[owner[i]].

    They are the slice `cut` of the layout; `rows`: their row numbers in the spine.
    """

    shard: int
    cut: slice
    rows: Indices
    at: Times
    entities: list[str]
    owner: Indices
    places: EntitySlots


class _Layout(NamedTuple):
    """All rows sorted by shard and entity; row i is about entities[owner[i]].

    `rows`: their row numbers in the spine. The rows of shard s are bounds[s]:bounds[s + 1]. `slots`: that of each
    entity in the store of its shard s, in the epoch epochs[s].
    """

    rows: Indices
    at: Times
    entities: list[str]
    owner: Indices
    bounds: list[int]
    slots: Indices
    epochs: Sequence[object | None]

    async def answered(self, most: int, ask: Callable[[_Part], Awaitable[_Found]]) -> AsyncIterator[_Found]:
        """Yield the answers of `ask` to all rows in order, at most `most` rows at a time."""
        for shard, (begin, end) in enumerate(pairwise(self.bounds)):

            def ask_shard(cut: slice, shard: int = shard, begin: int = begin) -> Awaitable[_Found]:
                return ask(self._part(shard, slice(begin + cut.start, begin + cut.stop)))

            async for _, answer in in_lots(end - begin, most, ask_shard):
                yield answer

    def _part(self, shard: int, cut: slice) -> _Part:
        owner = self.owner[cut]
        first, last = int(owner[0]), int(owner[-1])
        entities, slots = self.entities[first : last + 1], self.slots[first : last + 1]
        places = EntitySlots(self.epochs[shard], slots)
        return _Part(shard, cut, self.rows[cut], self.at[cut], entities, owner - first, places)


def _numbering(entities: Entities, at: Times) -> Steps[_Asked]:
    """Number those of the entities that have a row, in steps."""
    used = np.zeros(len(entities.ids), np.bool_)
    used[entities.codes] = True
    texts = yield from _texts(entities.ids, np.flatnonzero(used))
    return _Asked(texts, (np.cumsum(used) - 1)[entities.codes], at)


def _texts(ids: Ids, numbers: Indices) -> Steps[list[str]]:
    """The ids of these numbers, in steps."""
    texts = list[str]()
    for start in range(0, len(numbers), ROWS_PER_TURN):
        texts += picked(ids.texts, numbers[start : start + ROWS_PER_TURN])
        yield
    return texts


class _Located:
    """In which shard each of a list of ids is (-1 if nobody has asked yet), and in which slot of its store.

    Shards whose epoch has changed in between have None: the slots are then an order and no more.
    """

    def __init__(self, ids: int, shards: int) -> None:
        self.shards = np.full(ids, -1, np.int16)
        self.slots = np.zeros(ids, np.int64)
        self.epochs: list[object | None] = [None] * shards
        self._asked = [False] * shards

    def add(self, shard: int, numbers: Indices, places: EntitySlots) -> None:
        """Note where the ids of these numbers are, which all are in one shard."""
        self.shards[numbers], self.slots[numbers] = shard, places.slots
        if not self._asked[shard]:
            self.epochs[shard], self._asked[shard] = places.epoch, True
        elif self.epochs[shard] is not places.epoch:
            self.epochs[shard] = None

    def laid_out(self, entities: Entities, at: Times, numbers: Indices) -> _Layout:
        """Sort rows by shard, and within it in the order of the store's memory, which is then read in one pass.

        `numbers`: of the ids that the rows name, all of which are located.
        """
        order = grouped(self.slots[numbers])
        shards = self.shards[numbers]
        numbers = numbers[order[grouped(shards[order])]]
        number = np.empty(len(self.shards), np.int64)
        number[numbers] = np.arange(len(numbers))
        owner = number.take(entities.codes)
        rows = grouped(owner)
        owner = owner.take(rows)
        counts = np.bincount(shards, minlength=len(self.epochs))
        bounds = np.searchsorted(owner, np.append(0, np.cumsum(counts))).tolist()
        texts = picked(entities.ids.texts, numbers)
        return _Layout(rows, at.take(rows), texts, owner, bounds, self.slots[numbers], self.epochs)


_Reach = tuple[int | None, int | None]
"""How far back a column looks: its lookback and its feature's retention age, both in microseconds."""


class _Answer(NamedTuple):
    """A store's answer about a part: one Cells per column.

    `visible`: by reach, the first event time that is visible to all rows of the part, or to each (int64[n]).
    """

    part: _Part
    visible: Mapping[_Reach, int | Times]
    cells: Sequence[Cells]


class TrainingSets:
    """Computes training sets by asking the stores. Safe for concurrent use by tasks of one thread."""

    def __init__(self, serving: FeatureServingEngine, history: History) -> None:
        """`serving`: its limit of threads that read history files is shared."""
        self._serving = serving
        self._stores = serving.stores
        self._history = history
        self._located = WeakKeyDictionary[Ids, dict[str, _Located]]()
        """By list of ids and entity type, as long as a request has the list: lots of it need not ask again."""

    async def fill(self, spine: Spine, wanted: Sequence[Wanted], now: int) -> list[Filled]:
        """Compute the columns in the order asked. `spine` has at least one row. Raises TooMuchAtOnce."""
        found: dict[int, Filled] = {}
        for role, entities in enumerate(spine.roles):
            places = [place for place, column in enumerate(wanted) if column.role == role]
            if places:
                columns = await self._of_role(entities, spine, [wanted[place] for place in places], now)
                found.update(zip(places, columns, strict=True))
        return [found[place] for place in range(len(wanted))]

    async def _of_role(
        self, entities: Entities, spine: Spine, columns: Sequence[Wanted], now: int
    ) -> list[Filled]:
        """Compute columns that are all read of the same entity of a row."""
        if spine.known is not None:
            asked = await by_turns(_numbering(entities, spine.at))
            return [await self._as_known(asked, spine.known, column, now) for column in columns]
        layout = await self._laid_out(columns[0].feature.entity, entities, spine.at)
        plain = [column for column in columns if column.aggregation is None]
        latest = iter(await self._latest(layout, plain, now) if plain else ())
        return [
            next(latest) if column.aggregation is None else await self._aggregated(layout, column, now)
            for column in columns
        ]

    async def _laid_out(self, entity_type: str, entities: Entities, at: Times) -> _Layout:
        of_ids = self._located.setdefault(entities.ids, {})
        located = of_ids.setdefault(entity_type, _Located(len(entities.ids), len(self._stores)))
        used = np.zeros(len(entities.ids), np.bool_)
        used[entities.codes] = True
        numbers = np.flatnonzero(used)
        unknown = numbers[located.shards[numbers] < 0]
        if len(unknown):
            texts = await by_turns(_texts(entities.ids, unknown))
            owners = await by_turns(finding_shards(entity_type, texts, len(self._stores)))
            for shard, store in enumerate(self._stores):
                own = np.flatnonzero(owners == shard)
                if len(own):
                    places = await store.ask(Whereabouts(entity_type, picked(texts, own)))
                    located.add(shard, unknown[own], places)
        return located.laid_out(entities, at, numbers)

    # The latest values

    async def _latest(self, layout: _Layout, wanted: Sequence[Wanted], now: int) -> list[Filled]:
        features = [column.feature for column in wanted]
        visible = {_reach(column): _visible_from(column, layout.at, now) for column in wanted}
        most = max(1, CELLS_PER_QUESTION // sum(1 + width_of(one) for one in features))
        answers, held = [], Amount(f"{len(features)} features", UNCOUNTED, self._serving.history.most_bytes)

        async def ask(part: _Part) -> _Answer:
            cut = {reach: start if isinstance(start, int) else start[part.cut] for reach, start in visible.items()}
            return _Answer(part, cut, await self._part(part, features, [cut[_reach(column)] for column in wanted]))

        async for answer in layout.answered(most, ask):
            held.add(0, sum(bytes_of(cells.values) for cells in answer.cells))
            answers.append(answer)
        return await _put_back(answers, wanted, len(layout.rows))

    async def _part(self, part: _Part, features: Sequence[Feature], visible: Sequence[int | Times]) -> list[Cells]:
        async def ask(disk: AtHand) -> list[Cells]:
            about = features[0].entity, part.entities, part.owner, part.at, features, visible
            question = Past(*about, dict(disk), part.places)
            found: list[Cells] = await self._stores[part.shard].ask(question)
            return found

        def missing(found: list[Cells]) -> Sequence[Missing]:
            lacking = []
            for feature, cells, start in zip(features, found, visible, strict=True):
                if cells.cold is not None and cells.cold.any():
                    entities = [part.entities[one] for one in np.unique(part.owner[cells.cold]).tolist()]
                    span = int(np.min(start)), int(part.at.max())
                    lacking.append(Missing(feature, entities, *span, Enough(*span) if len(part.at) == 1 else None))
            return lacking

        return await self._serving.history.complete(ask, missing)

    # Aggregates

    async def _aggregated(self, layout: _Layout, column: Wanted, now: int) -> Filled:
        answers, held = [], Amount(column.feature.id, UNCOUNTED, self._serving.history.most_bytes)

        def ask(part: _Part) -> Awaitable[Aggregated]:
            start = np.maximum(part.at - column.window, _oldest(column.feature, now) - 1)
            return self._windows(part, start, column)

        async for answer in layout.answered(WINDOWED_ROWS_PER_QUESTION, ask):
            held.add(0, bytes_of(answer.values))
            answers.append(answer)
        back = np.empty_like(layout.rows)
        back[layout.rows] = np.arange(len(back))
        values = np.concatenate([answer.values for answer in answers])[back]
        nulls = np.concatenate([answer.nulls for answer in answers])[back]
        return Filled(column.name, answers[0].value_type, values, nulls)

    async def _windows(self, part: _Part, start: Times, column: Wanted) -> Aggregated:
        assert column.aggregation is not None
        question = PastWindow(part.entities, part.owner, start, part.at, column.feature, column.aggregation)
        return await self._serving.aggregated(part.shard, question, int(start.min()) + 1, int(part.at.max()))

    # As known at a moment

    async def _as_known(self, asked: _Asked, known: Times, column: Wanted, now: int) -> Filled:
        readers = self._serving.history.readers
        return await trio.to_thread.run_sync(
            _as_known, self._history, asked, known, column, now, limiter=readers, abandon_on_cancel=True
        )


async def _put_back(answers: Sequence[_Answer], wanted: Sequence[Wanted], count: int) -> list[Filled]:
    """Put the answers into the order of the rows, one column at a time, which fits into the processor's cache."""
    filled: list[Filled] = []
    last: dict[_Reach, tuple[Sequence[Cells], Nulls]] = {}
    done = 0
    for place, column in enumerate(wanted):
        cells = [answer.cells[place] for answer in answers]
        values = empty(column.feature, count)
        for answer, one in zip(answers, cells, strict=True):
            values[answer.part.rows] = one.values
        reach = _reach(column)
        before, nulls = last.get(reach, ((), None))
        if nulls is None or not all(map(_found_together, before, cells)):
            nulls = _nulls(answers, cells, reach, count)
        last[reach] = cells, nulls
        filled.append(Filled(column.name, column.feature.value_type, values, nulls))
        done += count
        if done > CELLS_PER_TURN:
            await trio.lowlevel.checkpoint()
            done = 0
    return filled


def _found_together(one: Cells, other: Cells) -> bool:
    """For columns that are found at the same positions, a store answers with the same array objects."""
    return one.times is other.times and one.nulls is other.nulls


def _nulls(answers: Sequence[_Answer], cells: Sequence[Cells], reach: _Reach, count: int) -> Nulls:
    """Which rows have no value, a null, or a value that is too old: bool[count]."""
    nulls = np.empty(count, np.bool_)
    for answer, one in zip(answers, cells, strict=True):
        nulls[answer.part.rows] = one.nulls | (one.times < answer.visible[reach])
    return nulls


def _as_known(history: History, asked: _Asked, known: Times, column: Wanted, now: int) -> Filled:
    """Compute a column from what had arrived by `known`. Blocks; for a worker thread."""
    start = np.broadcast_to(_visible_from(column, asked.at, now), asked.at.shape)
    rows = history.versions(column.feature, asked.entities, int(start.min()), int(asked.at.max()))
    offsets = offsets_of(rows, len(asked.entities))
    low, high = offsets.take(asked.owner), offsets[1:].take(asked.owner)
    begin = bisect_right(rows.times, low, high, start - 1)
    end = np.maximum(begin, bisect_right(rows.times, low, high, asked.at))
    if column.aggregation is None:
        return _newest_known(rows, begin, end, known, column)
    answers = []
    for cut in by_rows(end - begin):
        ranges = _known_ranges(rows, begin[cut], end[cut], known[cut])
        answers.append(aggregate(ranges, column.aggregation, column.feature.value_type))
    answer = together(answers)
    return Filled(column.name, answer.value_type, answer.values, answer.nulls)


def _newest_known(rows: Rows, begin: Indices, end: Indices, known: Times, column: Wanted) -> Filled:
    """The last of `rows`, sorted by (slot, time, arrival), in each begin[i]:end[i] that arrived by known[i]."""
    count, value_type = len(begin), column.feature.value_type
    if rows.size == 0:
        return Filled(column.name, value_type, empty(column.feature, count), np.ones(count, np.bool_))
    position = end - 1
    late = np.arange(count)
    while len(late):  # go back by one version in all ranges whose version here had not arrived yet
        here = position[late]
        late = late[(here >= begin[late]) & (rows.arrived[here] > known[late])]
        position[late] -= 1
    missing = position < begin
    return Filled(column.name, value_type, rows.values[position], rows.nulls[position] | missing)


def _known_ranges(rows: Rows, begin: Indices, end: Indices, known: Times) -> Ranges:
    """The rows of each range begin[i]:end[i] that had arrived by known[i], the last of each event time."""
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
    """The first event time that is visible by retention age."""
    return NEVER + 2 if feature.kept_age is None else now - feature.kept_age


def _reach(column: Wanted) -> _Reach:
    return column.lookback, column.feature.kept_age


def _visible_from(column: Wanted, at: Times, now: int) -> int | Times:
    """The first event time visible to a column: one for all rows, or one for each (int64[n])."""
    oldest = _oldest(column.feature, now)
    reach = column.window - 1 if column.aggregation is not None else column.lookback
    return oldest if reach is None else np.maximum(at - reach, oldest)


def blank_column(column: Wanted) -> Filled:
    """A column of a training set without rows."""
    if column.aggregation is not None:
        answer = of_no_rows(column.feature, column.aggregation)
        return Filled(column.name, answer.value_type, answer.values, answer.nulls)
    return Filled(column.name, column.feature.value_type, empty(column.feature, 0), np.zeros(0, np.bool_))
