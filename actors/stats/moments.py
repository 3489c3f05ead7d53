"""Count, mean, variance, minimum and maximum in one pass, mergeable.

Merging follows Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances" (1979): exact up to rounding, however the stream is ordered and split.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray


class Moments(msgspec.Struct, gc=False):
    """The moments of float64 or int64 values. `m2` is the sum of squared distances from the mean.

    >>> moments = of(np.array([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]))
    >>> moments.mean, moments.std, moments.min, moments.max
    (5.0, 2.0, 2.0, 9.0)
    """

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    min: float | int | None = None
    max: float | int | None = None

    @property
    def std(self) -> float | None:
        """The population standard deviation; None without values."""
        return float(np.sqrt(self.m2 / self.count)) if self.count else None

    def merge(self, other: Moments) -> None:
        """Merge another one into this."""
        if other.count == 0:
            return
        if self.count == 0:
            self.count, self.mean, self.m2, self.min, self.max = msgspec.structs.astuple(other)
            return
        count = self.count + other.count
        share, other_share = self.count / count, other.count / count
        delta = other.mean - self.mean
        if math.isfinite(delta):
            self.mean += delta * other_share
        else:
            self.mean = self.mean * share + other.mean * other_share
        self.m2 += other.m2 + (delta * delta * (self.count * other_share) if delta else 0.0)
        self.count = count
        self.min = other.min if self.min is None or other.min is None else min(self.min, other.min)
        self.max = other.max if self.max is None or other.max is None else max(self.max, other.max)


def of(values: NDArray[np.float64] | NDArray[np.int64]) -> Moments:
    """The moments of a column; minimum and maximum of integers stay exact."""
    if len(values) == 0:
        return Moments()
    numbers = values.astype(np.float64, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        # Relative to the first value, so that the deviation of equal values is exactly 0, however large they are.
        mean = float(numbers[0] + (numbers - numbers[0]).mean())
        if not math.isfinite(mean):
            mean = float((numbers / len(numbers)).sum())
        m2 = float(((numbers - mean) ** 2).sum())
    return Moments(len(values), mean, m2, values.min().item(), values.max().item())
