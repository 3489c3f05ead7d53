"""Drift of the fraction of nulls, in addition to drift of the values.

Whether an observation is null is judged like a feature of its own, by effect and significance. The effect is on
the scale of the method: Cohen's h (1988) for methods in standard deviations, otherwise the method's distance
between the two fractions. The test compares two proportions: z with Yates' correction, or Fisher's exact test if
few nulls are expected, so that very rare nulls cause no more alarms than others. If there are nulls two tests are
made, so both p-values are doubled (Bonferroni).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from actors.stats.drift import compatible, tails
from actors.stats.drift.judgement import Evidence, Judgement, ruled

ALPHA = 0.01
LEAST = 30
_EXPECTED_FOR_NORMAL = 25.0
_SHIFTS = ("standardisedShift", "meanShift", "vectorShift", "chiSquare")


class Share(NamedTuple):
    """How many observations are null (`nulls`), and how many there are (`of`)."""

    nulls: int
    of: int

    @property
    def rate(self) -> float:
        """The fraction of nulls, in [0, 1]; 0 without observations."""
        return self.nulls / self.of if self.of else 0.0


def judged(values: Judgement, reference: Share, current: Share, alpha: float = ALPHA) -> Judgement:
    """Extend the judgement on the values by that on the nulls: drift if either has drifted."""
    rates = {"nullRateReference": reference.rate, "nullRateCurrent": current.rate}
    shown = msgspec.structs.replace(values, metrics=values.metrics | rates)
    if values.method in compatible.METHODS or not reference.nulls + current.nulls:
        return shown
    if min(reference.of, current.of) < LEAST:
        return shown
    p_value, effect = two_proportions(reference, current), effect_of(values.method, reference.rate, current.rate)
    metrics = shown.metrics | {"nullShift": effect, "nullPValue": p_value}
    told = f"nulls went from {reference.rate:.2%} to {current.rate:.2%} of the observations"
    looks = 1 if values.p_value is None else 2
    beside = [*values.reasons[: len(values.reasons) - (looks - 1)]]
    effects = [f"{told} (threshold {values.threshold:g})", *beside]
    nulls = Evidence(values.method, effect, values.threshold, min(1.0, looks * p_value), metrics, effects)
    by_nulls = ruled(nulls, alpha)
    if values.p_value is None or values.score is None:
        return by_nulls if by_nulls.drift else msgspec.structs.replace(shown, metrics=metrics)
    with_nulls = Evidence(
        values.method, values.score, values.threshold, min(1.0, 2 * values.p_value), metrics, [*beside, told]
    )
    by_values = ruled(with_nulls, alpha)
    if by_nulls.drift and not (by_values.drift and values.score >= effect):
        return by_nulls
    return by_values


def effect_of(method: str, before: float, after: float) -> float:
    """The effect size of a change from one fraction to another, on the scale of a method.

    >>> round(effect_of("standardisedShift", 0.0, 0.9), 2), effect_of("ks", 0.25, 0.75)
    (2.5, 0.5)
    """
    if method in _SHIFTS:
        return 2 * abs(math.asin(math.sqrt(after)) - math.asin(math.sqrt(before)))
    if method == "psi":
        return _psi(before, after) + _psi(1 - before, 1 - after)
    if method == "jensenShannon":
        return math.sqrt(max(0.0, _divergence(before, after) + _divergence(1 - before, 1 - after)))
    return abs(after - before)


def _psi(before: float, after: float) -> float:
    p, q = max(before, 1e-4), max(after, 1e-4)
    return (q - p) * math.log(q / p)


def _divergence(before: float, after: float) -> float:
    middle = (before + after) / 2
    return sum(share * math.log2(share / middle) / 2 for share in (before, after) if share > 0)


def two_proportions(before: Share, after: Share) -> float:
    """The two-sided p-value for both shares being from one population. Both `of` are greater than 0.

    >>> round(two_proportions(Share(0, 100), Share(5, 100)), 4)  # Fisher, the tail doubled
    0.0594
    >>> round(two_proportions(Share(100, 1000), Share(150, 1000)), 4)
    0.0009
    """
    total, nulls = before.of + after.of, before.nulls + after.nulls
    least = min(before.of, after.of) * min(nulls, total - nulls) / total
    if least < _EXPECTED_FOR_NORMAL:
        return _fisher(before, after)
    pooled, spread = nulls / total, 1 / before.of + 1 / after.of
    apart = max(0.0, abs(before.rate - after.rate) - spread / 2)
    return tails.normal(apart / math.sqrt(pooled * (1 - pooled) * spread))


def _fisher(before: Share, after: Share) -> float:
    """Fisher's exact test: twice the tail of the hypergeometric distribution that `after.nulls` lies in."""
    total, nulls, drawn = before.of + after.of, before.nulls + after.nulls, after.of
    rising = after.nulls * total >= nulls * drawn
    found = after.nulls if rising else drawn - after.nulls  # few nulls are the same as many values
    marked = nulls if rising else total - nulls
    most = min(marked, drawn)
    ways = _log_choose(marked, found) + _log_choose(total - marked, drawn - found)
    term = math.exp(ways - _log_choose(total, drawn))
    tail = term
    while found < most and term > tail * 1e-17:
        term *= (marked - found) * (drawn - found) / ((found + 1) * (total - marked - drawn + found + 1))
        tail += term
        found += 1
    return min(1.0, 2 * tail)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
