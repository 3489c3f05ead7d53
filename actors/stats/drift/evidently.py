"""Scores as Evidently 0.7 defines them, for comparison and for users who migrate from it.

From its documentation and published source: samples with up to 1000 reference values are judged by a p-value
(Kolmogorov-Smirnov; chi-square, or z for two categories) against 0.05, larger ones by a distance (Wasserstein in
standard deviations; Jensen-Shannon for categories) against 0.1. A column of at most five distinct numbers is
treated as categorical.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from actors.stats.drift import chi_square, jensen_shannon, ks, ks_exact, tails, wasserstein
from actors.stats.drift.sample import Floats, Sample

SMALL = 1000
FEW = 5
ALPHA = 0.05
DISTANCE = 0.1
_BINNED = 20  # with more distinct reference values than this, values are binned
_EXACT = 10_000  # SciPy's limit for the exact p-value


class Score(NamedTuple):
    """A score. `measure`: the name of its measure, which tells p-values (low means drift) from distances."""

    measure: str
    score: float
    threshold: float

    @property
    def drift(self) -> bool:
        """Whether this is drift by Evidently's rule; NaN is not."""
        if self.measure == "ksPValue":
            return self.score <= self.threshold
        return self.score < self.threshold if self.measure.endswith("PValue") else self.score >= self.threshold


def numbers(reference: Sample, current: Sample) -> Score:
    """Evidently's default score of a numeric column. For raw samples only."""
    distinct = np.unique(np.concatenate((reference.values, current.values)))
    if len(distinct) <= FEW:
        return _categories(*_counts(reference, current, distinct), reference.count)
    if reference.count <= SMALL:
        return Score("ksPValue", ks_p_value(reference, current), ALPHA)
    return Score("wassersteinNormed", normed_wasserstein(reference, current), DISTANCE)


def categories(reference: Mapping[str, int], current: Mapping[str, int]) -> Score:
    """Evidently's default score of a categorical column."""
    before, after = chi_square.aligned(reference, current)
    return _categories(before, after, float(before.sum()))


def metrics(reference: Sample, current: Sample) -> dict[str, float]:
    """Every numeric score as Evidently defines it. For raw samples only."""
    before, after = binned(reference, current)
    return {
        "ks": ks.statistic(reference, current),
        "ksPValue": ks_p_value(reference, current),
        "wassersteinNormed": normed_wasserstein(reference, current),
        "jensenShannon": jensen_shannon.distance(before, after, math.e),
        "psi": psi(before, after),
    }


def ks_p_value(reference: Sample, current: Sample) -> float:
    """The p-value as of SciPy's ks_2samp, which is exact up to 10,000 values on the larger side. Beyond, SciPy
    refines the asymptotic p-value that is returned here; the two then differ by less than 0.01.
    """
    distance, n, m = ks.statistic(reference, current), round(reference.count), round(current.count)
    if max(n, m) <= _EXACT:
        return ks_exact.p_value(distance, n, m)
    return ks.p_value(distance, ks.effective_count(reference, current))


def normed_wasserstein(reference: Sample, current: Sample) -> float:
    """The Wasserstein distance over the standard deviation of the reference, or over 0.001 if that is larger."""
    return wasserstein.distance(reference, current) / max(reference.std, 0.001)


def binned(reference: Sample, current: Sample) -> tuple[Floats, Floats]:
    """The fraction of each side per bin: bins of equal width over both samples by Sturges' rule, or one per value
    if the reference has at most 20 distinct ones.
    """
    before, after = reference.values, current.values
    if len(np.unique(before)) > _BINNED:
        edges = np.histogram_bin_edges(np.concatenate((before, after)), bins="sturges")
        counts = [np.histogram(side, edges)[0].astype(np.float64) for side in (before, after)]
    else:
        counts = list(_counts(reference, current, np.unique(np.concatenate((before, after)))))
    return counts[0] / len(before), counts[1] / len(after)


def psi(before: Floats, after: Floats) -> float:
    """The PSI of fractions. An empty bin counts as 0.0001, or as a millionth of the smallest other fraction if
    that is at most 0.0001.
    """
    p, q = _filled(before), _filled(after)
    return float(((p - q) * np.log(p / q)).sum())


def _filled(shares: Floats) -> Floats:
    least = shares[shares > 0].min()
    return np.where(shares == 0, least / 1e6 if least <= 1e-4 else 1e-4, shares)


def _counts(reference: Sample, current: Sample, values: Floats) -> tuple[Floats, Floats]:
    return reference.share_at(values) * reference.count, current.share_at(values) * current.count


def _categories(before: Floats, after: Floats, count: float) -> Score:
    if count > SMALL:
        return Score("jensenShannon", jensen_shannon.distance(before, after, math.e), DISTANCE)
    if len(before) > 2:
        return Score("chiSquarePValue", _goodness_of_fit(before, after), ALPHA)
    return Score("zPValue", _z(before, after), ALPHA)


def _goodness_of_fit(before: Floats, after: Floats) -> float:
    """The p-value of a test that takes the reference's fractions as exact; 0 if there is an unseen category."""
    expected = before * (after.sum() / before.sum())
    if (expected == 0).any():
        return 0.0
    return tails.chi_square(float(((after - expected) ** 2 / expected).sum()), len(before) - 1)


def _z(before: Floats, after: Floats) -> float:
    if len(before) < 2:
        return 1.0
    n, m = before.sum(), after.sum()
    pooled = (before[1] + after[1]) / (n + m)
    return tails.normal(float((before[1] / n - after[1] / m) / math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))))
