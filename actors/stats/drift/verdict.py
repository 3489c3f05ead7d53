"""The verdict on a pair of samples.

Numbers are tested for the shape (Kolmogorov-Smirnov), for the mean (Welch and Student) and, where one value is
very frequent, for what lies beside it; the smallest p-value counts as many times as there were tests (Bonferroni).
The effect is the larger of two shifts in standard deviations: that of the mean, and the shift of a normal
distribution that would give the same Kolmogorov-Smirnov distance. Categories: chi-square and Cohen's w. Vectors:
the components' means, and the norms as numbers.

The p-values suppose independent observations. A stream in which the same few entities report again and again has
fewer than it seems; there the effect's threshold is what keeps chance from being called drift.
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
    """`method` is one of NUMERIC_METHODS, by default the first; ValueError for another. Those named for a tool
    follow its rule alone (see compatible.py): no alpha, no p-value, and raw samples only, else ValueError.

    `rank_error`, in [0, 1], is how far off the ranks of each side may be when the samples come out of sketches.
    What this alone could explain is neither significant nor an effect of the shape or the mean. `moments`, the
    exact ones of (reference, current), make the mean independent of the sketches.

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
    """Of how often each category was seen. `method` is one of CATEGORICAL_METHODS, by default the first;
    ValueError for another.

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
    """By the mean of each component and, where given, by the (reference, current) `norms`, the lengths of the
    vectors, with their `rank_error`. The method is `vectorShift`. ValueError when the dimensions differ.
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
    """The verdicts on features that were scored together, in the same order: p-values adjusted by Benjamini-
    Hochberg for how many there were. What has no p-value stays as it is and does not count. Give each judgement
    once, not what this returned.
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
