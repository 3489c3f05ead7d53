"""Finds the highest rate that holds by trials: doubling until one fails, then halving the interval.

The interval is halved geometrically. The result is confirmed by a longer trial; if that fails, the next lower rate
is tried. A failure that may be due to the driver, or to other work on the machine, says nothing about the service:
the answer then is a lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

LOWEST_RATE = 1.0
CONFIRMATIONS = 5
Reason = Literal["holds", "service", "driver", "machine"]
Why = Literal["service", "driver", "machine", "ceiling", "nothing holds"]
Attempt = Callable[[float, bool], Reason]
"""Tries a rate, as a confirmation or not: whether the bound holds, and what limited it if not."""


class Bounds(NamedTuple):
    """Rates a second: the first, the highest, and the precision at which the search ends."""

    first: float
    ceiling: float
    precision: float


class Limit(NamedTuple):
    """The highest rate that held and was confirmed, 0 if none did; `why` it is not higher."""

    rate: float
    why: Why


def find(attempt: Attempt, bounds: Bounds) -> Limit:
    """The limit between LOWEST_RATE and the ceiling."""
    low, high, why = _bracket(attempt, bounds)
    while low and high and high / low > 1 + bounds.precision:
        middle = math.sqrt(low * high)
        reason = attempt(middle, False)
        if reason == "holds":
            low = middle
        else:
            high, why = middle, reason
    return _confirmed(attempt, Limit(low, why), bounds.precision)


def _bracket(attempt: Attempt, bounds: Bounds) -> tuple[float, float, Why]:
    """A rate that holds (0: none does), a higher one that does not (0: the ceiling does), and why not."""
    rate = min(bounds.first, bounds.ceiling)
    reason = attempt(rate, False)
    if reason == "holds":
        return _upwards(attempt, rate, bounds.ceiling)
    return _downwards(attempt, rate, reason)


def _upwards(attempt: Attempt, low: float, ceiling: float) -> tuple[float, float, Why]:
    while low < ceiling:
        high = min(2 * low, ceiling)
        reason = attempt(high, False)
        if reason != "holds":
            return low, high, reason
        low = high
    return low, 0.0, "ceiling"


def _downwards(attempt: Attempt, high: float, why: Why) -> tuple[float, float, Why]:
    while high > LOWEST_RATE:
        low = max(high / 2, LOWEST_RATE)
        reason = attempt(low, False)
        if reason == "holds":
            return low, high, why
        high, why = low, reason
    return 0.0, high, "nothing holds"


def _confirmed(attempt: Attempt, found: Limit, precision: float) -> Limit:
    rate, why = found
    for _ in range(CONFIRMATIONS if rate else 0):
        reason = attempt(rate, True)
        if reason == "holds":
            return Limit(rate, why)
        rate, why = rate / (1 + precision), reason
    return Limit(0.0, "nothing holds")
