"""Aggregates over ranges of event time. They read immutable sorted rows only, so a worker thread can compute them.

An entity may have millions of rows. Aggregates over few rows are computed at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from actors.domain import Feature
from actors.settings import AGGREGATED_ROWS_AT_ONCE, AGGREGATED_ROWS_PER_TURN, ROWS_PER_TURN
from actors.table.aggregates import Aggregate, aggregate, together
from actors.table.columns import Indices, Times
from actors.table.equality import numbered
from actors.table.rows import Rows, between, joined, spans
from actors.turns import Steps
from actors.types.type import Array, blank

_LOOKED_UP_AT_ONCE = 8_192
_LONG_VALUE = 64
"""How many numbers a text or vector counts for if its content has to be read."""


class Aggregating(Protocol):
    """What to compute for each range."""

    @property
    def feature(self) -> Feature: ...

    @property
    def aggregation(self) -> str: ...


class Bounds(NamedTuple):
    """Ranges: a slot and closed bounds of event time each."""

    slots: Indices
    start: Times
    end: Times


class Ranged(NamedTuple):
    """A query for an aggregate of each range. `parts`: sorted rows; for equal keys, later parts win."""

    parts: Sequence[Rows]
    bounds: Bounds
    asked: Aggregating

    @property
    def few(self) -> bool:
        """Whether there are so few rows that the aggregates can be computed on the event loop."""
        slots = self.bounds.slots
        if len(slots) * len(self.parts) > ROWS_PER_TURN:
            return False
        rows = sum(int((end - begin).sum()) for begin, end in (spans(part, slots) for part in self.parts))
        long = self.asked.aggregation == "distinct" and not self._plain
        return rows * (_LONG_VALUE if long else 1) <= AGGREGATED_ROWS_PER_TURN

    @property
    def _plain(self) -> bool:
        values = self.parts[0].values
        return values.ndim == 1 and values.dtype != object

    def answering(self) -> Steps[Aggregate]:
        """Compute the aggregates, in steps of a bounded number of rows unless a single range has more."""
        answers = []
        for first in range(0, max(1, len(self.bounds.slots)), _LOOKED_UP_AT_ONCE):
            bounds = [column[first : first + _LOOKED_UP_AT_ONCE] for column in self.bounds]
            found = [between(part, *bounds) for part in self.parts]
            for cut in by_rows(np.sum([end - begin for begin, end in found], axis=0)):
                yield
                answers.append(self._answer([(begin[cut], end[cut]) for begin, end in found]))
        return together(answers)

    def _answer(self, found: Sequence[tuple[Indices, Indices]]) -> Aggregate:
        value_type, aggregation = self.asked.feature.value_type, self.asked.aggregation
        if self._plain:
            return aggregate(joined(self.parts, found), aggregation, value_type)
        # Texts and vectors are referred to by position: copying millions of references would hold the GIL.
        ranges = joined(self.parts, found, places=True)
        if aggregation == "distinct":
            ranges = ranges._replace(values=numbered(ranges.values, self._values))
        answer = aggregate(ranges, aggregation, "integer")
        if aggregation in ("distinct", "count"):
            return answer
        values, filled = self._blank(len(answer.values)), np.flatnonzero(~answer.nulls)
        values[filled] = self._values(answer.values[filled])
        return Aggregate(values, answer.nulls, value_type)

    def _values(self, places: Indices) -> Array:
        """The values at these positions in the concatenation of all parts."""
        if len(self.parts) == 1:
            return self.parts[0].values[places]
        firsts = np.cumsum([0, *(part.size for part in self.parts)])
        owner, values = np.searchsorted(firsts, places, "right") - 1, self._blank(len(places))
        for number in np.unique(owner).tolist():
            inside = owner == number
            values[inside] = self.parts[number].values[places[inside] - firsts[number]]
        return values

    def _blank(self, count: int) -> Array:
        values = self.parts[0].values
        return blank(values.dtype, (count, *values.shape[1:]))


def by_rows(counts: Indices) -> Iterator[slice]:
    """Split ranges with these numbers of rows into slices of a bounded number of rows, but at least one range."""
    ends, start = np.cumsum(counts), 0
    while start < max(1, len(counts)):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + AGGREGATED_ROWS_AT_ONCE, "right")))
        yield slice(start, stop)
        start = stop


def in_windows(slots: Indices, start: int, end: int, width: int, windows: int) -> Bounds:
    """The tumbling windows [a, a + width) of each slot, from `start`; the last window ends at `end`."""
    if windows == 1:
        return Bounds(slots, np.full(len(slots), start), np.full(len(slots), end))
    starts = start + np.arange(windows) * width
    ends = np.append(starts[1:] - 1, end)
    return Bounds(np.repeat(slots, windows), np.tile(starts, len(slots)), np.tile(ends, len(slots)))
