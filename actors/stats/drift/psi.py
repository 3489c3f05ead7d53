"""The population stability index (PSI) of two columns of counts over the same bins or categories.

PSI = sum (q - p) ln(q / p), the divergence of Jeffreys (1946). Its use and the rule of thumb (below 0.1 little,
above 0.25 much) come from credit scoring: Siddiqi, "Credit Risk Scorecards" (2006). Without drift its mean is not
0 but about (bins - 1) (1/n + 1/m), as it is then distributed as (1/n + 1/m) times chi-square with bins - 1 degrees
of freedom: Yurdakul, "Statistical Properties of Population Stability Index" (2018). `corrected` subtracts this
mean.
"""

from __future__ import annotations

import numpy as np

from actors.stats.drift.sample import Floats


def raw(reference: Floats, current: Floats) -> float:
    """The PSI of counts: float64[k] each, k >= 1. Half an observation is added to each bin, which keeps the result
    finite for empty bins.

    >>> round(raw(np.array([100.0, 100.0]), np.array([150.0, 50.0])), 4)
    0.2716
    """
    before = (reference + 0.5) / (reference + 0.5).sum()
    after = (current + 0.5) / (current + 0.5).sum()
    return float(((after - before) * np.log(after / before)).sum())


def corrected(reference: Floats, current: Floats) -> float:
    """`raw` minus what is expected by chance, at least 0.

    >>> round(corrected(np.array([100.0, 100.0]), np.array([150.0, 50.0])), 4)
    0.2616
    """
    chance = (len(reference) - 1) * (1 / reference.sum() + 1 / current.sum())
    return max(0.0, raw(reference, current) - float(chance))
