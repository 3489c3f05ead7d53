"""Statistics of a stream against numpy and sets, in any split and order."""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.stats import moments
from actors.stats.distinct import EXACT_LIMIT, Distinct, keys_of
from actors.stats.moments import Moments
from actors.stats.state import decode, encode
from actors.stats.summary import Accepted, of_all
from actors.table.aggregates import aggregate
from actors.table.rows import Ranges

FLOATS = st.lists(st.floats(-1e6, 1e6), max_size=40)
CUTS = st.lists(st.integers(0, 40), max_size=5)
TEXTS = st.lists(st.text("abc", max_size=3), max_size=20)


def parts_of(values: list[Any], cuts: list[int]) -> list[list[Any]]:
    bounds = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    return [values[start:end] for start, end in itertools.pairwise(bounds)]


def objects(texts: list[str]) -> np.ndarray[Any, Any]:
    column = np.empty(len(texts), object)
    column[:] = texts
    return column


def merged(values: list[float], cuts: list[int]) -> Moments:
    whole = Moments()
    for part in parts_of(values, cuts):
        whole.merge(moments.of(np.array(part, np.float64)))
    return whole


def save_and_restore(value: Any) -> Any:
    return decode(encode(value), type(value))


# Moments


@given(FLOATS, CUTS, st.randoms())
@settings(deadline=None, max_examples=150)
def test_moments_are_numpys_whatever_the_split_and_the_order(
    values: list[float], cuts: list[int], chance: Any
) -> None:
    chance.shuffle(values)
    found = merged(values, cuts)
    assert found.count == len(values)
    if not values:
        assert (found.std, found.min, found.max) == (None, None, None)
        return
    largest = max(map(abs, values))
    assert found.std is not None
    smallest = sys.float_info.min  # below which halves are not exact
    assert math.isclose(found.mean, np.mean(values), rel_tol=1e-9, abs_tol=max(1e-12 * largest, smallest))
    assert math.isclose(found.std, np.std(values), rel_tol=1e-9, abs_tol=1e-9 * largest)
    assert (found.min, found.max) == (min(values), max(values))


@given(FLOATS, FLOATS, FLOATS)
@settings(deadline=None, max_examples=60)
def test_merging_is_the_same_however_it_is_nested(one: list[float], two: list[float], three: list[float]) -> None:
    a, b, c = (moments.of(np.array(values, np.float64)) for values in (one, two, three))
    left = save_and_restore(a)
    left.merge(b)
    left.merge(c)
    b.merge(c)
    a.merge(b)
    assert (left.count, left.min, left.max) == (a.count, a.min, a.max)
    assert math.isclose(left.mean, a.mean, rel_tol=1e-9, abs_tol=1e-6)
    assert math.isclose(left.m2, a.m2, rel_tol=1e-6, abs_tol=1e-3)


@pytest.mark.parametrize("offset", [1e9, -1e12])
def test_a_large_offset_costs_the_deviation_no_precision(offset: float) -> None:
    values = [offset + step for step in range(1_000)]
    found = merged(values, [1, 10, 500])
    assert found.std == pytest.approx(np.std(np.arange(1_000)), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e200, -1.7e308])
def test_equal_values_deviate_by_nothing_however_large(value: float) -> None:
    found = merged([value, value], [1])
    assert (found.mean, found.std) == (value, 0.0)


def test_minimum_and_maximum_of_integers_are_exact() -> None:
    found = Moments()
    for part in ([2**53 + 1, 5], [2**63 - 1], [-(2**63)]):
        found.merge(moments.of(np.array(part, np.int64)))
    assert (found.min, found.max) == (-(2**63), 2**63 - 1)


def test_merging_nothing_changes_nothing() -> None:
    found = merged([1.0, 2.0], [])
    found.merge(Moments())
    assert found == merged([1.0, 2.0], [])


# Distinct


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5), max_size=40), CUTS)
@settings(deadline=None, max_examples=100)
def test_few_distinct_integers_are_counted_exactly(values: list[int], cuts: list[int]) -> None:
    added, joined = Distinct(), Distinct()
    for part in parts_of(values, cuts):
        keys = keys_of(np.array(part, np.int64))
        added.add(keys)
        other = Distinct()
        other.add(keys)
        joined.merge(other)
    assert added.estimate() == joined.estimate() == len(set(values))
    assert added.exact
    assert joined.exact


@given(st.lists(st.floats(allow_nan=False), max_size=30))
@settings(deadline=None, max_examples=60)
def test_few_distinct_numbers_are_counted_exactly(values: list[float]) -> None:
    found = Distinct()
    found.add(keys_of(np.array(values, np.float64)))
    assert found.estimate() == len(set(values))


@given(TEXTS)
@settings(deadline=None, max_examples=60)
def test_few_distinct_texts_are_counted_exactly(texts: list[str]) -> None:
    found = Distinct()
    found.add(keys_of(objects(texts)))
    assert found.estimate() == len(set(texts))


