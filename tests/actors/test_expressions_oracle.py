"""Expressions have the same result over columns, in slices of them, for one row, and by a slow interpreter."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.derive.expressions.node import Operand
from actors.derive.expressions.parsing import Expression, parse
from actors.types.type import no_nulls
from actors.types.values import dtype_of
from tests.actors.expression_oracle import TYPES, VALUES, Tree, answer, text_of, trees

Rows = list[dict[str, Any]]
rows_of_all = st.lists(
    st.fixed_dictionaries({name: st.none() | VALUES[type_] for name, type_ in TYPES.items()}), max_size=12
)
any_tree = st.sampled_from(["number", "integer", "string", "boolean", "timestamp"])


def operand(name: str, rows: Rows, coded: bool) -> Operand:
    """The column of a field. What is stored at nulls is odd on purpose."""
    type_ = TYPES[name]
    given = [row[name] for row in rows]
    nulls = np.array([one is None for one in given], np.bool_)
    if type_ == "string" and coded:
        distinct = sorted({one for one in given if one is not None})
        codes = np.array([-1 if one is None else distinct.index(one) for one in given], np.int32)
        texts = np.empty(len(distinct), object)
        texts[:] = distinct
        return Operand(texts, nulls, codes)
    odd = {"number": math.inf, "integer": -(2**63), "timestamp": -(2**63), "boolean": True}.get(type_)
    values = np.empty(len(given), dtype_of(type_))
    values[:] = [odd if one is None else one for one in given]
    return Operand(values, nulls if nulls.any() else no_nulls(len(given)))


def columns_of(rows: Rows, coded: bool) -> dict[str, Operand]:
    return {name: operand(name, rows, coded) for name in TYPES}


def listed(result: Operand) -> list[Any]:
    values, nulls, _ = result.decoded()
    return [None if null else value for value, null in zip(values.tolist(), nulls.tolist(), strict=True)]


def bits(values: Sequence[Any]) -> list[Any]:
    """Values such that equal ones have equal bits and types."""
    return [struct.pack("<d", one) if isinstance(one, float) else (type(one), one) for one in values]


def by_slices(expression: Expression, columns: Mapping[str, Operand], count: int, width: int) -> list[Any]:
    found = list[Any]()
    for start in range(0, count, width):
        part = {name: columns[name].part(start, start + width) for name in expression.names}
        found += listed(expression.column(part, min(width, count - start)))
    return found


@settings(max_examples=600, deadline=None)
@given(tree=any_tree.flatmap(lambda type_: trees(type_, 3, False)), rows=rows_of_all, coded=st.booleans())
def test_columns_rows_and_the_oracle_agree_on_random_expressions(tree: Tree, rows: Rows, coded: bool) -> None:
    expression = parse(text_of(tree), TYPES)
    told = bits([answer(tree, row) for row in rows])
    assert bits([expression.row(row) for row in rows]) == told
    assert bits(listed(expression.column(columns_of(rows, coded), len(rows)))) == told


@settings(max_examples=300, deadline=None)
@given(
    tree=any_tree.flatmap(lambda type_: trees(type_, 3, True)),
    rows=rows_of_all,
    coded=st.booleans(),
    width=st.integers(1, 5),
)
def test_columns_slices_and_rows_agree_with_inexact_functions_too(
    tree: Tree, rows: Rows, coded: bool, width: int
) -> None:
    expression = parse(text_of(tree), TYPES)
    columns = columns_of(rows, coded)
    one_by_one = bits([expression.row(row) for row in rows])
    assert bits(listed(expression.column(columns, len(rows)))) == one_by_one
    assert bits(by_slices(expression, columns, len(rows), width)) == one_by_one


@settings(max_examples=100, deadline=None)
@given(tree=any_tree.flatmap(lambda type_: trees(type_, 2, True)), rows=rows_of_all)
def test_nulls_of_results_are_stored_as_the_zero_of_their_type(tree: Tree, rows: Rows) -> None:
    expression = parse(text_of(tree), TYPES)
    values, nulls, codes = expression.column(columns_of(rows, False), len(rows))
    assert values.dtype == dtype_of(expression.type) and len(values) == len(nulls) == len(rows) and codes is None
    assert values[nulls].tolist() == [None if values.dtype == object else 0] * int(nulls.sum())


@settings(max_examples=150, deadline=None)
@given(tree=trees("boolean", 3, True), rows=rows_of_all, coded=st.booleans())
def test_what_matches_is_what_is_true(tree: Tree, rows: Rows, coded: bool) -> None:
    condition = parse(text_of(tree), TYPES)
    matching = condition.matching(columns_of(rows, coded), len(rows))
    assert matching.dtype == np.bool_
    assert matching.tolist() == [condition.row(row) is True for row in rows]


# Functions whose last bit no standard fixes

EDGES = [
    0.0,
    1.0,
    2.0,
    3.0,
    0.5,
    -0.5,
    -1.0,
    -2.0,
    1e-300,
    5e-324,
    709.78,
    709.782712893384,
    709.79,
    -745.2,
    1e300,
]


@pytest.mark.parametrize(
    "text", ["log(x)", "log1p(x)", "exp(x)", "sqrt(x)", "x ** y", "x ** 0.5", "2 ** x", "x % y"]
)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 15, 16, 17, 1_003])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_row_has_the_bits_of_a_column_of_any_length_and_alignment(text: str, count: int, step: int) -> None:
    random = np.random.default_rng(count)
    expression = parse(text, TYPES)

    def values(start: int) -> Any:  # views that begin anywhere and have gaps
        drawn = random.choice([-1.0, 1.0, 1.0], 3 * count + 8) * random.lognormal(0, 3, 3 * count + 8)
        drawn[::4] = random.choice(EDGES, len(drawn[::4]))
        return drawn[start : start + count * step : step]

    for start in range(3):
        x, y = values(start), values(start + 1)
        found = listed(
            expression.column({"x": Operand(x, no_nulls(count)), "y": Operand(y, no_nulls(count))}, count)
        )
        rows = [expression.row({"x": a, "y": b}) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        assert bits(found) == bits(rows)


MATH: dict[str, Callable[..., float]] = {"log": math.log, "log1p": math.log1p, "exp": math.exp, "**": math.pow}


def by_math(name: str, *arguments: float) -> float | None:
    try:
        return MATH[name](*arguments)
    except (ValueError, OverflowError):
        return None


@settings(max_examples=1_000, deadline=None)
@given(
    name=st.sampled_from(["log", "log1p", "exp", "**"]),
    x=st.sampled_from(EDGES) | st.floats(-800, 800) | st.floats(allow_nan=False, allow_infinity=False),
    y=st.sampled_from(EDGES) | st.floats(-20, 20),
)
def test_inexact_functions_are_within_two_units_of_the_last_place(name: str, x: float, y: float) -> None:
    text, arguments = ("x ** y", (x, y)) if name == "**" else (f"{name}(x)", (x,))
    told, got = by_math(name, *arguments), parse(text, TYPES).row({"x": x, "y": y})
    if told is None or got is None:
        # The largest finite result may be rounded to either side of the limit.
        assert told == got or abs(told or got or 0.0) > 1.797e308
    else:
        assert abs(told - got) <= 2 * math.ulp(told)
