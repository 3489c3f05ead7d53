"""Pure functions over sorted rows.

Rows are parallel arrays. Sorted rows are ordered by (slot, time), and each such key occurs once: of several
observations of an entity at the same time the last arrival is kept. Functions that take several parts expect them
in order of arrival.

Sorting uses one int64 key per row, slot * span + time, whenever that fits, because numpy's stable sort is a
timsort: merging two sorted runs then costs about 8 ns a row, a twentieth of a two-key lexsort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import is_
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.table.columns import Indices, Times
from actors.table.index import Index, Order, Piece, Slots, joint
from actors.types.type import Array, Nulls, known_without_nulls, no_nulls


@dataclass(slots=True, eq=False)
class Rows:
    """Rows of one series, immutable. values: [n] or [n, dimension]; nulls: bool[n], `no_nulls` for none."""

    index: Index
    values: Array
    nulls: Nulls

    @property
    def slots(self) -> Slots:
        return self.index.slots

    @property
    def times(self) -> Times:
        return self.index.times

    @property
    def arrived(self) -> Times:
        return self.index.arrived

    @property
    def size(self) -> int:
        return len(self.index.slots)

    def take(self, positions: Indices | Nulls | slice) -> Rows:
        """The rows at these positions, or by a mask or slice."""
        index = self.index.take(positions)
        nulls = no_nulls(index.size) if known_without_nulls(self.nulls) else self.nulls[positions]
        return Rows(index, self.values[positions], nulls)

    def part(self, start: int, end: int) -> Rows:
        """The rows start:end."""
        return Rows(self.index.part(start, end), self.values[start:end], self.nulls[start:end])

    def at(self, slots: Slots) -> Rows:
        """The same rows with other slots."""
        return Rows(Index(slots, self.times, self.arrived), self.values, self.nulls)


def order_of(parts: Sequence[Rows]) -> Order | None:
    """The order in which parts with these indices are merged, if it has been computed."""
    found = parts[-1].index.merged
    if found is None or len(found.others) != len(parts) - 1:
        return None
    return found if all(map(is_, found.others, [part.index for part in parts[:-1]])) else None


class Ranges(NamedTuple):
    """The rows of several ranges, concatenated: those of range i are offsets[i]:offsets[i+1]."""

    offsets: Indices
    times: Times
    values: Array
    nulls: Nulls


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Concatenate parts."""
    if len(parts) == 1:
        return parts[0]
    return Rows(joint([part.index for part in parts]), *_columns(parts))


def _columns(parts: Sequence[Rows]) -> tuple[Array, Nulls]:
    values = np.concatenate([part.values for part in parts])
    if all(known_without_nulls(part.nulls) for part in parts):
        return values, no_nulls(len(values))
    return values, np.concatenate([part.nulls for part in parts])


def order(major: NDArray[np.integer], times: Times) -> Indices:
    """The positions that stably sort by (major, time): int64[n]. `major` must not be negative."""
    if len(times) < 2:
        return np.arange(len(times))
    low = int(times.min())
    span = int(times.max()) - low + 1
    if (int(major.max()) + 1) * span < 2**63:
        return np.argsort(major.astype(np.int64) * span + (times - low), kind="stable")
    return np.lexsort((times, major))


def grouped(codes: NDArray[np.integer]) -> Indices:
    """The positions that stably sort non-negative integers: int64[n].

    Sorts 16 bits at a time, for which numpy uses radix sort: several times faster than comparing wider integers.
    """
    ordered = np.argsort(codes.astype(np.uint16), kind="stable")
    for shift in range(16, int(codes.max(initial=0)).bit_length(), 16):
        digits = (codes >> shift).astype(np.uint16)
        ordered = ordered[np.argsort(digits[ordered], kind="stable")]
    return ordered


def first_of_each(slots: Slots) -> Indices:
    """Where each slot's rows begin in sorted rows: int64[m]."""
    return np.flatnonzero(np.append(True, slots[1:] != slots[:-1])) if len(slots) else np.zeros(0, np.int64)


