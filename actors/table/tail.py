"""The most recent rows of a series, in order of arrival."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from actors.table.index import Growing, Index, Slots, longer, room_for
from actors.table.rows import Rows
from actors.types.type import Array, Nulls, known_without_nulls, no_nulls


class Tail:
    """Growing columns: appending a few rows is a few slice assignments.

    The index is shared with the tails of series that are written together (`Growing`).
    """

    def __init__(self, blank: Callable[[int], Array], turn: int) -> None:
        """`blank`: makes null values. `turn`: that of a Growing which this tail creates."""
        self._blank = blank
        self._turn = turn
        self._index: Growing | None = None
        self._start = self.count = 0
        self._values: Array = blank(0)
        self._nulls: Nulls | None = None

    @property
    def turn(self) -> int:
        """The `turn` of all tails that are written together with this one."""
        return self._turn if self._index is None else self._index.turn

    def append(self, rows: Rows) -> None:
        self._follow(rows.index)
        start, end = self.count, self.count + rows.size
        if end > len(self._values):
            self._values = longer(self._values, start, room_for(len(self._values), end))
        self._values[start:end] = rows.values
        if self._nulls is None and not known_without_nulls(rows.nulls):
            self._nulls = np.zeros(len(self._values), np.bool_)
        if self._nulls is not None:
            if end > len(self._nulls):
                self._nulls = longer(self._nulls, start, len(self._values))
            self._nulls[start:end] = rows.nulls
        self.count = end

    def _follow(self, index: Index) -> None:
        """Use a range of a growing index, which ends with `index`."""
        if self._index is None:
            if not index.growing:
                Growing(self._turn).append(index)
            (self._index, self._start), *_ = index.growing.items()
        elif not _continues(self._index, self._start + self.count, index):
            self._part(self._index.cut(self._start, self._start + self.count), index)

    def _part(self, before: Index, index: Index) -> None:
        """Switch to another growing index: that of a tail which left at the same place with the same part, or a
        new one."""
        for growing, start in before.growing.items():
            if _continues(growing, start + before.size, index):
                self._index, self._start = growing, start
                return
        self._index, self._start = Growing(self._turn), 0
        self._index.append(before)
        self._index.append(index)

    @property
    def slots(self) -> Slots:
        """The slots of all rows."""
        return self._cut().slots if self._index is not None else np.zeros(0, np.int32)

    @property
    def rows(self) -> Rows:
        """All rows. There must be at least one."""
        nulls = no_nulls(self.count) if self._nulls is None else self._nulls[: self.count]
        return Rows(self._cut(), self._values[: self.count], nulls)

    def _cut(self) -> Index:
        assert self._index is not None
        return self._index.cut(self._start, self._start + self.count)

    def clear(self) -> None:
        """Remove all rows, which have been moved to a run."""
        self._index = self._nulls = None
        self._start = self.count = 0
        self._values = self._blank(0)


def _continues(growing: Growing, place: int, index: Index) -> bool:
    """Whether `index` is what follows at `place` in a growing index; appends it if nothing follows there yet."""
    if growing not in index.growing and growing.count == place:
        growing.append(index)
    return index.growing.get(growing) == place
