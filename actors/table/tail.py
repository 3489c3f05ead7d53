"""The rows that came last, in order of arrival."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from actors.table.rows import Rows, Slots
from actors.types.values import Array


class Tail:
    """Growing columns: appending a few rows is a few slice assignments."""

    def __init__(self, blank: Callable[[int], Array]) -> None:
        """`blank`: so many null values."""
        self._blank = blank
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
        grown = Rows(np.empty(room, np.int32), times, times.copy(), self._blank(room), np.empty(room, np.bool_))
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
