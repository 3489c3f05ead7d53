"""Large runs, a step at a time: nobody waits for millions of rows to be merged or looked through.

Runs are never changed. Those that something is being made of answer until it takes their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from actors.table.rows import Rows, merge
from actors.turns import Steps
from actors.types.values import Nulls

ROWS_A_STEP = 8_192
"""Less than a millisecond of work."""


def merging(parts: Sequence[Rows]) -> Steps[Rows]:
    """What `merge` makes of sorted parts, in steps."""
    made, count = _room_for(parts[0], sum(part.size for part in parts)), 0
    for pieces in _slices(parts):
        count = _put(made, count, merge(pieces))
        yield
    return made.take(slice(count))


def taking(rows: Rows, kept: Nulls) -> Steps[Rows]:
    """Some of the rows by a mask, in steps."""
    made, count = _room_for(rows, int(np.count_nonzero(kept))), 0
    for cut in cuts(rows.size):
        count = _put(made, count, rows.take(cut).take(kept[cut]))
        yield
    return made


def cuts(size: int) -> Iterator[slice]:
    """Of so many rows those of each step."""
    return (slice(start, min(start + ROWS_A_STEP, size)) for start in range(0, size, ROWS_A_STEP))


def _room_for(like: Rows, count: int) -> Rows:
    """So many rows. Of large ones the system gives the memory as they are filled in."""
    return Rows(*(np.empty((count, *column.shape[1:]), column.dtype) for column in like))


def _put(into: Rows, at: int, rows: Rows) -> int:
    end = at + rows.size
    columns: tuple[np.ndarray, ...] = into
    for column, some in zip(columns, rows, strict=True):
        column[at:end] = some
    return end


def _slices(parts: Sequence[Rows]) -> Iterator[list[Rows]]:
    """What the parts have up to one (slot, time) after another, so that equal ones come together."""
    begins = [0] * len(parts)
    while left := [place for place, part in enumerate(parts) if begins[place] < part.size]:
        each, pieces = max(1, ROWS_A_STEP // len(left)), list[Rows]()
        bounds = [_key(parts[place], begins[place] + each - 1) for place in left]
        last = min((bound for bound in bounds if bound is not None), default=None)
        for place in left:
            begin, part = begins[place], parts[place]
            piece = part.take(slice(begin, begin + each))
            if last is not None:
                piece = piece.take(slice(_until(piece, *last)))
            begins[place] = begin + piece.size
            pieces.append(piece)
        yield pieces


def _key(rows: Rows, position: int) -> tuple[int, int] | None:
    """Slot and time of a row, None where there is none."""
    return (int(rows.slots[position]), int(rows.times[position])) if position < rows.size else None


def _until(rows: Rows, slot: int, time: int) -> int:
    """How many rows there are up to a slot and time."""
    low, high = np.searchsorted(rows.slots, np.array([slot, slot + 1], np.int32)).tolist()
    return int(low) + int(np.searchsorted(rows.times[low:high], time, "right"))
