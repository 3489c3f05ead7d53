"""Aggregates of groups of observations, by numpy's `reduceat`.

Groups are given as offsets into parallel columns, so that one call aggregates thousands of entities (or windows).
Nulls are always skipped; an empty group gives null, or 0 for `count` and `sum`. `std` is the population standard
deviation. Percentiles are interpolated linearly (Hyndman & Fan 1996, type 7; numpy's default).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from actors.domain import Feature
from actors.table.columns import Indices
from actors.table.equality import numbered
from actors.table.rows import Ranges
from actors.types.type import Array, Nulls, blank
from actors.types.values import TYPES, dtype_of, empty

_QUANTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
AGGREGATIONS = ("latest", "first", "avg", "sum", "min", "max", "count", "std", "distinct", *_QUANTILES)
_ANY_TYPE = ("latest", "first", "count", "distinct")
_ORDERED = ("min", "max")
WORTH_SORTING_ALONE = 32
"""Groups of at least this many values on average are sorted one by one: a fifth of the time of sorting by two
keys."""


class Groups(NamedTuple):
    """Non-null values of consecutive groups: group i has values[offsets[i]:offsets[i+1]]."""

    offsets: Indices
    values: Array

    @property
    def counts(self) -> Indices:
        """The number of values in each group: int64[groups]."""
        return np.diff(self.offsets)

    def each(self, of_groups: Array) -> Array:
        """Repeat an array of one item per group for each value; a single item is left to broadcasting."""
        return of_groups if len(of_groups) == 1 else np.repeat(of_groups, self.counts)


class Aggregate(NamedTuple):
    """One aggregate per group. `value_type` says how to render it (an average of integers is a number)."""

    values: Array
    nulls: Nulls
    value_type: str


def allowed(aggregation: str, value_type: str) -> bool:
    """Whether an aggregation applies to a value type: arithmetic needs numbers, min and max an ordered type."""
    if aggregation in _ANY_TYPE:
        return True
    kind = TYPES[value_type]
    return kind.numeric or (aggregation in _ORDERED and kind.compared == "amounts")


def aggregate(ranges: Ranges, aggregation: str, value_type: str) -> Aggregate:
    """Aggregate each group of `ranges`. Raises KeyError for a name that is not in AGGREGATIONS."""
    groups = _without_nulls(ranges)
    counts = groups.counts
    filled = np.flatnonzero(counts)
    dense = Groups(np.append(groups.offsets[filled], groups.offsets[-1]), groups.values)
    results, result_type = _KERNELS[aggregation](dense, value_type)
    values = blank(dtype_of(result_type), (len(counts), *results.shape[1:])).astype(results.dtype)
    values[filled] = results
    nulls = counts == 0 if aggregation not in ("count", "sum") else np.zeros(len(counts), np.bool_)
    return Aggregate(values, nulls, result_type)


def of_no_rows(feature: Feature, aggregation: str) -> Aggregate:
    """The aggregate of no groups, which still has a type."""
    none = np.zeros(0, np.int64)
    ranges = Ranges(np.zeros(1, np.int64), none, empty(feature, 0), none.astype(np.bool_))
    return aggregate(ranges, aggregation, feature.value_type)


def together(answers: Sequence[Aggregate]) -> Aggregate:
    """Concatenate aggregates."""
    values = np.concatenate([answer.values for answer in answers])
    return Aggregate(values, np.concatenate([answer.nulls for answer in answers]), answers[0].value_type)


def _without_nulls(ranges: Ranges) -> Groups:
    if not ranges.nulls.any():
        return Groups(ranges.offsets, ranges.values)
    kept = np.concatenate([[0], np.cumsum(~ranges.nulls)])
    return Groups(kept[ranges.offsets], ranges.values[~ranges.nulls])


# Each kernel takes groups, none of them empty, and returns one value per group and the value type of the result.

_Result = tuple[Array, str]


def _latest(groups: Groups, value_type: str) -> _Result:
    return groups.values[groups.offsets[1:] - 1], value_type


def _first(groups: Groups, value_type: str) -> _Result:
    return groups.values[groups.offsets[:-1]], value_type


def _count(groups: Groups, _: str) -> _Result:
    return groups.counts, "integer"


def _reduce(ufunc: np.ufunc, groups: Groups) -> Array:
    """`ufunc.reduceat`, which itself does not accept an empty list of groups."""
    if len(groups.offsets) == 1:
        return groups.values[:0]
    reduced: Array = ufunc.reduceat(groups.values, groups.offsets[:-1])
    return reduced


def _min(groups: Groups, value_type: str) -> _Result:
    return _reduce(np.minimum, groups), value_type


def _max(groups: Groups, value_type: str) -> _Result:
    return _reduce(np.maximum, groups), value_type


def _sum(groups: Groups, value_type: str) -> _Result:
    values = groups.values
    if value_type == "integer" and len(values):
        largest = max(abs(int(values.min())), abs(int(values.max())))
        if largest * int(groups.counts.max()) >= 2**63:
            # Exact beyond 64 bits: Python integers, as JSON can carry them.
            return _reduce(np.add, groups._replace(values=values.astype(object))), "integer"
    return _reduce(np.add, groups), value_type


def _floats(groups: Groups) -> Groups:
    return groups._replace(values=groups.values.astype(np.float64, copy=False))


def _avg(groups: Groups, _: str) -> _Result:
    # The mean is computed relative to the first value, so that a large offset costs no precision.
    floats = _floats(groups)
    base = floats.values[floats.offsets[:-1]]
    with np.errstate(over="ignore", invalid="ignore"):
        rest = floats._replace(values=floats.values - floats.each(base))
        mean = base + _reduce(np.add, rest) / floats.counts
    if np.isfinite(mean).all():
        return mean, "number"
    # If differences overflow: the sum of each value divided by the count.
    shares = floats._replace(values=floats.values / floats.each(floats.counts))
    return np.where(np.isfinite(mean), mean, _reduce(np.add, shares)), "number"


def _std(groups: Groups, _: str) -> _Result:
    # Distances are measured in units of the largest one, so that their squares neither overflow nor vanish.
    floats = _floats(groups)
    mean, _type = _avg(groups, "number")
    with np.errstate(over="ignore"):
        distances = np.abs(floats.values - floats.each(mean))
    unit = _reduce(np.maximum, floats._replace(values=distances))
    unit = np.where(unit > 0, unit, 1.0)
    squares = floats._replace(values=(distances / floats.each(unit)) ** 2)
    return unit * np.sqrt(_reduce(np.add, squares) / floats.counts), "number"


def _quantile(share: float) -> Callable[[Groups, str], _Result]:
    def kernel(groups: Groups, _: str) -> _Result:
        ordered = _sorted_within(_floats(groups))
        rank = (groups.counts - 1) * share
        below = np.floor(rank).astype(np.int64)
        low = ordered[groups.offsets[:-1] + below]
        high = ordered[groups.offsets[:-1] + np.minimum(below + 1, groups.counts - 1)]
        share_above = rank - below
        with np.errstate(over="ignore", invalid="ignore"):
            between = low + (high - low) * share_above
        return np.where(np.isfinite(between), between, low * (1 - share_above) + high * share_above), "number"

    return kernel


def _sorted_within(groups: Groups) -> Array:
    if len(groups.values) < WORTH_SORTING_ALONE * len(groups.counts):
        owners = np.repeat(np.arange(len(groups.counts)), groups.counts)
        return groups.values[np.lexsort((groups.values, owners))]
    ordered = groups.values.copy()
    for begin, end in pairwise(groups.offsets.tolist()):
        ordered[begin:end].sort()
    return ordered


def _distinct(groups: Groups, _: str) -> _Result:
    if groups.values.dtype == object or groups.values.ndim > 1:
        groups = groups._replace(values=numbered(np.arange(len(groups.values)), groups.values.__getitem__))
    ordered = _sorted_within(groups)
    fresh = np.ones(len(ordered), np.int64)
    fresh[1:] = ordered[1:] != ordered[:-1]
    fresh[groups.offsets[:-1]] = 1
    return _reduce(np.add, groups._replace(values=fresh)), "integer"


_KERNELS: dict[str, Callable[[Groups, str], _Result]] = {
    "latest": _latest,
    "first": _first,
    "count": _count,
    "sum": _sum,
    "avg": _avg,
    "std": _std,
    "min": _min,
    "max": _max,
    "distinct": _distinct,
    **{name: _quantile(share) for name, share in _QUANTILES.items()},
}
