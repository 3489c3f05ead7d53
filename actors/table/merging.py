"""Merging and filtering large runs in steps, so that no query waits for millions of rows to be processed.

Runs are never changed; they are used until the result replaces them. The order of a merge is computed by the first
series that has these indices; the others only put their values into that order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from actors.table.index import Index, Order, Piece, joint
from actors.table.rows import Rows, last_of_each, order, order_of, picked
from actors.turns import Steps, slices
from actors.types.type import Array, Nulls, known_without_nulls, no_nulls

ROWS_A_STEP = 8_192
"""The rows processed in one step: less than a millisecond of work."""
MASKS_REMEMBERED = 4
"""How many masks an index keeps: features with the same index may have different retentions."""


class _Stepwise(Order):
    """An order that is computed piece by piece, by the series that first needs the next piece."""

    def __init__(self, parts: Sequence[Index]) -> None:
        """`parts`: each sorted."""
        super().__init__(parts[:-1])
        self._begins = [0] * len(parts)
        self._made = _room_for(sum(part.size for part in parts))
        self._count = 0

    def go_on(self, parts: Sequence[Index]) -> None:
        """Compute the next piece, or after the last one the index."""
        cuts = _next_cuts(parts, self._begins)
        if cuts is None:
            self.index = self._made.take(slice(self._count))
            return
        joined = joint([part.take(cut) for part, cut in zip(parts, cuts, strict=True)])
        where = order(joined.slots, joined.times)
        last = last_of_each(joined.slots[where], joined.times[where])
        where = where[last]
        _put(self._made, self._count, joined.take(where))
        self.pieces.append(Piece(cuts, where.astype(np.min_scalar_type(max(joined.size - 1, 0)))))
        self._begins = [cut.stop for cut in cuts]
        self._count += len(where)


def merging(parts: Sequence[Rows]) -> Steps[Rows]:
    """Do what `merge` does with sorted parts, in steps."""
    indices = [part.index for part in parts]
    found = order_of(parts)
    if found is None:
        found = indices[-1].merged = _Stepwise(indices)
    made = _Columns(parts, sum(part.size for part in parts))
    number = 0
    while True:
        if number < len(found.pieces):
            made.put(*picked(parts, found.pieces[number]))
            number += 1
            yield
        elif found.index is not None:
            return made.rows(found.index)
        else:
            assert isinstance(found, _Stepwise)  # any other Order is complete
            found.go_on(indices)


def taking(rows: Rows, kept: Nulls) -> Steps[Rows]:
    """The rows selected by a mask, in steps. Series that use the same mask share an index afterwards too."""
    size, before = int(np.count_nonzero(kept)), rows.index
    made, filled = _Columns([rows], size), 0
    known = next((index for mask, index in before.kept if np.array_equal(mask, kept)), None)
    index = known or _room_for(size)
    for cut in cuts(rows.size):
        mask = kept[cut]
        if known is None:
            filled = _put(index, filled, before.take(cut).take(mask))
        made.put(rows.values[cut][mask], rows.nulls[cut][mask])
        yield
    if known is None:
        before.kept = [*before.kept[-MASKS_REMEMBERED + 1 :], (kept, index)]
    return made.rows(index)


def cuts(size: int) -> Iterator[slice]:
    """Split `size` rows into slices for one step each."""
    return slices(size, ROWS_A_STEP)


class _Columns:
    """Values and nulls that are filled step by step. Large arrays take memory only as they are filled."""

    def __init__(self, parts: Sequence[Rows], size: int) -> None:
        like = parts[0].values
        self.known_without_nulls = all(known_without_nulls(part.nulls) for part in parts)
        self._values: Array = np.empty((size, *like.shape[1:]), like.dtype)
        self._nulls = no_nulls(size) if self.known_without_nulls else np.empty(size, np.bool_)
        self._count = 0

    def put(self, values: Array, nulls: Nulls) -> None:
        """Append values and nulls; `nulls` are ignored if no part has any."""
        end = self._count + len(values)
        self._values[self._count : end] = values
        if not self.known_without_nulls:
            self._nulls[self._count : end] = nulls
        self._count = end

    def rows(self, index: Index) -> Rows:
        """The rows filled so far."""
        return Rows(index, self._values[: self._count], self._nulls[: self._count])


def _room_for(size: int) -> Index:
    return Index(np.empty(size, np.int32), np.empty(size, np.int64), np.empty(size, np.int64))


def _put(into: Index, at: int, some: Index) -> int:
    end = at + some.size
    into.slots[at:end], into.times[at:end], into.arrived[at:end] = some.slots, some.times, some.arrived
    return end


def _next_cuts(parts: Sequence[Index], begins: Sequence[int]) -> list[slice] | None:
    """The next slice of each part, ending at the same (slot, time), so that equal keys meet; None at the end."""
    left = [place for place, part in enumerate(parts) if begins[place] < part.size]
    if not left:
        return None
    each = max(1, ROWS_A_STEP // len(left))
    bounds = [_key(parts[place], begins[place] + each - 1) for place in left]
    last = min((bound for bound in bounds if bound is not None), default=None)
    found = []
    for part, begin in zip(parts, begins, strict=True):
        piece = part.take(slice(begin, begin + each))
        end = begin + (piece.size if last is None else _until(piece, *last))
        found.append(slice(begin, end))
    return found


def _key(index: Index, position: int) -> tuple[int, int] | None:
    """Slot and time of a row; None beyond the end."""
    return (int(index.slots[position]), int(index.times[position])) if position < index.size else None


def _until(index: Index, slot: int, time: int) -> int:
    """The number of rows up to a slot and time, inclusive."""
    low, high = np.searchsorted(index.slots, np.array([slot, slot + 1], np.int32)).tolist()
    return int(low) + int(np.searchsorted(index.times[low:high], time, "right"))
