"""The sorted runs of one series, oldest arrivals first: a log-structured merge tree in memory.

Small runs are merged at once and large ones by `tidy`, a step at a time, until when questions go to each run. Runs
are never changed: what is made of them takes their place if they are still there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from actors.table.merging import ROWS_A_STEP, cuts, merging, taking
from actors.table.rows import Rows, merge
from actors.turns import Steps, at_once
from actors.types.type import Nulls

MOST_RUNS = 16
FAN = 4
"""So many runs of like size are merged into one: of two at a time, writing costs half as much again."""
MERGED_AT_ONCE = 200_000
"""More rows than this are merged in steps, though somebody asks for them."""
MERGED_IN_PASSING = 20_000
"""More rows than this are merged in steps where nobody does: what is written together comes to it together."""
WORTH_MERGING = 8
"""Of a series whose large run has all but one in so many of the rows, the others are not merged into it for a
question's sake."""


class _Merge(NamedTuple):
    """Runs that are being made into one. It counts only while they are all there, side by side.

    `whole`: they are all that there were.
    """

    runs: list[Rows]
    steps: Steps[Rows]
    whole: bool

    def place(self, runs: list[Rows]) -> int | None:
        """Where they are."""
        first = next((place for place, run in enumerate(runs) if run is self.runs[0]), len(runs))
        there = runs[first : first + len(self.runs)]
        same = len(there) == len(self.runs) and all(map(_is, there, self.runs))
        return first if same else None


def _is(one: object, other: object) -> bool:
    return one is other


def _share(some: Sequence[Rows], others: Sequence[Rows]) -> bool:
    return any(one is other for one in some for other in others)