def last_of_each(major: NDArray[np.integer], times: Times) -> Nulls:
    """Which rows of sorted columns are the last with their (major, time): bool[n]."""
    last = np.ones(len(times), np.bool_)
    last[:-1] = (major[1:] != major[:-1]) | (times[1:] != times[:-1])
    return last


def merge(parts: Sequence[Rows]) -> Rows:
    """Merge parts, given in order of arrival and sorted or not, into sorted rows."""
    found = order_of(parts)
    if found is None or found.index is None:
        found = parts[-1].index.merged = _ordered([part.index for part in parts])
    assert found.index is not None
    made = [picked(parts, piece) for piece in found.pieces]
    if len(made) == 1:
        return Rows(found.index, *made[0])
    nulls = [mask for _, mask in made]
    whole = no_nulls(found.index.size) if all(map(known_without_nulls, nulls)) else np.concatenate(nulls)
    return Rows(found.index, np.concatenate([values for values, _ in made]), whole)


def _ordered(parts: Sequence[Index]) -> Order:
    """Compute the order of a merge in one piece."""
    whole = parts[0] if len(parts) == 1 else joint(parts)
    where = order(whole.slots, whole.times)
    slots, times = whole.slots[where], whole.times[where]
    last = last_of_each(slots, times)
    if not last.all():
        where, slots, times = where[last], slots[last], times[last]
    made = Order(parts[:-1])
    made.pieces.append(Piece([slice(None)] * len(parts), where))
    made.index = Index(slots, times, whole.arrived[where])
    return made


def picked(parts: Sequence[Rows], piece: Piece) -> tuple[Array, Nulls]:
    """The values and nulls of one piece of a merge."""
    values = [part.values[cut] for part, cut in zip(parts, piece.cuts, strict=True)]
    found = (values[0] if len(values) == 1 else np.concatenate(values)).take(piece.picked, 0)
    if all(known_without_nulls(part.nulls) for part in parts):
        return found, no_nulls(len(found))
    nulls = np.concatenate([part.nulls[cut] for part, cut in zip(parts, piece.cuts, strict=True)])
    return found, nulls.take(piece.picked)


def spans(rows: Rows, slots: Indices) -> tuple[Indices, Indices]:
    """Where each slot's rows begin and end in sorted rows: two int64[q]."""
    slots = slots.astype(np.int32)  # otherwise searchsorted would convert the whole column to int64
    return np.searchsorted(rows.slots, slots, "left"), np.searchsorted(rows.slots, slots, "right")


def bisect_right(times: Times, low: Indices, high: Indices, at: int | Times) -> Indices:
    """For each range the first position in [low, high) whose time is after `at`, or high for none: int64[q].

    `at`: one moment, or one per range. All ranges are searched together, in shrinking powers of two and without
    branches (Shar's search: Knuth, The Art of Computer Programming, 6.2.1): log2(longest) steps of vector
    arithmetic, of which only the access to `times` is random.
    """
    if len(times) == 0 or len(low) == 0:
        return high
    base = low
    step = 1 << int((high - low).max()).bit_length()
    while step := step >> 1:
        look = base + (step - 1)
        # Positions beyond the range are ignored; beyond the column they are clipped to its end.
        earlier = (times.take(look, mode="clip") <= at) & (look < high)
        base = base + earlier * step
    return base


def last_until(rows: Rows, slots: Indices, at: int) -> Indices:
    """For each slot the position of its last row with time <= `at`, or -1: int64[q]."""
    return last_within(rows, *spans(rows, slots), at)


def last_within(rows: Rows, begin: Indices, end: Indices, at: int | Times) -> Indices:
    """The position of the last row with time <= at in each range begin[i]:end[i] of a slot, or -1: int64[q]."""
    position = bisect_right(rows.times, begin, end, at) - 1
    return np.where(position >= begin, position, -1)


def offsets_of(rows: Rows, slots: int) -> Indices:
    """Where the rows of each slot below `slots` begin in sorted rows, and where the last end: int64[slots + 1]."""
    return rows.index.offsets(slots)[: slots + 1]


