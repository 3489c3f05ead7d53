"""Tumbling windows of event time: every observation of a feature lies in exactly one of them.

A window is five minutes wide, an hour if it is older than a day, a day if it is older than a fortnight, and
DAILY_STATISTICS_DAYS days if it is older than that. In the future it is a day wide from a fortnight ahead on, and
as wide as can be from a year ahead on. So a feature has at most MOST_WINDOWS windows, whatever its event times.

Narrow windows lie within wide ones, so windows are merged into wider ones as they age. An observation that arrives
late goes straight into a wide window.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from actors.settings import DAILY_STATISTICS_DAYS
from actors.table.columns import Times
from actors.timestamps import LAST_MOMENT, SECOND, YEAR_ONE

FIVE_MINUTES = 300 * SECOND
HOUR = 3_600 * SECOND
DAY = 86_400 * SECOND
WIDEST = DAILY_STATISTICS_DAYS * DAY
FINE_FOR = DAY
"""Event times less old than this lie in five-minute windows."""
HOURLY_FOR = 14 * DAY
DAILY_FOR = WIDEST
FINE_AHEAD = 14 * DAY
"""Event times that are no further ahead than this lie in five-minute windows."""
DAILY_AHEAD = 366 * DAY
_AGES = [-DAILY_AHEAD, -FINE_AHEAD, FINE_FOR, HOURLY_FOR, DAILY_FOR]
_WIDTHS = [WIDEST, DAY, FIVE_MINUTES, HOUR, DAY, WIDEST]
"""The width for ages below the first of _AGES, from the first up to the second, and so on."""
_WIDTHS_BY_AGE = np.array(_WIDTHS)
MOST_WINDOWS = (
    (FINE_AHEAD + FINE_FOR) // FIVE_MINUTES
    + (HOURLY_FOR - FINE_FOR) // HOUR
    + (DAILY_AHEAD + DAILY_FOR) // DAY
    + (LAST_MOMENT - YEAR_ONE) // WIDEST
    + 8
)
"""The most windows of a feature once those that have grown old are merged; 8 as each term may have one at either
end. Daily windows that were once far ahead stay as they are when their time has come."""


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
    # A table lookup, as np.where and np.searchsorted take several times as long for mixed ages.
    place = (age >= _AGES[0]).astype(np.intp)
    for least in _AGES[1:]:
        place += age >= least
    widths = _WIDTHS_BY_AGE[place]
    return widths, times - times % widths


def coarser(window: Window, now: int) -> Window:
    """The window that this one is to be merged into at its present age; itself if it need not be."""
    age = now - min(max(now, window.start), window.last)
    width = max(window.width, _WIDTHS[bisect_right(_AGES, age)])
    return Window(width, window.start - window.start % width)


class Due(NamedTuple):
    """Windows of `width` that begin before `before` or after `after` are to be merged into wider ones."""

    width: int
    before: int
    after: int


def due(now: int) -> list[Due]:
    """Which windows have to be merged into wider ones. `coarser` returns a wider window for each of them."""
    return [
        Due(FIVE_MINUTES, now - FINE_FOR - FIVE_MINUTES, now + FINE_AHEAD),
        Due(HOUR, now - HOURLY_FOR - HOUR, now + FINE_AHEAD),
        Due(DAY, now - DAILY_FOR - DAY, now + DAILY_AHEAD),
    ]
