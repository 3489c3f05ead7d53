"""The L-infinity (Chebyshev) distance: the largest change in the fraction of any category."""

from __future__ import annotations

import numpy as np

from actors.stats.drift.sample import Floats


def distance(reference: Floats, current: Floats) -> float:
    """The distance, in [0, 1], of counts of the same categories: float64[k] each, with positive sums.

    >>> distance(np.array([50.0, 50.0]), np.array([30.0, 10.0]))
    0.25
    """
    return float(np.abs(current / current.sum() - reference / reference.sum()).max())
