"""An empirical distribution: sorted values, and how many observations each represents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.stats.moments import Moments

Floats = NDArray[np.float64]


class Sample(NamedTuple):
    """A weighted sample; create one with `of` or `weighted`. `values`: float64[m], ascending, possibly repeated.
    `weights`: float64[m], positive: 1 for a raw observation, more for a value retained by a sketch.

    >>> sample = weighted([3.0, 1.0], [1.0, 3.0])
    >>> sample.count, sample.mean, round(sample.std, 4), sample.quantiles([0.5, 0.9]).tolist()
    (4.0, 1.5, 0.866, [1.0, 3.0])
    >>> sample.share_up_to(np.array([0.0, 1.0, 2.0, 3.0])).tolist()
    [0.0, 0.75, 0.75, 1.0]
    """

    values: Floats
    weights: Floats

    # Overrides tuple.count(value).
    @property
    def count(self) -> float:  # type: ignore[override]
        """The number of observations: the sum of the weights."""
        return float(self.weights.sum())

    @property
    def mean(self) -> float:
        """The mean; NaN if empty. Computed relative to the first value, so that it is exact for equal values."""
        if not len(self.values):
            return math.nan
        with np.errstate(over="ignore", invalid="ignore"):
            first = self.values[0]
            return float(first + ((self.values - first) * (self.weights / self.weights.sum())).sum())

    @property
    def variance(self) -> float:
        """The population variance; NaN if empty, infinite or NaN if float64 overflows."""
        if not len(self.values):
            return math.nan
        with np.errstate(over="ignore", invalid="ignore"):
            return float(((self.values - self.mean) ** 2 * (self.weights / self.weights.sum())).sum())

    @property
    def std(self) -> float:
        """The population standard deviation, see `variance`."""
        return math.sqrt(self.variance)

    def moments(self) -> Moments:
        """Count, mean and sum of squared distances from it; NaN or infinite if float64 overflows."""
        count = round(self.count)
        return Moments(count, self.mean, self.variance * count)

    def share_up_to(self, points: Floats) -> Floats:
        """The cumulative distribution: for each point the fraction of observations <= it (float64[k])."""
        return self._share(points, "right")

    def share_at(self, points: Floats) -> Floats:
        """For each point the fraction of observations equal to it (float64[k])."""
        return self._share(points, "right") - self._share(points, "left")

    def _share(self, points: Floats, side: Literal["left", "right"]) -> Floats:
        reached = np.concatenate(([0.0], np.cumsum(self.weights)))
        return np.asarray(reached[np.searchsorted(self.values, points, side)] / reached[-1], np.float64)

    def quantiles(self, ranks: Sequence[float] | Floats) -> Floats:
        """For each rank in [0, 1] the smallest value with at least that fraction of observations at or below it.

        There is no interpolation, so a quantile is always a value that occurred. Raises ValueError if empty.
        """
        if not len(self.values):
            raise ValueError("an empty sample has no quantiles")
        reached = np.cumsum(self.weights)
        # The tolerance ensures that 0.3 * 10 is not rounded to more than the third of ten observations.
        wanted = np.asarray(ranks, np.float64) * reached[-1] * (1 - 1e-12)
        return np.asarray(self.values[np.searchsorted(reached, wanted).clip(max=len(reached) - 1)], np.float64)


def of(values: Sequence[float] | NDArray[Any]) -> Sample:
    """A sample of raw observations, given in any order. Raises ValueError for NaN."""
    ordered = np.sort(np.asarray(values, np.float64))
    return _checked(Sample(ordered, np.ones(len(ordered))))


def weighted(values: Sequence[float] | NDArray[Any], weights: Sequence[float] | NDArray[Any]) -> Sample:
    """A sample of weighted values, given in any order. Raises ValueError for NaN or weights <= 0."""
    numbers, counts = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if numbers.shape != counts.shape or not (counts > 0).all():
        raise ValueError("every value needs a positive weight")
    order = np.argsort(numbers, kind="stable")
    return _checked(Sample(numbers[order], counts[order]))


def _checked(sample: Sample) -> Sample:
    if len(sample.values) and math.isnan(sample.values[-1]):  # sorting puts NaN last
        raise ValueError("NaN has no place in a sample")
    return sample
