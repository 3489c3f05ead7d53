"""One feature in one partition: the latest value by slot, and the history behind it.

Structures
    latest   times, values, nulls by slot: a column of the tables that serving gathers from (`actors/latest.py`).
    runs     sorted rows, oldest arrivals first; four of like size become one: a log-structured merge tree in
             memory (O'Neil et al. 1996). An append costs amortised log(n) merges.
    tail     unsorted recent arrivals, sorted into a run when full or when history is read.
    floor    by slot, 1 + the greatest event time that memory let go of (trimmed, evicted, never loaded).

The floor is the one invariant that memory and disk share: every observation at or after a slot's floor is in
memory. An answer found at or above the floor is exact; below it the disk must be asked, whose rows then join
the question as the oldest run. Rows that have not reached the history files are never let go, so disk rows
and memory rows together are always everything.

Slot 0 belongs to nobody: entities without a slot are asked for there and nothing is ever written to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from actors.columns import Indices, Times
from actors.grid import Cells
from actors.latest import Latest
from actors.rows import (
    Ranges,
    Rows,
    Slots,
    extract,
    last_until,
    last_within,
    merge,
    offsets_of,
    rank_from_newest,
)
from actors.timestamps import FOREVER, NEVER
from actors.values import Array, Nulls, blank

TAIL_ROWS = 8_192
MOST_RUNS = 16
FAN = 4
"""So many runs of like size are merged into one: of two at a time, writing costs half as much again."""
MERGED_AT_ONCE = 200_000
"""An eviction first merges no more rows than this, some milliseconds of work."""
SLOTS_WORTH_COMPACTING = 64
"""A range over this many entities first merges all runs: reading one run is five times as fast as merging
what is read, and the next such question finds the work done."""


class Hit(NamedTuple):
    """What a point-in-time join found in an index of slots and times: for each question the time, NEVER for none,
    and the position of the row (of any row where there is none)."""

    slots: Slots
    times: Times
    position: Indices
    seen: Times


class Found:
    """What one point-in-time question has looked up so far, for the series that it comes to next.

    Series that are written together turn out to have the same index, and share what one search in it finds.
    """

    def __init__(self) -> None:
        self._hits: dict[tuple[int, bytes], Hit] = {}
        self._last: Hit | None = None
        self._slots: Indices | None = None
        self._asked: Indices
        self.no_nulls: Nulls

    def asked(self, slots: Indices, owner: Indices) -> Indices:
        """The slot that each question is about."""
        if self._slots is not slots:
            self._slots, self._asked = slots, slots.take(owner)
            self.no_nulls = np.zeros(len(owner), np.bool_)
        return self._asked

    def hit(self, rows: Rows) -> Hit | None:
        """What was found in rows with the same index."""
        hit = self._last
        if hit is None or hit.times is not rows.times:
            hit = self._hits.get(_sketch(rows))
        if hit is None or not _same_index(hit, rows):
            return None
        self._last = hit
        return hit

    def search(self, rows: Rows, begin: Indices, end: Indices, at: Times) -> Hit:
        """Find the last row with time <= `at` of each stretch of sorted rows."""
        position = last_within(rows, begin, end, at)
        seen = np.where(position < 0, NEVER, rows.times.take(position))
        self._last = self._hits[_sketch(rows)] = Hit(rows.slots, rows.times, position, seen)
        return self._last


def _sketch(rows: Rows) -> tuple[int, bytes]:
    """The same for rows of the same times, and hardly ever for others."""
    return rows.size, rows.times[:: 1 + rows.size // 64].tobytes()


def _same_index(one: Hit, other: Rows) -> bool:
    if one.times is other.times:
        return True
    return np.array_equal(one.times, other.times) and np.array_equal(one.slots, other.slots)


def differences(one: Cells, other: Cells) -> Nulls:
    """Where two answers to the same questions are not the same: bool[q]."""
    unlike = one.values != other.values
    values = unlike.any(axis=1) if one.values.ndim == 2 else unlike.astype(np.bool_)
    missing = (one.times == NEVER) & (other.times == NEVER)
    unlike = (one.times != other.times) | (one.nulls != other.nulls) | (values & ~one.nulls)
    return np.asarray(unlike & ~missing, np.bool_)


class Series:
    """Not thread-safe: its store is the only one to touch it."""

    def __init__(
        self, dtype: np.dtype[Any], width: int = 0, base_floor: int = NEVER, table: Latest | None = None
    ) -> None:
        """`width` is a vector's dimension. `base_floor` is the floor of slots not heard of yet.

        `table`: where the latest values go, which the series of one entity type share.
        """
        self.dtype = dtype
        self.width = width
        self.column = (table or Latest()).column(dtype, width, base_floor)
        self.runs: list[Rows] = []
        self._tail = _Tail(self)
        self._settle_at = TAIL_ROWS - self.column.at * 1_361 % (TAIL_ROWS // 2)
        """Features are written together: were their tails full together, one write would wait for all of them."""
        self._newest = NEVER
        self._offsets: tuple[Rows, Indices] | None = None
        self._nullable: bool | None = None
        self._trimmed_to: int | None = None
        """How many rows a slot has at most, as far as they may be let go; None once rows have been added."""

    @property
    def room(self) -> int:
        """How many slots there is room for."""
        return self.column.table.room

    @property
    def rows(self) -> int:
        """How many observations are held."""
        return self._tail.count + sum(run.size for run in self.runs)

    def blank(self, count: int) -> Array:
        """`count` null values of this series' shape."""
        return blank(self.dtype, (count, self.width) if self.width else (count,))

    # Writing

    def append(self, rows: Rows) -> None:
        """Take rows in order of arrival, later than all before them. `make_room` comes first."""
        self._trimmed_to = None
        self._update_latest(rows)
        if self._tail.count + rows.size > self._settle_at:
            self._settle()
        if rows.size > TAIL_ROWS:
            self._push(merge([rows]))
        else:
            self._tail.append(rows)

    def make_room(self, slots: int) -> None:
        """Room for slots below `slots`, which every question may then name."""
        self.column.table.make_room(slots)

    def _update_latest(self, rows: Rows) -> None:
        slots = rows.slots.astype(np.int64)
        times, values, nulls = rows.times, rows.values, rows.nulls
        self._note_newest(int(times.max()))
        latest = self.column.times
        newer = times >= latest[slots]
        if not newer.all():
            slots, times, values, nulls = slots[newer], times[newer], values[newer], nulls[newer]
        latest[slots] = times
        if (latest[slots] < times).any():
            # A slot that comes twice was given its later arrival, which is not its newest row. In time order
            # it is given the newest one last, of equal times still the later arrival.
            ordered = np.argsort(times, kind="stable")
            slots, times, values, nulls = slots[ordered], times[ordered], values[ordered], nulls[ordered]
            latest[slots] = times
        self.column.values[slots] = values
        self.column.nulls[slots] = nulls

    def _note_newest(self, time: int) -> None:
        self._newest = max(self._newest, time)
        self.column.table.newest = max(self.column.table.newest, time)

    def _settle(self) -> None:
        if self._tail.count:
            self._push(merge([self._tail.rows]))

    def _push(self, run: Rows) -> None:
        """One more run, which has what the tail had. Where there is no memory to merge it, all is as it was."""
        self._forget_index()
        self.runs.append(run)
        self._tail.clear()
        while len(self.runs) >= FAN and self.runs[-FAN].size < 2 * self.runs[-1].size:
            self.runs[-FAN:] = [merge(self.runs[-FAN:])]

    def _compact(self) -> Rows:
        """Everything in one sorted run."""
        self._settle()
        if len(self.runs) > 1:
            self.runs = [merge(self.runs)]
        return self.runs[0] if self.runs else self._nothing()

    def _nothing(self) -> Rows:
        none = np.zeros(0, np.int64)
        return Rows(none.astype(np.int32), none, none, self.blank(0), np.zeros(0, np.bool_))

    # Reading

    def latest(
        self, slots: Indices, now: int, into: Cells, visible_from: int = NEVER, tick: int = 0
    ) -> Nulls | None:
        """Fill in the newest value of each slot with event time <= now; returns where the disk must be asked.

        A `tick` other than 0 marks the pairs as used then. Values with times before `visible_from` are the
        caller's to hide; no disk is asked for them.
        """
        if tick:
            self.column.used[slots] = tick
        times, values, nulls, _ = into
        if self._newest > now:
            times[:], values[:], nulls[:], cold = self.as_of(slots, now, visible_from)
            return cold
        times[:], values[:], nulls[:] = (
            part[slots] for part in (self.column.times, self.column.values, self.column.nulls)
        )
        return self._below(slots, times, visible_from)

    def as_of(self, slots: Indices, at: int, visible_from: int = NEVER, disk: Rows | None = None) -> Cells:
        """The newest value of each slot with event time <= at. `disk` rows count as the oldest run."""
        times = np.full(len(slots), NEVER, np.int64)
        values, nulls = self.blank(len(slots)), np.zeros(len(slots), np.bool_)
        for run in self._parts(disk):
            position = last_until(run, slots, at)
            better = (position >= 0) & (run.times[position] >= times)
            found = position[better]
            times[better], values[better], nulls[better] = (
                run.times[found],
                run.values[found],
                run.nulls[found],
            )
        return Cells(times, values, nulls, self._below(slots, times, visible_from))

    def past(
        self, slots: Indices, owner: Indices, at: Times, visible_from: int | Times, disk: Rows | None, found: Found
    ) -> Cells:
        """The newest value with event time <= at of each question, which is about the slot at slots[owner].

        A point-in-time join: all runs are merged first, so that each question is one search, and none where
        `found` has the positions of a series with the same index. `visible_from`, one per question: values with
        times before it are the caller's to hide. What is the same for several series is the same array.
        """
        rows = self._compact() if disk is None else merge([disk, self._compact()])
        asked = found.asked(slots, owner)
        if rows.size == 0:
            times = np.full(len(asked), NEVER, np.int64)
            cold = self._below(asked, times, visible_from)
            return Cells(times, self.blank(len(asked)), found.no_nulls, cold)
        hit = found.hit(rows)
        if hit is None:
            offsets = self._offsets_of(rows) if disk is None else offsets_of(rows, self.room)
            hit = found.search(rows, offsets.take(asked), offsets[1:].take(asked), at)
        elif disk is None and hit.times is not rows.times:  # written together: they share one index from now on
            rows = self.runs[0] = rows._replace(slots=hit.slots, times=hit.times)
        some = disk is not None or self._any_nulls(rows)
        nulls = rows.nulls.take(hit.position) if some else found.no_nulls
        cold = self._below(asked, hit.seen, visible_from)
        return Cells(hit.seen, rows.values.take(hit.position, 0), nulls, cold)

    # Two things about the rows, remembered for as long as they are the same: a training set asks again and again.

    def _offsets_of(self, rows: Rows) -> Indices:
        if self._offsets is None or self._offsets[0] is not rows or len(self._offsets[1]) <= self.room:
            self._offsets = rows, offsets_of(rows, self.room)
        return self._offsets[1]

    def _any_nulls(self, rows: Rows) -> bool:
        if self._nullable is None:
            self._nullable = bool(rows.nulls.any())
        return self._nullable

    def _forget_index(self) -> None:
        self._offsets = self._nullable = None

    def between(self, slots: Indices, start: int | Times, end: int | Times, disk: Rows | None = None) -> Ranges:
        """Each slot's observations with start <= time <= end, in time order."""
        if len(slots) >= SLOTS_WORTH_COMPACTING:
            self._compact()
        return extract(self._parts(disk) or [self._nothing()], slots, start, end)

    def cold_before(self, slots: Indices, start: int | Times) -> Nulls:
        """Where a question that reaches back to `start` needs the disk: bool[q]."""
        floor = self.column.floor
        return np.zeros(len(slots), np.bool_) if floor is None else floor[slots] > start

    def _parts(self, disk: Rows | None) -> list[Rows]:
        self._settle()
        parts = [*([] if disk is None else [disk]), *self.runs]
        return [part for part in parts if part.size]

    def _below(self, slots: Indices, times: Times, visible_from: int | Times) -> Nulls | None:
        floors = self.column.floor
        if floors is None:
            return None
        floor = floors[slots]
        return (times < floor) & (floor > visible_from)

    # Letting go, and taking back

    def trim(self, keep: int, flushed: int) -> None:
        """Let go of all but the newest `keep` rows of each slot, as far as they arrived by `flushed`."""
        if self._trimmed_to is not None and keep >= self._trimmed_to:
            return
        if self._most_of_a_slot() <= keep:
            self._trimmed_to = keep
            return
        rows = self._compact()
        spare = rank_from_newest(rows.slots) >= keep
        self._let_go(spare & (rows.arrived <= flushed))
        self._trimmed_to = None if (spare & (rows.arrived > flushed)).any() else keep

    def _most_of_a_slot(self) -> int:
        """At least as many rows as any slot has (corrections count until they are merged), without a merge."""
        return int(_counted((self._tail.slots, *(run.slots for run in self.runs))).max())

    def purge(self, slot: int, until: int) -> int:
        """Lose a slot's rows that arrived by `until`, without raising its floor: the disk has none either.

        Returns how many rows the slot has left.
        """
        self._settle()
        left = 0
        for place, run in enumerate(self.runs):
            begin, end = np.searchsorted(run.slots, np.array([slot, slot + 1], np.int32)).tolist()
            gone = begin + np.flatnonzero(run.arrived[begin:end] <= until)
            left += end - begin - len(gone)
            if len(gone):
                self.runs[place] = run.take(np.delete(np.arange(run.size), gone))
        self.runs = [run for run in self.runs if run.size]
        self._forget_index()
        self._refresh_latest(np.array([slot]))
        return left

    def usage(self, flushed: int) -> tuple[Indices, Times, Times]:
        """The slots with rows that arrived by `flushed`, when each was last used, and how many these are."""
        if self.rows <= MERGED_AT_ONCE:
            self._compact()  # and so without corrections
        self._settle()
        counts = _counted(run.slots[run.arrived <= flushed] for run in self.runs)
        slots = np.flatnonzero(counts)
        return slots, self.column.used[slots], counts[slots]

    def evicting(self, slots: Indices, flushed: int) -> Iterator[int]:
        """Let go of every row of these slots, as far as it arrived by `flushed`.

        A run a step, which yields how many rows it has looked at. What is merged meanwhile is left for later.
        """
        self._settle()
        chosen = np.zeros(self.room, np.bool_)
        chosen[slots] = True
        for run in list(self.runs):
            place = next((place for place, one in enumerate(self.runs) if one is run), None)
            if place is not None:
                self._let_go(chosen[run.slots] & (run.arrived <= flushed), place)
            yield run.size

    def _let_go(self, gone: Nulls, place: int = 0) -> None:
        """Of the rows of one run."""
        if not gone.any():
            return
        rows = self.runs[place]
        self.column.table.have_floors()
        floor = self.column.floor
        assert floor is not None
        slots, times = rows.slots[gone], rows.times[gone]
        last = np.append(slots[1:] != slots[:-1], True)
        slots = slots[last].astype(np.int64)
        floor[slots] = np.maximum(floor[slots], times[last] + 1)
        self.runs[place] = rows.take(~gone)
        self._forget_index()
        self._forget_latest(slots[self.column.times[slots] < floor[slots]])

    def _forget_latest(self, slots: Indices) -> None:
        self.column.times[slots] = NEVER
        self.column.values[slots] = self.blank(1)[0]
        self.column.nulls[slots] = False

    def install(self, slots: Indices, disk: Rows, keep: int, tick: int) -> None:
        """Take back all rows of these slots from disk (sorted), of which the newest `keep` each stay.

        `slots` names every slot asked for: those without rows are then known to have none.
        """
        self.column.used[slots] = tick
        floor = self.column.floor
        if floor is None:
            return
        spare = rank_from_newest(disk.slots) >= keep
        floor[slots] = NEVER
        np.maximum.at(floor, disk.slots[spare], disk.times[spare] + 1)
        self.runs.insert(0, disk.take(~spare))
        self._forget_index()
        if len(self.runs) > MOST_RUNS:
            self._compact()
        self._refresh_latest(slots)

    def _refresh_latest(self, slots: Indices) -> None:
        cells = self.as_of(slots, FOREVER)
        self._note_newest(int(cells.times.max(initial=NEVER)))
        column = self.column
        column.times[slots], column.values[slots], column.nulls[slots] = cells.times, cells.values, cells.nulls


