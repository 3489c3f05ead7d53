"""Observations of one feature that are collected before they are processed together."""

from __future__ import annotations

import numpy as np

from actors.stats.summary import Accepted
from actors.table.columns import Times
from actors.types.type import Array, Nulls

FEWEST = 16


class Waiting:
    """Growing columns. Observations are copied into them, as keeping the small arrays of every batch for so long
    would fragment memory.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        """The size of the columns, without the text objects that they refer to."""
        self._columns: Accepted | None = None

    def append(self, times: Times, arrived: Times | int, values: Array, nulls: Nulls) -> None:
        """Append a copy of some observations. `arrived`: one arrival for all, or int64[n]."""
        begin, end = self.rows, self.rows + len(times)
        columns = self._columns
        if columns is None or end > len(columns.times):
            columns = self._grow(end, values)
        columns.times[begin:end], columns.arrived[begin:end] = times, arrived
        columns.values[begin:end], columns.nulls[begin:end] = values, nulls
        self.rows = end
        self.bytes += 2 * times.nbytes + values.nbytes + nulls.nbytes

    def _grow(self, needed: int, values: Array) -> Accepted:
        room = max(FEWEST, 1 << (needed - 1).bit_length())
        grown = Accepted(
            np.empty(room, np.int64),
            np.empty(room, np.int64),
            np.empty((room, *values.shape[1:]), values.dtype),
            np.empty(room, np.bool_),
        )
        if self._columns is not None:
            for column, old in zip(grown, self._columns, strict=True):
                column[: self.rows] = old[: self.rows]
        self._columns = grown
        return grown

    def drain(self) -> Accepted | None:
        """Remove and return all observations; None if there are none."""
        columns, rows = self._columns, self.rows
        self._columns, self.rows, self.bytes = None, 0, 0
        return columns.cut(slice(rows)) if columns is not None and rows else None
