"""The exact p-value of the two-sample Kolmogorov-Smirnov test, for samples without ties.

Every order of the n and m observations is a path through a grid, and all are equally likely without drift; the
p-value is the fraction of paths that leave the band of width D around the diagonal: Hodges, "The significance
probability of the Smirnov two-sample test" (1958).
"""

from __future__ import annotations

import math

import numpy as np


def p_value(distance: float, n: int, m: int) -> float:
    """P(D >= distance). Absolute error about 1e-12; takes n + m steps over at most n values, or n / D for n = m.

    >>> round(p_value(0.5, 4, 4), 6), round(p_value(0.5, 4, 6), 6)
    (0.771429, 0.552381)
    """
    if n == m:
        return _square(round(distance * n), n)
    return _grid(round(distance * n * m), n, m)


def _square(height: int, n: int) -> float:
    """By the reflection principle: 2 sum (-1)^(k-1) C(2n, n - k height) / C(2n, n)."""
    if height <= 0:
        return 1.0
    whole = -2 * math.lgamma(n + 1)
    terms = (
        (-1) ** (k - 1) * math.exp(-math.lgamma(n - k * height + 1) - math.lgamma(n + k * height + 1) - whole)
        for k in range(1, n // height + 1)
    )
    return min(1.0, max(0.0, 2 * math.fsum(terms)))


def _grid(height: int, n: int, m: int) -> float:
    """By recursion over the grid: after each step, `inside[i]` is the probability that a random path to (i, step -
    i) never left the band |i m - j n| < height.
    """
    i = np.arange(n + 1)
    inside = np.zeros(n + 1)
    inside[0] = 1.0 if height > 0 else 0.0
    for step in range(1, n + m + 1):
        j = step - i
        inside[1:] = (i[1:] * inside[:-1] + j[1:] * inside[1:]) / step
        inside[0] *= j[0] / step
        inside[(j < 0) | (j > m) | (np.abs(i * m - j * n) >= height)] = 0.0
    return min(1.0, max(0.0, 1.0 - float(inside[n])))
