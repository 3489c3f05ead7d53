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
        self._hits: dict[Index, Hit] = {}
        self._alike: dict[tuple[int, int, int], Hit] = {}
        """The last one by what is told of an index at a glance."""
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
        hit = self._hits.get(rows.index)
        if hit is None:  # written apart, perhaps at the same times
            hit = self._alike.get(_glance(rows))
            if hit is None or not _same_index(hit.of, rows.index):
                return None
            self._hits[rows.index] = hit
        return hit

    def search(self, rows: Rows, begin: Indices, end: Indices, at: Times) -> Hit:
        """Find the last row with time <= `at` of each stretch of sorted rows."""
        position = last_within(rows, begin, end, at)
        seen = np.where(position < 0, NEVER, rows.times.take(position))
        hit = self._hits[rows.index] = self._alike[_glance(rows)] = Hit(rows.index, position, seen)
        return hit


def _glance(rows: Rows) -> tuple[int, int, int]:
    """The same for rows of the same times."""
    return (rows.size, rows.index.newest, int(rows.times[0])) if rows.size else (0, 0, 0)


def _same_index(one: Index, other: Index) -> bool:
    """But for arrivals, which no question is about."""
    if one.times is other.times:
        return True
    return np.array_equal(one.times, other.times) and np.array_equal(one.slots, other.slots)
