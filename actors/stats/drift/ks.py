"""The two-sample Kolmogorov-Smirnov test: the largest distance between two cumulative distributions.

Kolmogorov (1933), Smirnov (1939).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from actors.stats.drift import tails
from actors.stats.drift.sample import Sample

# The second moment of Kolmogorov's limiting distribution, pi^2 / 12: the mean of effective n * D^2 without drift.
_CHANCE = math.pi**2 / 12


def statistic(reference: Sample, current: Sample) -> float:
    """D, in [0, 1]. Ties and weights are handled exactly: the distributions are compared after each value.

    >>> from actors.stats.drift.sample import of
    >>> statistic(of([1, 2, 3, 4]), of([3, 4, 5, 6]))
    0.5
    """
    points = np.concatenate((reference.values, current.values))
    return float(np.abs(reference.share_up_to(points) - current.share_up_to(points)).max())


def effective_count(reference: Sample, current: Sample) -> float:
    """n m / (n + m): the equivalent sample size of a test of one sample against a known distribution."""
    n, m = reference.count, current.count
    return n * m / (n + m)


def p_value(distance: float, effective: float) -> float:
    """The probability of a distance at least this large without drift, by the limiting distribution.

    Limitations: the p-value is too large, from 30 observations a side on by less than a tenth if the sides are of
    equal size, by a fifth if one is much larger, and by more with ties. The refinements for small samples
    (Stephens 1970) are for one sample against a known distribution; for two samples they make the p-value too
    small. Observations must be independent.

    >>> round(p_value(0.0607, 500), 4)
    0.0502
    """
    return tails.kolmogorov(distance * math.sqrt(effective))


def as_normal_shift(distance: float, effective: float = math.inf) -> float:
    """The shift in standard deviations that would give a normal distribution this D: 2 Phi^-1((1 + D)/2).

    What chance is expected to contribute to D^2 is subtracted first, down to at least 0. Infinite for D = 1.

    >>> round(as_normal_shift(0.0987), 3)
    0.248
    """
    rest = distance * distance - _CHANCE / effective
    if rest <= 0:
        return 0.0
    rank = (1 + math.sqrt(rest)) / 2
    return 2 * NormalDist().inv_cdf(rank) if rank < 1 and distance < 1 else math.inf
