"""What one point-in-time question has looked up, for the series that it comes to next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from actors.table.columns import Indices, Times
from actors.table.index import Index
from actors.table.rows import Rows, last_within
from actors.timestamps import NEVER
from actors.types.type import Nulls


class Hit(NamedTuple):
    """What a point-in-time join found in an index of slots and times: for each question the time, NEVER for none,
    and the position of the row (of any row where there is none)."""

    of: Index
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
        if hit is None or hit.of is not rows.index:
            hit = self._hits.get(_sketch(rows))
        if hit is None or not _same_index(hit.of, rows.index):
            return None
        self._last = hit
        return hit

    def search(self, rows: Rows, begin: Indices, end: Indices, at: Times) -> Hit:
        """Find the last row with time <= `at` of each stretch of sorted rows."""
        position = last_within(rows, begin, end, at)
        seen = np.where(position < 0, NEVER, rows.times.take(position))
        self._last = self._hits[_sketch(rows)] = Hit(rows.index, position, seen)
        return self._last


def _sketch(rows: Rows) -> tuple[int, bytes]:
    """The same for rows of the same times, and hardly ever for others."""
    return rows.size, rows.times[:: 1 + rows.size // 64].tobytes()


def _same_index(one: Index, other: Index) -> bool:
    """But for arrivals, which no question is about."""
    if one is other or one.times is other.times:
        return True
    return np.array_equal(one.times, other.times) and np.array_equal(one.slots, other.slots)
