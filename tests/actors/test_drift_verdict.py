"""Verdicts: what is called drift, what is not, and what can not be said."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.stats.drift import categorical, numeric, sample, vector_shift
from actors.stats.drift.judgement import LARGEST, Judgement
from actors.stats.drift.sample import Floats
from actors.stats.drift.vector_shift import VectorSide
from actors.stats.drift.verdict import (
    decide,
    judge_categories,
    judge_numbers,
    judge_vectors,
)

Draw = Callable[[np.random.Generator, int], Floats]

SHAPES: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "lognormal": lambda rng, n: rng.lognormal(size=n),
    "zero-inflated": lambda rng, n: rng.lognormal(size=n) * (rng.random(n) < 0.4),
    "heavy-tailed": lambda rng, n: rng.standard_t(3, n),
    "whole numbers": lambda rng, n: rng.poisson(1.5, n).astype(np.float64),
}


def judged(reference: Floats, current: Floats) -> Judgement:
    return judge_numbers(sample.of(reference), sample.of(current))


def components(vectors: Floats) -> VectorSide:
    return VectorSide(len(vectors), vectors.mean(0), vectors.var(0))


def with_p_value(p_value: float) -> Judgement:
    template = judged(np.arange(100.0), np.arange(50.0, 150.0))
    return msgspec.structs.replace(template, p_value=p_value)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (1000, 50), (60, 2000)])
@pytest.mark.parametrize("shape", SHAPES)
def test_without_drift_at_most_two_in_a_hundred_are_false_alarms(shape: str, n: int, m: int) -> None:
    rng = np.random.default_rng(11)
    alarms = sum(bool(judged(SHAPES[shape](rng, n), SHAPES[shape](rng, m)).drift) for _ in range(300))
    assert alarms <= 6


@pytest.mark.parametrize("shape", SHAPES)
def test_a_quarter_of_a_standard_deviation_is_found_in_a_thousand_values(shape: str) -> None:
    rng = np.random.default_rng(12)
    spread = SHAPES[shape](rng, 100_000).std()
    found = sum(
        bool(judged(SHAPES[shape](rng, 1000), SHAPES[shape](rng, 1000) + 0.25 * spread).drift) for _ in range(40)
    )
    assert found >= 38


def test_a_tiny_shift_of_very_many_values_is_significant_but_no_drift() -> None:
    rng = np.random.default_rng(13)
    judgement = judged(rng.normal(size=200_000), rng.normal(0.03, 1, size=200_000))
    assert judgement.p_value is not None
    assert judgement.p_value < 1e-6
    assert (judgement.verdict, judgement.severity) == ("stable", "none")


def test_a_large_effect_that_chance_explains_is_no_drift() -> None:
    rng = np.random.default_rng(14)
    judgement = judge_numbers(sample.of(rng.normal(size=30)), sample.of(rng.normal(0.3, 1, size=30)))
    assert judgement.score is not None
    assert judgement.p_value is not None
    assert judgement.score >= judgement.threshold or judgement.p_value > 0.01
    assert judgement.verdict == "stable"


def test_severity_grows_with_the_shift() -> None:
    rng = np.random.default_rng(15)
    reference = rng.normal(size=20_000)
    seen = [judged(reference, rng.normal(shift, 1, size=20_000)).severity for shift in (0, 0.1, 0.3, 1.0)]
    assert seen == ["none", "low", "medium", "high"]


def test_a_change_of_the_spread_alone_is_drift() -> None:
    rng = np.random.default_rng(16)
    judgement = judged(rng.normal(size=3000), rng.normal(scale=1.5, size=3000))
    assert judgement.verdict == "drift"
    assert "normal one shifted" in judgement.reasons[0]


def test_the_reasons_hold_the_numbers() -> None:
    rng = np.random.default_rng(17)
    *effects, significance = judged(rng.normal(size=5000), rng.normal(-0.5, 1, size=5000)).reasons
    assert effects[-1].startswith("the mean moved down by 0.5")
    assert effects[-1].endswith("standard deviations (threshold 0.06)")
    assert significance.startswith("p = ")
    assert significance.endswith("chance alone would hardly make a difference like this (alpha 0.01)")


def test_constants_that_stay_are_stable_and_that_change_are_high_drift() -> None:
    constant = np.full(50, 5.0)
    same = judged(constant, constant)
    assert (same.verdict, same.score, same.p_value) == ("stable", 0.0, 1.0)
    changed = judged(constant, np.full(50, 5.1))
    assert (changed.verdict, changed.severity, changed.score) == ("drift", "high", LARGEST)
    spread = judged(constant, np.random.default_rng(18).normal(5, 1, 50))
    assert (spread.verdict, spread.severity) == ("drift", "high")


def test_values_that_overflow_are_judged_by_their_order() -> None:
    rng = np.random.default_rng(19)
    huge = rng.choice([-1.7e308, 1.7e308], 500)
    assert judged(huge, rng.permutation(huge)).verdict == "stable"
    moved = judged(huge, np.abs(huge))
    assert moved.verdict == "drift"
    assert all(map(math.isfinite, moved.metrics.values()))
    unbounded = judge_numbers(sample.of(huge), sample.of(np.abs(huge)), method="wasserstein")
    assert unbounded.verdict in {"drift", "insufficient"}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=6).map(lambda values: values * 30),
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=6).map(lambda values: values * 30),
    st.sampled_from(numeric.METHODS),
)
def test_whatever_the_numbers_a_judgement_is_consistent_and_goes_into_json(
    reference: list[float], current: list[float], method: str
) -> None:
    judgement = judge_numbers(sample.of(reference), sample.of(current), method=method)
    body = msgspec.json.decode(msgspec.json.encode(judgement))
    assert None not in body["metrics"].values()
    assert body["method"] == method
    if judgement.verdict == "insufficient":
        assert (judgement.score, judgement.p_value, judgement.drift) == (None, None, None)
        return
    assert judgement.score is not None
    assert judgement.p_value is not None
    assert body["score"] is not None
    assert 0 <= judgement.p_value <= 1
    assert judgement.drift is (judgement.score >= judgement.threshold and judgement.p_value <= 0.01)
    assert (judgement.severity != "none") is judgement.drift


@pytest.mark.parametrize("method", numeric.METHODS)
def test_every_numeric_method_finds_a_large_shift_and_passes_none(method: str) -> None:
    rng = np.random.default_rng(20)
    reference, same, moved = (sample.of(rng.normal(shift, 1, 4000)) for shift in (0, 0, 0.7))
    assert judge_numbers(reference, same, method=method).verdict == "stable"
    judgement = judge_numbers(reference, moved, method=method)
    assert (judgement.verdict, judgement.method) == ("drift", method)
    lenient = judge_numbers(reference, moved, method=method, threshold=20.0)
    assert (lenient.verdict, lenient.threshold, lenient.score) == ("stable", 20.0, judgement.score)


@pytest.mark.parametrize("method", categorical.METHODS)
def test_every_categorical_method_finds_a_large_shift_and_passes_none(method: str) -> None:
    reference, same, moved = {"a": 500, "b": 500}, {"a": 510, "b": 490}, {"a": 900, "b": 100}
    assert judge_categories(reference, same, method=method).verdict == "stable"
    judgement = judge_categories(reference, moved, method=method)
    assert judgement.verdict == "drift"
    assert judgement.severity in {"medium", "high"}


def test_an_unknown_method_is_refused_by_name() -> None:
    numbers = sample.of(np.arange(50.0))
    with pytest.raises(ValueError, match="unknown method 'magic'; known are standardisedShift, psi"):
        judge_numbers(numbers, numbers, method="magic")
    with pytest.raises(ValueError, match="unknown method 'ks'; known are chiSquare"):
        judge_categories({"a": 50}, {"a": 50}, method="ks")


def test_too_few_values_on_either_side_are_insufficient() -> None:
    few, many = sample.of(np.arange(29.0)), sample.of(np.arange(100.0))
    for pair, side in (((few, many), "reference"), ((many, few), "current")):
        judgement = judge_numbers(*pair)
        assert (judgement.verdict, judgement.drift, judgement.score) == ("insufficient", None, None)
        assert judgement.reasons == [f"the {side} sample has 29 values; at least 30 are needed"]
    assert judge_numbers(few, many, minimum_count=20).verdict == "drift"
    assert judge_numbers(sample.of([]), many, minimum_count=0).verdict == "insufficient"
    assert judge_categories({}, {"a": 100}).verdict == "insufficient"
    assert (
        judge_vectors(VectorSide(1, np.zeros(2), np.zeros(2)), VectorSide(99, np.zeros(2), np.zeros(2))).drift
        is None
    )


def test_what_the_rank_error_of_sketches_explains_is_no_drift() -> None:
    rng = np.random.default_rng(21)
    values = rng.normal(size=100_000)
    reference, current = sample.of(values), sample.of(values + 0.09)
    raw = judge_numbers(reference, current)
    assert raw.verdict == "drift"
    sketched = judge_numbers(reference, current, rank_error=0.02)
    assert sketched.verdict == "stable"
    assert sketched.metrics["ks"] == raw.metrics["ks"]
    moved = judge_numbers(reference, sample.of(values + 0.3), rank_error=0.007)
    assert moved.verdict == "drift"


def test_exact_moments_speak_for_the_mean_of_sketches() -> None:
    rng = np.random.default_rng(22)
    values = rng.normal(size=50_000)
    reference, current = sample.of(values), sample.of(values + 0.09)
    exact = (reference.moments(), current.moments())
    judgement = judge_numbers(reference, current, rank_error=0.02, moments=exact)
    assert (judgement.verdict, judgement.severity) == ("drift", "low")


@pytest.mark.parametrize(("n", "m"), [(200, 200), (2000, 60)])
def test_categories_without_drift_are_seldom_false_alarms(n: int, m: int) -> None:
    rng = np.random.default_rng(23)
    shares = [0.5, 0.3, 0.1, 0.06, 0.03, 0.005, 0.005]
    alarms = sum(
        bool(judge_categories(*(dict(enumerate_names(rng.multinomial(size, shares))) for size in (n, m))).drift)
        for _ in range(500)
    )
    assert alarms <= 10


def enumerate_names(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[tuple[str, int]]:
    return [(f"c{index}", int(count)) for index, count in enumerate(counts)]


def test_a_new_category_is_named_with_its_share() -> None:
    judgement = judge_categories({"card": 900, "cash": 100}, {"card": 600, "cash": 100, "crypto": 300})
    assert judgement.verdict == "drift"
    assert judgement.metrics["unseenShare"] == 0.3
    assert judgement.reasons[-2] == "30.00% of the current values are of categories the reference never had"
    assert judgement.metrics.keys() >= {"chiSquare", "cohensW", "psi", "jensenShannon", "lInfinity"}


def test_one_category_is_stable_and_only_rare_ones_are_insufficient() -> None:
    assert judge_categories({"a": 50}, {"a": 70}).verdict == "stable"
    unique = {str(number): 1 for number in range(100)}
    others = {str(number): 1 for number in range(50, 150)}
    assert judge_categories(unique, others).reasons == ["every category is too rare to be compared"]


def test_vectors_drift_by_their_means_and_by_their_norms() -> None:
    rng = np.random.default_rng(24)
    before, same = rng.normal(size=(800, 16)), rng.normal(size=(800, 16))
    assert judge_vectors(components(before), components(same)).verdict == "stable"
    moved = judge_vectors(components(before), components(same + 0.4))
    assert (moved.verdict, moved.severity) == ("drift", "medium")
    assert moved.score == pytest.approx(0.4, abs=0.06)
    longer = same * 1.5
    norms = tuple(sample.of(np.linalg.norm(side, axis=1)) for side in (before, longer))
    assert judge_vectors(components(before), components(longer)).verdict == "stable"
    judgement = judge_vectors(components(before), components(longer), norms=(norms[0], norms[1]))
    assert (judgement.verdict, judgement.severity) == ("drift", "high")
    assert "normMeanShift" in judgement.metrics


def test_the_vectors_verdict_holds_for_correlated_components_where_the_diagonal_test_does_not() -> None:
    rng = np.random.default_rng(25)
    alarms: Counter[str] = Counter()
    for _ in range(200):
        sides = [rng.normal(size=(100, 1)) + 0.3 * rng.normal(size=(100, 24)) for _ in range(2)]
        result = vector_shift.shift(*map(components, sides))
        alarms["verdict"] += result.p_value <= 0.01
        alarms["diagonal"] += result.p_diagonal <= 0.01
    assert alarms["verdict"] <= 4
    assert alarms["diagonal"] > 20


def test_dead_components_do_not_dilute_the_shift_and_waking_ones_are_high_drift() -> None:
    rng = np.random.default_rng(26)
    before, after = rng.normal(size=(500, 4)), rng.normal(0.5, 1, size=(500, 4))
    dead = np.zeros((500, 60))
    alone = vector_shift.shift(components(before), components(after))
    among = vector_shift.shift(components(np.hstack((before, dead))), components(np.hstack((after, dead))))
    assert among == alone
    woken = judge_vectors(components(dead), components(dead + np.eye(1, 60)))
    assert (woken.verdict, woken.score) == ("drift", LARGEST)
    assert judge_vectors(components(dead), components(dead)).verdict == "stable"


def test_vectors_of_other_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="dimension"):
        judge_vectors(VectorSide(50, np.zeros(2), np.ones(2)), VectorSide(50, np.zeros(3), np.ones(3)))


def test_features_scored_together_are_judged_by_adjusted_p_values() -> None:
    few = sample.of([1.0])
    unsaid = judge_numbers(few, few)
    alone = with_p_value(0.008)
    assert [(judgement.p_value, judgement.verdict) for judgement in decide([alone])] == [(0.008, "drift")]
    together = decide([alone, with_p_value(0.9), unsaid, with_p_value(0.7)])
    assert together[0].p_value == pytest.approx(0.024)
    assert [judgement.verdict for judgement in together] == ["stable", "stable", "insufficient", "stable"]
    assert "p = 0.024 after Benjamini-Hochberg over 3 features" in together[0].reasons[-1]
    assert together[0].reasons[:-1] == alone.reasons[:-1]
    assert decide([]) == []


def test_among_many_features_without_drift_hardly_any_family_has_an_alarm() -> None:
    rng = np.random.default_rng(27)
    families = [decide([judged(rng.normal(size=100), rng.normal(size=100)) for _ in range(20)]) for _ in range(25)]
    assert sum(any(judgement.drift for judgement in family) for family in families) <= 1


def test_a_smaller_alpha_never_calls_more_drift() -> None:
    rng = np.random.default_rng(28)
    reference, current = sample.of(rng.normal(size=300)), sample.of(rng.normal(0.25, 1, size=300))
    verdicts = [judge_numbers(reference, current, alpha=10.0**-power).drift for power in range(8)]
    assert all(first or not second for first, second in pairwise(verdicts))
