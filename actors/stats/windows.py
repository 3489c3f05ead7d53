"""Tumbling windows of event time: every observation of a feature lies in one of them.

A window takes five minutes; an hour for what is older than a day, and a day for what is older than a fortnight.
The narrower lie within the wider, so windows grow coarser by merging as they age, and what arrives late goes
straight to a wide one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from actors.table.columns import Times
from actors.timestamps import SECOND

FIVE_MINUTES = 300 * SECOND
HOUR = 3_600 * SECOND
DAY = 86_400 * SECOND
FINE_FOR = DAY
"""Five-minute windows for event times up to so old."""
HOURLY_FOR = 14 * DAY
_WIDTHS = np.array([FIVE_MINUTES, HOUR, DAY])


class Window(NamedTuple):
    """The event times from `start` (microseconds) on, `width` of them. A width of 0 is the whole stream."""

    width: int
    start: int

    @property
    def last(self) -> int:
        """The last microsecond in it."""
        return self.start + self.width - 1


WHOLE = Window(0, 0)
Merge = Callable[[Iterable[bytes]], bytes]
"""Makes one saved summary of several."""


def placed(times: Times, arrived: Times) -> tuple[Times, Times]:
    """The width and the start of the window of each observation: two int64[n]."""
    age = arrived - times
    # Looked up, not chosen by np.where, which is ten times as slow where ages are mixed.
    widths = _WIDTHS[(age >= FINE_FOR).astype(np.intp) + (age >= HOURLY_FOR)]
    return widths, times - times % widths


def coarser(window: Window, now: int) -> Window:
    """The window that this one belongs into by its age."""
    age = now - window.last
    width = max(window.width, FIVE_MINUTES if age < FINE_FOR else HOUR if age < HOURLY_FOR else DAY)
    return Window(width, window.start - window.start % width)
