"""When each request is to be sent: seconds from the start, ascending."""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

MOST_REQUESTS = 5_000_000
"""Most requests of a run; each takes 34 bytes of shared memory."""
Instants = NDArray[np.float64]


class AbsurdLoad(argparse.ArgumentTypeError):
    """A rate or length that cannot be run; the message says why."""


def constant(rate: float, seconds: float) -> Instants:
    """`rate` a second, evenly."""
    return np.arange(_count(rate, seconds)) / rate


def bursts(rate: float, seconds: float, factor: float, every: float) -> Instants:
    """The same number, in bursts at `factor` times the rate, a burst about every `every` seconds, idle in between.

    A burst has a whole number of requests, which makes `every` a little longer or shorter.
    """
    if factor < 1 or every <= 0:
        raise AbsurdLoad("a burst has at least the rate itself, and some time between it and the next")
    burst, within = np.divmod(np.arange(_count(rate, seconds)), max(1, round(rate * every)))
    return burst * max(1, round(rate * every)) / rate + within / (rate * factor)


def _count(rate: float, seconds: float) -> int:
    if not (rate > 0 and seconds > 0 and rate * seconds <= MOST_REQUESTS):
        raise AbsurdLoad(f"{rate:g}/s for {seconds:g} s: a run has from 1 to {MOST_REQUESTS:,} requests")
    return max(1, round(rate * seconds))
