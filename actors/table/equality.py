"""Numbers texts and vectors so that equal values, and only those, get equal numbers, which numpy can then count.

Values are looked at some thousands at a time, and none are kept in a set: growing a set of millions would hold the
GIL for a second. Sorting by hash brings equal values together; neighbours with equal hashes are compared
themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from actors.table.columns import Indices
from actors.types.type import Array, Nulls

BYTES_AT_ONCE = 4 * 1024 * 1024
VALUES_AT_ONCE = 4_096


def numbered(places: Indices, values: Callable[[Indices], Array]) -> Indices:
    """A number for the value at each place: int64[n]. `values`: returns the values at given places."""
    if len(places) == 0:
        return places
    step = _at_once(values(places[:1]))
    starts = range(0, len(places), step)
    hashes = np.concatenate([_hashes(values(places[start : start + step])) for start in starts])
    order = np.argsort(hashes, kind="stable")
    same, fresh = hashes[order], np.ones(len(places), np.bool_)
    fresh[1:] = same[1:] != same[:-1]
    like = np.flatnonzero(~fresh)  # values whose predecessor has the same hash
    for start in range(0, len(like), step):
        part = like[start : start + step]
        fresh[part] = _differ(values(places[order[part]]), values(places[order[part - 1]]))
    numbers = np.empty(len(places), np.int64)
    numbers[order] = np.cumsum(fresh)
    for begin, end in _mixed(same, fresh):
        numbers[order[begin:end]] = _one_by_one(values(places[order[begin:end]]), len(places) + 1 + begin)
    return numbers


def _at_once(one: Array) -> int:
    return max(1, min(VALUES_AT_ONCE, BYTES_AT_ONCE // max(1, one[0].nbytes if one.ndim == 2 else 1)))


def _hashes(values: Array) -> Indices:
    # A Python loop, so that other threads can run in between: hashing a text takes longer the longer it is.
    return np.array([hash(key) for key in _keys(values)], np.int64)


def _keys(values: Array) -> list[object]:
    """Hashable keys that are equal if and only if the values are; -0.0 equals 0.0."""
    return [row.tobytes() for row in values + 0.0] if values.ndim == 2 else values.tolist()


def _differ(some: Array, others: Array) -> Nulls:
    unlike: Nulls = np.asarray(some != others, np.bool_)
    return np.asarray(unlike.any(axis=1)) if unlike.ndim == 2 else unlike


def _mixed(hashes: Indices, fresh: Nulls) -> list[tuple[int, int]]:
    """The ranges of equal hashes, among sorted ones, that belong to several different values."""
    clashes = np.unique(hashes[1:][fresh[1:] & (hashes[1:] == hashes[:-1])])
    ends = (np.searchsorted(hashes, clashes, side).tolist() for side in ("left", "right"))
    return list(zip(*ends, strict=True))


def _one_by_one(values: Array, first: int) -> list[int]:
    numbers: dict[object, int] = {}
    return [numbers.setdefault(key, first + len(numbers)) for key in _keys(values)]
