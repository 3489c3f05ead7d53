"""The newest value of each feature of one entity type, by slot: what serving reads.

One table for all features, a row an entity and a column a feature, so that a request is gathered by one `take`
for all of its features where arrays of their own would take one each. Values are in a table for each kind, that
is for each dtype and width; times, nulls, floors and uses are in one for all. A series knows its `LatestColumn`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.table.columns import Indices, Times
from actors.table.pieces import Pieces
from actors.timestamps import NEVER
from actors.turns import Steps, at_once
from actors.types.type import Array, Nulls, blank

SLOTS_AT_ONCE = 1_024
"""Room is added for so many, and doubled while it is less: with 200 features some 5 MB, a few milliseconds."""

CELLS_A_STEP = 500_000
CELLS_SOON_COPIED = 20_000
"""A table of fewer is given no more columns than it needs, however often."""
SLOTS_A_STEP = 8_192
"""Of tables, or a column, of which all is looked at: some milliseconds."""

_Kept = tuple[str, int]
"""What features must have in common to be in one table of values: the dtype, and a vector's dimension or 0."""


class HalfGrown(MemoryError):
    """There was no memory for all of the tables: they are not to be used any more."""


@contextmanager
def _growing() -> Iterator[None]:
    try:
        yield
    except (MemoryError, OSError) as error:
        raise HalfGrown from error


class ColumnPlaces(NamedTuple):
    """Where the features of a question are: their columns, and for each kind those in its table of values."""

    columns: NDArray[np.int64]
    tables: Sequence[tuple[_Kept, NDArray[np.int64]]]


class Gathered(NamedTuple):
    """For f features and n slots: int64[f, n], bool[f, n], for each kind [members, n] or [members, n, width].

    `cold`: bool[f, n], where the disk must be asked, None for nowhere.
    """

    times: NDArray[np.int64]
    nulls: NDArray[np.bool_]
    values: Sequence[Array]
    cold: NDArray[np.bool_] | None


