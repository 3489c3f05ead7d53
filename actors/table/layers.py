"""The sorted runs of one series, oldest arrivals first: a log-structured merge tree in memory.

Small runs are merged at once, large ones by `tidy` in steps; until then queries search each run. Runs are never
changed: the result of a merge replaces its runs, if these are still there.
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
"""How many runs of similar size are merged into one. Merging two at a time would make writing 50% more costly."""
MERGED_AT_ONCE = 200_000
"""A merge of more rows than this runs in steps, even if a query would benefit."""
MERGED_IN_PASSING = 20_000
"""A merge of more rows than this during an append runs in steps. Series that are written together reach this size
together."""
WORTH_MERGING = 8
"""A query has all runs merged only if those besides the largest have more than one WORTH_MERGINGth of the rows."""


class _Merge(NamedTuple):
    """A merge in progress. It is valid only while all its runs are still there, next to each other.

    `whole`: whether these were all runs.
    """

    runs: list[Rows]
    steps: Steps[Rows]
    whole: bool

    def place(self, runs: list[Rows]) -> int | None:
        """The position of the runs; None if they are no longer all there."""
        first = next((place for place, run in enumerate(runs) if run is self.runs[0]), len(runs))
        there = runs[first : first + len(self.runs)]
        same = len(there) == len(self.runs) and all(map(_is, there, self.runs))
        return first if same else None


def _is(one: object, other: object) -> bool:
    return one is other


def _share(some: Sequence[Rows], others: Sequence[Rows]) -> bool:
    return any(one is other for one in some for other in others)


class Layers:
    """The sorted runs of a series (`runs`). Not thread-safe."""

    def __init__(self, untidy: list[Layers]) -> None:
        """`untidy`: a list that this object adds itself to when there is work for `tidy`."""
        self.runs: list[Rows] = []
        self._untidy = untidy
        self._listed = False
        self._merge: _Merge | None = None
        self._as_one = False
        """Whether all runs are to be merged into one."""
        self._held: Sequence[Rows] = ()
        """Runs that rows are being removed from, which must not be merged meanwhile."""

    @property
    def rows(self) -> int:
        """The number of rows in all runs."""
        return sum(run.size for run in self.runs)

    def close(self) -> None:
        """Drop all runs, which also invalidates merges in progress."""
        self.runs = []

    # Adding runs

    def push(self, run: Rows) -> int:
        """Add a run later than all others, and do small merges. Returns how many rows were processed."""
        self.add(run)
        return run.size + self.merge_alike()

    def add(self, run: Rows) -> None:
        """Add a run later than all others."""
        self.runs.append(run)

    def merge_alike(self) -> int:
        """Merge the latest runs of similar size, or leave that to `tidy`. Returns how many rows were merged."""
        merged = 0
        while self._alike(first := len(self.runs) - FAN):
            if not self._merge_now(first, len(self.runs), MERGED_IN_PASSING):
                self._need_tidying()
                break
            merged += self.runs[-1].size
        return merged

    def push_below(self, run: Rows) -> None:
        """Add a run older than all others: the rows of one read from disk, so usually small."""
        self.runs.insert(0, run)
        if len(self.runs) > MOST_RUNS:
            self._compact_oldest()

    def _alike(self, first: int) -> bool:
        """Whether the FAN runs from `first` on are of similar size and are to be merged."""
        return first >= 0 and self.runs[first].size < 2 * self.runs[first + FAN - 1].size

    def _merge_now(self, first: int, end: int, most: int) -> bool:
        """Merge the runs first:end unless they are busy or have more than `most` rows; returns whether it did."""
        runs = self.runs[first:end]
        if sum(run.size for run in runs) > most or self._busy(runs):
            return False
        self.runs[first:end] = [merge(runs)]
        return True

    def _busy(self, runs: Sequence[Rows]) -> bool:
        if self._merge is not None and self._merge.place(self.runs) is None:
            self._merge = None
        return _share(runs, self._held) or (self._merge is not None and _share(runs, self._merge.runs))

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
        """Merge everything into one run: at once if it is small, otherwise later by `tidy` if that is worth it."""
        if len(self.runs) < 2 or self.merge_small():
            return
        rows, largest = self.rows, max(run.size for run in self.runs)
        if len(self.runs) > FAN or (rows - largest) * WORTH_MERGING > rows:
            self._need_one()

    def is_to_merge(self) -> bool:
        """Whether `merge_small` has anything to do."""
        return len(self.runs) > 1 and self.rows <= MERGED_AT_ONCE and not self._busy(self.runs)

    def is_much_to_merge(self) -> bool:
        """Whether it has so much to do that `merging_small` had better be run before."""
        return self.rows > MERGED_IN_PASSING and self.is_to_merge()

    def merge_small(self) -> bool:
        """Merge everything into one run if it is small. Returns whether there is one run now."""
        return len(self.runs) < 2 or self._merge_now(0, len(self.runs), MERGED_AT_ONCE)

    def merging_small(self) -> Steps[None]:
        """Merge everything into one run, in steps, between which nothing else may be done with the layers."""
        self.runs = [(yield from merging(list(self.runs)))]

    def merging_all(self) -> Steps[None]:
        """Merge everything into one run, in steps. Runs added meanwhile are left out."""
        if self.merge_small():
            return
        self._as_one = True
        while self._as_one and self.tidy():
            yield
        for _ in self.merged():
            yield

    def merged(self) -> Iterator[int]:
        """Finish a merge in progress, in steps that yield how many rows they have processed."""
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
        """Do one step of the merges that are due. Returns whether there may be more to do."""
        if self._merge is None or self._merge.place(self.runs) is None:
            due = self._due()
            able = len(due) > 0 and not _share(due, self._held)
            self._merge = _Merge(due, merging(due), self._as_one) if able else None
        if self._merge is None:
            self._listed = False
            return False
        merge, self._merge = self._merge, None  # abandons it if memory runs out
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
        """The runs to be merged next: all of them, or the smallest FAN of similar size."""
        if self._as_one and len(self.runs) > 1:
            return list(self.runs)
        self._as_one = False
        firsts = range(len(self.runs) - FAN, -1, -1)
        return next((self.runs[first : first + FAN] for first in firsts if self._alike(first)), [])

    # Removing rows

    def removing(
        self, which: Callable[[Rows, slice], Nulls], below: Callable[[Rows], Iterator[int]]
    ) -> Iterator[int]:
        """Remove the rows that `which` selects from the present runs; each step yields how many it processed.

        A run that is replaced meanwhile keeps its rows. `below` is called with the rows before they are removed.
        """
        self._held = list(self.runs)
        try:
            for run in self._held:
                yield from self._removing_from(run, which, below)
        finally:
            self._held = ()
            self._need_tidying()

    def _removing_from(
        self, run: Rows, which: Callable[[Rows, slice], Nulls], below: Callable[[Rows], Iterator[int]]
    ) -> Iterator[int]:
        gone = np.zeros(run.size, np.bool_)
        for cut in cuts(run.size):
            if self._place(run) is None:
                return
            selected = gone[cut] = which(run, cut)
            if selected.any():
                yield from below(run.take(cut).take(selected))
            yield cut.stop - cut.start
        if gone.any():
            kept = yield from _with_row_counts(taking(run, ~gone), min(run.size, ROWS_A_STEP))
            place = self._place(run)
            if place is not None:
                self.runs[place : place + 1] = [kept] if kept.size else []

    def _place(self, run: Rows) -> int | None:
        return next((place for place, one in enumerate(self.runs) if one is run), None)

    def purge(self, slot: int, until: int) -> int:
        """Remove a slot's rows that arrived by `until`; returns how many the slot has left.

        A large run is split into the parts before and after the slot, without copying; the memory of removed rows
        is freed once these have been merged.
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
                of_slot = at_once(taking(run.part(begin, end), kept))
                runs += [run.part(0, begin), of_slot, run.part(end, run.size)]
                self._need_one()
        self.runs = [run for run in runs if run.size]
        return left


def _with_row_counts(steps: Steps[Rows], rows_a_step: int) -> Generator[int, None, Rows]:
    """Run steps, yielding for each how many rows it has processed."""
    try:
        while True:
            next(steps)
            yield rows_a_step
    except StopIteration as done:
        rows: Rows = done.value
        return rows
