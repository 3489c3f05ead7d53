"""What one store owns: the entities that hash to it, and a series per feature.

An entity id becomes a dense slot number the first time it is written; every column below is indexed by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from actors.domain import Feature
from actors.settings import ROWS_PER_TURN
from actors.table.batch import Batch, Column, Table, concatenated
from actors.table.columns import Indices, Numbering, Times, picked, same
from actors.table.found import Found
from actors.table.grid import Cells, Grid, Kind, unfilled
from actors.table.ids import Ids
from actors.table.index import Index
from actors.table.latest import SLOTS_AT_ONCE, ColumnPlaces, LatestTable
from actors.table.layers import Layers
from actors.table.rows import Ranges, Rows, first_of_each, merge
from actors.table.series import Series
from actors.timestamps import NEVER
from actors.turns import Steps, at_once
from actors.types.type import Nulls
from actors.types.values import dtype_of, width_of

QUESTIONS_REMEMBERED = 256
IDS_PER_TURN = ROWS_PER_TURN // 2
"""Looked up one after another, each somewhere else in memory."""
EVICT_DOWN_TO = 0.9
"""Eviction frees a tenth at a time, so that its cost is spread over the writes that made it necessary."""
SAMPLED_PAIRS = 100_000
SORTED_FOR_ONE = 32
"""So many rows are put in order in the time in which one comes in."""


_NO_MORE = object()


class DiskRows(NamedTuple):
    """Everything that the history files hold of some pairs of one feature, as of a journal position.

    `entities`: the ids asked for; `owner` int32[n]: which of them a row belongs to; rows in order of arrival.
    """

    position: int
    entities: Sequence[str]
    rows: Rows

    def merged(self) -> DiskRows:
        """The rows by (owner, event time), the last to arrive of equal ones: sorting millions takes seconds."""
        return self._replace(rows=merge([self.rows]))


class _Asked(NamedTuple):
    """Where the features of a question are. It holds the list of them, so that no other one has its id.

    `table` is None where they are not all in one.
    """

    features: Sequence[Feature]
    table: LatestTable | None
    places: ColumnPlaces


class Partition:
    """The state of one store. Not thread-safe: its actor is the only one to touch it."""

    def __init__(
        self, base_floor: int = NEVER, position: int = 0, floors: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """`base_floor`: below it any pair may have rows that were not loaded. `position`: applied so far.

        `floors`: the same as `base_floor` by feature, whenever that was registered.
        """
        self.position = position
        self.flushed = position
        self.tick = 0
        """Marks what is read as used just then; 0 for no marks."""
        self._base_floor = base_floor
        self._base_position = position
        self._floors = floors
        self._slots: dict[str, Numbering] = {}
        self._series: dict[str, tuple[int, Series]] = {}
        self._latest: dict[str, LatestTable] = {}
        self._asked: dict[int, _Asked] = {}
        self._untidy: list[Layers] = []
        self._freeing: list[Steps[None]] = []
        self._purged: dict[tuple[str, str], int] = {}
        """What reads of the disk that began before may bring yet: by entity type and id the last arrival to go."""

    @property
    def rows(self) -> int:
        """How many observations are held."""
        return sum(series.rows for _, series in self._series.values())

    # Writing

    def apply(self, arrived: int, batch: Batch) -> None:
        """Take what was made durable as `arrived`. What is applied already is passed over."""
        at_once(self.applying(arrived, batch))

    def applying(self, arrived: int, batch: Batch) -> Steps[None]:
        """The same in steps, between which nothing else may be asked of the partition."""
        if arrived <= self.position:
            return
        slots, done = (yield from self._slots_of(batch)), 0
        for table in batch:
            if table.rows == 0:
                continue
            own = slots[table.entities.ids, table.entity_type][table.entities.codes]
            index = Index(own.astype(np.int32), table.times, np.full(len(own), arrived, np.int64), own)
            yield from self._making_room(table.entity_type)
            for column in table.columns:
                done += len(own)
                if done > ROWS_PER_TURN // 2:
                    yield
                    done = len(own)
                yield from self._making_column(column.feature, column.created, column.values.dtype, column.width)
                done += self._append(column, index) // SORTED_FOR_ONE
        self.position = arrived

    def lacks(self, features: Sequence[Feature]) -> bool:
        """Whether a question about them makes columns, for which a large table may have to be copied."""
        return id(features) not in self._asked and any(self._is_new(one.id, one.created) for one in features)

    def making_columns(self, features: Sequence[Feature]) -> Steps[None]:
        """Make them, in steps between which nothing else may be asked of the partition."""
        for one in features:
            yield from self._making_column(one.id, one.created, dtype_of(one.value_type), width_of(one))
            self.series(one)

    def _is_new(self, feature: str, created: int) -> bool:
        return feature not in self._series or self._series[feature][0] < created

    def _making_column(self, feature: str, created: int, dtype: np.dtype[np.generic], width: int) -> Steps[None]:
        table = self._latest.get(feature.partition(".")[0])
        if table is not None and self._is_new(feature, created):
            yield from table.making_column(dtype, width)

    def _making_room(self, entity_type: str) -> Steps[None]:
        """For the slots that there are, some at a time: the tables may have hundreds of columns."""
        table, slots = self._latest.get(entity_type), len(self._slots[entity_type]) + 1
        while table is not None and table.room < slots:
            table.make_room(min(slots, table.room + SLOTS_AT_ONCE))
            if table.room < slots:
                yield

    def load(self, parts: Sequence[Table], arrived: Sequence[Times], like: Index | None = None) -> Index:
        """Take the rows of some parts of one feature, later than all before them, and say what index they got.

        `like`: one that they share if it is the same.
        """
        known = at_once(self._slots_of(parts))
        slots = np.concatenate([known[one.entities.ids, one.entity_type][one.entities.codes] for one in parts])
        times, arrivals = np.concatenate([one.times for one in parts]), np.concatenate(arrived)
        if like is None or not (
            same(like.places, slots) and same(like.times, times) and same(like.arrived, arrivals)
        ):
            like = Index(slots.astype(np.int32), times, arrivals, slots)
        self._append(concatenated([column for one in parts for column in one.columns]), like)
        return like

    def _slots_of(self, batch: Batch) -> Steps[dict[tuple[Ids, str], Indices]]:
        """By list of ids and entity type the slot of each id that occurs in the tables; who has none gets one."""
        slots = dict[tuple[Ids, str], Indices]()
        for table in batch:
            key = table.entities.ids, table.entity_type
            if key not in slots:
                slots[key] = np.zeros(len(key[0]), np.int64)
            slots[key][table.entities.codes] = 1
        for (ids, entity_type), occurs in slots.items():
            some, known = np.flatnonzero(occurs), self._slots.setdefault(entity_type, Numbering())
            texts = picked(ids.texts, some)
            for start in range(0, len(texts), IDS_PER_TURN):
                if start or len(texts) > IDS_PER_TURN:
                    yield
                part = texts[start : start + IDS_PER_TURN]
                occurs[some[start : start + len(part)]] = np.fromiter(
                    map(known.__getitem__, part), np.int64, len(part)
                )
        return slots

    def _append(self, column: Column, index: Index) -> int:
        series = self._series_of(column.feature, column.created, column.values.dtype, column.width)
        return 0 if series is None else series.append(Rows(index, column.values, column.nulls))

    def _series_of(self, feature: str, created: int, dtype: np.dtype[np.generic], width: int) -> Series | None:
        """The series of a feature, made on first use; None for rows of a feature since replaced."""
        born, series = self._series.get(feature, (NEVER, None))
        if series is None or born < created:
            self.drop(feature)
            base = self._base_floor if created <= self._base_position else NEVER
            base = max(base, self._floors.get(feature, NEVER))
            table = self._latest.setdefault(feature.partition(".")[0], LatestTable())
            series = Series(dtype, width, base, table, self._untidy)
            self._series[feature] = (created, series)
        elif born > created:
            return None
        series.make_room(len(self._slots.get(feature.partition(".")[0], ())) + 1)
        return series

    def purge(self, entity_type: str, entity_id: str, until: int) -> None:
        """Lose everything of an entity that arrived by `until`. Its name goes as well, its slot stays empty."""
        self._purged[entity_type, entity_id] = until
        known = self._slots.get(entity_type)
        slot = known.get(entity_id) if known is not None else None
        if known is None or slot is None:
            return
        own = [series for id_, (_, series) in self._series.items() if id_.partition(".")[0] == entity_type]
        for series in own:
            series.make_room(len(known) + 1)
        if sum(series.purge(slot, until) for series in own) == 0:
            del known[entity_id]
            known[f"\0{slot}"] = slot  # no id has control characters; the next number is the length

    def drop(self, feature: str) -> None:
        """Forget a deleted feature."""
        self._asked.clear()
        _, series = self._series.pop(feature, (NEVER, None))
        if series is not None:
            series.close()
            self._freeing.append(series.column.table.freeing(series.column))

    def tidy(self) -> bool:
        """A step of what was left for later: large merges, the rest of a deleted feature. Whether one was."""
        if self._untidy:
            if not self._untidy[0].tidy():
                del self._untidy[0]
            return True
        if self._freeing:
            if next(self._freeing[0], _NO_MORE) is _NO_MORE:
                del self._freeing[0]
            return True
        return False

    # Reading

    def slots(self, entity_type: str, entities: Sequence[str]) -> Indices:
        """The slot of each entity, 0 for those without one: int64[n]."""
        known = self._slots.get(entity_type)
        if known is None:
            return np.zeros(len(entities), np.int64)
        return np.array([known.get(entity, 0) for entity in entities], np.int64)

    def series(self, feature: Feature) -> Series:
        """The series of a feature, empty where nothing was written."""
        born, found = self._series.get(feature.id, (NEVER, None))
        if found is not None and born == feature.created and found.room > len(self._slots.get(feature.entity, ())):
            return found
        width = width_of(feature)
        series = self._series_of(feature.id, feature.created, dtype_of(feature.value_type), width)
        if series is None:
            # A reader's feature is older than the series only while news of its deletion is on the way.
            series = Series(dtype_of(feature.value_type), width)
            series.make_room(len(self._slots.get(feature.entity, ())) + 1)
        return series

    def latest(
        self, features: Sequence[Feature], kinds: Sequence[Kind], slots: Indices, now: int, visible: Sequence[int]
    ) -> Grid:
        """The newest values with event time <= now, of features of one type. `kinds` are those of the features.

        See `LatestTable.gather`, and `Series.latest` for where some are of the future.
        """
        asked = self._asked.get(id(features))
        if asked is None:
            asked = self._ask(features, kinds)
        if asked.table is not None and asked.table.newest <= now:
            asked.table.make_room(len(self._slots.get(features[0].entity, ())) + 1)
            return Grid(kinds, *asked.table.gather(asked.places, slots, visible, self.tick))
        grid = unfilled(kinds, len(slots))
        for kind, values in zip(kinds, grid.values, strict=True):
            for member, row in zip(kind.members, values, strict=True):
                into = Cells(grid.times[member], row, grid.nulls[member], None)
                series = self.series(features[member])
                cold = series.latest(slots, now, into, visible[member], self.tick)
                if cold is not None:
                    grid = grid.cooled(member, cold)
        return grid

    def _ask(self, features: Sequence[Feature], kinds: Sequence[Kind]) -> _Asked:
        """Where the features are, remembered for as long as the same list of them is asked for."""
        columns = [self.series(feature).column for feature in features]
        table = columns[0].table if len({id(column.table) for column in columns}) == 1 else None
        owned = [[columns[member] for member in kind.members] for kind in kinds]
        tables = [(own[0].kept, np.array([column.own for column in own], np.int64)) for own in owned]
        places = ColumnPlaces(np.array([column.at for column in columns], np.int64), tables)
        asked = _Asked(features, table, places)
        if len(self._asked) >= QUESTIONS_REMEMBERED:
            self._asked.clear()
        self._asked[id(features)] = asked
        return asked

    def as_of(self, feature: Feature, slots: Indices, at: int, visible_from: int, disk: Rows | None) -> Cells:
        """See `Series.as_of`."""
        return self.series(feature).as_of(slots, at, visible_from, disk)

    def past(
        self,
        feature: Feature,
        slots: Indices,
        owner: Indices,
        at: Times,
        visible: int | Times,
        disk: Rows | None,
        found: Found,
    ) -> Cells:
        """See `Series.past`."""
        return self.series(feature).past(slots, owner, at, visible, disk, found)

    def between(
        self,
        feature: Feature,
        slots: Indices,
        start: int | Times,
        end: int | Times,
        disk: Rows | None,
        most: int | None = None,
    ) -> Ranges:
        """See `Series.between`."""
        return self.series(feature).between(slots, start, end, disk, most)

    # Memory

    def place(self, feature: Feature, disk: DiskRows) -> Rows:
        """Merged rows from disk as sorted rows of this partition. Entities that no row belongs to get no slot."""
        known = self._slots.setdefault(feature.entity, Numbering())
        rows = self._without_purged(feature, disk).rows
        begins = first_of_each(rows.slots)
        slots = np.array([known[disk.entities[owner]] for owner in rows.slots[begins].tolist()], np.int32)
        lengths = np.diff(begins, append=rows.size)
        if np.all(slots[1:] > slots[:-1]):
            return rows.at(np.repeat(slots, lengths))
        order = np.argsort(slots)
        slots, begins, lengths = slots[order], begins[order], lengths[order]
        ends = np.cumsum(lengths)
        picked = np.arange(rows.size) + np.repeat(begins - (ends - lengths), lengths)
        return rows.take(picked).at(np.repeat(slots, lengths))

    def _without_purged(self, feature: Feature, disk: DiskRows) -> DiskRows:
        for place, entity in enumerate(disk.entities if self._purged else ()):
            until = self._purged.get((feature.entity, entity), NEVER)
            gone = (disk.rows.slots == place) & (disk.rows.arrived <= until)
            if gone.any():
                disk = disk._replace(rows=disk.rows.take(~gone))
        return disk

    def flush(self, position: int) -> None:
        """The history has what arrived by `position`: reads of it that began earlier count no more."""
        self.flushed = max(self.flushed, position)
        self._purged = {who: until for who, until in self._purged.items() if until > self.flushed}

    def install(self, feature: Feature, entities: Sequence[str], placed: Rows) -> None:
        """Take all placed rows of these entities back into memory, as far as retention keeps them there."""
        slots = self.slots(feature.entity, entities)
        self.series(feature).install(slots[slots > 0], placed, feature.kept_values, self.tick)

    def trimming(self, kept_values: Mapping[str, int]) -> Steps[None]:
        """Let go of what each feature need not keep ready, as far as the history files have it.

        In steps of a series, or of a part of a large one, so that its store can serve in between.
        """
        for feature, (_, series) in list(self._series.items()):
            yield from series.trimming(kept_values.get(feature, 0), self.flushed)
            yield

    def trim(self, kept_values: Mapping[str, int]) -> None:
        """All of `trimming`, and what there is to tidy, at once."""
        at_once(self.trimming(kept_values))
        while self.tidy():
            pass

    def evict(self, budget: int) -> None:
        """All of `evicting` at once."""
        for _ in self.evicting(budget):
            pass

    def evicting(self, budget: int) -> Iterator[int]:
        """Let the least recently used pairs go where more than `budget` observations are held.

        Observations that the history files do not have yet stay, whatever the budget. A generator whose steps say
        how many rows they looked at, so that its store can serve in between. First a sample of each series tells
        which use was so long ago that what has not been used since has to go.
        """
        if self.rows <= budget:
            return
        each, samples = max(50, SAMPLED_PAIRS // max(1, len(self._series))), []
        for _, series in list(self._series.values()):
            samples.append(_sampled(*series.usage(self.flushed)[1:], each))
            yield series.rows
        excess = self.rows - budget * EVICT_DOWN_TO  # looking at the usage has merged corrections away
        if self.rows <= budget:
            return
        oldest = _Oldest(samples, excess)
        for _, series in list(self._series.values()):
            slots, stamps, counts = series.usage(self.flushed)
            mine = slots[oldest.chosen(stamps, counts)]
            yield series.rows
            if len(mine):
                yield from series.evicting(mine, self.flushed)


def _sampled(stamps: Times, counts: Indices, most: int) -> tuple[Times, Indices]:
    """Every so manieth of some pairs, each standing for as many."""
    step = 1 + len(stamps) // most
    return stamps[::step], counts[::step] * step


class _Oldest:
    """Pairs by when they were last used: those that have to go for so many rows to be gone."""

    def __init__(self, samples: Sequence[tuple[Times, Indices]], excess: float) -> None:
        stamps, counts = (np.concatenate(parts) for parts in zip(*samples, strict=True))
        order = np.argsort(stamps, kind="stable")
        freed = np.cumsum(counts[order])
        place = min(int(np.searchsorted(freed, excess)), len(order) - 1)
        self._last = int(stamps[order[place]]) if len(order) else NEVER
        self._left = excess - int(counts[stamps < self._last].sum())
        """How many rows have to go of the pairs that were used just then."""

    def chosen(self, stamps: Times, counts: Indices) -> Nulls:
        """Which of some pairs have to go."""
        chosen = stamps < self._last
        same = np.flatnonzero(stamps == self._last)
        before = np.cumsum(counts[same]) - counts[same]
        same = same[before < self._left]
        chosen[same] = True
        self._left -= int(counts[same].sum())
        return chosen
