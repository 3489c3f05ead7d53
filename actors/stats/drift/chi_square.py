"""The chi-square test of homogeneity for the category counts of two sides: Pearson (1900).

The effect size is w of Cohen, "Statistical Power Analysis" (1988): the root of the sum of (q - p)^2 over the
pooled share, so that it does not depend on how the observations are divided between the sides. A shift of one of
two equally frequent categories by x standard deviations gives w = x.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from actors.stats.drift import tails
from actors.stats.drift.categories import names_of
from actors.stats.drift.sample import Floats

LEAST_EXPECTED = 5.0


class Homogeneity(NamedTuple):
    """The result of the test. `effect`: Cohen's w less what is expected by chance, at least 0. `freedom`: degrees
    of freedom; 0 means that pooling has left one category and nothing was compared.
    """

    statistic: float
    freedom: int
    p_value: float
    effect: float


def aligned(reference: Mapping[str, int], current: Mapping[str, int]) -> tuple[Floats, Floats]:
    """The counts of both sides, in the same order of the categories that occur: float64[k] each."""
    names = names_of(reference, current)
    before = np.array([reference.get(name, 0) for name in names], np.float64)
    return before, np.array([current.get(name, 0) for name in names], np.float64)


def pooled(reference: Floats, current: Floats) -> tuple[Floats, Floats]:
    """Merge rare categories into one, so that every expected count is at least 5 (Cochran 1954).

    The rarest categories over both sides are merged until their sum is large enough too. Which ones depends only
    on the sums of both sides, so pooling cannot create a difference by chance.
    """
    totals = reference + current
    order = np.argsort(totals, kind="stable")
    smaller = min(reference.sum(), current.sum()) / totals.sum()
    rare = int((totals * smaller < LEAST_EXPECTED).sum())
    if rare == 0:
        return reference, current
    reached = np.cumsum(totals[order]) * smaller
    rare = max(rare, int(np.searchsorted(reached, LEAST_EXPECTED)) + 1)
    inside, outside = order[:rare], order[rare:]
    before = np.append(reference[outside], reference[inside].sum())
    return before, np.append(current[outside], current[inside].sum())


def homogeneity(reference: Floats, current: Floats) -> Homogeneity:
    """Test counts of the same categories, float64[k] each, with observations on both sides.

    >>> result = homogeneity(np.array([50.0, 50.0]), np.array([70.0, 30.0]))
    >>> round(result.statistic, 4), result.freedom, round(result.p_value, 6), round(result.effect, 4)
    (8.3333, 1, 0.003892, 0.383)
    """
    before, after = pooled(reference, current)
    n, m = before.sum(), after.sum()
    shares = (before + after) / (n + m)
    effective = float(n * m / (n + m))
    statistic = effective * float(((after / m - before / n) ** 2 / shares).sum())
    freedom = len(shares) - 1
    p_value = tails.chi_square(statistic, freedom) if freedom else 1.0
    return Homogeneity(statistic, freedom, p_value, math.sqrt(max(0.0, statistic - freedom) / effective))
