"""Arrays that grow where they are: a table of a gigabyte is never copied to be given some rows more."""

from __future__ import annotations

import mmap
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np

from actors.turns import Steps
from actors.types.type import Array

MAPPED_BYTES = 1024 * 1024
"""Smaller ones are ordinary arrays, which are copied in no time."""
CELLS_A_STEP = 250_000
"""Of those that are copied: a millisecond or two."""
_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
_HUGE = getattr(mmap, "MADV_HUGEPAGE", None)


class Pieces:
    """Rows of numbers or objects. Of numbers, large ones are pages of the system's.

    It gives more of them without moving what is there (mremap), as zeros that take no memory until written to.
    """

    def __init__(
        self, dtype: np.dtype[Any], columns: tuple[int, ...], filling: int = 0, sparse: bool = False
    ) -> None:
        """One row. `filling`: what new cells are, those of objects None. `sparse`: few rows will be written."""
        self.array: Array = np.empty((0, *columns), dtype)
        self._filling = None if dtype.kind == "O" else filling
        self._sparse = sparse
        self._memory: mmap.mmap | None = None
        self.grow(1)

    def grow(self, rows: int) -> None:
        """Have so many rows. Nobody may keep a view of the array meanwhile: it would go on with the old rows."""
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
        except ValueError:  # there is a view of it
            array = np.empty(shape, self.array.dtype)
            array[: len(self.array)] = self.array
            self.array = array

    def _mapped(self, size: int) -> mmap.mmap:
        """The memory of the array, with so many bytes."""
        old, self.array = self.array, np.empty(0, self.array.dtype)
        if self._memory is not None:
            shape, dtype, memory = old.shape, old.dtype, self._memory
            del old
            with suppress(BufferError, OSError, SystemError):  # a view is left, or the system cannot
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
        """Have so many columns, which takes a copy, in steps. Nothing may be written before the last."""
        rows, before = self.array.shape
        wide = Pieces(self.array.dtype, (columns,), self._filling or 0, self._sparse)
        if self.array.dtype.kind == "O":  # only numbers grow where they are
            wide.grow(rows)
        each = 1 + CELLS_A_STEP // columns
        for start in range(0, rows, each):
            cut = slice(start, min(start + each, rows))
            if len(wide.array) < cut.stop:
                wide.grow(cut.stop)
            wide.array[cut, :before] = self.array[cut]
            yield
        self.array, self._memory = wide.array, wide._memory
