"""The chi-square test of homogeneity for the counts of categories on two sides: Pearson (1900).

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
    """`effect` is Cohen's w less what chance is expected to give, at least 0. With `freedom` 0 there is but one
    category left after pooling and nothing was compared.
    """

    statistic: float
    freedom: int
    p_value: float
    effect: float


def aligned(reference: Mapping[str, int], current: Mapping[str, int]) -> tuple[Floats, Floats]:
    """The counts of both in the same order of categories, those that occur at all. float64[k] each."""
    names = names_of(reference, current)
    before = np.array([reference.get(name, 0) for name in names], np.float64)
    return before, np.array([current.get(name, 0) for name in names], np.float64)


def pooled(reference: Floats, current: Floats) -> tuple[Floats, Floats]:
    """Both with the rare categories made one, so that every expected count is at least 5 (Cochran 1954): the
    rarest over both sides are taken together until their pool is large enough as well. What is pooled depends on
    the sums of both sides only, so pooling cannot make a difference out of chance.
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
    """The test on counts of the same categories, float64[k] each, with observations on both sides.

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
