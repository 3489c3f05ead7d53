"""Computes every measure for a pair of category counts, and the evidence by the method that decides."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from actors.stats.drift import chi_square, jensen_shannon, l_infinity, psi, unseen
from actors.stats.drift.categories import names_of
from actors.stats.drift.judgement import Evidence, threshold_of

METHODS = ("chiSquare", "psi", "jensenShannon", "lInfinity")

_NAMES = {
    "chiSquare": "in standard deviations the shares moved (Cohen's w, less what chance gives) by",
    "psi": "the population stability index, less what chance gives, is",
    "jensenShannon": "the Jensen-Shannon distance is",
    "lInfinity": "the largest change of one category's share is",
}


def evidence(
    reference: Mapping[str, int], current: Mapping[str, int], method: str, threshold: float | None
) -> Evidence | None:
    """The evidence by `method`, see `verdict.judge_categories`. Each side must have at least one observation.

    None if nothing can be compared: there are several categories, but all so rare that pooling left one.
    """
    before, after = chi_square.aligned(reference, current)
    test = chi_square.homogeneity(before, after)
    if test.freedom == 0 and len(before) > 1:
        return None
    common = chi_square.pooled(before, after)
    metrics = {
        "chiSquare": test.statistic,
        "cohensW": test.effect,
        "psi": psi.corrected(*common),
        "psiRaw": psi.raw(*common),
        "jensenShannon": jensen_shannon.distance(before, after),
        "lInfinity": l_infinity.distance(before, after),
        "unseenShare": unseen.share(reference, current),
    }
    score = test.effect if method == "chiSquare" else metrics[method]
    limit = threshold_of(method, threshold)
    effects = [f"{_NAMES[method]} {score:.3g} (threshold {limit:g})", *_details(reference, current, metrics)]
    return Evidence(method, score, limit, test.p_value, metrics, effects)


def _details(reference: Mapping[str, int], current: Mapping[str, int], metrics: Mapping[str, float]) -> list[str]:
    names = names_of(reference, current)
    n, m = sum(reference.values()), sum(current.values())
    before = np.array([reference.get(name, 0) for name in names]) / n
    after = np.array([current.get(name, 0) for name in names]) / m
    most = int(np.abs(after - before).argmax())
    details = []
    if after[most] != before[most]:
        details.append(f"{names[most]!r} went from {before[most]:.2%} to {after[most]:.2%} of the values")
    if metrics["unseenShare"] > 0:
        share = metrics["unseenShare"]
        details.append(f"{share:.2%} of the current values are of categories the reference never had")
    return details