def test_booleans_and_vectors_have_keys_too() -> None:
    found = Distinct()
    found.add(keys_of(np.array([True, False, True])))
    assert found.estimate() == 2
    found = Distinct()
    found.add(keys_of(np.array([[1, 2], [1, 2], [2, 1]], np.float32)))
    assert found.estimate() == 2


def test_the_count_is_exact_up_to_the_limit_and_says_when_it_is_not() -> None:
    found = Distinct()
    found.add(np.arange(EXACT_LIMIT))
    assert (found.estimate(), found.exact) == (EXACT_LIMIT, True)
    found.add(np.arange(EXACT_LIMIT + 1))
    assert not found.exact
    assert found.estimate() == pytest.approx(EXACT_LIMIT + 1, rel=0.05)


@pytest.mark.parametrize("how", ["numbers", "texts"])
def test_a_hundred_thousand_are_estimated_within_five_percent(how: str) -> None:
    values = np.arange(100_000)
    column = values * 0.5 if how == "numbers" else objects([f"value {value}" for value in values.tolist()])
    found = Distinct()
    for part in np.array_split(column, 7):
        found.add(keys_of(part))
    assert not found.exact
    assert found.estimate() == pytest.approx(100_000, rel=0.05)


@pytest.mark.parametrize(("first", "second"), [(100, 50_000), (50_000, 100), (50_000, 50_000), (3_000, 3_000)])
def test_merging_exact_and_estimated_counts_keeps_the_estimate(first: int, second: int) -> None:
    one, other = Distinct(), Distinct()
    one.add(np.arange(first))
    other.add(np.arange(first // 2, first // 2 + second))
    truth = len(set(range(first)) | set(range(first // 2, first // 2 + second)))
    one.merge(other)
    assert one.estimate() == pytest.approx(truth, rel=0.05)
    assert one.exact == (truth <= EXACT_LIMIT)
    again = save_and_restore(one)
    again.merge(other)
    again.add(np.arange(first))
    assert again.estimate() == pytest.approx(truth, rel=0.05)


def test_an_empty_count_is_zero_and_takes_nothing_in() -> None:
    found = Distinct()
    found.merge(Distinct())
    found.add(np.zeros(0, np.int64))
    assert (found.estimate(), found.exact) == (0, True)


# Summary


def accepted(values: list[float | None], arrived: int) -> Accepted:
    nulls = np.array([value is None for value in values], np.bool_)
    numbers = np.array([0.0 if value is None else value for value in values], np.float64)
    times = np.zeros(len(values), np.int64)
    return Accepted(times, times + arrived, numbers, nulls)


@given(st.lists(st.none() | st.floats(-1e6, 1e6), max_size=40), CUTS, st.booleans())
@settings(deadline=None, max_examples=100)
def test_a_summary_counts_every_observation_whether_added_or_merged(
    values: list[float | None], cuts: list[int], saved: bool
) -> None:
    added, joined = of_all(1), of_all(1)
    parts = [part for part in parts_of(values, cuts) if part]
    for arrived, part in enumerate(parts, 1):
        added.add(accepted(part, arrived))
        other = of_all(1)
        other.add(accepted(part, arrived))
        joined.merge(save_and_restore(other) if saved else other)
    present = [value for value in values if value is not None]
    for summary in (added, joined, save_and_restore(joined)):
        found = summary.numbers.moments
        assert (summary.count, summary.null_count) == (len(values), len(values) - len(present))
        assert (summary.distinct.estimate(), summary.distinct.exact) == (len(set(present)), True)
        assert (found.min, found.max) == (min(present, default=None), max(present, default=None))
        assert summary.last_updated == (len(parts) or None)
        if present:
            assert found.mean == pytest.approx(np.mean(present), rel=1e-9, abs=1e-6)
            assert found.std == pytest.approx(np.std(present), rel=1e-9, abs=1e-3)
        else:
            assert (found.count, found.std) == (0, None)


def test_an_empty_summary_says_nothing() -> None:
    summary = of_all(1)
    assert (summary.count, summary.distinct.estimate(), summary.distinct.exact) == (0, 0, True)
    assert summary.numbers.moments.std is summary.last_updated is summary.oldest is summary.newest is None


@pytest.mark.parametrize(
    "values",
    [objects(["a", "b", "a"]), np.array([True, False, True]), np.array([[1, 2], [3, 4], [1, 2]], np.float32)],
)
def test_what_has_no_mean_has_a_count_all_the_same(values: np.ndarray[Any, Any]) -> None:
    summary = of_all(1)
    summary.add(accepted([1.0, 2.0, 3.0], 9)._replace(values=values))
    assert (summary.count, summary.distinct.estimate(), summary.last_updated) == (3, 2, 9)


def test_vectors_that_differ_in_the_sign_of_a_zero_are_one_value() -> None:
    vectors = np.array([[0.0, 1.0], [-0.0, 1.0]], np.float32)
    assert len(set(keys_of(vectors).tolist())) == 1
    ranges = Ranges(np.array([0, 2]), np.arange(2), vectors, np.zeros(2, np.bool_))
    assert aggregate(ranges, "distinct", "vector").values.tolist() == [1]
