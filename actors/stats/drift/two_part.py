"""A test that leaves out one very frequent value (a clump), such as zero in amounts that are mostly zero.

Lachenbruch, "Analysis of data with clumping at zero" (1976): the clump and the rest are examined separately, as in
a test of everything the clump's observations, which are all equal, would hide a change in the rest.
"""

from __future__ import annotations

import math

import numpy as np

from actors.stats.drift import ks
from actors.stats.drift.sample import Sample

CLUMP = 0.1  # a value with at least this fraction of all observations is a clump
_LEAST = 10  # fewest observations outside the clump, on either side


def p_value(reference: Sample, current: Sample) -> float:
    """The p-value of the Kolmogorov-Smirnov test without the clump: the most frequent value of both sides
    together. NaN if no value has a tenth of the observations, or too few lie outside the clump.

    >>> from actors.stats.drift.sample import of
    >>> p_value(of(range(100)), of(range(100)))
    nan
    >>> round(p_value(of([0] * 60 + list(range(1, 41))), of([0] * 60 + list(range(21, 61)))), 6)
    9.1e-05
    """
    clump = _clump(reference, current)
    if clump is None:
        return math.nan
    before, after = _without(clump, reference), _without(clump, current)
    if min(before.count, after.count) < _LEAST:
        return math.nan
    return ks.p_value(ks.statistic(before, after), ks.effective_count(before, after))


def _clump(reference: Sample, current: Sample) -> float | None:
    # A value with a tenth of a sample's observations covers a decile, so it is among the deciles.
    deciles = np.arange(1, 10) / 10
    candidates = np.unique(np.concatenate((reference.quantiles(deciles), current.quantiles(deciles))))
    total = reference.count + current.count
    shares = (
        reference.share_at(candidates) * reference.count + current.share_at(candidates) * current.count
    ) / total
    most = int(shares.argmax())
    return float(candidates[most]) if shares[most] >= CLUMP else None


def _without(clump: float, sample: Sample) -> Sample:
    beside = sample.values != clump
    return Sample(sample.values[beside], sample.weights[beside])
