"""Every aggregation against numpy and exact arithmetic on random groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.domain import VALUE_TYPES
from actors.table.aggregates import AGGREGATIONS, Aggregate, aggregate, allowed
from actors.table.rows import Ranges
from actors.types.type import blank
from actors.types.values import dtype_of, render

Groups = list[list[Any]]
"""The values of each group, None for a null."""
QUANTILES = {"median": 50, "p90": 90, "p95": 95, "p99": 99}
ZERO_WHEN_EMPTY = ("count", "sum")
OF_ANY_TYPE = ("latest", "first", "count", "distinct")
FLOATS = st.floats(-1e9, 1e9) | st.sampled_from([0.0, -0.0, 1e300, -1e300, 0.1])
INTEGERS = (
    st.integers(-(2**63), 2**63 - 1)
    | st.integers(-3, 3)
    | st.sampled_from([2**53, 2**53 + 1, 2**53 + 2, 2**63 - 1, -(2**63)])
)
SAMPLES: dict[str, list[Any]] = {
    "number": [1.5, -2.0, 0.0],
    "integer": [2**60 + 1, -7, 0],
    "string": ["a", "b", ""],
    "boolean": [True, False, True],
    "timestamp": [1, 2, -3],
    "json": ['{"a":1}', "[]", "0"],
    "vector": [[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]],
}


def groups_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Groups]:
    return st.lists(st.lists(st.none() | values, max_size=6), max_size=6)


def ranges_of(value_type: str, groups: Groups, times: Sequence[int] | None = None) -> Ranges:
    items = [value for group in groups for value in group]
    shape = (len(items), 2) if value_type == "vector" else (len(items),)
    values = blank(dtype_of(value_type), shape)
    for place, value in enumerate(items):
        if value is not None:
            values[place] = value
    offsets = np.cumsum([0, *map(len, groups)]).astype(np.int64)
    nulls = np.array([value is None for value in items], np.bool_)
    return Ranges(offsets, np.array(times if times is not None else range(len(items)), np.int64), values, nulls)


def answer(value_type: str, groups: Groups, aggregation: str) -> Aggregate:
    found = aggregate(ranges_of(value_type, groups), aggregation, value_type)
    assert len(found.values) == len(found.nulls) == len(groups)
    return found


def answers(value_type: str, groups: Groups, aggregation: str) -> list[Any]:
    """One plain value per group, None for a null."""
    found = answer(value_type, groups, aggregation)
    return [
        None if null else value for value, null in zip(found.values.tolist(), found.nulls.tolist(), strict=True)
    ]


def present(group: list[Any]) -> list[Any]:
    return [value for value in group if value is not None]


def std_of(values: list[Any]) -> float:
    """Exact until the last root."""
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    distances = [abs(Fraction(value - mean)) for value in exact]
    unit = max(distances) or Fraction(1)
    shares = [Fraction(distance / unit) for distance in distances]
    return float(unit) * math.sqrt(float(sum(share * share for share in shares) / len(shares)))


def close(found: float, exact: float, values: list[Any]) -> bool:
    """Within a few roundings of the largest value, or the least that there is."""
    return bool(abs(found - exact) <= max(1e-12 * max(map(abs, values)), 5e-324))


# Any type


@pytest.mark.parametrize("value_type", VALUE_TYPES)
@given(st.lists(st.lists(st.sampled_from([0, 1, 2, None]), max_size=5), max_size=6))
@settings(deadline=None, max_examples=40)
def test_latest_first_count_and_distinct_are_what_lists_give(
    value_type: str, picks: list[list[int | None]]
) -> None:
    groups: Groups = [[None if pick is None else SAMPLES[value_type][pick] for pick in group] for group in picks]
    full = [present(group) for group in groups]
    assert answers(value_type, groups, "latest") == [group[-1] if group else None for group in full]
    assert answers(value_type, groups, "first") == [group[0] if group else None for group in full]
    assert answers(value_type, groups, "count") == [len(group) for group in full]
    filled = [group for group in full if group]
    assert answers(value_type, filled, "distinct") == [len(set(map(repr, group))) for group in filled]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_an_empty_group_gives_null_but_for_count_and_sum(value_type: str, aggregation: str) -> None:
    if not allowed(aggregation, value_type):
        return
    one = SAMPLES[value_type][0]
    found = answer(value_type, [[], [one], [None], []], aggregation)
    empty = 0 if aggregation in ZERO_WHEN_EMPTY else None
    assert [
        None if null else value for value, null in zip(found.values.tolist(), found.nulls.tolist(), strict=True)
    ][::2] == [empty, empty]
    assert not found.nulls[1]
    assert found.nulls[3] == (empty is None)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_every_answer_can_be_rendered(value_type: str, aggregation: str) -> None:
    if not allowed(aggregation, value_type):
        return
    cases: list[Groups] = [[[], [SAMPLES[value_type][0]]], [[], [None]], [[]], []]
    for groups in cases:
        found = answer(value_type, groups, aggregation)
        assert len(render(found.value_type, found.values, found.nulls)) == len(groups)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("value_type", ["number", "integer"])
def test_a_group_of_one_value_gives_that_value(value_type: str, aggregation: str) -> None:
    expected = {"count": 1, "distinct": 1, "std": 0}.get(aggregation, -7)
    assert answers(value_type, [[None, -7, None]], aggregation) == [expected]


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_arithmetic_is_for_numbers_and_order_for_moments_too(value_type: str) -> None:
    meant = {name for name in AGGREGATIONS if allowed(name, value_type)}
    numeric, ordered = value_type in ("number", "integer"), value_type == "timestamp"
    assert meant == set(AGGREGATIONS if numeric else OF_ANY_TYPE + (("min", "max") if ordered else ()))


def test_an_aggregation_that_there_is_not_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        answer("number", [[1.0]], "mode")


def test_all_the_aggregations_of_the_contract_are_there() -> None:
    named = [
        "latest",
        "first",
        "avg",
        "sum",
        "min",
        "max",
        "count",
        "std",
        "median",
        "p90",
        "p95",
        "p99",
        "distinct",
    ]
    assert sorted(AGGREGATIONS) == sorted(named)


# Numbers


@given(groups_of(FLOATS))
@settings(deadline=None, max_examples=100)
def test_minimum_and_maximum_of_numbers_are_exact(groups: Groups) -> None:
    full = [present(group) for group in groups]
    assert answers("number", groups, "min") == [min(group, default=None) for group in full]
    assert answers("number", groups, "max") == [max(group, default=None) for group in full]


@given(groups_of(FLOATS))
@settings(deadline=None, max_examples=100)
def test_sums_and_means_of_numbers_are_numpys(groups: Groups) -> None:
    found = zip(answers("number", groups, "sum"), answers("number", groups, "avg"), groups, strict=True)
    for total, mean, group in found:
        if values := present(group):
            exact = sum(map(Fraction, values))
            assert close(total, float(exact), values)
            assert close(mean, float(exact / len(values)), values)
        else:
            assert (total, mean) == (0, None)


@given(groups_of(st.floats(-1e9, 1e9)))
@settings(deadline=None, max_examples=100)
def test_the_deviation_is_that_of_the_population(groups: Groups) -> None:
    for found, group in zip(answers("number", groups, "std"), groups, strict=True):
        values = present(group)
        assert (found is None) if not values else close(found, std_of(values), values)


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e9, -1e12, 1e15])
def test_a_large_offset_costs_the_deviation_no_precision(offset: float) -> None:
    values = [offset + step for step in (0.0, 1.0, 2.0, 5.0, 7.0)]
    (found,) = answers("number", [values], "std")
    assert found == pytest.approx(std_of(values), rel=1e-9)


def test_a_column_of_equal_values_deviates_by_nothing() -> None:
    assert answers("number", [[0.1] * 1_000, [1e300] * 7], "std") == [0.0, 0.0]


@given(groups_of(FLOATS), st.sampled_from(sorted(QUANTILES)))
@settings(deadline=None, max_examples=100)
def test_quantiles_of_numbers_are_numpys(groups: Groups, name: str) -> None:
    for found, group in zip(answers("number", groups, name), groups, strict=True):
        values = present(group)
        if values:
            exact = float(np.percentile(np.array(values), QUANTILES[name]))
            assert close(found, exact, values)
        else:
            assert found is None


@pytest.mark.parametrize("name", ["avg", *QUANTILES])
def test_opposite_extremes_have_something_between_them(name: str) -> None:
    (found,) = answers("number", [[-1.7e308, 1.7e308]], name)
    assert -1.7e308 <= found <= 1.7e308


def test_zero_and_minus_zero_are_one_value() -> None:
    assert answers("number", [[0.0, -0.0, 0.0]], "distinct") == [1]


# Integers


@given(groups_of(INTEGERS))
@example([[2**63 - 1, 2**63 - 1], [-(2**63)] * 3, [], [1]])
@example([[2**62, 2**62]])
@example([[-(2**63)]])
@settings(deadline=None, max_examples=150)
def test_sums_minima_and_maxima_of_integers_are_exact(groups: Groups) -> None:
    full = [present(group) for group in groups]
    assert answers("integer", groups, "sum") == [sum(group) for group in full]
    assert answers("integer", groups, "min") == [min(group, default=None) for group in full]
    assert answers("integer", groups, "max") == [max(group, default=None) for group in full]
    filled = [group for group in full if group]
    assert answers("integer", filled, "distinct") == [len(set(group)) for group in filled]


@given(groups_of(INTEGERS))
@settings(deadline=None, max_examples=60)
def test_other_aggregates_of_integers_are_numbers_near_the_exact_one(groups: Groups) -> None:
    for name in ("avg", "std", *QUANTILES):
        assert answer("integer", groups, name).value_type == "number"
        for found, group in zip(answers("integer", groups, name), groups, strict=True):
            values = present(group)
            if not values:
                assert found is None
            elif name == "avg":
                assert close(found, float(Fraction(sum(values), len(values))), values)
            elif name == "std":
                assert close(found, std_of(values), values)
            else:
                assert close(found, float(np.percentile(np.array(values, float), QUANTILES[name])), values)


@pytest.mark.parametrize("aggregation", ["latest", "first", "min", "max", "sum"])
def test_integers_stay_integers(aggregation: str) -> None:
    assert answer("integer", [[2**53 + 1]], aggregation).value_type == "integer"
    assert answers("integer", [[2**53 + 1]], aggregation) == [2**53 + 1]


@given(groups_of(st.integers(-(2**60), 2**60)))
@settings(deadline=None, max_examples=40)
def test_moments_have_an_order(groups: Groups) -> None:
    assert answers("timestamp", groups, "min") == [min(present(group), default=None) for group in groups]
    assert answer("timestamp", groups, "max").value_type == "timestamp"
