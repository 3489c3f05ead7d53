"""Aggregates over ranges of a history, taken out of sorted rows that nothing changes: a worker thread may do it.

One entity may have millions of rows. Few are answered at once.
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
"""How many numbers a text or vector counts for where its content is looked at."""


class Aggregating(Protocol):
    """What is to be made of each range."""

    @property
    def feature(self) -> Feature: ...

    @property
    def aggregation(self) -> str: ...


class Bounds(NamedTuple):
    """A slot and a closed range of event time each."""

    slots: Indices
    start: Times
    end: Times


class Ranged(NamedTuple):
    """An aggregate for each of some ranges. `parts`: sorted rows, later parts winning."""

    parts: Sequence[Rows]
    bounds: Bounds
    asked: Aggregating

    @property
    def few(self) -> bool:
        """Whether there are so few rows that nobody need wait for the answer."""
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
        """The answer, a bounded number of rows at a time but for a range that alone has more."""
        answers = []
        for first in range(0, max(1, len(self.bounds.slots)), _LOOKED_UP_AT_ONCE):
            some = [column[first : first + _LOOKED_UP_AT_ONCE] for column in self.bounds]
            found = [between(part, *some) for part in self.parts]
            for cut in by_rows(np.sum([end - begin for begin, end in found], axis=0)):
                yield
                answers.append(self._answer([(begin[cut], end[cut]) for begin, end in found]))
        return together(answers)

    def _answer(self, found: Sequence[tuple[Indices, Indices]]) -> Aggregate:
        value_type, aggregation = self.asked.feature.value_type, self.asked.aggregation
        if self._plain:
            return aggregate(joined(self.parts, found), aggregation, value_type)
        # Texts and vectors stay where they are: copying millions of references would hold the interpreter.
        ranges = joined(self.parts, found, places=True)
        if aggregation == "distinct":
            ranges = ranges._replace(values=numbered(ranges.values, self._values))
        answer = aggregate(ranges, aggregation, "integer")
        if aggregation in ("distinct", "count"):
            return answer
        values, some = self._blank(len(answer.values)), np.flatnonzero(~answer.nulls)
        values[some] = self._values(answer.values[some])
        return Aggregate(values, answer.nulls, value_type)

    def _values(self, places: Indices) -> Array:
        """The values at places in all parts one after the other."""
        if len(self.parts) == 1:
            return self.parts[0].values[places]
        firsts = np.cumsum([0, *(part.size for part in self.parts)])
        owner, values = np.searchsorted(firsts, places, "right") - 1, self._blank(len(places))
        for number in np.unique(owner).tolist():
            own = owner == number
            values[own] = self.parts[number].values[places[own] - firsts[number]]
        return values

    def _blank(self, count: int) -> Array:
        values = self.parts[0].values
        return blank(values.dtype, (count, *values.shape[1:]))


def by_rows(counts: Indices) -> Iterator[slice]:
    """Slices of ranges that have so many rows each, of a bounded number of rows but of at least one range."""
    ends, start = np.cumsum(counts), 0
    while start < max(1, len(counts)):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + AGGREGATED_ROWS_AT_ONCE, "right")))
        yield slice(start, stop)
        start = stop


def in_windows(slots: Indices, start: int, end: int, width: int, windows: int) -> Bounds:
    """Each slot's range in windows [a, a + width) from `start`; the last one ends where the range does."""
    if windows == 1:
        return Bounds(slots, np.full(len(slots), start), np.full(len(slots), end))
    starts = start + np.arange(windows) * width
    ends = np.append(starts[1:] - 1, end)
    return Bounds(np.repeat(slots, windows), np.tile(starts, len(slots)), np.tile(ends, len(slots)))
