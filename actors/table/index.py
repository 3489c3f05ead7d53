"""Index: the slots, event times and arrivals of rows, which series that are written together share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.table.columns import Indices, Times
from actors.turns import Steps, at_once
from actors.types.type import Array, Nulls

Slots = NDArray[np.int32]
SLOTS_A_STEP = 8_192
"""Slots whose rows are looked for in one step: less than a millisecond."""


class Index:
    """The slots (int32[n]), event times and arrivals (int64[n], microseconds) of rows.

    All series that were written together share one object, by which they are recognised; its arrays are never
    changed. What is derived from it for one series is kept for the others, for as long as one of them has it.
    """

    __slots__ = (
        *("slots", "times", "arrived"),
        *("merged", "kept", "growing", "_parts"),
        *("_newest", "_once", "_asked", "_places", "_offsets"),
    )

    def __init__(self, slots: Slots, times: Times, arrived: Times, places: Indices | None = None) -> None:
        """`places`: the slots as int64, if the caller has them."""
        self.slots = slots
        self.times = times
        self.arrived = arrived
        self.merged: Order | None = None
        """The last merge of parts in which this was the latest part."""
        self.kept: Sequence[tuple[Nulls, Index]] = ()
        """A few masks by which rows were removed, each with the index of the remaining rows."""
        self.growing: dict[Growing, int] = {}
        """Its position in the growing indices that it was appended to."""
        self._parts: dict[tuple[int, int], Index] = {}
        self._newest: int | None = None
        self._once: bool | np.bool_ | None = None
        self._asked = False
        self._places = places
        self._offsets: Indices | None = None

    @property
    def size(self) -> int:
        return len(self.slots)

    @property
    def newest(self) -> int:
        """The greatest event time. There must be a row."""
        if self._newest is None:
            self._newest = int(self.times.max() if self.size > 1 else self.times[0])
        return self._newest

    @property
    def once(self) -> bool:
        """Whether no slot occurs twice, or False if unknown: checking is only worthwhile on the second call."""
        if self.size == 1:
            return True
        if self._once is None and self._asked:
            ordered = np.sort(self.slots)
            self._once = not (ordered[1:] == ordered[:-1]).any()
        self._asked = True
        return bool(self._once)

    @property
    def places(self) -> Indices:
        """The slots as int64[n], as numpy needs them for indexing."""
        if self._places is None:
            self._places = self.slots.astype(np.int64)
        return self._places

    def offsets(self, slots: int) -> Indices:
        """Where each slot's rows begin in sorted rows, for at least `slots` slots, and where the last ones end."""
        if self._offsets is None or len(self._offsets) <= slots:
            at_once(self.making_offsets(slots))
        assert self._offsets is not None
        return self._offsets

    def has_offsets(self, slots: int) -> bool:
        """Whether `offsets` has been computed for so many slots."""
        return self._offsets is not None and len(self._offsets) > slots

    def making_offsets(self, slots: int) -> Steps[None]:
        """Compute `offsets`, in steps."""
        made = np.empty(slots + 1, np.int64)
        for start in range(0, len(made), SLOTS_A_STEP):
            if start:
                yield
            part = np.arange(start, min(start + SLOTS_A_STEP, len(made)), dtype=np.int32)
            made[start : start + len(part)] = np.searchsorted(self.slots, part)
        self._offsets = made

    def part(self, start: int, end: int) -> Index:
        """The rows start:end; the same object for equal arguments."""
        if (start, end) not in self._parts:
            self._parts[start, end] = self.take(slice(start, end))
        return self._parts[start, end]

    def take(self, positions: Indices | Nulls | slice) -> Index:
        """The rows at these positions, or by a mask or slice."""
        return Index(self.slots[positions], self.times[positions], self.arrived[positions])

    def share(self, other: Index) -> None:
        """Use the arrays of an index that is equal except for arrivals."""
        self.slots, self.times = other.slots, other.times


class Growing:
    """A growing index, shared by the tails of series that are written together: each part is appended once."""

    def __init__(self, turn: int) -> None:
        """`turn`: a number that spreads out when the tails of different groups of series are sorted."""
        self.turn = turn
        self.count = 0
        none = np.zeros(0, np.int64)
        self._whole = Index(none.astype(np.int32), none, none)
        self._cuts: dict[tuple[int, int], Index] = {}

    def append(self, index: Index) -> None:
        """Append a part, and note the position in it."""
        start, end, whole = self.count, self.count + index.size, self._whole
        if end > whole.size:
            room = room_for(whole.size, end)
            grown = (longer(column, start, room) for column in (whole.slots, whole.times, whole.arrived))
            whole = self._whole = Index(*grown)
        whole.slots[start:end], whole.times[start:end] = index.slots, index.times
        whole.arrived[start:end] = index.arrived
        index.growing[self] = start
        self.count = end
        self._cuts.clear()

    def cut(self, start: int, end: int) -> Index:
        """The rows start:end; the same object for equal arguments, until the next append."""
        found = self._cuts.get((start, end))
        if found is None:
            found = self._cuts[start, end] = self._whole.take(slice(start, end))
        return found


class Piece(NamedTuple):
    """One step of a merge: the slice of each part, and each resulting row's position in their concatenation."""

    cuts: Sequence[slice]
    picked: NDArray[np.integer]


class Order:
    """How parts with certain indices are merged into a sorted one, computed once for all series that have them.

    `others`: all parts except the latest, which keeps this object. `index`: the result; None until all pieces are
    known.
    """

    def __init__(self, others: Sequence[Index]) -> None:
        self.others = others
        self.pieces: list[Piece] = []
        self.index: Index | None = None


def joint(parts: Sequence[Index]) -> Index:
    """Concatenate indices."""
    slots, times, arrived = zip(*((part.slots, part.times, part.arrived) for part in parts), strict=True)
    return Index(np.concatenate(slots), np.concatenate(times), np.concatenate(arrived))


def room_for(before: int, needed: int) -> int:
    """The new capacity of a growing array: a quarter more than before, or as much as is needed."""
    return max(16, needed, before + before // 4)


def longer(column: Array, filled: int, room: int) -> Array:
    """Copy the filled part of a column into one with more capacity."""
    more = np.empty((room, *column.shape[1:]), column.dtype)
    more[:filled] = column[:filled]
    return more
