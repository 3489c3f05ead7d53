"""Arrays that grow in place: adding rows to a table of a gigabyte does not copy it."""

from __future__ import annotations

import mmap
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np

from actors.turns import Steps
from actors.types.type import Array

MAPPED_BYTES = 1024 * 1024
"""Smaller arrays are ordinary ones, as copying them is fast."""
CELLS_A_STEP = 250_000
"""Cells copied in one step: a millisecond or two."""
_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
_HUGE = getattr(mmap, "MADV_HUGEPAGE", None)


class Pieces:
    """A growing array of rows of numbers or objects.

    A large array of numbers is an anonymous memory mapping, which the system extends without copying (mremap), by
    zero pages that take no memory until they are written to.
    """

    def __init__(
        self, dtype: np.dtype[Any], columns: tuple[int, ...], filling: int = 0, sparse: bool = False
    ) -> None:
        """Create an array with one row of shape `columns`.

        `filling`: the value of new cells; for objects it is always None. `sparse`: whether few rows will be
        written.
        """
        self.array: Array = np.empty((0, *columns), dtype)
        self._filling = None if dtype.kind == "O" else filling
        self._sparse = sparse
        self._memory: mmap.mmap | None = None
        self.grow(1)

    def grow(self, rows: int) -> None:
        """Grow to this many rows. Views of the array must not be kept: they would refer to the old rows."""
        before, shape, dtype = len(self.array), (rows, *self.array.shape[1:]), self.array.dtype
        size = prod(shape) * dtype.itemsize
        if dtype.kind == "O":
            self._resize(shape)
        elif size < MAPPED_BYTES:
            array = np.zeros(shape, dtype)
            array[:before] = self.array
            self.array = array
        else:
            self.array = np.frombuffer(self._mapped(size), dtype, prod(shape)).reshape(shape)
        if self._filling != 0:
            self.array[before:] = self._filling

    def _resize(self, shape: tuple[int, ...]) -> None:
        try:
            self.array.resize(shape)
        except ValueError:  # there is a view of the array
            array = np.empty(shape, self.array.dtype)
            array[: len(self.array)] = self.array
            self.array = array

    def _mapped(self, size: int) -> mmap.mmap:
        """The memory of the array, extended to `size` bytes."""
        old, self.array = self.array, np.empty(0, self.array.dtype)
        if self._memory is not None:
            shape, dtype, memory = old.shape, old.dtype, self._memory
            del old
            with suppress(BufferError, OSError, SystemError):  # there is a view, or the system cannot extend it
                memory.resize(size)
                return memory
            old = np.frombuffer(memory, dtype, prod(shape)).reshape(shape)
        self._memory = mmap.mmap(-1, size, flags=_FLAGS)
        if _HUGE is not None and not self._sparse:
            with suppress(OSError):
                self._memory.madvise(_HUGE)
        np.frombuffer(self._memory, old.dtype, old.size)[:] = old.ravel()
        return self._memory

    def widening(self, columns: int) -> Steps[None]:
        """Grow to this many columns by copying, in steps. Nothing may be written before the last step."""
        rows, before = self.array.shape
        wide = Pieces(self.array.dtype, (columns,), self._filling or 0, self._sparse)
        if self.array.dtype.kind == "O":  # arrays of objects do not grow in place
            wide.grow(rows)
        each = 1 + CELLS_A_STEP // columns
        for start in range(0, rows, each):
            cut = slice(start, min(start + each, rows))
            if len(wide.array) < cut.stop:
                wide.grow(cut.stop)
            wide.array[cut, :before] = self.array[cut]
            yield
        self.array, self._memory = wide.array, wide._memory
