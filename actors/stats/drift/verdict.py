"""The verdict on a pair of samples.

Numbers are tested for shape (Kolmogorov-Smirnov), for the mean (Welch and Student) and, if one value is very
frequent, without that value; the smallest p-value is multiplied by the number of tests (Bonferroni). The effect is
the larger of two shifts in standard deviations: that of the mean, and the shift of a normal distribution that
would give the same Kolmogorov-Smirnov distance. Categories are compared by chi-square and Cohen's w, vectors by
the means of their components, and by their norms as numbers.

The p-values assume independent observations. A stream in which the same few entities report again and again has
fewer of them than it seems; there it is the threshold of the effect that keeps chance from being called drift.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from actors.stats.drift import categorical, compatible, numeric, vector_shift
from actors.stats.drift.benjamini_hochberg import adjusted
from actors.stats.drift.judgement import Evidence, Judgement, insufficient, ruled, threshold_of, too_few
from actors.stats.drift.sample import Sample
from actors.stats.drift.vector_shift import VectorSide
from actors.stats.moments import Moments

ALPHA = 0.01
MINIMUM_COUNT = 30

NUMERIC_METHODS = numeric.METHODS + compatible.METHODS
CATEGORICAL_METHODS = categorical.METHODS + compatible.METHODS


def judge_numbers(
    reference: Sample,
    current: Sample,
    *,
    method: str | None = None,
    threshold: float | None = None,
    alpha: float = ALPHA,
    minimum_count: float = MINIMUM_COUNT,
    rank_error: float = 0.0,
    moments: tuple[Moments, Moments] | None = None,
) -> Judgement:
    """Judge numbers. `method`: one of NUMERIC_METHODS, by default the first; raises ValueError for another. A
    method that is named for a tool follows its rule alone (see compatible.py): it has no alpha and no p-value, and
    raises ValueError for samples that are not raw.

    `rank_error`: how far, in [0, 1], the ranks of each side may be off if the samples come from sketches. A
    difference that this alone could explain counts neither as significant nor as an effect. `moments`: the exact
    moments of (reference, current), which make the comparison of means independent of the sketches.

    >>> from actors.stats.drift.sample import of
    >>> judgement = judge_numbers(of(range(100)), of(range(50, 150)))
    >>> judgement.verdict, judgement.severity, round(judgement.score, 2)
    ('drift', 'high', 1.73)
    >>> judgement.reasons[0]
    'the mean moved up by 1.7 standard deviations (threshold 0.06)'
    """
    method = _one_of(NUMERIC_METHODS, method)
    why = too_few(reference.count, current.count, minimum_count)
    if why:
        return insufficient(method, threshold_of(method, threshold), why)
    if method in compatible.METHODS:
        return compatible.judge_numbers(method, reference, current, threshold)
    return ruled(numeric.evidence(reference, current, method, threshold, rank_error, moments), alpha)


def judge_categories(
    reference: Mapping[str, int],
    current: Mapping[str, int],
    *,
    method: str | None = None,
    threshold: float | None = None,
    alpha: float = ALPHA,
    minimum_count: float = MINIMUM_COUNT,
) -> Judgement:
    """Judge category counts. `method`: one of CATEGORICAL_METHODS, by default the first; raises ValueError for
    another.

    >>> judgement = judge_categories({"card": 900, "cash": 100}, {"card": 700, "cash": 300})
    >>> judgement.verdict, judgement.severity, judgement.reasons[1]
    ('drift', 'medium', "'card' went from 90.00% to 70.00% of the values")
    """
    method = _one_of(CATEGORICAL_METHODS, method)
    limit = threshold_of(method, threshold)
    why = too_few(sum(reference.values()), sum(current.values()), minimum_count)
    if why:
        return insufficient(method, limit, why)
    if method in compatible.METHODS:
        return compatible.judge_categories(method, reference, current, threshold)
    evidence = categorical.evidence(reference, current, method, threshold)
    if evidence is None:
        return insufficient(method, limit, "every category is too rare to be compared")
    return ruled(evidence, alpha)


def judge_vectors(
    reference: VectorSide,
    current: VectorSide,
    *,
    norms: tuple[Sample, Sample] | None = None,
    threshold: float | None = None,
    alpha: float = ALPHA,
    minimum_count: float = MINIMUM_COUNT,
    rank_error: float = 0.0,
) -> Judgement:
    """Judge vectors by the means of their components and, if given, by `norms`: samples of the norms of
    (reference, current), whose ranks may be off by `rank_error`. The method is `vectorShift`. Raises ValueError if
    the dimensions differ.
    """
    limit = threshold_of("vectorShift", threshold)
    why = too_few(reference.count, current.count, max(2, minimum_count))
    if why:
        return insufficient("vectorShift", limit, why)
    moved = vector_shift.shift(reference, current)
    metrics = {"vectorShift": moved.size, "largestComponentShift": moved.largest}
    metrics |= {"vectorPValue": moved.p_value, "diagonalPValue": moved.p_diagonal}
    effects = [
        f"the components' means moved by {moved.size:.2g} standard deviations on average (threshold {limit:g})",
        f"component {moved.component} moved most, by {moved.largest:.2g} standard deviations",
    ]
    score, p_value = moved.size, moved.p_value
    if norms:
        lengths = numeric.evidence(*norms, "standardisedShift", limit, rank_error, None)
        effects.append(f"of the vectors' lengths {lengths.effects[0]}")
        metrics |= {f"norm{name[0].upper()}{name[1:]}": value for name, value in lengths.metrics.items()}
        score, p_value = max(score, lengths.score), min(1.0, 2 * min(p_value, lengths.p_value))
    return ruled(Evidence("vectorShift", score, limit, p_value, metrics, effects), alpha)


def decide(judgements: Sequence[Judgement], alpha: float = ALPHA) -> list[Judgement]:
    """Adjust the p-values of judgements that were made together (Benjamini-Hochberg), and their verdicts.

    Returns them in the same order. A judgement without a p-value stays as it is and does not count. The judgements
    must not have been adjusted before.
    """
    tested = [judgement.p_value for judgement in judgements if judgement.p_value is not None]
    fair = iter(adjusted(tested))
    return [
        judgement if judgement.p_value is None else _again(judgement, next(fair), len(tested), alpha)
        for judgement in judgements
    ]


def _again(judgement: Judgement, p_value: float, family: int, alpha: float) -> Judgement:
    score = math.nan if judgement.score is None else judgement.score
    effects = judgement.reasons[:-1]
    evidence = Evidence(judgement.method, score, judgement.threshold, p_value, judgement.metrics, effects, family)
    return ruled(evidence, alpha)


def _one_of(methods: Sequence[str], method: str | None) -> str:
    if method is not None and method not in methods:
        raise ValueError(f"unknown method {method!r}; known are {', '.join(methods)}")
    return method or methods[0]
