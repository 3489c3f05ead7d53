"""What one sees while it runs."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np

from loadtest.openloop.outcome import latencies
from loadtest.openloop.percentiles import at
from loadtest.openloop.recording import Arrays

LINE_SECONDS = 2.0
LOOK_BACK_SECONDS = 1.0


class Glimpse(NamedTuple):
    """The last second: requests that fell due, 2xx answers; milliseconds; how many were answered otherwise."""

    asked: float
    answered: float
    p50: float
    p99: float
    errors: int

    def __str__(self) -> str:
        return (
            f"{self.answered:7,.0f} of {self.asked:,.0f}/s"
            f"  p50 {self.p50:.1f}  p99 {self.p99:.1f} ms  errors {self.errors:,}"
        )


def glimpse(arrays: Arrays, since: float) -> Glimpse:
    """What the second before looked like: latencies are of what was answered in it, whenever that was due."""
    begin = since - LOOK_BACK_SECONDS
    first, last = np.searchsorted(arrays.scheduled, [begin, since])
    due = arrays.rows(slice(0, int(last)))
    recent = due.rows(due.done > begin)
    seconds, good = latencies(recent)
    p50, p99 = at(np.sort(seconds[good]) * 1e3, [0.5, 0.99])
    asked, answered = ((last - first) / LOOK_BACK_SECONDS, good.sum() / LOOK_BACK_SECONDS)
    return Glimpse(asked, answered, p50, p99, int((~good).sum()))


class View:
    """A line every few seconds; `show` is what a run calls while it goes on."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name, self._seconds, self._next_line = name, seconds, LINE_SECONDS

    def show(self, arrays: Arrays, since: float) -> None:
        """The recording `since` seconds after the start."""
        if self._next_line <= since <= self._seconds:
            self._next_line += LINE_SECONDS
            print(f"{self._name} {since:4.0f} s {glimpse(arrays, since)}", file=sys.stderr, flush=True)