def _counted(parts: Iterable[Slots]) -> Indices:
    """How often each slot occurs in all the parts: int64[n], up to the highest."""
    counts = np.zeros(1, np.int64)
    for slots in parts:
        more = np.bincount(slots, minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    return counts


class _Tail:
    """Growing columns: appending a few rows is a few slice assignments."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._columns: Rows | None = None
        self.count = 0

    def append(self, rows: Rows) -> None:
        end = self.count + rows.size
        if self._columns is None or end > self._columns.size:
            self._grow(end)
        assert self._columns is not None
        columns: tuple[Array, ...] = self._columns
        for column, added in zip(columns, rows, strict=True):
            column[self.count : end] = added
        self.count = end

    def _grow(self, needed: int) -> None:
        room = max(16, 1 << (needed - 1).bit_length())
        times = np.empty(room, np.int64)
        grown = Rows(
            np.empty(room, np.int32), times, times.copy(), self._series.blank(room), np.empty(room, np.bool_)
        )
        if self._columns is not None:
            columns: tuple[Array, ...] = grown
            for column, old in zip(columns, self._columns.take(slice(self.count)), strict=True):
                column[: self.count] = old
        self._columns = grown

    @property
    def slots(self) -> Slots:
        """The slots of all rows so far."""
        return self._columns.slots[: self.count] if self._columns is not None else np.zeros(0, np.int32)

    @property
    def rows(self) -> Rows:
        """All rows so far, at least one."""
        assert self._columns is not None
        return self._columns.take(slice(self.count))

    def clear(self) -> None:
        """They are elsewhere now."""
        self._columns, self.count = None, 0