class LatestTable:
    """The tables. Room for slots is added in pieces where the tables are, without a copy; that of values, nulls
    and uses takes memory where something is written. Columns are added an eighth at a time. A vector has a table
    of its own."""

    def __init__(self) -> None:
        self.room = 1
        """How many slots there is room for."""
        self.newest = NEVER
        """The newest event time of all."""
        self._times = Pieces(np.dtype(np.int64), (0,), NEVER)
        self._nulls = Pieces(np.dtype(np.bool_), (0,))
        self._used: Pieces | None = None
        self._floor: Pieces | None = None
        self._values: dict[_Kept, Pieces] = {}
        self._vectors: dict[_Kept, list[Pieces]] = {}
        self._bases: list[int] = []
        self._taken: dict[_Kept, int] = {}
        self._free: dict[_Kept, list[tuple[int, int]]] = {}

    @property
    def times(self) -> NDArray[np.int64]:
        """int64[room, columns], NEVER where nothing was written."""
        return self._times.array

    @property
    def nulls(self) -> NDArray[np.bool_]:
        """bool[room, columns]"""
        return self._nulls.array

    @property
    def used(self) -> NDArray[np.int64]:
        """int64[room, columns], the tick of the last use. Made when first asked for."""
        if self._used is None:
            with _growing():
                used = Pieces(np.dtype(np.int64), self.times.shape[1:])
                used.grow(self.room)
            self._used = used
        return self._used.array

    @property
    def noted(self) -> bool:
        """Whether any use was."""
        return self._used is not None

    @property
    def floor(self) -> NDArray[np.int64] | None:
        """int64[room, columns], None while no feature has one."""
        return None if self._floor is None else self._floor.array

    def column(self, dtype: np.dtype[Any], width: int, base_floor: int) -> LatestColumn:
        """A column that says of every slot that nothing was written. `base_floor`: of slots not heard of yet."""
        kept = dtype.str, width
        if self._free.get(kept):
            at, own = self._free[kept].pop()
            self._bases[at] = base_floor
        else:
            at_once(self.making_column(dtype, width))
            at, own = len(self._bases), self._taken.get(kept, 0)
            self._bases.append(base_floor)
            self._taken[kept] = own + 1
        if base_floor != NEVER:
            self.have_floors()
        column = LatestColumn(self, kept, at, own)
        if self._floor is not None:
            self._floor.array[:, at] = base_floor
        return column

    def free(self, column: LatestColumn) -> None:
        """All of `freeing` at once."""
        at_once(self.freeing(column))

    def freeing(self, column: LatestColumn) -> Steps[None]:
        """Clear the column, which may then be another's. Its own series writes to it no more."""
        yield from column.clearing()
        self._free.setdefault(column.kept, []).append((column.at, column.own))

    def have_floors(self) -> None:
        """Make room for floors, which a service with little in it does without."""
        at_once(self.making_floors())

    def making_floors(self) -> Steps[None]:
        """The same in steps, between which there are none yet."""
        while self._floor is None:
            columns, rows = self._times.array.shape[1], 1
            floor = Pieces(np.dtype(np.int64), (columns,), NEVER)
            while rows < self.room and self._times.array.shape[1] == columns:
                rows = min(self.room, rows + 1 + CELLS_A_STEP // (columns + 1))
                floor.grow(rows)
                if rows < self.room:
                    yield
            if self._floor is None and self._times.array.shape[1] == columns:
                if any(base != NEVER for base in self._bases):
                    floor.array[:, : len(self._bases)] = self._bases
                self._floor = floor

    def making_column(self, dtype: np.dtype[Any], width: int) -> Steps[None]:
        """Room for one more column, in steps between which nothing may be asked: the tables may be large."""
        kept = dtype.str, width
        if not self._free.get(kept):
            with _growing():
                yield from self._widening(dtype, width, len(self._bases) + 1, self._taken.get(kept, 0) + 1)

    def _widening(self, dtype: np.dtype[Any], width: int, columns: int, own: int) -> Steps[None]:
        if columns > self._times.array.shape[1]:
            for table in filter(None, (self._times, self._nulls, self._used, self._floor)):
                yield from table.widening(self._grown(columns))
        kept = dtype.str, width
        if width:
            if own > len(self._vectors.setdefault(kept, [])):
                self._vectors[kept].append(Pieces(dtype, (width,), sparse=True))
                self._vectors[kept][-1].grow(self.room)
        elif kept not in self._values:
            self._values[kept] = Pieces(dtype, (self._grown(own),))
            self._values[kept].grow(self.room)
        elif own > self._values[kept].array.shape[1]:
            yield from self._values[kept].widening(self._grown(own))

    def _grown(self, columns: int) -> int:
        """An eighth more than are needed, where it takes a while to make them."""
        return columns if self.room * columns < CELLS_SOON_COPIED else max(4, columns + columns // 8)

    def make_room(self, slots: int) -> None:
        """Room for slots below `slots`, which every question may then name."""
        if slots > self.room:
            self._make_room(slots)

    @_growing()
    def _make_room(self, slots: int) -> None:
        before, self.room = self.room, max(slots, min(2 * self.room, self.room + SLOTS_AT_ONCE))
        vectors = [table for tables in self._vectors.values() for table in tables]
        for table in filter(None, (self._times, self._nulls, self._used, *self._values.values(), *vectors)):
            table.grow(self.room)
        if self._floor is not None:
            self._floor.grow(self.room)
            self._floor.array[before:, : len(self._bases)] = self._bases

    def cells_of(self, kept: _Kept, own: int) -> Array:
        """The values of a column: [room], or [room, width]."""
        return self._vectors[kept][own].array if kept[1] else self._values[kept].array[:, own]

    # Reading

    def gather(self, places: ColumnPlaces, slots: Indices, visible_from: Sequence[int], tick: int) -> Gathered:
        """The newest value of each feature and slot.

        A `tick` other than 0 marks the cells as used then. Values with times before `visible_from`, one per
        feature, are the caller's to hide; no disk is asked for them.
        """
        table = self._times.array
        index = places.columns[:, None] + slots * table.shape[1]
        if tick:
            self.used.ravel()[index] = tick
        # Every cell is within the tables; `take` is half as fast where it is to check that.
        times, cold = table.ravel().take(index, mode="clip"), None
        if self._floor is not None:
            floor = self._floor.array.ravel().take(index, mode="clip")
            below = (times < floor) & (floor > np.array(visible_from, np.int64)[:, None])
            cold = below if below.any() else None
        values = []
        for kept, own in places.tables:
            if kept[1]:
                tables = self._vectors[kept]
                values.append(
                    np.stack([tables[one].array.take(slots, axis=0, mode="clip") for one in own.tolist()])
                )
            else:
                table = self._values[kept].array
                values.append(table.ravel().take(own[:, None] + slots * table.shape[1], mode="clip"))
        return Gathered(times, self._nulls.array.ravel().take(index, mode="clip"), values, cold)


class LatestColumn:
    """One feature's column of the tables. The arrays are views by slot: ask anew once there may be more room."""

    __slots__ = ("at", "kept", "own", "table")

    def __init__(self, table: LatestTable, kept: _Kept, at: int, own: int) -> None:
        """`own`: the position among the columns of the same kind."""
        self.table = table
        self.kept = kept
        self.at = at
        self.own = own

    @property
    def times(self) -> Times:
        """int64[room], NEVER where nothing was written."""
        return self.table.times[:, self.at]

    @property
    def values(self) -> Array:
        """The kind's dtype, [room] or [room, width]."""
        return self.table.cells_of(self.kept, self.own)

    @property
    def nulls(self) -> Nulls:
        """bool[room]"""
        return self.table.nulls[:, self.at]

    @property
    def used(self) -> Times:
        """int64[room], the tick of the last use."""
        return self.table.used[:, self.at]

    @property
    def floor(self) -> Times | None:
        """int64[room], None while no feature has one."""
        return None if self.table.floor is None else self.table.floor[:, self.at]

    def clearing(self) -> Steps[None]:
        """Nothing was written: only where something was is written to."""
        for start in range(0, self.table.room, SLOTS_A_STEP):
            cut = slice(start, start + SLOTS_A_STEP)
            times, values = self.times[cut], self.values[cut]
            some = np.flatnonzero(times != NEVER)
            times[some] = NEVER
            self.nulls[cut][some] = False
            values[some] = blank(values.dtype, (1,))[0]
            if self.table.noted:
                used = self.used[cut]
                used[np.flatnonzero(used)] = 0
                del used
            del times, values  # no view may be kept while the tables grow
            yield
