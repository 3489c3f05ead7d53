"""Tail probabilities of the normal, Student's t, chi-square and Kolmogorov distributions.

The special functions follow Press, Teukolsky, Vetterling & Flannery, "Numerical Recipes" (3rd ed. 2007), 6.2 and
6.4: a series, or a continued fraction by the method of Lentz (1976). The relative error is about 1e-10.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import count

_PRECISION = 1e-15
_TINY = 1e-300  # keeps a denominator of Lentz's method off zero
_MOST_TERMS = 100_000
_NEARLY_NORMAL = 1e7  # degrees of freedom beyond which Student's t is treated as normal


def normal(z: float) -> float:
    """P(|Z| >= z) for the standard normal.

    >>> round(normal(1.959964), 6)
    0.05
    """
    return math.erfc(abs(z) / math.sqrt(2))


def student_t(t: float, freedom: float) -> float:
    """P(|T| >= t) with `freedom` > 0 degrees of freedom.

    >>> round(student_t(2.228139, 10), 6)
    0.05
    """
    if freedom > _NEARLY_NORMAL:
        return normal(t)
    if math.isinf(t):
        return 0.0
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def chi_square(x: float, freedom: float) -> float:
    """P(X >= x) with `freedom` > 0 degrees of freedom.

    >>> round(chi_square(18.307038, 10), 6)
    0.05
    """
    return 0.0 if math.isinf(x) else upper_incomplete_gamma(freedom / 2, x / 2)


def kolmogorov(x: float) -> float:
    """P(K >= x) of Kolmogorov's limiting distribution (1933): 2 * sum (-1)^(k-1) exp(-2 k^2 x^2).

    >>> round(kolmogorov(1.3581), 4)
    0.05
    """
    if x < 0.18:  # equals 1 to 15 digits, and the series would converge slowly
        return 1.0
    terms = (2 * (-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 40))
    return min(1.0, max(0.0, math.fsum(terms)))


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b) for a, b > 0 and x in [0, 1]."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the continued fraction converges faster for the complement
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    return front / (a * _continued_fraction(_beta_terms(a, b, x)))


def _beta_terms(a: float, b: float, x: float) -> Iterable[tuple[float, float]]:
    yield 0.0, 1.0
    for m in count():
        yield -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)), 1.0
        yield (m + 1) * (b - m - 1) * x / ((a + 2 * m + 1) * (a + 2 * m + 2)), 1.0


def upper_incomplete_gamma(a: float, x: float) -> float:
    """The regularised upper incomplete gamma function Q(a, x) for a > 0."""
    if x <= 0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x >= a + 1:
        return front / _continued_fraction(_gamma_terms(a, x))
    term = total = 1 / a
    for n in range(1, _MOST_TERMS):
        term *= x / (a + n)
        total += term
        if term < total * _PRECISION:
            break
    return max(0.0, 1 - front * total)


def _gamma_terms(a: float, x: float) -> Iterable[tuple[float, float]]:
    yield 0.0, x + 1 - a
    for n in count(1):
        yield -n * (n - a), x + 2 * n + 1 - a


def _continued_fraction(terms: Iterable[tuple[float, float]]) -> float:
    """b0 + a1 / (b1 + a2 / (b2 + ...)) for pairs (a, b); of the first pair only b0 is used."""
    pairs = iter(terms)
    value = next(pairs)[1] or _TINY
    upper, lower = value, 0.0
    for _, (a, b) in zip(range(_MOST_TERMS), pairs, strict=False):
        lower = 1 / (b + a * lower or _TINY)
        upper = b + a / upper or _TINY
        value *= upper * lower
        if abs(upper * lower - 1) < _PRECISION:
            break
    return value
