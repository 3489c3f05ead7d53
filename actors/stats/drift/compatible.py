"""Judgements by the rules of other tools: their scores and thresholds, without a significance test of ours.

They are for users who need the same figures as before. How many false alarms and missed drifts they cause is
measured in tests/studies/results/drift.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from actors.stats.drift import chi_square, evidently, hopsworks, jensen_shannon, nannyml
from actors.stats.drift.evidently import Score
from actors.stats.drift.judgement import SCALES, Judgement, insufficient
from actors.stats.drift.sample import Sample
from timewell.monitoring_wire import Severity, Verdict

METHODS = ("evidently", "nannyml", "hopsworks")


def judge_numbers(method: str, reference: Sample, current: Sample, threshold: float | None = None) -> Judgement:
    """Judge numbers by `method`, one of METHODS. Raises ValueError for weighted samples: raw values are needed."""
    if (reference.weights != 1).any() or (current.weights != 1).any():
        raise ValueError(f"method {method!r} needs raw samples, not sketches")
    try:
        with np.errstate(all="ignore"):
            score, metrics = _numbers(method, reference, current)
    except ValueError:  # numpy finds no bins: the range is infinite, or too narrow relative to the values
        limit = SCALES[method].low if threshold is None else threshold
        return insufficient(method, limit, "the measure cannot be computed for these values")
    return _judged(method, score, metrics, threshold)


def _numbers(method: str, reference: Sample, current: Sample) -> tuple[Score, dict[str, float]]:
    if method == "evidently":
        return evidently.numbers(reference, current), evidently.metrics(reference, current)
    if method == "nannyml":
        distance = nannyml.from_numbers(reference.values)(current.values)
        return Score("jensenShannon", distance, nannyml.DISTANCE), {}
    return Score("psi", hopsworks.numbers(reference, current), hopsworks.PSI), {}


def judge_categories(
    method: str, reference: Mapping[str, int], current: Mapping[str, int], threshold: float | None = None
) -> Judgement:
    """Judge category counts by `method`, one of METHODS."""
    if method == "evidently":
        score = evidently.categories(reference, current)
    elif method == "nannyml":
        # For this distance it makes no difference whether unseen categories share a bin.
        distance = jensen_shannon.distance(*chi_square.aligned(reference, current))
        score = Score("jensenShannon", distance, nannyml.DISTANCE)
    else:
        score = Score("psi", hopsworks.categories(reference, current), hopsworks.PSI)
    return _judged(method, score, {}, threshold)


def _judged(method: str, score: Score, metrics: dict[str, float], threshold: float | None) -> Judgement:
    """The judgement by one tool's rule. These rules have no severity: drift counts as low."""
    limit = score.threshold if threshold is None else threshold
    metrics = {**metrics, score.measure: score.score}
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    if not math.isfinite(score.score):
        return insufficient(method, limit, "the measure cannot be computed for these values", metrics)
    drift = score._replace(threshold=limit).drift
    reasons = [f"{score.measure} is {score.score:.3g} (threshold {limit:g})", f"by the rule of {method} alone"]
    verdict: Verdict = "drift" if drift else "stable"
    severity: Severity = "low" if drift else "none"
    return Judgement(verdict, drift, score.score, method, limit, None, severity, metrics, reasons)
