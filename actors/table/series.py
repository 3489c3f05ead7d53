"""One feature in one partition: the latest value by slot, and the history behind it.

Structures
    latest   times, values and nulls by slot: a column of the tables that serving gathers from (`latest.py`).
    runs     sorted rows, oldest arrivals first; four of similar size are merged into one: a log-structured merge
             tree in memory (O'Neil et al. 1996). An append costs amortised log(n) merges. Small runs are merged at
             once, large ones by `tidy` in steps; until then queries search each run.
    tail     unsorted recent arrivals, sorted into a run when full or when history is read.
    floor    by slot, 1 + the greatest event time that is not in memory (trimmed, evicted, never loaded).

The floor is the one invariant that memory and disk share: every observation at or after a slot's floor is in
memory. An answer found at or above the floor is exact; below it the disk must be read, and its rows are used as
the oldest run. Rows that the history files do not have yet are never dropped, so rows on disk and in memory
together are always complete.

Slot 0 belongs to no entity: queries for entities without a slot use it, and nothing is ever written to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from actors.settings import ROWS_PER_TURN
from actors.table.columns import Indices, Times
from actors.table.found import Found
from actors.table.grid import Cells
from actors.table.index import SLOTS_A_STEP, Index, Slots
from actors.table.latest import LatestTable
from actors.table.layers import Layers
from actors.table.merging import ROWS_A_STEP, cuts, merging
from actors.table.rows import (
    Ranges,
    Rows,
    extract,
    last_until,
    last_within,
    merge,
    rank_from_newest,
    spans,
)
from actors.table.tail import Tail
from actors.timestamps import FOREVER, NEVER
from actors.turns import Steps, at_once
from actors.types.type import Array, Nulls, blank, known_without_nulls, no_nulls

TAIL_ROWS = 8_192
SLOTS_WORTH_COMPACTING = 64
"""A range query over this many entities first merges all runs, or schedules that: reading one run is five times as
fast as merging what is read, and the next such query benefits too."""


def _rank_from_newest(run: Rows, cut: slice) -> Indices:
    """`rank_from_newest` for a slice of a run's rows, ranked among all rows of the run."""
    slots = run.slots[cut]
    rank = rank_from_newest(slots)
    beyond = int(np.searchsorted(run.slots, slots[-1], "right")) - cut.stop
    rank[np.searchsorted(slots, slots[-1]) :] += beyond
    return rank


def differences(one: Cells, other: Cells) -> Nulls:
    """Where two answers to the same query differ: bool[q]."""
    unlike = one.values != other.values
    values = unlike.any(axis=1) if one.values.ndim == 2 else unlike.astype(np.bool_)
    missing = (one.times == NEVER) & (other.times == NEVER)
    unlike = (one.times != other.times) | (one.nulls != other.nulls) | (values & ~one.nulls)
    return np.asarray(unlike & ~missing, np.bool_)


