"""Computes every measure for a pair of numeric samples, and the evidence by the method that decides."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from actors.stats.drift import bins, jensen_shannon, ks, mean_shift, psi, two_part, wasserstein
from actors.stats.drift.judgement import Evidence, threshold_of
from actors.stats.drift.sample import Sample
from actors.stats.moments import Moments

METHODS = ("standardisedShift", "psi", "ks", "jensenShannon", "wasserstein", "meanShift")

_NAMES = {
    "psi": "the population stability index, less what chance gives, is",
    "ks": "the largest distance of the cumulative distributions (KS) is",
    "jensenShannon": "the Jensen-Shannon distance is",
    "wasserstein": "the Wasserstein distance in standard deviations of the reference is",
    "meanShift": "in standard deviations the mean moved by",
}


def evidence(
    reference: Sample,
    current: Sample,
    method: str,
    threshold: float | None,
    rank_error: float,
    moments: tuple[Moments, Moments] | None,
) -> Evidence:
    """The evidence by `method`, see `verdict.judge_numbers`. Both samples have at least one observation."""
    before, after = moments or (reference.moments(), current.moments())
    # Without exact moments, a rank error may move the mean by that fraction of the whole range.
    allowance = rank_error * (_range(reference) + _range(current)) if rank_error and not moments else 0.0
    effective = ks.effective_count(reference, current)
    distance = ks.statistic(reference, current)
    surely = max(0.0, distance - 2 * rank_error)
    # A sketch is too inaccurate besides a very frequent value for the two-part test.
    apart = math.nan if rank_error else two_part.p_value(reference, current)
    same_mean = mean_shift.p_value(before, after, allowance)
    tests = {"ks": ks.p_value(surely, effective), "meanShift": same_mean, "twoPart": apart}
    metrics = {
        **_distances(reference, current),
        "ks": distance,
        "shapeShift": ks.as_normal_shift(surely, effective),
        "meanShift": mean_shift.standardised(before, after),
        **{f"{name}PValue": value for name, value in tests.items()},
    }
    shift = mean_shift.standardised(before, after, allowance)
    limit = threshold_of(method, threshold)
    p_value = tests.get(method, _bonferroni(list(tests.values())))
    if method == "standardisedShift":
        score, effects = _shift(shift, mean_shift.without_chance(shift, effective), metrics, limit)
        return Evidence(method, score, limit, p_value, metrics, effects)
    score = {**metrics, "ks": surely, "meanShift": abs(shift), "wasserstein": metrics["wassersteinNormed"]}[method]
    return Evidence(method, score, limit, p_value, metrics, [_sentence(method, score, limit)])


def _distances(reference: Sample, current: Sample) -> dict[str, float]:
    before, after = bins.counts_of(reference, current)
    return {
        "psi": psi.corrected(before, after),
        "psiRaw": psi.raw(before, after),
        "jensenShannon": jensen_shannon.distance(before, after),
        "wasserstein": wasserstein.distance(reference, current),
        "wassersteinNormed": wasserstein.normed(reference, current),
    }


def _bonferroni(p_values: list[float]) -> float:
    """The smallest p-value, multiplied by the number of tests that could be made (those not NaN)."""
    made = [p_value for p_value in p_values if not math.isnan(p_value)]
    return min(1.0, len(made) * min(made))


def _sentence(method: str, score: float, limit: float) -> str:
    return f"{_NAMES[method]} {score:.3g} (threshold {limit:g})"


def _shift(shift: float, size: float, metrics: Mapping[str, float], limit: float) -> tuple[float, list[str]]:
    """The larger of the two effects, and the sentences about both; the one that decided comes first."""
    shape = metrics["shapeShift"]
    moved = "moved up" if shift > 0 else "moved down"
    mean = f"the mean {moved} by {size:.2g} standard deviations (threshold {limit:g})"
    form = (
        f"the distribution moved as far as a normal one shifted by {shape:.2g} standard deviations "
        f"(KS distance {metrics['ks']:.2g}, threshold {limit:g})"
    )
    if size >= shape:
        return size, [mean]
    return shape, [form, mean] if size > 0 else [form]


def _range(sample: Sample) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(sample.values[-1] - sample.values[0])