class Layers:
    """Not thread-safe. `runs`: each sorted, and any of them may be large."""

    def __init__(self, untidy: list[Layers]) -> None:
        """`untidy`: where this one is put when `tidy` has work."""
        self.runs: list[Rows] = []
        self._untidy = untidy
        self._listed = False
        self._merge: _Merge | None = None
        self._as_one = False
        """Whether all runs are to be made one."""
        self._held: Sequence[Rows] = ()
        """Runs of which rows are being let go: not to be merged meanwhile."""

    @property
    def rows(self) -> int:
        """How many there are in all."""
        return sum(run.size for run in self.runs)

    def close(self) -> None:
        """Have nothing any more, so that whatever is under way comes to nothing."""
        self.runs = []

    # Taking runs in

    def push(self, run: Rows) -> int:
        """Take one later than all others, and merge what is soon done. Returns how many rows that were."""
        self.add(run)
        return run.size + self.merge_alike()

    def add(self, run: Rows) -> None:
        """Take one later than all others."""
        self.runs.append(run)

    def merge_alike(self) -> int:
        """Merge the latest runs of like size, or have that done in a while. Returns how many rows were merged."""
        merged = 0
        while self._alike(first := len(self.runs) - FAN):
            if not self._merge_now(first, len(self.runs), MERGED_IN_PASSING):
                self._need_tidying()
                break
            merged += self.runs[-1].size
        return merged

    def push_below(self, run: Rows) -> None:
        """Take one older than all others: from disk, and so a small one, a read at a time."""
        self.runs.insert(0, run)
        if len(self.runs) > MOST_RUNS:
            self._compact_oldest()

    def _alike(self, first: int) -> bool:
        """Whether the runs from here on are to become one."""
        return first >= 0 and self.runs[first].size < 2 * self.runs[first + FAN - 1].size

    def _merge_now(self, first: int, end: int, most: int) -> bool:
        """Merge some runs if they have few rows and nothing else is done with them. Whether it was."""
        some = self.runs[first:end]
        if sum(run.size for run in some) > most or self._busy(some):
            return False
        self.runs[first:end] = [merge(some)]
        return True

    def _busy(self, some: Sequence[Rows]) -> bool:
        if self._merge is not None and self._merge.place(self.runs) is None:
            self._merge = None
        return _share(some, self._held) or (self._merge is not None and _share(some, self._merge.runs))

    def _compact_oldest(self) -> None:
        end, rows = 0, 0
        while end < len(self.runs) and not self._busy(self.runs[end : end + 1]):
            rows += self.runs[end].size
            if rows > MERGED_AT_ONCE:
                break
            end += 1
        if end > 1:
            self._merge_now(0, end, MERGED_AT_ONCE)
        if len(self.runs) > MOST_RUNS:
            self._need_one()

    # Merging

    def compact(self) -> None:
        """Have everything in one run, at once if that is soon done, else in a while."""
        if len(self.runs) < 2 or self.merge_small():
            return
        rows, largest = self.rows, max(run.size for run in self.runs)
        if len(self.runs) > FAN or (rows - largest) * WORTH_MERGING > rows:
            self._need_one()

    def merge_small(self) -> bool:
        """Have everything in one run if that is soon done. Whether it is one."""
        return len(self.runs) < 2 or self._merge_now(0, len(self.runs), MERGED_AT_ONCE)

    def merging_all(self) -> Steps[None]:
        """Have everything in one run, but for what comes in meanwhile."""
        if self.merge_small():
            return
        self._as_one = True
        while self._as_one and self.tidy():
            yield
        for _ in self.merged():
            yield

    def merged(self) -> Iterator[int]:
        """Until no merge is under way, saying of each step how many rows it has looked at."""
        while self._merge is not None and self._merge.place(self.runs) is not None:
            self.tidy()
            yield ROWS_A_STEP

    def _need_one(self) -> None:
        self._as_one = True
        self._need_tidying()

    def _need_tidying(self) -> None:
        if not self._listed:
            self._listed = True
            self._untidy.append(self)

    def tidy(self) -> bool:
        """A step of the merges that are due. Whether there may be more."""
        if self._merge is None or self._merge.place(self.runs) is None:
            due = self._due()
            able = len(due) > 0 and not _share(due, self._held)
            self._merge = _Merge(due, merging(due), self._as_one) if able else None
        if self._merge is None:
            self._listed = False
            return False
        merge, self._merge = self._merge, None  # which is over where there is no memory for it
        try:
            next(merge.steps)
            self._merge = merge
        except StopIteration as done:
            self._swap(merge, done.value)
        return True

    def _swap(self, merge: _Merge, made: Rows) -> None:
        place = merge.place(self.runs)
        assert place is not None
        self._as_one = self._as_one and not merge.whole
        self.runs[place : place + len(merge.runs)] = [made]

    def _due(self) -> list[Rows]:
        """The runs to be merged next: all, or else the smallest of those that are alike."""
        if self._as_one and len(self.runs) > 1:
            return list(self.runs)
        self._as_one = False
        firsts = range(len(self.runs) - FAN, -1, -1)
        return next((self.runs[first : first + FAN] for first in firsts if self._alike(first)), [])

    # Letting rows go

    def letting_go(
        self, which: Callable[[Rows, slice], Nulls], below: Callable[[Rows], Iterator[int]]
    ) -> Iterator[int]:
        """Let go of the rows that `which` names, of the runs that there are.

        What happens to a run meanwhile comes first: then it stays. `below` is told of the rows while they are
        still there. Steps say how many rows they have looked at.
        """
        self._held = list(self.runs)
        try:
            for run in self._held:
                yield from self._letting_go_of(run, which, below)
        finally:
            self._held = ()
            self._need_tidying()

    def _letting_go_of(
        self, run: Rows, which: Callable[[Rows, slice], Nulls], below: Callable[[Rows], Iterator[int]]
    ) -> Iterator[int]:
        gone = np.zeros(run.size, np.bool_)
        for cut in cuts(run.size):
            if self._place(run) is None:
                return
            some = gone[cut] = which(run, cut)
            if some.any():
                yield from below(run.take(cut).take(some))
            yield cut.stop - cut.start
        if gone.any():
            kept = yield from _saying(taking(run, ~gone), min(run.size, ROWS_A_STEP))
            place = self._place(run)
            if place is not None:
                self.runs[place : place + 1] = [kept] if kept.size else []

    def _place(self, run: Rows) -> int | None:
        return next((place for place, one in enumerate(self.runs) if one is run), None)

    def purge(self, slot: int, until: int) -> int:
        """Lose a slot's rows that arrived by `until`; returns how many it has left.

        Of a large run the parts before and after them stay, which takes no copy; the memory of what is gone is
        free once they have been merged.
        """
        left, runs = 0, list[Rows]()
        for run in self.runs:
            begin, end = np.searchsorted(run.slots, np.array([slot, slot + 1], np.int32)).tolist()
            kept = run.arrived[begin:end] > until
            left += int(np.count_nonzero(kept))
            if kept.all():
                runs.append(run)
            elif run.size <= MERGED_AT_ONCE:
                staying = np.ones(run.size, np.bool_)
                staying[begin:end] = kept
                runs.append(at_once(taking(run, staying)))
            else:
                own = at_once(taking(run.part(begin, end), kept))
                runs += [run.part(0, begin), own, run.part(end, run.size)]
                self._need_one()
        self.runs = [run for run in runs if run.size]
        return left


def _saying(steps: Steps[Rows], rows_a_step: int) -> Generator[int, None, Rows]:
    """The same work, saying how many rows each step has looked at."""
    try:
        while True:
            next(steps)
            yield rows_a_step
    except StopIteration as done:
        rows: Rows = done.value
        return rows
