"""Folding: adds observations of one feature to the summary of its whole stream and to those of its windows.

A window that gets many rows at once, as the newest windows do, is updated together with the whole stream. Rows of
windows that get few, as most do when months are backfilled, are added to the whole stream only, and set aside
until the next checkpoint, which then updates each such window once. Texts and vectors, which may be large, are set
aside only until the end of `fold`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from actors.stats.summary import Accepted, Raw, Summary, of_a_piece, of_a_window, of_all
from actors.stats.waiting import Waiting
from actors.stats.windows import DAY, FIVE_MINUTES, HOUR, WHOLE, WIDEST, Window, placed
from actors.table.columns import Indices
from actors.turns import slices

ROWS_PER_STEP = 4_096
LARGE_ROWS_PER_STEP = 1_024
COMPONENTS_PER_STEP = 16_384
"""The rows (or vector components) folded in one step, before other tasks run: half a millisecond for numbers, 1 ms
for vectors and for texts that are all different. Steps of twice the size would save a tenth of the time."""
WINDOW_IN_ROWS = 128
"""The fixed cost of updating a window, expressed in rows."""
MANY = 8
"""A window with at least one MANYth of a step's rows is updated together with the whole stream."""
SAMPLED = 64
LIKELY = 4
"""Of SAMPLED rows, a window with one MANYth of all rows has 8 on average; with LIKELY or more its rows are
counted."""

Marks = NDArray[np.uint32]
_PLACES_BEFORE_1970 = 62_135_596_800_000_000 // FIVE_MINUTES


class Folding:
    """Everything received of a feature: collected (`waiting`), set aside (`aside`) or in `summaries`.

    The generators work in steps.
    """

    def __init__(self, created: int) -> None:
        """`created` is that of the feature."""
        self.created = created
        self.waiting = Waiting()
        self.aside = Waiting()
        """Observations added to the whole stream's summary, but not yet to those of their windows."""
        self.summaries: dict[Window, Summary] = {}

    def fold(self) -> Iterator[None]:
        """Add what is waiting to the whole stream's summary, and to those of windows that get many rows."""
        rows = self.waiting.drain()
        if rows is None:
            return
        for part in _steps(rows):
            few = self._fold_many(part)
            if few is not None:
                self._summary(WHOLE).add(few)
                self.aside.append(*few)
            yield
        if not rows.plain:
            yield from self.fold_aside()

    def fold_aside(self) -> Iterator[None]:
        """Add what was set aside to the summaries of its windows."""
        rows = self.aside.drain()
        if rows is None:
            return
        marks = []
        for part in _steps(rows):
            marks.append(_marks(part))
            yield
        order, begins = _grouped(np.concatenate(marks))
        yield
        windows = _windows(rows.take(order[begins]))
        ends = pairwise([*begins.tolist(), len(order)])
        yield
        if not rows.plain:
            for window, (begin, end) in zip(windows, ends, strict=True):
                for cut in slices(end - begin, _rows_per_step(rows)):
                    self._summary(window).add(rows.take(order[begin:end][cut]))
                    yield
            return
        packed, done = Raw.of(rows.take(order)), 0
        yield
        for window, (begin, end) in zip(windows, ends, strict=True):
            self._summary(window).add_raw(packed.cut(begin, end))
            done += end - begin + WINDOW_IN_ROWS
            if done >= ROWS_PER_STEP:
                done = 0
                yield

    def leave(self) -> dict[Window, Summary]:
        """Remove and return all summaries."""
        leaving, self.summaries = self.summaries, {}
        return leaving

    def _fold_many(self, rows: Accepted) -> Accepted | None:
        """Add the rows of windows that have many of them; returns the other rows."""
        marks = _marks(rows)
        few = np.ones(len(marks), np.bool_)
        for mark in _frequent(marks, _rows_per_step(rows) // MANY):
            in_window = marks == mark
            few &= ~in_window
            self._add_to_both(rows if in_window.all() else rows.take(np.flatnonzero(in_window)))
        if few.all():
            return rows
        return rows.take(np.flatnonzero(few)) if few.any() else None

    def _add_to_both(self, rows: Accepted) -> None:
        """Add rows of one window to its summary and to the whole stream's, through one temporary summary.

        That halves the work. Its distinct count need not be exact if neither of the two is any more.
        """
        (window,) = _windows(rows.cut(slice(1)))
        both = self._summary(WHOLE), self._summary(window)
        exact = any(summary.distinct.exact for summary in both)
        piece = of_a_piece(self.created, len(rows.times) if exact else 0)
        piece.add(rows)
        for summary in both:
            summary.merge(piece)

    def _summary(self, window: Window) -> Summary:
        found = self.summaries.get(window)
        if found is None:
            found = of_a_window(self.created) if window.width else of_all(self.created)
            self.summaries[window] = found
        return found


def _steps(rows: Accepted) -> Iterator[Accepted]:
    """Split rows into parts for one step each. Columns of this size also stay in the processor's cache."""
    size = _rows_per_step(rows)
    for start in range(0, len(rows.times), size):
        yield rows.cut(slice(start, start + size))


def _rows_per_step(rows: Accepted) -> int:
    if rows.plain:
        return ROWS_PER_STEP
    components = rows.values.size // len(rows.times)
    return min(ROWS_PER_STEP, LARGE_ROWS_PER_STEP, COMPONENTS_PER_STEP // components + 1)


def _frequent(marks: Marks, many: int) -> list[int]:
    """The marks that at least `many` rows have. Only those frequent in a sample are counted.

    Missing one affects only speed: its rows are set aside.
    """
    if len(marks) < many:
        return []
    sample = np.sort(marks[:: max(1, len(marks) // SAMPLED)])
    again = sample[LIKELY - 1 :] == sample[: 1 - LIKELY]
    likely = set(sample[LIKELY - 1 :][again].tolist())
    return [mark for mark in likely if np.count_nonzero(marks == mark) >= many]


def _windows(rows: Accepted) -> list[Window]:
    widths, starts = placed(rows.times, rows.arrived)
    return list(map(Window, widths.tolist(), starts.tolist()))


def _marks(rows: Accepted) -> Marks:
    """A number that identifies each row's window: uint32[n].

    It fits: from year 1 to 9999 there are 1.05e9 periods of five minutes, times 4 widths. The widest window that
    begins before year 1 gets one of the numbers above.
    """
    widths, starts = placed(rows.times, rows.arrived)
    places = starts // FIVE_MINUTES + _PLACES_BEFORE_1970
    return (places * 4 + (widths >= HOUR) + (widths >= DAY) + (widths >= WIDEST)).astype(np.uint32)


def _grouped(marks: Marks) -> tuple[Indices, Indices]:
    """The positions sorted by mark, and where among them each mark begins.

    Sorted by the 16-bit halves of the marks, for which numpy uses radix sort: a third of the time.
    """
    lower_and_upper = marks.astype("<u4").view("<u2").reshape(-1, 2).T
    order = np.lexsort(np.ascontiguousarray(lower_and_upper))
    marks = marks[order]
    return order, np.append(0, np.flatnonzero(marks[1:] != marks[:-1]) + 1)
