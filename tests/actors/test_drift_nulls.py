"""Nulls as a part of drift: for all types and methods, as rarely for nothing as all else, and exact."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
import scipy

from actors.domain import ValueType
from actors.monitoring import drift
from actors.stats.drift.judgement import SCALES
from actors.stats.drift.nulls import Share, effect_of, two_proportions
from actors.stats.drift.verdict import CATEGORICAL_METHODS, NUMERIC_METHODS
from tests.actors.test_findings import feature_of
from tests.web.test_drift import SAMPLES, drawn

TOOLS = drift.OTHER_TOOLS
OWN = [method for method in SCALES if method not in TOOLS]


def with_nulls(values: list[Any], share: float, seed: int) -> list[Any]:
    chance = random.Random(seed)
    return [None if chance.random() < share else value for value in values]


@pytest.mark.parametrize("value_type", SAMPLES)
def test_nulls_that_become_many_are_drift_for_every_type_and_method(value_type: ValueType) -> None:
    feature = feature_of(value_type)
    methods = {"vector": ("vectorShift",)}.get(
        value_type, NUMERIC_METHODS if value_type in ("number", "integer", "timestamp") else CATEGORICAL_METHODS
    )
    before, after = drawn(value_type, 1), with_nulls(drawn(value_type, 2), 0.9, 3)
    for method in methods:
        found = drift.of_samples(feature, before, after, method)
        assert found.metrics["nullRateReference"] == 0
        assert found.metrics["nullRateCurrent"] == after.count(None) / len(after)
        if method not in TOOLS:
            assert (found.verdict, found.severity) == ("drift", "high"), method
            assert found.score is not None
            assert found.score >= found.threshold
    back = drift.of_samples(feature, after, [None] * 400)
    assert (back.verdict, back.drift) == ("drift", True), "although no values are left"
    assert drift.of_samples(feature, [None] * 40, [None] * 40).verdict == "insufficient"


def test_a_drift_of_the_values_stays_one_beside_nulls_that_are_as_before() -> None:
    feature = feature_of("number")
    before, after = with_nulls(drawn("number", 1), 0.3, 2), with_nulls(drawn("number", 3, shifted=True), 0.3, 4)
    found = drift.of_samples(feature, before, after)
    assert (found.verdict, found.severity) == ("drift", "high")
    assert "the distribution moved" in found.reasons[0]
    assert any("nulls went from" in reason for reason in found.reasons)
    calm = drift.of_samples(feature, before, with_nulls(drawn("number", 5), 0.3, 6))
    assert calm.verdict == "stable"
    assert msgspec.json.encode(calm)


@pytest.mark.parametrize(
    ("one", "two"),
    [((0, 100), (5, 100)), ((5, 100), (0, 100)), ((0, 24_000), (3, 1_000)), ((990, 1_000), (30, 40)),
     ((1, 30), (0, 30)), ((0, 10**8), (20, 10**8)), ((40, 40), (39, 40)), ((7, 90), (7, 90))],
)  # fmt: skip
def test_where_few_are_expected_the_test_is_fishers_with_its_tail_doubled(
    one: tuple[int, int], two: tuple[int, int]
) -> None:
    (a, n), (b, m) = one, two
    law = scipy.stats.hypergeom(n + m, a + b, m)
    tail = law.sf(b - 1) if b * (n + m) >= (a + b) * m else law.cdf(b)
    assert two_proportions(Share(a, n), Share(b, m)) == pytest.approx(min(1.0, 2 * tail), rel=1e-6, abs=1e-300)


def test_where_many_are_expected_the_test_is_that_of_chi_square_with_yates_correction() -> None:
    a, n, b, m = 300, 1_000, 260, 1_100
    wanted = scipy.stats.chi2_contingency([[a, n - a], [b, m - b]], correction=True).pvalue
    assert two_proportions(Share(a, n), Share(b, m)) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("rate", [0.0005, 0.01, 0.3])
@pytest.mark.parametrize(("before", "after"), [(2_400, 100), (1_000, 1_000), (60, 40)])
def test_chance_alone_alarms_as_rarely_as_alpha_says(rate: float, before: int, after: int) -> None:
    chance = np.random.default_rng(7)
    pairs = zip(chance.binomial(before, rate, 1_500), chance.binomial(after, rate, 1_500), strict=True)
    found = [two_proportions(Share(int(a), before), Share(int(b), after)) for a, b in pairs]
    assert np.mean(np.array(found) <= 0.01) <= 0.015


@pytest.mark.parametrize("method", OWN)
def test_effects_grow_with_the_change_and_are_none_without_one(method: str) -> None:
    effects = [effect_of(method, 0.2, share) for share in (0.2, 0.25, 0.4, 0.7, 1.0)]
    assert effects[0] == pytest.approx(0, abs=1e-9)
    assert effects == sorted(effects)
    assert effect_of(method, 0.0, 1.0) >= SCALES[method].high
