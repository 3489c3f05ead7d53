"""The two-sample Kolmogorov-Smirnov test: the largest distance between two cumulative distributions.

Kolmogorov (1933), Smirnov (1939).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from actors.stats.drift import tails
from actors.stats.drift.sample import Sample

# The mean of Kolmogorov's limiting distribution squared, pi^2 / 12: what D^2 times the effective n is by chance.
_CHANCE = math.pi**2 / 12


def statistic(reference: Sample, current: Sample) -> float:
    """D, in [0, 1]. Ties and weights are taken for what they are: the distributions are compared after each value.

    >>> from actors.stats.drift.sample import of
    >>> statistic(of([1, 2, 3, 4]), of([3, 4, 5, 6]))
    0.5
    """
    points = np.concatenate((reference.values, current.values))
    return float(np.abs(reference.share_up_to(points) - current.share_up_to(points)).max())


def effective_count(reference: Sample, current: Sample) -> float:
    """n m / (n + m): the size of the one sample that a known distribution would have to be tested with."""
    n, m = reference.count, current.count
    return n * m / (n + m)


def p_value(distance: float, effective: float) -> float:
    """The probability of a distance at least so large when nothing has drifted, from the limiting distribution.

    Limits: it errs to the safe side, by less than a tenth from 30 observations a side on where the sides are of
    one size, by a fifth where one is much larger, and by more with ties. The refinements for small samples
    (Stephens 1970) are for one sample against a known distribution; for two they give too small a p-value.
    Observations must be independent.

    >>> round(p_value(0.0607, 500), 4)
    0.0502
    """
    return tails.kolmogorov(distance * math.sqrt(effective))


def as_normal_shift(distance: float, effective: float = math.inf) -> float:
    """By how many standard deviations a normal distribution would have to move for this D: 2 Phi^-1((1 + D)/2).

    What chance is expected to give to D^2 is subtracted first, at least 0 remains. Infinite for D = 1.

    >>> round(as_normal_shift(0.0987), 3)
    0.248
    """
    rest = distance * distance - _CHANCE / effective
    if rest <= 0:
        return 0.0
    rank = (1 + math.sqrt(rest)) / 2
    return 2 * NormalDist().inv_cdf(rank) if rank < 1 and distance < 1 else math.inf