def between(rows: Rows, slots: Indices, start: int | Times, end: int | Times) -> tuple[Indices, Indices]:
    """Where each slot's rows with start <= time <= end begin and end: two int64[q]."""
    low, high = spans(rows, slots)
    begin = bisect_right(rows.times, low, high, start - 1)
    return begin, np.maximum(begin, bisect_right(rows.times, low, high, end))


def extract(
    parts: Sequence[Rows], slots: Indices, start: int | Times, end: int | Times, most: int | None = None
) -> Ranges:
    """The rows of each slot with start <= time <= end from several sorted parts; for equal keys, later parts win.

    `most`: how many rows of each slot are needed: the first ones, or if negative the last ones. More may be
    returned.
    """
    return joined(parts, [_limited(*between(part, slots, start, end), most) for part in parts])


def joined(parts: Sequence[Rows], bounds: Sequence[tuple[Indices, Indices]], places: bool = False) -> Ranges:
    """Join the rows of ranges of several sorted parts; for equal keys, later parts win.

    `bounds`: for each part the begin and end of each range. `places`: return instead of values their positions in
    the concatenation of all parts.
    """
    firsts = [*accumulate((part.size for part in parts[:-1]), initial=0)] if places else [None] * len(parts)
    pieces = [_slices(*one) for one in zip(parts, bounds, firsts, strict=True)]
    pieces = [piece for piece in pieces if len(piece.times)] or pieces[:1]
    if len(pieces) == 1:
        return pieces[0]
    owners = np.concatenate([_owners(piece.offsets) for piece in pieces])
    times, values, nulls = (np.concatenate(columns) for columns in list(zip(*pieces, strict=True))[1:])
    ordered = order(owners, times)
    ordered = ordered[last_of_each(owners[ordered], times[ordered])]
    offsets = np.searchsorted(owners[ordered], np.arange(len(bounds[0][0]) + 1))
    return Ranges(offsets, times[ordered], values[ordered], nulls[ordered])


def _limited(begin: Indices, end: Indices, most: int | None) -> tuple[Indices, Indices]:
    """Limit each range of one part to `most` rows: the first `most` of all parts are among the first of each."""
    if most is None:
        return begin, end
    return (begin, np.minimum(end, begin + most)) if most >= 0 else (np.maximum(begin, end + most), end)


def _owners(offsets: Indices) -> Indices:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _slices(rows: Rows, bounds: tuple[Indices, Indices], first: int | None) -> Ranges:
    """The rows of ranges of one part. `first`: if positions replace values, that of the part's first row."""
    begin, end = bounds
    offsets = np.zeros(len(begin) + 1, np.int64)
    np.cumsum(end - begin, out=offsets[1:])
    total = int(offsets[-1])
    columns: list[Array] = [rows.times, rows.nulls] if first is not None else [rows.times, rows.nulls, rows.values]
    # Long slices are copied one by one, short ones gathered by index: memcpy is faster from about 32 rows on.
    if total > 32 * len(begin):
        cuts = [slice(*cut) for cut in zip(begin.tolist(), end.tolist(), strict=True)]
        found = [_cut(column, cuts) for column in columns]
        if first is not None:
            found.append(np.concatenate([np.arange(first + cut.start, first + cut.stop) for cut in cuts]))
    else:
        index = np.repeat(begin - offsets[:-1], end - begin) + np.arange(total)
        found = [column[index] for column in columns]
        if first is not None:
            found.append(index + first)
    times, nulls, values = found
    return Ranges(offsets, times, values, nulls)


def _cut(column: Array, cuts: Sequence[slice]) -> Array:
    """Concatenate slices of a column; a single one is returned as a view."""
    return column[cuts[0]] if len(cuts) == 1 else np.concatenate([column[cut] for cut in cuts])


def rank_from_newest(slots: Slots) -> Indices:
    """In sorted rows: 0 for the newest row of a slot, 1 for the one before: int64[n]."""
    ends = np.flatnonzero(np.append(slots[1:] != slots[:-1], True)) if len(slots) else np.zeros(0, np.int64)
    lengths = np.diff(ends, prepend=-1)
    return np.repeat(ends, lengths) - np.arange(len(slots))
