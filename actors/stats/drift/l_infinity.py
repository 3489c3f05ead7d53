"""The L-infinity (Chebyshev) distance: the largest change of the share of one category."""

from __future__ import annotations

import numpy as np

from actors.stats.drift.sample import Floats


def distance(reference: Floats, current: Floats) -> float:
    """Of counts over the same categories, float64[k] each, each with a positive sum; in [0, 1].

    >>> distance(np.array([50.0, 50.0]), np.array([30.0, 10.0]))
    0.25
    """
    return float(np.abs(current / current.sum() - reference / reference.sum()).max())
