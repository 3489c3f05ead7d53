"""What is said about a pair of samples: a verdict, how severe, and why.

An effect size and a significance test have to agree on drift. The test alone calls any difference drift once there
are enough observations; the effect alone calls chance drift while there are few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from timewell.monitoring_wire import Severity, Verdict

LARGEST = 10.0  # stands for infinite effects, which JSON cannot say


class Judgement(msgspec.Struct, frozen=True, rename="camel"):
    """`drift` only when the effect (`score` >= `threshold`) and the test (`p_value` <= alpha) agree.

    `score`, `p_value` and `drift` are None when the verdict is `insufficient`; `p_value` also by the rules of
    other tools (compatible.py), which go by the score alone. `metrics` holds every measure that
    could be computed, all finite. `reasons` are sentences, of which the last is about significance.
    """

    verdict: Verdict
    drift: bool | None
    score: float | None
    method: str
    threshold: float
    p_value: float | None
    severity: Severity
    metrics: dict[str, float]
    reasons: list[str]


class Scale(NamedTuple):
    """From which score on drift is low (the default threshold), medium and high."""

    low: float
    medium: float
    high: float


# In standard deviations: 0.5 is "medium" to Cohen (1988), but a feature that moved so far is another feature to a
# model. The others are conventions: PSI of credit scoring (see psi.py), 0.1 of most tools for the distances.
_SHIFT = Scale(0.06, 0.15, 0.5)
_DISTANCE = Scale(0.1, 0.2, 0.4)
SCALES: Mapping[str, Scale] = {
    "standardisedShift": _SHIFT,
    "vectorShift": _SHIFT,
    "chiSquare": _SHIFT,
    "meanShift": _SHIFT,
    "psi": Scale(0.1, 0.2, 0.25),
    "ks": _DISTANCE,
    "jensenShannon": _DISTANCE,
    "lInfinity": _DISTANCE,
    "wasserstein": Scale(0.1, 0.25, 0.5),
    # Their own rules decide (compatible.py); these thresholds are shown where there is too little to judge.
    "evidently": _DISTANCE,
    "nannyml": _DISTANCE,
    "hopsworks": Scale(0.2, 0.2, 0.2),
}


class Evidence(NamedTuple):
    """`effects` are the sentences about the effect; `family` is how many features were scored together."""

    method: str
    score: float
    threshold: float
    p_value: float
    metrics: dict[str, float]
    effects: Sequence[str]
    family: int = 1


def ruled(evidence: Evidence, alpha: float) -> Judgement:
    """The judgement that follows. A score or a p-value that is NaN makes it insufficient."""
    method, score, threshold, p_value, metrics, effects, _ = evidence
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    if math.isnan(score) or math.isnan(p_value):
        return insufficient(method, threshold, "the measure cannot be computed for these values", metrics)
    score = min(score, LARGEST) if math.isinf(score) else score
    drift = score >= threshold and p_value <= alpha
    severity = _severity(method, score) if drift else "none"
    reasons = [*effects, _significance(evidence, alpha)]
    verdict: Verdict = "drift" if drift else "stable"
    return Judgement(verdict, drift, score, method, threshold, p_value, severity, metrics, reasons)


def insufficient(method: str, threshold: float, why: str, metrics: dict[str, float] | None = None) -> Judgement:
    """Nothing can be said."""
    return Judgement("insufficient", None, None, method, threshold, None, "none", metrics or {}, [why])


def too_few(reference: float, current: float, least: float) -> str | None:
    """The sentence that says so; None when both sides have enough observations."""
    for side, count in (("reference", reference), ("current", current)):
        if count < max(1, least):
            return f"the {side} sample has {count:.0f} values; at least {max(1, least):.0f} are needed"
    return None


def threshold_of(method: str, threshold: float | None) -> float:
    """What was asked for, or the default of the method."""
    return SCALES[method].low if threshold is None else threshold


def _severity(method: str, score: float) -> Severity:
    _, medium, high = SCALES[method]
    if score >= high:
        return "high"
    return "medium" if score >= medium else "low"


def _significance(evidence: Evidence, alpha: float) -> str:
    p_value, family = evidence.p_value, evidence.family
    how = f" after Benjamini-Hochberg over {family} features" if family > 1 else ""
    says = "would hardly make" if p_value <= alpha else "explains"
    return f"p = {p_value:.2g}{how}: chance alone {says} a difference like this (alpha {alpha:g})"
