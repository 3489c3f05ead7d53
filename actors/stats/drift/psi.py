"""The population stability index (PSI) of two columns of counts over the same bins or categories.

PSI = sum (q - p) ln(q / p), the divergence of Jeffreys (1946); its use and the rule of thumb (below 0.1 little,
above 0.25 much) are those of credit scoring: Siddiqi, "Credit Risk Scorecards" (2006). Where nothing has drifted
it is not 0 but about (bins - 1) (1/n + 1/m), as it is then distributed as that factor times chi-square: Yurdakul,
"Statistical Properties of Population Stability Index" (2018). `corrected` subtracts this.
"""

from __future__ import annotations

import numpy as np

from actors.stats.drift.sample import Floats


def raw(reference: Floats, current: Floats) -> float:
    """Of counts, float64[k] each, k >= 1. Half an observation is added to each bin, so that an empty one stays
    finite.

    >>> round(raw(np.array([100.0, 100.0]), np.array([150.0, 50.0])), 4)
    0.2716
    """
    before = (reference + 0.5) / (reference + 0.5).sum()
    after = (current + 0.5) / (current + 0.5).sum()
    return float(((after - before) * np.log(after / before)).sum())


def corrected(reference: Floats, current: Floats) -> float:
    """`raw` less what chance alone is expected to give, at least 0.

    >>> round(corrected(np.array([100.0, 100.0]), np.array([150.0, 50.0])), 4)
    0.2616
    """
    chance = (len(reference) - 1) * (1 / reference.sum() + 1 / current.sum())
    return max(0.0, raw(reference, current) - float(chance))