class Series:
    """The data of one feature in one store. Not thread-safe: used by its store only."""

    def __init__(
        self,
        dtype: np.dtype[Any],
        width: int = 0,
        base_floor: int = NEVER,
        table: LatestTable | None = None,
        untidy: list[Layers] | None = None,
    ) -> None:
        """`width`: the dimension of vectors, or 0. `base_floor`: the floor of slots that do not exist yet.

        `table`: the tables of latest values that the series of one entity type share. `untidy`: see `Layers`.
        """
        self.dtype = dtype
        self.width = width
        self.column = (table or LatestTable()).column(dtype, width, base_floor)
        self._layers = Layers([] if untidy is None else untidy)
        self._tail = Tail(self.blank, self.column.at)
        self._newest = NEVER
        self._nullable = False
        """Whether a null was ever written."""
        self._closed = False
        self._appended = 0
        self._trimmed_to: int | None = None
        """The number of rows per slot that the last trim left; None if rows have been added since."""

    @property
    def room(self) -> int:
        """How many slots there is capacity for."""
        return self.column.table.room

    @property
    def rows(self) -> int:
        """How many observations are in memory."""
        return self._tail.count + self._layers.rows

    @property
    def runs(self) -> list[Rows]:
        """The sorted runs, oldest arrivals first."""
        return self._layers.runs

    def blank(self, count: int) -> Array:
        """`count` null values of this series."""
        return blank(self.dtype, (count, self.width) if self.width else (count,))

    # Writing

    def append(self, rows: Rows) -> int:
        """Append rows in order of arrival, later than all before. There must be capacity for their slots.

        Returns how many rows were sorted for that.
        """
        rows = self._added(rows)
        self._update_latest(rows)
        settled = self._settle() if self._tail.count + rows.size > self._settle_at else 0
        if rows.size > TAIL_ROWS:
            return settled + self._layers.push(merge([rows]))
        self._tail.append(rows)
        return settled

    def appending(self, rows: Rows) -> Steps[None]:
        """Do what `append` does, in steps: for many rows. The series may not be used otherwise in between."""
        rows = self._added(rows)
        for start in range(0, rows.size, ROWS_PER_TURN):  # few, since new slots are in memory not touched before
            self._update_latest(rows.part(start, min(start + ROWS_PER_TURN, rows.size)))
            yield
        self._settle()
        if (rows.slots[1:] >= rows.slots[:-1]).all():  # as those of new entities are; sorting them is quick
            self._layers.push(merge([rows]))
            return
        runs = []
        for cut in cuts(rows.size):
            runs.append(merge([rows.part(cut.start, cut.stop)]))
            yield
        self._layers.push((yield from merging(runs)))

    def _added(self, rows: Rows) -> Rows:
        self._trimmed_to = None
        self._appended += 1
        if not known_without_nulls(rows.nulls):
            if not rows.nulls.any():
                return Rows(rows.index, rows.values, no_nulls(rows.size))
            self._nullable = True
        return rows

    def make_room(self, slots: int) -> None:
        """Add capacity for slots below `slots`, which queries may then use."""
        self.column.table.make_room(slots)

    @property
    def _settle_at(self) -> int:
        """The size at which the tail is sorted. Series that are written together are sorted together, as they
        share the order; others at different sizes, as otherwise one write would have to sort the tails of all
        series."""
        return TAIL_ROWS - self._tail.turn * 1_361 % (TAIL_ROWS // 2)

    def _update_latest(self, rows: Rows) -> None:
        slots, times, values, nulls = rows.index.places, rows.times, rows.values, rows.nulls
        self._note_newest(rows.index.newest)
        latest = self.column.times
        newer = times >= latest[slots]
        if not newer.all():
            slots, times, values, nulls = slots[newer], times[newer], values[newer], nulls[newer]
        latest[slots] = times
        if not rows.index.once and (latest[slots] < times).any():
            # A slot occurs twice, and got the later arrival, which is not the newest row. In order of time the
            # newest row is written last, and among equal times still the later arrival.
            ordered = np.argsort(times, kind="stable")
            slots, times, values, nulls = slots[ordered], times[ordered], values[ordered], nulls[ordered]
            latest[slots] = times
        self.column.values[slots] = values
        if self._nullable:
            self.column.nulls[slots] = nulls

    def _note_newest(self, time: int) -> None:
        self._newest = max(self._newest, time)
        self.column.table.newest = max(self.column.table.newest, time)

    def _settle(self) -> int:
        if not self._tail.count:
            return 0
        run = merge([self._tail.rows])
        self._layers.add(run)
        self._tail.clear()  # last, so that nothing has changed if memory runs out
        return run.size + self._layers.merge_alike()

    def close(self) -> None:
        """Drop all rows, which also invalidates work in progress."""
        self._closed = True
        self._layers.close()
        self._tail.clear()

    def _nothing(self) -> Rows:
        none = np.zeros(0, np.int64)
        return Rows(Index(none.astype(np.int32), none, none), self.blank(0), no_nulls(0))

    # Reading

    def latest(
        self, slots: Indices, now: int, into: Cells, visible_from: int = NEVER, tick: int = 0
    ) -> Nulls | None:
        """Write each slot's latest value with event time <= now to `into`; returns where the disk must be read.

        A `tick` other than 0 is recorded as last use. The caller has to hide values with times before
        `visible_from`; the disk is not read for them.
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
        """The latest value of each slot with event time <= at. `disk`: rows that are used as the oldest run."""
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

    def is_in_order(self) -> bool:
        """Whether `past` can answer in a step; otherwise `ordering` had better be run before."""
        if self._tail.count > ROWS_A_STEP // 4 or self._layers.is_much_to_merge():
            return False
        if self.room <= SLOTS_A_STEP:
            return True
        as_it_is = self._tail.count == 0 and not self._layers.is_to_merge()
        return as_it_is and (len(self.runs) != 1 or self.runs[0].index.has_offsets(self.room))

    def ordering(self) -> Steps[None]:
        """Sort and merge what `past` would, in steps. The series may not be used otherwise in between."""
        self._settle()
        yield
        if self._layers.is_to_merge():
            yield from self._layers.merging_small()
        if len(self.runs) == 1:
            yield from self.runs[0].index.making_offsets(self.room)

    def past(
        self, slots: Indices, owner: Indices, at: Times, visible_from: int | Times, disk: Rows | None, found: Found
    ) -> Cells:
        """For each row i the latest value of slots[owner[i]] with event time <= at[i]: a point-in-time join.

        If all runs are merged this is one search, or none if `found` has that of a series with the same index;
        while large runs wait to be merged, it is one search per run. The caller has to hide values with times
        before `visible_from`, which is one moment for all rows or one each. Arrays that are equal for several
        series are shared.
        """
        self._settle()
        self._layers.compact()
        parts = self._parts(disk)
        asked = found.asked(slots, owner)
        if len(parts) != 1:
            return self._past_of(parts, slots, owner, at, visible_from)
        rows = parts[0]
        hit = found.hit(rows)
        if hit is None:
            offsets = rows.index.offsets(self.room)
            hit = found.search(rows, offsets.take(asked), offsets[1:].take(asked), at)
        elif disk is None and hit.of.times is not rows.times:  # equal indices: share one from now on
            if np.array_equal(hit.of.arrived, rows.arrived):
                rows = self.runs[0] = Rows(hit.of, rows.values, rows.nulls)
            else:
                rows.index.share(hit.of)
        nulls = found.no_nulls if known_without_nulls(rows.nulls) else rows.nulls.take(hit.position)
        cold = self._below(asked, hit.seen, visible_from)
        return Cells(hit.seen, rows.values.take(hit.position, 0), nulls, cold)

    def _past_of(
        self, parts: Sequence[Rows], slots: Indices, owner: Indices, at: Times, visible_from: int | Times
    ) -> Cells:
        """Do what `past` does, for several sorted parts or none."""
        times, nulls = np.full(len(owner), NEVER, np.int64), np.zeros(len(owner), np.bool_)
        values = self.blank(len(owner))
        for part in parts:
            begin, end = spans(part, slots)
            position = last_within(part, begin.take(owner), end.take(owner), at)
            better = (position >= 0) & (part.times[position] >= times)
            found = position[better]
            times[better], values[better], nulls[better] = part.times[found], part.values[found], part.nulls[found]
        return Cells(times, values, nulls, self._below(slots.take(owner), times, visible_from))

    def between(
        self,
        slots: Indices,
        start: int | Times,
        end: int | Times,
        disk: Rows | None = None,
        most: int | None = None,
    ) -> Ranges:
        """Each slot's observations with start <= time <= end, in order of time. `most`: see `extract`."""
        return extract(self.parts(len(slots), disk), slots, start, end, most)

    def parts(self, slots: int, disk: Rows | None = None) -> list[Rows]:
        """The sorted parts for a range query over `slots` slots: at least one, which may be empty.

        They are never changed, so a worker thread can read them.
        """
        if slots >= SLOTS_WORTH_COMPACTING:
            self._settle()
            self._layers.compact()
        return self._parts(disk) or [self._nothing()]

    def cold_before(self, slots: Indices, start: int | Times) -> Nulls:
        """Where a query that reaches back to `start` needs the disk: bool[q]."""
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

    # Dropping rows, and reloading them

    def trim(self, keep: int, flushed: int) -> None:
        """Do what `trimming` does, without interruption."""
        at_once(self.trimming(keep, flushed))

    def trimming(self, keep: int, flushed: int) -> Steps[None]:
        """Drop all but the newest `keep` rows of each slot, if they arrived by `flushed`.

        Rows added meanwhile are left for the next time.
        """
        if self._trimmed_to is not None and keep >= self._trimmed_to:
            return
        if self._most_of_a_slot() <= keep:
            self._trimmed_to = keep
            return
        self._trimmed_to, appended = None, self._appended
        self._settle()
        yield from self._layers.merging_all()
        left = False

        def spare(run: Rows, cut: slice) -> Nulls:
            nonlocal left
            gone = _rank_from_newest(run, cut) >= keep
            arrived = run.arrived[cut] <= flushed
            left = left or bool((gone & ~arrived).any())
            return gone & arrived

        looked_at = 0
        for rows in self._layers.removing(spare, self._raising_floors):
            looked_at += rows
            if looked_at > 2 * ROWS_A_STEP:
                looked_at = 0
                yield
        if len(self.runs) < 2 and appended == self._appended and not left:
            self._trimmed_to = keep

    def _most_of_a_slot(self) -> int:
        """An upper bound on the rows of any slot, computed without merging, so that it includes corrected rows."""
        return int(_counted((self._tail.slots, *(run.slots for run in self.runs))).max())

    def purge(self, slot: int, until: int) -> int:
        """Remove a slot's rows that arrived by `until`, without raising its floor, as the disk has none either.

        Returns how many rows the slot has left.
        """
        self._settle()
        left = self._layers.purge(slot, until)
        self._refresh_latest(np.array([slot]))
        return left

    def usage(self, flushed: int) -> tuple[Indices, Times, Times]:
        """The slots with rows that arrived by `flushed`, when each was last used, and how many these rows are."""
        self._settle()
        self._layers.merge_small()  # removes corrected rows, which should not count
        counts = _counted(run.slots[run.arrived <= flushed] for run in self.runs)
        slots = np.flatnonzero(counts)
        used = self.column.used[slots] if self.column.table.noted else np.zeros(len(slots), np.int64)
        return slots, used, counts[slots]

    def evicting(self, slots: Indices, flushed: int) -> Iterator[int]:
        """Drop all rows of these slots that arrived by `flushed`. Steps yield how many rows they processed."""
        yield from self._layers.merged()
        self._settle()
        chosen = np.zeros(self.room, np.bool_)
        chosen[slots] = True

        def gone(run: Rows, cut: slice) -> Nulls:
            return chosen[run.slots[cut]] & (run.arrived[cut] <= flushed)

        yield from self._layers.removing(gone, self._raising_floors)

    def _raising_floors(self, below: Rows) -> Iterator[int]:
        """Raise the floors above sorted rows that are about to be dropped."""
        for _ in self.column.table.making_floors():
            yield ROWS_A_STEP
        floor = self.column.floor
        if floor is None or self._closed:
            return
        last = np.append(below.slots[1:] != below.slots[:-1], True)
        slots = below.slots[last].astype(np.int64)
        floor[slots] = np.maximum(floor[slots], below.times[last] + 1)
        self._forget_latest(slots[self.column.times[slots] < floor[slots]])

    def _forget_latest(self, slots: Indices) -> None:
        self.column.times[slots] = NEVER
        self.column.values[slots] = self.blank(1)[0]
        self.column.nulls[slots] = False

    def install(self, slots: Indices, disk: Rows, keep: int, tick: int) -> None:
        """Take all rows of these slots from disk (sorted) back into memory, of which the newest `keep` each stay.

        `slots`: all slots that were read; those without rows are known to have none.
        """
        if tick:
            self.column.used[slots] = tick
        floor = self.column.floor
        if floor is None:
            return
        spare = rank_from_newest(disk.slots) >= keep
        floor[slots] = NEVER
        np.maximum.at(floor, disk.slots[spare], disk.times[spare] + 1)
        self._layers.push_below(disk.take(~spare) if spare.any() else disk)
        self._refresh_latest(slots)

    def _refresh_latest(self, slots: Indices) -> None:
        cells = self.as_of(slots, FOREVER)
        self._nullable = self._nullable or bool(cells.nulls.any())
        self._note_newest(int(cells.times.max(initial=NEVER)))
        column = self.column
        column.times[slots], column.values[slots], column.nulls[slots] = cells.times, cells.values, cells.nulls


def _counted(parts: Iterable[Slots]) -> Indices:
    """How often each slot occurs in all parts: int64[highest slot + 1]."""
    counts = np.zeros(1, np.int64)
    for slots in parts:
        more = np.bincount(slots, minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    return counts
