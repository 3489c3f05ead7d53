"""The state of one store: the entities that hash to it, and a series per feature.

An entity id gets a dense slot number when it is first written; all columns are indexed by slot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from actors.domain import Feature
from actors.settings import ROWS_PER_TURN
from actors.table.batch import Batch, Column, Table, concatenated
from actors.table.columns import Indices, Numbering, Times, picked, same
from actors.table.found import Found
from actors.table.grid import Cells, Features, Grid, unfilled
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
"""Ids looked up in one step; each lookup is a random access to memory."""
ROWS_APPENDED_AT_ONCE = 20_000
"""More rows are sorted in steps, which costs more in all."""
EVICT_DOWN_TO = 0.9
"""Eviction frees a tenth of the budget at a time, so that its cost is spread over the writes that made it
necessary."""
SAMPLED_PAIRS = 100_000
"""How many (entity, feature) pairs are sampled to find out which were used least recently."""
SORTED_FOR_ONE = 32
"""How many rows can be sorted in the time that appending one takes."""


_NO_MORE = object()


class DiskRows(NamedTuple):
    """Everything in the history files of some entities for one feature, as of a journal position.

    The slot of each row is the position of its entity in `entities`; rows are in order of arrival until `merged`.
    `whole`: False if there are more rows, so that these answer one query but cannot stay in memory.
    """

    position: int
    entities: Sequence[str]
    rows: Rows
    whole: bool = True

    def merged(self) -> DiskRows:
        """The rows sorted by (slot, event time), with the last arrival of equal ones. Millions take seconds."""
        return self._replace(rows=merge([self.rows]))


class _Asked(NamedTuple):
    """Where the features of a query are. `table`: None if they are not all in one table."""

    table: LatestTable | None
    places: ColumnPlaces


class Partition:
    """The state of one store. Not thread-safe: its actor is the only one to touch it."""

    def __init__(
        self, base_floor: int = NEVER, position: int = 0, floors: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """`base_floor`: rows with earlier event times may not be loaded. `position`: the last arrival applied.

        `floors`: base floors of single features, whenever these were registered.
        """
        self.position = position
        self.flushed = position
        self.tick = 0
        """The time of last use recorded for what is read; 0 to record none."""
        self.epoch = object()
        """Another once the slot of an id is no longer what it was."""
        self._base_floor = base_floor
        self._base_position = position
        self._floors = floors
        self._slots: dict[str, Numbering] = {}
        self._series: dict[str, tuple[int, Series]] = {}
        self._latest: dict[str, LatestTable] = {}
        self._asked: dict[Features, _Asked] = {}
        self._untidy: list[Layers] = []
        self._freeing: list[Steps[None]] = []
        self._purged: dict[tuple[str, str], int] = {}
        """Erased entities (type, id) that disk reads begun earlier may still return, with the last arrival to
        drop."""

    @property
    def rows(self) -> int:
        """How many observations are in memory."""
        return sum(series.rows for _, series in self._series.values())

    # Writing

    def apply(self, arrived: int, batch: Batch) -> None:
        """Apply a batch that has become durable. One that has been applied already is ignored."""
        at_once(self.applying(arrived, batch))

    def applying(self, arrived: int, batch: Batch) -> Steps[None]:
        """Do what `apply` does, in steps. The partition may not be used otherwise in between."""
        if arrived <= self.position:
            return
        slots, done = (yield from self._slots_of(batch)), 0
        for table in batch:
            if table.rows == 0:
                continue
            places = slots[table.entities.ids, table.entity_type][table.entities.codes]
            index = Index(places.astype(np.int32), table.times, np.full(len(places), arrived, np.int64), places)
            yield from self._making_room(table.entity_type)
            for column in table.columns:
                done += len(places)
                if done > ROWS_PER_TURN // 2:
                    yield
                    done = len(places)
                yield from self._making_column(column.feature, column.created, column.values.dtype, column.width)
                if len(places) > ROWS_APPENDED_AT_ONCE:
                    yield from self._appending(column, index)
                else:
                    done += self._append(column, index) // SORTED_FOR_ONE
        self.position = arrived

    def lacks(self, features: Sequence[Feature]) -> bool:
        """Whether a query for these features adds columns, for which large tables may have to be copied."""
        looked_up = isinstance(features, Features) and features in self._asked
        return not looked_up and any(self._is_new(one.id, one.created) for one in features)

    def making_columns(self, features: Sequence[Feature]) -> Steps[None]:
        """Add these columns, in steps. The partition may not be used otherwise in between."""
        for one in features:
            yield from self._making_column(one.id, one.created, dtype_of(one.value_type), width_of(one))
            self.series(one)

    def is_in_order(self, features: Sequence[Feature]) -> bool:
        """Whether point-in-time queries for these features find their rows sorted."""
        return all(self._series[one.id][1].is_in_order() for one in features if one.id in self._series)

    def ordering(self, features: Sequence[Feature], most: int | None = None) -> Steps[None]:
        """Sort the rows of these features, or of `most` of those that need it, in steps.

        The partition may not be used otherwise in between.
        """
        series = [self._series[one.id][1] for one in features if one.id in self._series]
        for one in [one for one in series if not one.is_in_order()][:most]:
            yield from one.ordering()

    def _is_new(self, feature: str, created: int) -> bool:
        return feature not in self._series or self._series[feature][0] < created

    def _making_column(self, feature: str, created: int, dtype: np.dtype[np.generic], width: int) -> Steps[None]:
        table = self._latest.get(feature.partition(".")[0])
        if table is not None and self._is_new(feature, created):
            yield from table.making_column(dtype, width)

    def _making_room(self, entity_type: str) -> Steps[None]:
        """Add capacity for all slots, in steps, as the tables may have hundreds of columns."""
        table, slots = self._latest.get(entity_type), len(self._slots[entity_type]) + 1
        while table is not None and table.room < slots:
            table.make_room(min(slots, table.room + SLOTS_AT_ONCE))
            if table.room < slots:
                yield

    def load(self, parts: Sequence[Table], arrived: Sequence[Times], like: Index | None = None) -> Index:
        """Append rows of one feature, later than all before them; returns the index that they got.

        `like`: an index that they share if it is equal.
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
        """For each list of ids and entity type, the slot of each id that occurs in the tables; new ids get one."""
        slots = dict[tuple[Ids, str], Indices]()
        for table in batch:
            key = table.entities.ids, table.entity_type
            if key not in slots:
                slots[key] = np.zeros(len(key[0]), np.int64)
            slots[key][table.entities.codes] = 1
        for (ids, entity_type), occurs in slots.items():
            used, known = np.flatnonzero(occurs), self._slots.setdefault(entity_type, Numbering())
            texts = picked(ids.texts, used)
            for start in range(0, len(texts), IDS_PER_TURN):
                if start or len(texts) > IDS_PER_TURN:
                    yield
                part = texts[start : start + IDS_PER_TURN]
                occurs[used[start : start + len(part)]] = np.fromiter(
                    map(known.__getitem__, part), np.int64, len(part)
                )
        return slots

    def _append(self, column: Column, index: Index) -> int:
        series = self._series_of(column.feature, column.created, column.values.dtype, column.width)
        return 0 if series is None else series.append(Rows(index, column.values, column.nulls))

    def _appending(self, column: Column, index: Index) -> Steps[None]:
        series = self._series_of(column.feature, column.created, column.values.dtype, column.width)
        if series is not None:
            yield from series.appending(Rows(index, column.values, column.nulls))

    def _series_of(self, feature: str, created: int, dtype: np.dtype[np.generic], width: int) -> Series | None:
        """The series of a feature, created on first use; None if the feature has been replaced since."""
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
        """Remove everything of an entity that arrived by `until`. Its id is removed too; its slot stays, empty."""
        self._purged[entity_type, entity_id] = until
        known = self._slots.get(entity_type)
        slot = known.get(entity_id) if known is not None else None
        if known is None or slot is None:
            return
        of_type = [series for id_, (_, series) in self._series.items() if id_.partition(".")[0] == entity_type]
        for series in of_type:
            series.make_room(len(known) + 1)
        if sum(series.purge(slot, until) for series in of_type) == 0:
            del known[entity_id]
            self.epoch = object()
            known[f"\0{slot}"] = slot  # ids have no control characters; keeps the length, which numbers new slots

    def drop(self, feature: str) -> None:
        """Drop a deleted feature."""
        self._asked.clear()
        _, series = self._series.pop(feature, (NEVER, None))
        if series is not None:
            series.close()
            self._freeing.append(series.column.table.freeing(series.column))

    def tidy(self) -> bool:
        """Do a step of postponed work (large merges, clearing deleted features); returns whether there was any."""
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
        return np.fromiter(map(known.get, entities, repeat(0)), np.int64, len(entities))

    def series(self, feature: Feature) -> Series:
        """The series of a feature, which is empty if nothing was written."""
        born, found = self._series.get(feature.id, (NEVER, None))
        if found is not None and born == feature.created and found.room > len(self._slots.get(feature.entity, ())):
            return found
        width = width_of(feature)
        series = self._series_of(feature.id, feature.created, dtype_of(feature.value_type), width)
        if series is None:
            # The feature was deleted and registered again, which the reader did not know yet.
            series = Series(dtype_of(feature.value_type), width)
            series.make_room(len(self._slots.get(feature.entity, ())) + 1)
        return series

    def latest(self, features: Features, slots: Indices, now: int, visible: Sequence[int]) -> Grid:
        """The latest values with event time <= now, of features of one entity type.

        See `LatestTable.gather`, and `Series.latest` if there are event times in the future.
        """
        asked = self._asked.get(features)
        if asked is None:
            asked = self._ask(features)
        if asked.table is not None and asked.table.newest <= now:
            asked.table.make_room(len(self._slots.get(features[0].entity, ())) + 1)
            return Grid(features.kinds, *asked.table.gather(asked.places, slots, visible, self.tick))
        grid = unfilled(features.kinds, len(slots))
        for kind, values in zip(features.kinds, grid.values, strict=True):
            for member, row in zip(kind.members, values, strict=True):
                into = Cells(grid.times[member], row, grid.nulls[member], None)
                series = self.series(features[member])
                cold = series.latest(slots, now, into, visible[member], self.tick)
                if cold is not None:
                    grid = grid.cooled(member, cold)
        return grid

    def _ask(self, features: Features) -> _Asked:
        """Find out where features are, and keep the result."""
        columns = [self.series(feature).column for feature in features]
        table = columns[0].table if len({column.table for column in columns}) == 1 else None
        owned = [[columns[member] for member in kind.members] for kind in features.kinds]
        tables = [
            (of_kind[0].kept, np.array([column.value_column for column in of_kind], np.int64)) for of_kind in owned
        ]
        places = ColumnPlaces(np.array([column.at for column in columns], np.int64), tables)
        asked = _Asked(table, places)
        if len(self._asked) >= QUESTIONS_REMEMBERED:
            self._asked.clear()
        self._asked[features] = asked
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
        """Convert merged rows from disk to sorted rows of this partition. Entities without rows get no slot."""
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
        """Note that the history reaches `position`, so that disk reads begun earlier are discarded."""
        self.flushed = max(self.flushed, position)
        self._purged = {who: until for who, until in self._purged.items() if until > self.flushed}

    def install(self, feature: Feature, entities: Sequence[str], placed: Rows) -> None:
        """Take all rows of these entities from disk back into memory, as far as retention keeps them there."""
        slots = self.slots(feature.entity, entities)
        self.series(feature).install(slots[slots > 0], placed, feature.kept_values, self.tick)

    def trimming(self, kept_values: Mapping[str, int]) -> Steps[None]:
        """Drop rows that retention does not keep in memory, if the history files have them.

        Runs in steps of one series, or part of a large one, between which the store can serve.
        """
        for feature, (_, series) in list(self._series.items()):
            yield from series.trimming(kept_values.get(feature, 0), self.flushed)
            yield

    def trim(self, kept_values: Mapping[str, int]) -> None:
        """Do all of `trimming` and `tidy` without interruption."""
        at_once(self.trimming(kept_values))
        while self.tidy():
            pass

    def evict(self, budget: int) -> None:
        """Do what `evicting` does, without interruption."""
        for _ in self.evicting(budget):
            pass

    def evicting(self, budget: int) -> Iterator[int]:
        """Drop observations of the least recently used (entity, feature) pairs if there are more than `budget`.

        Observations that the history files do not have yet stay, whatever the budget. Runs in steps, between which
        the store can serve, and which yield how many rows they processed. First a sample of each series determines
        the time of last use before which pairs are evicted.
        """
        if self.rows <= budget:
            return
        each, samples = max(50, SAMPLED_PAIRS // max(1, len(self._series))), []
        for _, series in list(self._series.values()):
            samples.append(_sampled(*series.usage(self.flushed)[1:], each))
            yield series.rows
        excess = self.rows - budget * EVICT_DOWN_TO  # `usage` has merged corrections away
        if self.rows <= budget:
            return
        oldest = _Oldest(samples, excess)
        for _, series in list(self._series.values()):
            slots, stamps, counts = series.usage(self.flushed)
            evicted = slots[oldest.chosen(stamps, counts)]
            yield series.rows
            if len(evicted):
                yield from series.evicting(evicted, self.flushed)


def _sampled(stamps: Times, counts: Indices, most: int) -> tuple[Times, Indices]:
    """A sample of at most about `most` pairs: every step-th one, with its row count multiplied by the step."""
    step = 1 + len(stamps) // most
    return stamps[::step], counts[::step] * step


class _Oldest:
    """Chooses the least recently used pairs so that about `excess` rows are evicted."""

    def __init__(self, samples: Sequence[tuple[Times, Indices]], excess: float) -> None:
        stamps, counts = (np.concatenate(parts) for parts in zip(*samples, strict=True))
        order = np.argsort(stamps, kind="stable")
        freed = np.cumsum(counts[order])
        place = min(int(np.searchsorted(freed, excess)), len(order) - 1)
        self._last = int(stamps[order[place]]) if len(order) else NEVER
        self._left = excess - int(counts[stamps < self._last].sum())
        """How many rows of the pairs last used exactly at `_last` have to be evicted."""

    def chosen(self, stamps: Times, counts: Indices) -> Nulls:
        """Which of these pairs are to be evicted: bool[n]."""
        chosen = stamps < self._last
        same = np.flatnonzero(stamps == self._last)
        before = np.cumsum(counts[same]) - counts[same]
        same = same[before < self._left]
        chosen[same] = True
        self._left -= int(counts[same].sum())
        return chosen
