"""The judgement on a pair of samples: a verdict, its severity, and the reasons.

For drift, an effect size and a significance test have to agree. The test alone would call any difference drift
once there are enough observations; the effect size alone would call chance differences drift while there are few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from timewell.monitoring_wire import Severity, Verdict

LARGEST = 10.0  # stands for infinite effects, which JSON cannot represent


class Judgement(msgspec.Struct, frozen=True, rename="camel"):
    """A judgement. `drift` is true only if effect (`score` >= `threshold`) and test (`p_value` <= alpha) agree.

    `score`, `p_value` and `drift` are None if the verdict is `insufficient`; `p_value` also by the rules of other
    tools (compatible.py), which go by the score alone. `metrics` has every measure that could be computed and is
    finite. `reasons` are sentences, of which the last is about significance.
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
    """The scores from which on drift is of low (the default threshold), medium and high severity."""

    low: float
    medium: float
    high: float


# In standard deviations: Cohen (1988) calls 0.5 "medium", but to a model, a feature that moved so far is a
# different one. The others are conventions: PSI of credit scoring (see psi.py), 0.1 of most tools for distances.
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
    # These are judged by their own rules (compatible.py); these thresholds are shown if there is too little data.
    "evidently": _DISTANCE,
    "nannyml": _DISTANCE,
    "hopsworks": Scale(0.2, 0.2, 0.2),
}


class Evidence(NamedTuple):
    """The basis of a judgement. `effects`: sentences about the effect; `family`: the tests adjusted for."""

    method: str
    score: float
    threshold: float
    p_value: float
    metrics: dict[str, float]
    effects: Sequence[str]
    family: int = 1


def ruled(evidence: Evidence, alpha: float) -> Judgement:
    """The judgement that follows from the evidence. It is `insufficient` if score or p-value is NaN."""
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
    """The judgement if there is too little data, or none that can be compared."""
    return Judgement("insufficient", None, None, method, threshold, None, "none", metrics or {}, [why])


def too_few(reference: float, current: float, least: float) -> str | None:
    """A sentence that says which side has too few observations; None if both have enough."""
    for side, count in (("reference", reference), ("current", current)):
        if count < max(1, least):
            return f"the {side} sample has {count:.0f} values; at least {max(1, least):.0f} are needed"
    return None


def threshold_of(method: str, threshold: float | None) -> float:
    """The given threshold, or the default of the method."""
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
