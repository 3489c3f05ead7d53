"""Folding: observations of one feature into the summary of its whole stream and into those of its windows.

A window that gets many at a time, as the newest ones do, is looked at together with the whole stream. The rows of
windows that get few, as most do when months are filled in, are put aside: what comes by the next checkpoint then
costs one look at each such window. Texts and vectors, which may be large, are put aside for a moment only.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from actors.stats.summary import Accepted, Raw, Summary, of_a_piece, of_a_window, of_all
from actors.stats.waiting import Waiting
from actors.stats.windows import DAY, FIVE_MINUTES, HOUR, WHOLE, Window, placed
from actors.table.columns import Indices

ROWS_PER_STEP = 4_096
LARGE_ROWS_PER_STEP = 1_024
COMPONENTS_PER_STEP = 16_384
"""Folding lets others run after so much: half a millisecond, 1 ms for texts that are all different and vectors.
Steps of twice the size would save a tenth of the time."""
WINDOW_IN_ROWS = 128
"""What is to be done for each window takes the time of so many rows."""
MANY = 8
"""A window with such a part, an eighth, of a step's rows is worth a look of its own."""
SAMPLED = 64
LIKELY = 4
"""Of the rows that are looked at, a window with many has 8 on average."""

Marks = NDArray[np.uint32]
_PLACES_BEFORE_1970 = 62_135_596_800_000_000 // FIVE_MINUTES


class Folding:
    """Everything that came, in one of three places. The generators do a little at each step."""

    def __init__(self, created: int) -> None:
        """`created` is that of the feature."""
        self.created = created
        self.waiting = Waiting()
        self.aside = Waiting()
        """Counted in the whole, but not in their windows yet."""
        self.summaries: dict[Window, Summary] = {}

    def fold(self) -> Iterator[None]:
        """Count what waits, by window as far as it is not put aside."""
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
        """Count by window what was put aside."""
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
        rows = rows.take(order)
        yield
        packed, done = Raw.of(rows) if rows.plain else None, 0
        yield
        for window, (begin, end) in zip(windows, pairwise([*begins.tolist(), len(order)]), strict=True):
            if packed is not None:
                self._summary(window).add_raw(packed.cut(begin, end))
            else:
                for part in _steps(rows.cut(slice(begin, end))):
                    self._summary(window).add(part)
            done += end - begin + WINDOW_IN_ROWS
            if done >= _rows_per_step(rows):
                done = 0
                yield

    def leave(self) -> dict[Window, Summary]:
        """The summaries, of which none stay behind."""
        leaving, self.summaries = self.summaries, {}
        return leaving

    def _fold_many(self, rows: Accepted) -> Accepted | None:
        """Count the rows of windows that have many of them; returns the others."""
        marks = _marks(rows)
        few = np.ones(len(marks), np.bool_)
        for mark in _frequent(marks, _rows_per_step(rows) // MANY):
            those = marks == mark
            few &= ~those
            self._add_to_both(rows if those.all() else rows.take(np.flatnonzero(those)))
        if few.all():
            return rows
        return rows.take(np.flatnonzero(few)) if few.any() else None

    def _add_to_both(self, rows: Accepted) -> None:
        """Rows of one window, through a summary of their own into its and into that of the whole: half the work.

        Where neither is exact any more, nor need their own be.
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
    """Parts of so many rows as a step takes in. Columns of this size also stay in the processor's cache."""
    size = _rows_per_step(rows)
    for start in range(0, len(rows.times), size):
        yield rows.cut(slice(start, start + size))


def _rows_per_step(rows: Accepted) -> int:
    if rows.plain:
        return ROWS_PER_STEP
    components = rows.values.size // len(rows.times)
    return min(ROWS_PER_STEP, LARGE_ROWS_PER_STEP, COMPONENTS_PER_STEP // components + 1)


def _frequent(marks: Marks, many: int) -> list[int]:
    """Those that many rows have. A sample says which to count; what it misses now and then only costs more."""
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
    """A number for each row's window: from year 1 to 9999 there are 1.05e9 times five minutes, and 3 widths."""
    widths, starts = placed(rows.times, rows.arrived)
    places = starts // FIVE_MINUTES + _PLACES_BEFORE_1970
    return (places * 3 + (widths >= HOUR) + (widths >= DAY)).astype(np.uint32)


def _grouped(marks: Marks) -> tuple[Indices, Indices]:
    """The positions sorted by mark, and where among them each mark begins.

    Halves of 16 bits are sorted by radix, in a third of the time.
    """
    lower_and_upper = marks.astype("<u4").view("<u2").reshape(-1, 2).T
    order = np.lexsort(np.ascontiguousarray(lower_and_upper))
    marks = marks[order]
    return order, np.append(0, np.flatnonzero(marks[1:] != marks[:-1]) + 1)
