"""Values of the seven types: what is accepted, what is refused and where, and what comes back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain import VALUE_TYPES, Feature, ValueSchema, ValueType
from actors.errors import InvalidInput
from actors.settings import MAX_JSON_DEPTH, MAX_VALUE_BYTES, MAX_VECTOR_DIMENSION
from actors.timestamps import format_timestamp, parse_timestamp
from actors.types.constraints import check_schema, coerce
from actors.types.type import Coerced, blank
from actors.types.values import dtype_of, empty, render

DIMENSION = 3
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MICROS = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=6,
)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "string": TEXTS,
    "boolean": st.booleans(),
    "timestamp": MICROS.map(format_timestamp),
    "vector": st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
    "json": ANY_JSON.filter(lambda value: value is not None),
}
ODD = st.sampled_from(
    [
        True,
        False,
        0,
        1,
        -1,
        1.0,
        2**63,
        -(2**63) - 1,
        2**1024,
        1e308,
        "1",
        "",
        "true",
        "2025-11-07T10:00:00Z",
        "2025-02-29T10:00:00Z",
        [],
        [1, 2, 3],
        [1, 2],
        [1, 2, True],
        [1, 2, "3"],
        [1, 2, None],
        [1, 2, 1e39],
        [1, 2, 2**1024],
        {},
        {"a": [1]},
    ]
)


def a_feature(value_type: str, schema: ValueSchema | None = None) -> Feature:
    if value_type == "vector":
        schema = msgspec.structs.replace(schema or ValueSchema(), dimension=DIMENSION)
    return Feature(
        id="user.x.v1",
        entity="user",
        name="x",
        version=1,
        value_type=cast(ValueType, value_type),
        created=1,
        updated=1,
        schema=schema,
    )


def is_timestamp(value: str) -> bool:
    try:
        parse_timestamp(value)
    except InvalidInput:
        return False
    return True


def fits_float(value: int | float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def is_vector(value: Any) -> bool:
    numbers = type(value) is list and all(type(item) in (int, float) for item in value)
    return numbers and len(value) == DIMENSION and all(abs(item) <= 3.4028235e38 for item in value)


ACCEPTED: dict[str, Callable[[Any], bool]] = {
    "number": lambda value: type(value) in (int, float) and fits_float(value),
    "integer": lambda value: (
        (type(value) is int and -(2**63) <= value < 2**63)
        or (type(value) is float and value.is_integer() and abs(value) < 2**53)
    ),
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
    "timestamp": lambda value: type(value) is str and is_timestamp(value),
    "vector": is_vector,
    "json": lambda value: True,
}


def rendered(value_type: str, column: Coerced) -> list[Any]:
    """As a reader of the JSON sees it."""
    return list(json.loads(msgspec.json.encode(render(value_type, column.values, column.nulls))))


def positions(column: Coerced) -> list[int]:
    return sorted(position for position, _ in column.refused)


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


# What is accepted and what is refused


@pytest.mark.parametrize("value_type", VALUE_TYPES)
@given(st.data())
@settings(deadline=None, max_examples=60)
def test_every_refusal_has_its_position_and_a_reason(value_type: str, data: st.DataObject) -> None:
    given_ = data.draw(st.lists(st.none() | GOOD[value_type] | ODD, max_size=8))
    column = coerce(a_feature(value_type), given_)
    judged = [value is None or ACCEPTED[value_type](value) for value in given_]
    assert positions(column) == [index for index, good in enumerate(judged) if not good]
    assert all(reason for _, reason in column.refused)
    nulls = [value is None or not good for value, good in zip(given_, judged, strict=True)]
    assert column.nulls.tolist() == nulls


@pytest.mark.parametrize("value_type", VALUE_TYPES)
@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_whole_column_and_its_values_one_by_one_come_out_the_same(value_type: str, data: st.DataObject) -> None:
    given_ = data.draw(st.lists(GOOD[value_type], min_size=1, max_size=8))
    feature = a_feature(value_type)
    quick = coerce(feature, given_)
    # A null in the column leaves only the patient way.
    patient = coerce(feature, [*given_, None])
    assert quick.refused == []
    assert quick.values.dtype == patient.values.dtype == dtype_of(value_type)
    assert quick.values.tolist() == patient.values[: len(given_)].tolist()
    assert patient.nulls.tolist() == [False] * len(given_) + [True]


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_nulls_are_kept_as_zero_or_none_beside_the_mask(value_type: str) -> None:
    column = coerce(a_feature(value_type), [None, None])
    assert column.nulls.all()
    assert column.values.tolist() == empty(a_feature(value_type), 2).tolist()
    assert not any(np.any(value) for value in column.values.tolist())


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_an_empty_column_has_the_shape_of_its_type(value_type: str) -> None:
    column = coerce(a_feature(value_type), [])
    assert column.values.shape == ((0, DIMENSION) if value_type == "vector" else (0,))
    assert column.values.dtype == dtype_of(value_type)
    assert render(value_type, column.values, column.nulls) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("around", [[], [1.5], [None]])
def test_nan_and_infinities_are_refused(value: float, around: list[Any]) -> None:
    assert positions(coerce(a_feature("number"), [*around, value])) == [len(around)]
    assert positions(coerce(a_feature("vector"), [[0.0, 1.0, value]])) == [0]


def test_a_string_may_have_64_kib_of_utf_8_and_no_more() -> None:
    longest = "é" * (MAX_VALUE_BYTES // 2)
    assert positions(coerce(a_feature("string"), ["a", longest, longest + "a"])) == [2]


def test_json_may_have_64_kib_of_utf_8_and_no_more() -> None:
    longest = "a" * (MAX_VALUE_BYTES - 2)
    assert positions(coerce(a_feature("json"), [longest, longest + "a"])) == [1]


def test_json_may_be_nested_as_deep_as_the_limit() -> None:
    deep: Any = 1
    for _ in range(MAX_JSON_DEPTH):
        deep = [deep]
    assert positions(coerce(a_feature("json"), [deep, [deep], {"a": deep}])) == [1, 2]


def test_brackets_in_texts_and_empty_ones_do_not_count_for_the_depth_of_json() -> None:
    texts = [["[" * 100, '"[{\\' * 50, {"]": "}"}] * 100, [[]] * 500, [{}] * 500]
    assert positions(coerce(a_feature("json"), texts)) == []
    deep: Any = []
    for _ in range(MAX_JSON_DEPTH):
        deep = {"[": deep, "x": "]" * 100}
    assert positions(coerce(a_feature("json"), [deep, [deep]])) == [1]


def test_json_that_is_far_too_deep_is_refused_without_recursion() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert positions(coerce(a_feature("json"), [deep])) == [0]


def test_a_reason_quotes_no_more_than_a_line() -> None:
    for value_type in ("number", "integer", "boolean", "timestamp", "vector"):
        _, reason = coerce(a_feature(value_type), ["x" * 1_000]).refused[0]
        assert len(reason) < 150


# What comes back


def alike(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON; -0.0 is 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


@pytest.mark.parametrize("value_type", VALUE_TYPES)
@given(st.data())
@settings(deadline=None, max_examples=60)
def test_what_comes_back_is_what_was_given(value_type: str, data: st.DataObject) -> None:
    given_ = data.draw(st.lists(st.none() | GOOD[value_type], max_size=8))
    returned = rendered(value_type, coerce(a_feature(value_type), given_))
    for sent, back in zip(given_, returned, strict=True):
        if sent is None:
            assert back is None
        elif value_type == "number":
            assert float(back) == float(sent)
        elif value_type == "vector":
            assert np.array(back, np.float32).tolist() == np.array(sent, np.float32).tolist()
        elif value_type == "json":
            assert alike(back, sent)
        else:
            assert same(back, sent)


@pytest.mark.parametrize(
    ("sent", "back"),
    [(5, "5"), (5.0, "5"), (-0.0, "0"), (0.5, "0.5"), (2**53, "9007199254740992"), (1e18, "1000000000000000000")],
)
@pytest.mark.parametrize("around", [[], [0.25]])
def test_a_whole_number_comes_back_without_a_fraction(sent: float, back: str, around: list[float]) -> None:
    column = coerce(a_feature("number"), [*around, sent])
    assert msgspec.json.encode(render("number", column.values, column.nulls)[-1]).decode() == back


@pytest.mark.parametrize("value_type", VALUE_TYPES)
@given(st.data())
@settings(deadline=None, max_examples=30)
def test_a_long_column_is_rendered_like_its_values_one_by_one(value_type: str, data: st.DataObject) -> None:
    given_ = data.draw(st.lists(st.none() | GOOD[value_type], min_size=1, max_size=6)) * 200
    column = coerce(a_feature(value_type), given_)
    alone = [render(value_type, column.values[row : row + 1], column.nulls[row : row + 1])[0] for row in range(6)]
    whole = render(value_type, column.values, column.nulls)
    assert msgspec.json.encode(whole[:6]) == msgspec.json.encode(alone)


@pytest.mark.parametrize("sent", [2.0**63, -(2.0**63), 1e19, -1e300, 5e-324, 1.7976931348623157e308])
def test_numbers_beyond_64_bits_come_back_as_they_were(sent: float) -> None:
    assert rendered("number", coerce(a_feature("number"), [sent])) == [sent]


def test_integers_come_back_to_the_last_digit() -> None:
    sent = [2**53 + 1, 2**63 - 1, -(2**63), 0]
    assert rendered("integer", coerce(a_feature("integer"), sent)) == sent


def test_components_of_a_vector_come_back_as_short_as_they_were_given() -> None:
    column = coerce(a_feature("vector"), [[0.1, 1e-7, 16_777_216], [1, -2.5, 3e38], None])
    assert rendered("vector", column) == [[0.1, 1e-7, 16_777_216], [1, -2.5, 3e38], None]


def test_the_keys_of_a_json_object_are_sorted_so_that_equal_objects_are_kept_alike() -> None:
    column = coerce(a_feature("json"), [{"b": {"d": 1, "c": 2}, "a": 1}, {"a": 1, "b": {"c": 2, "d": 1}}])
    assert column.values.tolist() == ['{"a":1,"b":{"c":2,"d":1}}'] * 2


def test_a_timestamp_comes_back_in_utc() -> None:
    column = coerce(a_feature("timestamp"), ["2025-11-07T12:00:00+02:00"])
    assert rendered("timestamp", column) == ["2025-11-07T10:00:00.000Z"]


def test_a_column_of_no_vectors_is_rendered_as_none() -> None:
    nothing = blank(np.dtype(np.float32), (0, DIMENSION))
    assert render("vector", nothing, np.zeros(0, np.bool_)) == []


# Schemas


BOUNDS = st.none() | st.integers(-5, 5) | st.floats(-5, 5)


@pytest.mark.parametrize("value_type", ["number", "integer"])
@given(st.data())
@settings(deadline=None, max_examples=60)
def test_bounds_are_closed(value_type: str, data: st.DataObject) -> None:
    low, high = data.draw(BOUNDS), data.draw(BOUNDS)
    number = st.integers(-9, 9) if value_type == "integer" else st.integers(-9, 9) | st.floats(-9, 9)
    given_ = data.draw(st.lists(st.none() | number, max_size=8))
    column = coerce(a_feature(value_type, ValueSchema(min=low, max=high)), given_)
    broken = [
        index
        for index, value in enumerate(given_)
        if value is not None and ((low is not None and value < low) or (high is not None and value > high))
    ]
    assert positions(column) == broken


@pytest.mark.parametrize("bound", [2**53, 2**63 - 1, -(2**63) + 1, 2**70, -(2**70)])
def test_bounds_of_integers_are_exact(bound: int) -> None:
    given_ = [value for value in (bound - 1, bound, bound + 1, 0) if -(2**63) <= value < 2**63]
    above = coerce(a_feature("integer", ValueSchema(max=bound)), given_)
    below = coerce(a_feature("integer", ValueSchema(min=bound)), given_)
    assert positions(above) == [index for index, value in enumerate(given_) if value > bound]
    assert positions(below) == [index for index, value in enumerate(given_) if value < bound]


@pytest.mark.parametrize("bound", [2.0**53, 2.0**60, -(2.0**53)])
def test_a_bound_with_a_fraction_point_is_exact_for_integers_too(bound: float) -> None:
    given_ = [int(bound) - 1, int(bound), int(bound) + 1]
    column = coerce(a_feature("integer", ValueSchema(min=bound, max=bound)), given_)
    assert positions(column) == [0, 2]


def test_bounds_of_timestamps_are_moments() -> None:
    schema = ValueSchema(min="2025-01-01T00:00:00Z", max="2025-12-31T00:00:00Z")
    given_ = ["2025-01-01T01:00:00+01:00", "2024-12-31T23:59:59.999999Z", "2025-12-31T00:00:00.000001Z", None]
    assert positions(coerce(a_feature("timestamp", schema), given_)) == [1, 2]


ENUMS: dict[str, list[Any]] = {
    "number": [1, 2.5, -3],
    "integer": [1, 2, -3],
    "string": ["a", "b", ""],
    "boolean": [True],
    "timestamp": ["2025-01-01T00:00:00Z", "2025-06-01T00:00:00Z"],
}


@pytest.mark.parametrize("value_type", ENUMS)
def test_an_enum_takes_its_members_and_nulls(value_type: str) -> None:
    allowed = ENUMS[value_type]
    others: dict[str, list[Any]] = {
        "number": [2],
        "integer": [4],
        "string": ["c"],
        "boolean": [False],
        "timestamp": ["2025-01-01T00:00:01Z"],
    }
    column = coerce(
        a_feature(value_type, ValueSchema(enum=tuple(allowed))), [*allowed, None, *list(others[value_type])]
    )
    assert positions(column) == [len(allowed) + 1]


@given(st.lists(st.none() | st.text("ab1", max_size=4) | st.just(7), max_size=8))
@settings(deadline=None, max_examples=100)
def test_a_pattern_is_searched_for(given_: list[Any]) -> None:
    column = coerce(a_feature("string", ValueSchema(pattern="a+1")), given_)
    wrong = [
        index
        for index, value in enumerate(given_)
        if value is not None and (type(value) is not str or not re.search("a+1", value))
    ]
    assert positions(column) == wrong


def test_the_length_of_a_string_counts_characters() -> None:
    column = coerce(a_feature("string", ValueSchema(max_length=2)), ["", "ab", "😀é", "abc", "😀é!"])
    assert positions(column) == [3, 4]


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_a_feature_that_is_not_nullable_refuses_nulls(value_type: str) -> None:
    column = coerce(a_feature(value_type, ValueSchema(nullable=False)), [None, None])
    assert positions(column) == [0, 1]


def test_a_value_that_breaks_several_constraints_is_refused_once() -> None:
    schema = ValueSchema(min=5, max=3, enum=(9,))
    assert positions(coerce(a_feature("number", schema), [4])) == [0]


@pytest.mark.parametrize(
    ("value_type", "schema", "field"),
    [
        ("vector", None, "schema.dimension"),
        ("vector", ValueSchema(), "schema.dimension"),
        ("vector", ValueSchema(dimension=0), "schema.dimension"),
        ("vector", ValueSchema(dimension=MAX_VECTOR_DIMENSION + 1), "schema.dimension"),
        ("number", ValueSchema(dimension=3), "schema.dimension"),
        ("number", ValueSchema(pattern="a"), "schema.pattern"),
        ("number", ValueSchema(max_length=3), "schema.maxLength"),
        ("number", ValueSchema(min="a"), "schema.min"),
        ("number", ValueSchema(min=2, max=1), "schema.min"),
        ("number", ValueSchema(enum=("a",)), "schema.enum[0]"),
        ("number", ValueSchema(enum=()), "schema.enum"),
        ("integer", ValueSchema(enum=(1, 1.5)), "schema.enum[1]"),
        ("string", ValueSchema(min="a"), "schema.min"),
        ("string", ValueSchema(pattern="("), "schema.pattern"),
        ("string", ValueSchema(max_length=-1), "schema.maxLength"),
        ("boolean", ValueSchema(max=1), "schema.max"),
        ("boolean", ValueSchema(enum=(1,)), "schema.enum[0]"),
        ("timestamp", ValueSchema(min="soon"), "schema.min"),
        ("timestamp", ValueSchema(min="2025-01-02T00:00:00Z", max="2025-01-01T00:00:00Z"), "schema.min"),
        ("json", ValueSchema(enum=({},)), "schema.enum"),
    ],
)
def test_a_schema_that_makes_no_sense_is_refused_where_it_is_wrong(
    value_type: str, schema: ValueSchema | None, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_schema(value_type, schema)
    assert [fault.field for fault in caught.value.faults] == [field]


@pytest.mark.parametrize(
    ("value_type", "schema"),
    [
        ("number", None),
        ("number", ValueSchema(min=1, max=1.0)),
        ("integer", ValueSchema(min=-(2**63), max=1.5)),
        ("number", ValueSchema(min=-1e30, max=1e30)),
        ("string", ValueSchema(pattern="^a", max_length=0, enum=("a",))),
        ("boolean", ValueSchema(enum=(True, False))),
        ("timestamp", ValueSchema(min="2025-01-01T00:00:00Z")),
        ("vector", ValueSchema(dimension=MAX_VECTOR_DIMENSION, nullable=False)),
        ("json", ValueSchema(nullable=False)),
    ],
)
def test_a_schema_that_makes_sense_is_taken(value_type: str, schema: ValueSchema | None) -> None:
    check_schema(value_type, schema)


@pytest.mark.parametrize(
    ("value_type", "given_", "kept"),
    [
        ("number", -0.0, 0.0),
        ("vector", [-0.0, 1.0, -2.5], [0.0, 1.0, -2.5]),
        ("json", {"a": [-0.0, -0.5]}, '{"a":[0.0,-0.5]}'),
    ],
)
@pytest.mark.parametrize("around", [[], [None]])
def test_a_zero_has_no_sign_so_that_equal_values_are_kept_alike(
    value_type: str, given_: Any, kept: Any, around: list[Any]
) -> None:
    column = coerce(a_feature(value_type), [given_, *around])
    assert repr(column.values.tolist()[0]) == repr(kept)


@pytest.mark.parametrize("value", [2.0**53, -(2.0**53), 1e300])
def test_a_float_that_stands_for_several_integers_is_none_of_them(value: float) -> None:
    (refused,) = coerce(a_feature("integer"), [5.0, value, 3]).refused
    assert refused.position == 1
    assert "several integers" in refused.reason
