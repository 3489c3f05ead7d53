"""FeatureServingEngine: queries about many entities and features, answered by the stores that own them.

One message goes to each store concerned, and all are sent before the first answer is awaited.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Sequence
from itertools import product
from typing import NamedTuple

import msgspec
import numpy as np
import trio

from actors.amount import UNCOUNTED, Amount, bytes_of, in_lots
from actors.completing import AtHand, HistoryReader, Missing
from actors.domain import Feature
from actors.errors import TooMuchAtOnce
from actors.mailbox import Mailbox, Reply
from actors.messages import About, Aggregated, Agreement, Between, CountRows, Latest, PastWindow, Scan, Scanned
from actors.nearest import Enough
from actors.settings import AGGREGATORS, CELLS_PER_QUESTION, ENTITIES_PER_MESSAGE
from actors.table.aggregates import Aggregate
from actors.table.columns import Indices
from actors.table.grid import Grid, Placing, join, put_together
from actors.table.partition import IDS_PER_TURN, DiskRows
from actors.table.ranged import Ranged
from actors.table.selection import Selection
from actors.table.sharding import finding_shards, shard_of
from actors.timestamps import FOREVER, NEVER
from actors.turns import Steps, aside, by_turns, slices
from actors.types.type import Nulls
from actors.types.values import width_of


class _Part(NamedTuple):
    """The entities of a query that belong to one shard: `positions` in the query (int64[n]), and their ids."""

    shard: int
    positions: Indices
    entities: Sequence[str]

    def of(self, cut: slice) -> _Part:
        """A slice of the entities."""
        return _Part(self.shard, self.positions[cut], self.entities[cut])


class _Asked(NamedTuple):
    """A query for latest values; see `FeatureServingEngine.latest`.

    `visible`: for each role and feature, the event time before which values are hidden. `verify`: whether it is
    compared with a point-in-time read.
    """

    selected: Selection
    at: int
    current: bool
    visible: Sequence[Sequence[int]]
    verify: bool
    judged: int | None


class Span(NamedTuple):
    """A range of event time, split into `windows` tumbling windows of `width` microseconds.

    The windows are half-open: (a, b] if the range excludes its start, otherwise [a, b) except for the last window,
    which includes its end if the range does.
    """

    start: int
    end: int
    width: int = 0
    windows: int = 1
    with_start: bool = True
    with_end: bool = True

    @property
    def first(self) -> int:
        """The first moment in the range."""
        return self.start if self.with_start else self.start + 1

    @property
    def last(self) -> int:
        """The last moment in the range."""
        return self.end if self.with_end else self.end - 1

    def part(self, windows: slice) -> Span:
        """The range of some of the windows."""
        first, stop, _ = windows.indices(self.windows)
        start = self.start + first * self.width
        if stop == self.windows:
            return self._replace(start=start, windows=stop - first)
        end = self.start + stop * self.width
        return self._replace(start=start, end=end, windows=stop - first, with_end=not self.with_start)


class FeatureServingEngine:
    """Answers queries by asking the stores. Safe for concurrent use by tasks of one thread."""

    def __init__(self, stores: Sequence[Mailbox], history: HistoryReader, agreement_sample: float = 0.0) -> None:
        """`agreement_sample`: the fraction of reads of the present that are compared with a point-in-time read."""
        self.stores = stores
        self.values_served = 0
        self.history = history
        self._agreement_sample = agreement_sample
        self.aggregators = trio.CapacityLimiter(AGGREGATORS)

    # The latest values

    async def latest(
        self,
        ids: Sequence[Sequence[str]],
        selected: Selection,
        at: int,
        now: int,
        current: bool,
        judged: int | None = None,
    ) -> Grid:
        """The latest value with event time <= at of each feature for each row, in the orders given.

        `ids`: for each role of the selection, an entity id per row. `now`: the wall clock, for retention ages.
        `current`: whether `at` is the present, so that what is read counts as used. `judged`: the version of the
        registry that `selected` was resolved with; raises Stale if a shared store has another.
        """
        verify = current and self._agreement_sample > random.random()
        visible = [role.selection.visible_from(now) for role in selected.roles]
        asked = _Asked(selected, at, current, visible, verify, judged)
        grid = await self._of_roles(ids, asked)
        self.values_served += grid.times.size
        return grid if selected.ageless else grid.hidden_before(selected.visible_from(now))

    async def _of_roles(self, ids: Sequence[Sequence[str]], asked: _Asked) -> Grid:
        selected, count = asked.selected, len(ids[0])
        try:
            return await self._grid(ids, asked)
        except TooMuchAtOnce:
            if len(ids) == 1 == count:
                raise
            if len(ids) == 1:
                return await self._in_lots(ids[0], asked, count // 2)
            placed = list[tuple[Placing, Indices, Grid]]()
            for number, (role, own) in enumerate(zip(selected.roles, ids, strict=True)):
                alone = asked._replace(selected=role.selection, visible=[asked.visible[number]])
                grid = await self._in_lots(own, alone, count)
                placed.append((selected.placings[number], np.arange(count), grid))
            return put_together(selected.kinds, count, placed)

    async def _in_lots(self, entities: Sequence[str], asked: _Asked, most: int) -> Grid:
        count, grids = len(entities), list[Grid]()
        held = Amount("the answer", UNCOUNTED, self.history.most_bytes)

        def ask(cut: slice) -> Awaitable[Grid]:
            return self._grid([entities[cut]], asked)

        async for cut, grid in in_lots(count, most, ask):
            grids.append(grid)
            if len(grids) > 1 or cut.stop < count:
                held.add(0, sum(map(bytes_of, grid.values)))
        return grids[0] if len(grids) == 1 else join(grids, np.arange(count))

    async def _grid(self, ids: Sequence[Sequence[str]], asked: _Asked) -> Grid:
        by_shard: dict[int, list[tuple[int, _Part]]] = {}
        for number, (role, own) in enumerate(zip(asked.selected.roles, ids, strict=True)):
            for part in await self._parts(role.entity_type, own):
                by_shard.setdefault(part.shard, []).append((number, part))
        parts = [part for of_shard in by_shard.values() for part in of_shard]

        async def ask(disk: AtHand) -> list[Grid]:
            replies = [await self._send(shard, own, asked, disk) for shard, own in by_shard.items()]
            return [grid for reply in replies for grid in await reply.wait()]

        def missing(grids: list[Grid]) -> Sequence[Missing]:
            found: dict[str, Missing] = {}
            for (number, part), grid in zip(parts, grids, strict=True):
                if grid.cold is not None and grid.cold.any():
                    _add_missing(found, part, grid.cold, asked, number)
            return list(found.values())

        grids = await self.history.complete(ask, missing)
        if len(grids) == 1:
            return grids[0]
        selected = asked.selected
        placed = [
            (selected.placings[number], part.positions, grid)
            for (number, part), grid in zip(parts, grids, strict=True)
        ]
        return put_together(selected.kinds, len(ids[0]), placed)

    async def _send(
        self, shard: int, parts: Sequence[tuple[int, _Part]], asked: _Asked, disk: AtHand
    ) -> Reply[list[Grid]]:
        """Ask a store about what it owns, of all roles at once, with the rows from disk that are its own."""
        about = [_about(asked, *part) for part in parts]
        at_hand = {id_: own for id_, rows in disk.items() if (own := _of(rows, id_, about)).entities}
        question = Latest(about, asked.at, asked.current, at_hand, asked.verify, asked.judged)
        await _pause(sum([len(one.entities) for one in about]))
        store = self.stores[shard]
        # Rows from disk are taken into memory, which is for the store's own task to bound.
        return (None if at_hand else store.turn(question)) or await store.send(question)

    async def _parts(self, entity_type: str, entities: Sequence[str]) -> list[_Part]:
        shards = len(self.stores)
        if len(entities) == 1 or shards == 1:
            shard = shard_of(entity_type, entities[0], shards)
            return [_Part(shard, np.arange(len(entities)), entities)]
        await _pause(len(entities))
        owners = await by_turns(finding_shards(entity_type, entities, shards))
        await _pause(len(entities))
        parts = []
        for shard in range(shards):
            positions = np.flatnonzero(owners == shard)
            if len(positions):
                parts.append(_Part(shard, positions, [entities[position] for position in positions.tolist()]))
        return parts

    async def agreement(self) -> dict[str, tuple[int, int]]:
        """By feature id, since the start: values compared with a point-in-time read, and values that differed."""
        found: dict[str, tuple[int, int]] = {}
        for store in self.stores:
            for id_, (compared, differed) in (await store.ask(Agreement())).items():
                before = found.get(id_, (0, 0))
                found[id_] = before[0] + compared, before[1] + differed
        return found

    async def rows_in_memory(self) -> int:
        """How many observations the stores hold in memory."""
        return sum([await store.ask(CountRows()) for store in self.stores])

    # Aggregates over a range

    async def aggregate(
        self, entities: Sequence[str], feature: Feature, aggregation: str, span: Span, now: int
    ) -> Aggregate:
        """One value per entity and window, entities outermost, in the order asked. Raises TooMuchAtOnce."""
        distinct = list(dict.fromkeys(entities))
        if len(distinct) < len(entities):  # each entity is aggregated once, however often it is named
            numbers = {entity: number for number, entity in enumerate(distinct)}
            owners = np.array([numbers[entity] for entity in entities])
            found = await self.aggregate(distinct, feature, aggregation, span, now)
            return await by_turns(_repeated(found, owners, span.windows))
        parts = await self._parts(feature.entity, entities)
        chunks = [chunk for part in parts for chunk in _chunks(part, feature, span.windows)]
        held = Amount(feature.id, UNCOUNTED, self.history.most_bytes)
        answers, cells = list[Aggregated](), list[Indices]()
        most = CELLS_PER_QUESTION // (1 + width_of(feature) * (aggregation in ("latest", "first")))
        for chunk, windows in product(chunks, slices(span.windows, max(1, most))):
            asked, numbers_of_windows = span.part(windows), np.arange(windows.start, windows.stop)

            def ask(cut: slice, chunk: _Part = chunk, asked: Span = asked) -> Awaitable[Aggregated]:
                return self._aggregate_part(chunk.of(cut), feature, aggregation, asked, now)

            async for cut, answer in in_lots(len(chunk.entities), len(chunk.entities), ask):
                held.add(0, bytes_of(answer.values))
                answers.append(answer)
                cells.append((chunk.positions[cut, None] * span.windows + numbers_of_windows).ravel())
        return await by_turns(_put_back(answers, cells, len(entities) * span.windows))

    async def _aggregate_part(
        self, part: _Part, feature: Feature, aggregation: str, span: Span, now: int
    ) -> Aggregated:
        visible = _visible_from(feature, now)
        question = Between(
            part.entities, feature, span.first, span.last, visible, aggregation, span.width, span.windows
        )
        return await self.aggregated(part.shard, question, max(span.first, visible), span.last)

    async def aggregated(self, shard: int, question: Between | PastWindow, start: int, end: int) -> Aggregated:
        """The answer of a store to `question`, computed in a worker thread if there is much to aggregate.

        Rows that memory lacks are read from disk for event times in [start, end].
        """

        async def ask(disk: AtHand) -> Aggregated:
            with_disk = msgspec.structs.replace(question, disk=disk.get(question.feature.id))
            answer: Aggregated | Ranged = await self.stores[shard].ask(with_disk)
            if isinstance(answer, Ranged):
                return Aggregated(*await aside(answer.answering(), self.aggregators))
            return answer

        def missing(answer: Aggregated) -> Sequence[Missing]:
            cold = [question.entities[position] for position in answer.cold]
            return [Missing(question.feature, cold, start, end)] if cold else ()

        return await self.history.complete(ask, missing)

    # One entity's observations

    async def scan(
        self, entity: str, feature: Feature, span: Span, limit: int, descending: bool, now: int
    ) -> Scanned:
        """Up to `limit` observations of one entity in order of event time, newest first if `descending`.

        Fewer, and `more` is set, if that many are too much to read at once.
        """
        while True:
            try:
                return await self._scan(entity, feature, span, limit, descending, now)
            except TooMuchAtOnce:
                if limit == 1:
                    raise
                limit = max(1, limit // 4)

    async def _scan(
        self, entity: str, feature: Feature, span: Span, limit: int, descending: bool, now: int
    ) -> Scanned:
        shard = shard_of(feature.entity, entity, len(self.stores))
        start = max(span.start, _visible_from(feature, now))

        async def ask(disk: AtHand) -> Scanned:
            question = Scan(entity, feature, start, span.end, limit, descending, disk.get(feature.id))
            answer: Scanned = await self.stores[shard].ask(question)
            return answer

        def missing(answer: Scanned) -> Sequence[Missing]:
            enough = Enough(start, span.end, limit + 1, descending)
            return [Missing(feature, [entity], start, span.end, enough)] if answer.cold else ()

        return await self.history.complete(ask, missing)


def _about(asked: _Asked, number: int, part: _Part) -> About:
    role = asked.selected.roles[number].selection
    entity_type, visible = role.features[0].entity, asked.visible[number]
    return About(entity_type, part.entities, role.features, visible)


async def _pause(ids: int) -> None:
    """Let other tasks run before so many ids are dealt with, unless they are few."""
    if ids > IDS_PER_TURN:
        await trio.lowlevel.checkpoint()


def _visible_from(feature: Feature, now: int) -> int:
    return NEVER if feature.kept_age is None else now - feature.kept_age


def _repeated(found: Aggregate, owners: Indices, windows: int) -> Steps[Aggregate]:
    """The aggregates of entities that are named several times; `owners`: their numbers in `found`, in steps."""
    shape = found.values.shape[1:]
    each, nulls_of_each = found.values.reshape(-1, windows, *shape), found.nulls.reshape(-1, windows)
    values = np.empty((len(owners), windows, *shape), found.values.dtype)
    nulls = np.empty((len(owners), windows), np.bool_)
    for cut in slices(len(owners), max(1, CELLS_PER_QUESTION // windows)):
        values[cut], nulls[cut] = each[owners[cut]], nulls_of_each[owners[cut]]
        yield
    return Aggregate(values.reshape(-1, *shape), nulls.ravel(), found.value_type)


def _put_back(answers: Sequence[Aggregated], cells: Sequence[Indices], count: int) -> Steps[Aggregate]:
    """Put the aggregates of each answer into their cells, of which there are `count`, in steps."""
    first = answers[0]
    dtype = np.result_type(*{answer.values.dtype for answer in answers})
    values, nulls = np.empty((count, *first.values.shape[1:]), dtype), np.empty(count, np.bool_)
    for answer, places in zip(answers, cells, strict=True):
        values[places], nulls[places] = answer.values, answer.nulls
        yield
    return Aggregate(values, nulls, first.value_type)


def _chunks(part: _Part, feature: Feature, windows: int) -> list[_Part]:
    most = max(1, min(ENTITIES_PER_MESSAGE, CELLS_PER_QUESTION // windows) // (1 + width_of(feature)))
    return [part.of(slice(start, start + most)) for start in range(0, len(part.entities), most)]


def _of(disk: DiskRows, feature: str, asked: Sequence[About]) -> DiskRows:
    """The rows of a feature from disk that belong to the entities asked about."""
    entity_type = feature.partition(".")[0]
    wanted = {entity for about in asked if about.entity_type == entity_type for entity in about.entities}
    places = [place for place, entity in enumerate(disk.entities) if entity in wanted]
    renumbered = np.full(len(disk.entities), -1, np.int32)
    renumbered[places] = np.arange(len(places))
    owners = renumbered[disk.rows.slots]
    rows = disk.rows.at(owners).take(owners >= 0)
    return disk._replace(entities=[disk.entities[place] for place in places], rows=rows)


def _add_missing(found: dict[str, Missing], part: _Part, cold: Nulls, asked: _Asked, number: int) -> None:
    """Add the entities of a part, which is about a role, that have no rows of a feature in memory."""
    visible, features = asked.visible[number], asked.selected.roles[number].selection.features
    for index in np.flatnonzero(cold.any(axis=1)).tolist():
        entities = [part.entities[position] for position in np.flatnonzero(cold[index]).tolist()]
        feature = features[index]
        if before := found.get(feature.id):
            entities = [*before.entities, *entities]
        span = (NEVER, FOREVER) if asked.current else (visible[index], asked.at)
        found[feature.id] = Missing(feature, entities, *span, Enough(visible[index], asked.at))
