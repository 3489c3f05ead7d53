"""Sharing the searches of a point-in-time query among series that have the same index."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from actors.table.columns import Indices, Times
from actors.table.index import Index
from actors.table.rows import Rows, last_within
from actors.timestamps import NEVER
from actors.types.type import Nulls


class Hit(NamedTuple):
    """The result of a point-in-time query in an index (`of`): for each row of the query the event time of the row
    found (`seen`: int64[q], NEVER for none), and its position (int64[q], arbitrary for none)."""

    of: Index
    position: Indices
    seen: Times


class Found:
    """The searches of one point-in-time query so far. Series with the same index share one search."""

    def __init__(self) -> None:
        self._hits: dict[Index, Hit] = {}
        self._alike: dict[tuple[int, int, int], Hit] = {}
        """The last hit by properties of the index that are quick to compare."""
        self._slots: Indices | None = None
        self._asked: Indices
        self.no_nulls: Nulls

    def asked(self, slots: Indices, owner: Indices) -> Indices:
        """The slot of each row of the query: int64[q]."""
        if self._slots is not slots:
            self._slots, self._asked = slots, slots.take(owner)
            self.no_nulls = np.zeros(len(owner), np.bool_)
        return self._asked

    def hit(self, rows: Rows) -> Hit | None:
        """The result of an earlier search in the same index, if any."""
        hit = self._hits.get(rows.index)
        if hit is None:  # the index may still be equal, if entities and times were the same in separate writes
            hit = self._alike.get(_glance(rows))
            if hit is None or not _same_index(hit.of, rows.index):
                return None
            self._hits[rows.index] = hit
        return hit

    def search(self, rows: Rows, begin: Indices, end: Indices, at: Times) -> Hit:
        """Find in each range begin[i]:end[i] of sorted rows the last row with time <= at[i]."""
        position = last_within(rows, begin, end, at)
        seen = np.where(position < 0, NEVER, rows.times.take(position))
        hit = self._hits[rows.index] = self._alike[_glance(rows)] = Hit(rows.index, position, seen)
        return hit


def _glance(rows: Rows) -> tuple[int, int, int]:
    """A key that is equal for equal indices."""
    return (rows.size, rows.index.newest, int(rows.times[0])) if rows.size else (0, 0, 0)


def _same_index(one: Index, other: Index) -> bool:
    """Whether two indices are equal except for arrivals, which do not matter to these queries."""
    if one.times is other.times:
        return True
    return np.array_equal(one.times, other.times) and np.array_equal(one.slots, other.slots)
