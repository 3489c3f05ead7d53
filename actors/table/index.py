"""Whose rows are, and of when: what series that were written together have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.table.columns import Indices, Times
from actors.types.type import Array, Nulls

Slots = NDArray[np.int32]


class Index:
    """Whose rows are, and of when: slots int32[n], times and arrived int64[n] (microseconds).

    One object for all series that were written together, which is how they are known to have been: nothing changes
    its arrays. What is made of it for one series is remembered for the others, for as long as one of them has it.
    """

    __slots__ = (
        *("slots", "times", "arrived"),
        *("merged", "kept", "growing", "_parts"),
        *("_newest", "_once", "_asked", "_places", "_offsets"),
    )

    def __init__(self, slots: Slots, times: Times, arrived: Times, places: Indices | None = None) -> None:
        """`places`: the slots as int64, where they are at hand."""
        self.slots = slots
        self.times = times
        self.arrived = arrived
        self.merged: Order | None = None
        """The last merge of parts of which this was the latest."""
        self.kept: Sequence[tuple[Nulls, Index]] = ()
        """Which rows were left of it when others were let go of, and these, a few times."""
        self.growing: dict[Growing, int] = {}
        """Where it is in the growing indices that it was appended to."""
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
        """The greatest event time; there must be one."""
        if self._newest is None:
            self._newest = int(self.times.max() if self.size > 1 else self.times[0])
        return self._newest

    @property
    def once(self) -> bool:
        """Whether no slot comes twice, as far as is known: it pays to find out from the second time on."""
        if self.size == 1:
            return True
        if self._once is None and self._asked:
            ordered = np.sort(self.slots)
            self._once = not (ordered[1:] == ordered[:-1]).any()
        self._asked = True
        return bool(self._once)

    @property
    def places(self) -> Indices:
        """The slots as numpy wants them to look something up: int64[n]."""
        if self._places is None:
            self._places = self.slots.astype(np.int64)
        return self._places

    def offsets(self, slots: int) -> Indices:
        """Where the rows of each slot begin in sorted rows, for at least so many slots, and where the last end."""
        if self._offsets is None or len(self._offsets) <= slots:
            self._offsets = np.searchsorted(self.slots, np.arange(slots + 1, dtype=np.int32))
        return self._offsets

    def part(self, start: int, end: int) -> Index:
        """Some of the rows: one object for all who ask for the same."""
        if (start, end) not in self._parts:
            self._parts[start, end] = self.take(slice(start, end))
        return self._parts[start, end]

    def take(self, positions: Indices | Nulls | slice) -> Index:
        """Some of the rows, by position, mask or slice."""
        return Index(self.slots[positions], self.times[positions], self.arrived[positions])

    def share(self, other: Index) -> None:
        """Have the arrays of another one that says the same but for arrivals."""
        self.slots, self.times = other.slots, other.times


class Growing:
    """An index that grows: that of the tails of series which are written together, who append each part once."""

    def __init__(self, turn: int) -> None:
        """`turn`: something to tell those who are written together from others."""
        self.turn = turn
        self.count = 0
        none = np.zeros(0, np.int64)
        self._whole = Index(none.astype(np.int32), none, none)
        self._cuts: dict[tuple[int, int], Index] = {}

    def append(self, index: Index) -> None:
        """Take a part, and have it know where it is."""
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
        """Some of it: one object for all who ask for the same."""
        found = self._cuts.get((start, end))
        if found is None:
            found = self._cuts[start, end] = self._whole.take(slice(start, end))
        return found


class Piece(NamedTuple):
    """A step of a merge: what it takes of each part, and where in these one after the other each row made is."""

    cuts: Sequence[slice]
    picked: NDArray[np.integer]


class Order:
    """How parts with some indices come to one sorted index: found out once for all series that have them.

    `others`: all but the latest part, which remembers this. `index`: None while there are pieces to come.
    """

    def __init__(self, others: Sequence[Index]) -> None:
        self.others = others
        self.pieces: list[Piece] = []
        self.index: Index | None = None


def joint(parts: Sequence[Index]) -> Index:
    """One index of all the rows, in the order given."""
    slots, times, arrived = zip(*((part.slots, part.times, part.arrived) for part in parts), strict=True)
    return Index(np.concatenate(slots), np.concatenate(times), np.concatenate(arrived))


def room_for(before: int, needed: int) -> int:
    """A quarter more than before, or as much as is needed."""
    return max(16, needed, before + before // 4)


def longer(column: Array, filled: int, room: int) -> Array:
    """A column with more room, what is filled of it kept."""
    more = np.empty((room, *column.shape[1:]), column.dtype)
    more[:filled] = column[:filled]
    return more
