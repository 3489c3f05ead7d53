"""p-values adjusted for the number of tests.

Benjamini & Hochberg, "Controlling the false discovery rate" (1995): of the tests whose adjusted p-value is at most
alpha, on average at most a fraction alpha are false discoveries, if the tests are independent or positively
dependent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def adjusted(p_values: Sequence[float]) -> list[float]:
    """The adjusted p-values in the order given: the smallest alpha at which each test is a discovery.

    >>> [round(p, 4) for p in adjusted([0.01, 0.04, 0.03, 0.5])]
    [0.04, 0.0533, 0.0533, 0.5]
    """
    raw = np.asarray(p_values, np.float64)
    order = np.argsort(raw, kind="stable")
    scaled = raw[order] * len(raw) / np.arange(1, len(raw) + 1)
    fair = np.empty(len(raw))
    fair[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1.0)
    return [float(p) for p in fair]
