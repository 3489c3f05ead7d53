"""Types and helpers for columns, which are parallel arrays."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.settings import ROWS_PER_TURN
from actors.turns import Steps, at_once
from actors.types.type import Array

Times = NDArray[np.int64]
Indices = NDArray[np.int64]
Codes = NDArray[np.integer[Any]]


def picked(items: Sequence[Any], rows: Indices) -> list[Any]:
    """The items at these positions, in this order."""
    if len(rows) < 2:
        return [items[row] for row in rows.tolist()]
    return list(itemgetter(*rows.tolist())(items))


def same(one: Array, other: Array) -> bool:
    """Whether two arrays of one dtype are equal. Compares bytes, which is faster for small arrays."""
    if one is other or len(one) != len(other):
        return one is other
    return len(one) == 0 or (bool(one[-1] == other[-1]) and one.tobytes() == other.tobytes())


class Numbering(dict[Any, int]):
    """A mapping of keys to numbers. A key that is looked up for the first time gets the next number, from 1 on."""

    def __missing__(self, key: Any) -> int:
        number = self[key] = len(self) + 1
        return number


def group_rows(keys: Sequence[Any]) -> list[tuple[Any, Indices]]:
    """The distinct keys in order of first appearance, each with its positions in ascending order: int64[n]."""
    return at_once(grouping_rows(keys))


def grouping_rows(keys: Sequence[Any]) -> Steps[list[tuple[Any, Indices]]]:
    """Do what `group_rows` does, in steps."""
    if len(keys) == 1:
        return [(keys[0], np.zeros(1, np.int64))]
    numbers, codes = Numbering(), np.empty(len(keys), np.int32)
    for start in range(0, len(keys), 2 * ROWS_PER_TURN):
        if start:
            yield
        part = keys[start : start + 2 * ROWS_PER_TURN]
        codes[start : start + len(part)] = np.fromiter(map(numbers.__getitem__, part), np.int32, len(part))
    codes -= 1
    return list(zip(numbers, rows_of_codes(codes, len(numbers)), strict=True))


def rows_of_codes(codes: Codes, count: int) -> list[Indices]:
    """For each code below `count` its positions in ascending order: int64[n]."""
    # Codes in 16 bits, if they fit, are sorted by radix.
    order = np.argsort(codes.astype(np.min_scalar_type(max(count - 1, 0))), kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=count))
    return np.split(order, ends[:-1]) if count else []
