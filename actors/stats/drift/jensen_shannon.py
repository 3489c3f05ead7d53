"""The Jensen-Shannon distance of two columns of counts over the same bins or categories.

It is the square root of the divergence of Lin, "Divergence measures based on the Shannon entropy" (1991). With
logarithms to base 2 it is a metric between 0 and 1: Endres & Schindelin (2003).
"""

from __future__ import annotations

import math

import numpy as np

from actors.stats.drift.sample import Floats


def distance(reference: Floats, current: Floats, base: float = 2.0) -> float:
    """The distance of counts or fractions: float64[k] each, with positive sums. `base`: of the logarithms.

    >>> distance(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    1.0
    >>> round(distance(np.array([1.0, 0.0]), np.array([0.5, 0.5])), 6)
    0.557923
    """
    before, after = reference / reference.sum(), current / current.sum()
    middle = (before + after) / 2
    bits = (_divergence(before, middle) + _divergence(after, middle)) / (2 * math.log(base))
    return math.sqrt(max(0.0, bits))


def _divergence(shares: Floats, middle: Floats) -> float:
    occupied = shares > 0
    return float((shares[occupied] * np.log(shares[occupied] / middle[occupied])).sum())
