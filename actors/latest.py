"""The newest value of each feature of one entity type, by slot: what serving reads.

One table for all features, a row an entity and a column a feature, so that a request is gathered by one `take`
for all of its features where arrays of their own would take one each. Values are in a table for each kind, that
is for each dtype and width; times, nulls, floors and uses are in one for all. A series knows its `Column`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.columns import Indices, Times
from actors.timestamps import NEVER
from actors.values import Array, Nulls, blank

_Kept = tuple[str, int]
"""What features must have in common to be in one table of values: the dtype, and a vector's dimension or 0."""


class Places(NamedTuple):
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


class Latest:
    """The tables. Room for slots doubles and room for columns grows by half, which keeps growth linear."""

    def __init__(self) -> None:
        self.room = 1
        """How many slots there is room for."""
        self.newest = NEVER
        """The newest event time of all."""
        self.times: NDArray[np.int64] = np.empty((1, 0), np.int64)
        self.nulls: NDArray[np.bool_] = np.empty((1, 0), np.bool_)
        self.used: NDArray[np.int64] = np.empty((1, 0), np.int64)
        self.floor: NDArray[np.int64] | None = None
        self.values: dict[_Kept, Array] = {}
        self._bases: list[int] = []
        self._taken: dict[_Kept, int] = {}
        self._free: dict[_Kept, list[tuple[int, int]]] = {}

    def column(self, dtype: np.dtype[Any], width: int, base_floor: int) -> Column:
        """A column that says of every slot that nothing was written. `base_floor`: of slots not heard of yet."""
        kept = dtype.str, width
        if self._free.get(kept):
            at, own = self._free[kept].pop()
            self._bases[at] = base_floor
        else:
            at, own = len(self._bases), self._taken.get(kept, 0)
            self._bases.append(base_floor)
            self._taken[kept] = own + 1
            self._widen(dtype, width, at + 1, own + 1)
        if base_floor != NEVER:
            self.have_floors()
        column = Column(self, kept, at, own)
        column.clear(base_floor)
        return column

    def free(self, column: Column) -> None:
        """The column may be another's from now on."""
        column.clear(NEVER)
        self._free.setdefault(column.kept, []).append((column.at, column.own))

    def have_floors(self) -> None:
        """Make room for floors, which a service with little in it does without."""
        if self.floor is None:
            self.floor = np.full(self.times.shape, NEVER, np.int64)
            self.floor[:, : len(self._bases)] = self._bases

    def _widen(self, dtype: np.dtype[Any], width: int, columns: int, own: int) -> None:
        if columns > self.times.shape[1]:
            more = _grown(columns) - self.times.shape[1]
            self.times = _padded(self.times, 1, more, NEVER)
            self.nulls = _padded(self.nulls, 1, more, False)
            self.used = _padded(self.used, 1, more, 0)
            self.floor = None if self.floor is None else _padded(self.floor, 1, more, NEVER)
        kept = dtype.str, width
        shape = (width,) if width else ()
        table = self.values.get(kept, blank(dtype, (self.room, 0, *shape)))
        if own > table.shape[1]:
            table = np.concatenate(
                [table, blank(dtype, (self.room, _grown(own) - table.shape[1], *shape))], axis=1
            )
        self.values[kept] = table

    def make_room(self, slots: int) -> None:
        """Room for slots below `slots`, which every question may then name."""
        if slots <= self.room:
            return
        more = max(slots, 2 * self.room) - self.room
        self.room += more
        self.times = _padded(self.times, 0, more, NEVER)
        self.nulls = _padded(self.nulls, 0, more, False)
        self.used = _padded(self.used, 0, more, 0)
        if self.floor is not None:
            self.floor = _padded(self.floor, 0, more, NEVER)
            self.floor[-more:, : len(self._bases)] = self._bases
        for kept, table in self.values.items():
            self.values[kept] = np.concatenate([table, blank(table.dtype, (more, *table.shape[1:]))])

    # Reading

    def gather(self, places: Places, slots: Indices, visible_from: Sequence[int], tick: int) -> Gathered:
        """The newest value of each feature and slot.

        A `tick` other than 0 marks the cells as used then. Values with times before `visible_from`, one per
        feature, are the caller's to hide; no disk is asked for them.
        """
        index = places.columns[:, None] + slots * self.times.shape[1]
        if tick:
            self.used.ravel()[index] = tick
        # Every cell is within the tables; `take` is half as fast where it is to check that.
        times, cold = self.times.ravel().take(index, mode="clip"), None
        if self.floor is not None:
            floor = self.floor.ravel().take(index, mode="clip")
            below = (times < floor) & (floor > np.array(visible_from, np.int64)[:, None])
            cold = below if below.any() else None
        values = []
        for kept, own in places.tables:
            table = self.values[kept]
            cells = own[:, None] + slots * table.shape[1]
            if table.ndim == 2:
                values.append(table.ravel().take(cells, mode="clip"))
            else:
                values.append(table.reshape(-1, table.shape[2]).take(cells, axis=0, mode="clip"))
        return Gathered(times, self.nulls.ravel().take(index, mode="clip"), values, cold)


class Column:
    """One feature's column of the tables. The arrays are views by slot: ask anew once there may be more room."""

    __slots__ = ("at", "kept", "own", "table")

    def __init__(self, table: Latest, kept: _Kept, at: int, own: int) -> None:
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
        return self.table.values[self.kept][:, self.own]

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

    def clear(self, base_floor: int) -> None:
        """Nothing was written."""
        self.times[:] = NEVER
        self.nulls[:] = False
        self.used[:] = 0
        values, floor = self.values, self.floor
        values[:] = blank(values.dtype, (1,))[0]
        if floor is not None:
            floor[:] = base_floor


def _grown(columns: int) -> int:
    return max(columns, 4, columns + columns // 2)


def _padded(table: NDArray[Any], axis: int, more: int, filling: int | bool) -> NDArray[Any]:
    rows, columns = table.shape
    added = (more, columns) if axis == 0 else (rows, more)
    return np.concatenate([table, np.full(added, filling, table.dtype)], axis=axis)
