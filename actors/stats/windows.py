"""Tumbling windows of event time: every observation of a feature lies in exactly one of them.

A window is five minutes wide, an hour if it is older than a day, and a day if it is older than a fortnight. Narrow
windows lie within wide ones, so windows are merged into wider ones as they age. An observation that arrives late
goes straight into a wide window.
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
"""Event times less old than this lie in five-minute windows."""
HOURLY_FOR = 14 * DAY
_WIDTHS = np.array([FIVE_MINUTES, HOUR, DAY])


class Window(NamedTuple):
    """The event times from `start` up to `start + width`, in microseconds. Width 0 stands for the whole stream."""

    width: int
    start: int

    @property
    def last(self) -> int:
        """The last microsecond in the window."""
        return self.start + self.width - 1


WHOLE = Window(0, 0)
Merge = Callable[[Iterable[bytes]], bytes]
"""Merges saved summaries into one."""


def placed(times: Times, arrived: Times) -> tuple[Times, Times]:
    """The width and the start of each observation's window, by its age on arrival: two int64[n]."""
    age = arrived - times
    # A table lookup, as np.where is ten times slower for mixed ages.
    widths = _WIDTHS[(age >= FINE_FOR).astype(np.intp) + (age >= HOURLY_FOR)]
    return widths, times - times % widths


def coarser(window: Window, now: int) -> Window:
    """The window that this one is to be merged into at its present age; itself if it need not be."""
    age = now - window.last
    width = max(window.width, FIVE_MINUTES if age < FINE_FOR else HOUR if age < HOURLY_FOR else DAY)
    return Window(width, window.start - window.start % width)
