"""Percentiles of all latencies recorded, none estimated: the nearest rank, a latency that somebody had."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

NAMED = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999}


class Latency(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Milliseconds. NaN where nothing was counted."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float = msgspec.field(name="p99.9")
    p9999: float = msgspec.field(name="p99.99")
    max: float


def latency(seconds: NDArray[np.float64]) -> Latency:
    """What these latencies come to."""
    ordered = np.sort(seconds) * 1e3
    p50, p90, p99, p999, p9999, highest = at(ordered, [*NAMED.values(), 1.0])
    mean = float(ordered.mean()) if len(ordered) else math.nan
    return Latency(count=len(ordered), mean=mean, p50=p50, p90=p90, p99=p99, p999=p999, p9999=p9999, max=highest)


def at(ordered: NDArray[np.float64], fractions: Sequence[float]) -> list[float]:
    """The smallest values that at least such fractions do not exceed, of ascending ones.

    >>> at(np.array([1.0, 2.0, 3.0, 4.0]), [0.5, 0.51, 1.0])
    [2.0, 3.0, 4.0]
    """
    count = len(ordered)
    if not count:
        return [math.nan] * len(fractions)
    ranks = [max(1, math.ceil(round(fraction * count, 6))) for fraction in fractions]
    return [float(ordered[rank - 1]) for rank in ranks]


def curve(seconds: NDArray[np.float64]) -> list[tuple[float, float]]:
    """(fraction, milliseconds) from the median to the slowest: eight to each halving of what is left."""
    ordered = np.sort(seconds) * 1e3
    if not len(ordered):
        return []
    steps = 8 * (1 + math.ceil(math.log2(len(ordered))))
    fractions = [1 - 0.5 ** (step / 8) for step in range(8, steps + 1)]
    return list(zip(fractions, at(ordered, fractions), strict=True))
