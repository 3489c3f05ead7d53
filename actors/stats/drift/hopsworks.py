"""The distribution comparison of Hopsworks 5.2, for comparison and for users who migrate from it.

From its documentation and published client: drift from a PSI of 0.2 on. Numbers go into ten bins between the
reference's percentiles, the outermost open-ended; a millionth of an observation is added to each bin. Hopsworks
counts from a stored histogram, these functions from the values, which gives the same result as a fine enough
histogram.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from actors.stats.drift import chi_square
from actors.stats.drift.sample import Floats, Sample

PSI = 0.2
BINS = 10
_EPSILON = 1e-6


def numbers(reference: Sample, current: Sample) -> float:
    """The PSI of numbers. A constant reference has no bins, and gives 0."""
    percentiles = reference.quantiles(np.arange(1, 101) / 100)
    edges = np.unique(percentiles[np.linspace(0, 99, BINS + 1).round().astype(int)])
    if len(edges) < 2:
        return 0.0
    return _psi(_counts(reference, edges), _counts(current, edges))


def categories(reference: Mapping[str, int], current: Mapping[str, int]) -> float:
    """The PSI over the categories of both sides."""
    return _psi(*chi_square.aligned(reference, current))


def _counts(sample: Sample, edges: Floats) -> Floats:
    bins = np.clip(np.searchsorted(edges, sample.values, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(bins, sample.weights, len(edges) - 1).astype(np.float64)


def _psi(before: Floats, after: Floats) -> float:
    p = (before + _EPSILON) / (before + _EPSILON).sum()
    q = (after + _EPSILON) / (after + _EPSILON).sum()
    return float(((q - p) * np.log(q / p)).sum())
