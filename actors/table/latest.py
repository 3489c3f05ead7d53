"""The latest value of each feature of one entity type, by slot: what serving reads.

There is one table for all features, with a row per entity and a column per feature, so that a request is gathered
by one `take` for all its features instead of one for each. Values are in one table for each dtype and width;
times, nulls, floors and uses are in one table for all features. Each series has a `LatestColumn`.
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
"""Capacity is doubled while it is less than this, and then grows by this: with 200 features about 5 MB, a few
milliseconds."""

CELLS_A_STEP = 500_000
"""Cells of a new table of floors that are filled in one step."""
CELLS_SOON_COPIED = 20_000
"""A table of fewer cells gets exactly as many columns as it needs, since copying it is fast."""
SLOTS_A_STEP = 8_192
"""Slots of a column that are cleared in one step: some milliseconds."""

_Kept = tuple[str, int]
"""The key of a table of values: the dtype, and the dimension of vectors or 0."""


class HalfGrown(MemoryError):
    """Memory ran out while the tables were growing: they are inconsistent and must not be used any more."""


@contextmanager
def _growing() -> Iterator[None]:
    try:
        yield
    except (MemoryError, OSError) as error:
        raise HalfGrown from error


class ColumnPlaces(NamedTuple):
    """Where the features of a query are: their columns, and for each kind their columns in its table of values."""

    columns: NDArray[np.int64]
    tables: Sequence[tuple[_Kept, NDArray[np.int64]]]


class Gathered(NamedTuple):
    """For f features and n slots: int64[f, n], bool[f, n], and for each kind [members, n] or [members, n, width].

    `cold`: bool[f, n], where the disk must be read, None for nowhere.
    """

    times: NDArray[np.int64]
    nulls: NDArray[np.bool_]
    values: Sequence[Array]
    cold: NDArray[np.bool_] | None


class LatestTable:
    """The tables. Capacity for slots is added in place, without copying; for values, nulls and uses it takes
    memory only where something is written. The number of columns grows by an eighth at a time. A vector feature
    has a table of its own."""

    def __init__(self) -> None:
        self.room = 1
        """How many slots the tables have capacity for."""
        self.newest = NEVER
        """The newest event time of all features."""
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
        """The null mask: bool[room, columns]."""
        return self._nulls.array

    @property
    def used(self) -> NDArray[np.int64]:
        """int64[room, columns], the tick of the last use. Created when first needed."""
        if self._used is None:
            with _growing():
                used = Pieces(np.dtype(np.int64), self.times.shape[1:])
                used.grow(self.room)
            self._used = used
        return self._used.array

    @property
    def noted(self) -> bool:
        """Whether uses have been recorded."""
        return self._used is not None

    @property
    def floor(self) -> NDArray[np.int64] | None:
        """int64[room, columns], None while no feature has one."""
        return None if self._floor is None else self._floor.array

    def column(self, dtype: np.dtype[Any], width: int, base_floor: int) -> LatestColumn:
        """Allocate an empty column. `base_floor`: the floor of slots that do not exist yet."""
        kept = dtype.str, width
        if self._free.get(kept):
            at, value_column = self._free[kept].pop()
            self._bases[at] = base_floor
        else:
            at_once(self.making_column(dtype, width))
            at, value_column = len(self._bases), self._taken.get(kept, 0)
            self._bases.append(base_floor)
            self._taken[kept] = value_column + 1
        if base_floor != NEVER:
            self.make_floors()
        column = LatestColumn(self, kept, at, value_column)
        if self._floor is not None:
            self._floor.array[:, at] = base_floor
        return column

    def free(self, column: LatestColumn) -> None:
        """Do what `freeing` does, without interruption."""
        at_once(self.freeing(column))

    def freeing(self, column: LatestColumn) -> Steps[None]:
        """Clear a column for reuse, in steps. Its series must no longer write to it."""
        yield from column.clearing()
        self._free.setdefault(column.kept, []).append((column.at, column.value_column))

    def make_floors(self) -> None:
        """Create the table of floors, which a service that has everything in memory does without."""
        at_once(self.making_floors())

    def making_floors(self) -> Steps[None]:
        """Do what `make_floors` does, in steps, during which there are no floors yet."""
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
        """Add capacity for one more column, in steps. The tables may not be used in between."""
        kept = dtype.str, width
        if not self._free.get(kept):
            with _growing():
                yield from self._widening(dtype, width, len(self._bases) + 1, self._taken.get(kept, 0) + 1)

    def _widening(self, dtype: np.dtype[Any], width: int, columns: int, value_columns: int) -> Steps[None]:
        if columns > self._times.array.shape[1]:
            for table in filter(None, (self._times, self._nulls, self._used, self._floor)):
                yield from table.widening(self._grown(columns))
        kept = dtype.str, width
        if width:
            if value_columns > len(self._vectors.setdefault(kept, [])):
                self._vectors[kept].append(Pieces(dtype, (width,), sparse=True))
                self._vectors[kept][-1].grow(self.room)
        elif kept not in self._values:
            self._values[kept] = Pieces(dtype, (self._grown(value_columns),))
            self._values[kept].grow(self.room)
        elif value_columns > self._values[kept].array.shape[1]:
            yield from self._values[kept].widening(self._grown(value_columns))

    def _grown(self, columns: int) -> int:
        """The number of columns to allocate: an eighth more than needed, if copying the table takes a while."""
        return columns if self.room * columns < CELLS_SOON_COPIED else max(4, columns + columns // 8)

    def make_room(self, slots: int) -> None:
        """Add capacity for slots below `slots`, which queries may then use."""
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

    def cells_of(self, kept: _Kept, value_column: int) -> Array:
        """The values of a column: [room] or [room, width]."""
        return self._vectors[kept][value_column].array if kept[1] else self._values[kept].array[:, value_column]

    # Reading

    def gather(self, places: ColumnPlaces, slots: Indices, visible_from: Sequence[int], tick: int) -> Gathered:
        """The latest value of each feature and slot.

        A `tick` other than 0 is recorded as last use of the cells. The caller has to hide values with times before
        `visible_from`, which is one moment per feature; they are never `cold`.
        """
        table = self._times.array
        index = places.columns[:, None] + slots * table.shape[1]
        if tick:
            self.used.ravel()[index] = tick
        # Every index is within the tables; mode "clip" avoids a bounds check that would halve the speed of `take`.
        times, cold = table.ravel().take(index, mode="clip"), None
        if self._floor is not None:
            floor = self._floor.array.ravel().take(index, mode="clip")
            below = (times < floor) & (floor > np.array(visible_from, np.int64)[:, None])
            cold = below if below.any() else None
        values = []
        for kept, columns in places.tables:
            if kept[1]:
                tables = self._vectors[kept]
                values.append(
                    np.stack([tables[one].array.take(slots, axis=0, mode="clip") for one in columns.tolist()])
                )
            else:
                table = self._values[kept].array
                values.append(table.ravel().take(columns[:, None] + slots * table.shape[1], mode="clip"))
        return Gathered(times, self._nulls.array.ravel().take(index, mode="clip"), values, cold)


class LatestColumn:
    """One feature's column of the tables. Its arrays are views by slot, which growing the tables invalidates."""

    __slots__ = ("at", "kept", "table", "value_column")

    def __init__(self, table: LatestTable, kept: _Kept, at: int, value_column: int) -> None:
        """`at`: its position in the tables of all features; `value_column`: that in its table of values."""
        self.table = table
        self.kept = kept
        self.at = at
        self.value_column = value_column

    @property
    def times(self) -> Times:
        """int64[room], NEVER where nothing was written."""
        return self.table.times[:, self.at]

    @property
    def values(self) -> Array:
        """The values: [room] or [room, width], of the feature's dtype."""
        return self.table.cells_of(self.kept, self.value_column)

    @property
    def nulls(self) -> Nulls:
        """The null mask: bool[room]."""
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
        """Reset all cells, in steps. Writes only to cells that have been used, as others take no memory."""
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
            del times, values  # no views may exist while the tables grow
            yield
