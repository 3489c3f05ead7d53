"""What a check may ask of a feature: every bad config is refused, and the refusal names the field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.domain import VALUE_TYPES, Feature, ValueSchema, ValueType
from actors.errors import InvalidInput
from actors.monitoring.checks import CHECK_TYPES, Check, bounds_of, make_check

SECOND = 1_000_000
ORDERED = ("number", "integer", "timestamp")
ENUMERABLE = ("number", "integer", "string", "boolean", "timestamp")
SOME_VALUE: dict[str, Any] = {
    "number": 1.5, "integer": 3, "string": "x", "boolean": True, "timestamp": "2025-11-07T12:00:00Z",
    "vector": [1, 2], "json": {"a": 1},
}  # fmt: skip


def feature_of(value_type: ValueType) -> Feature:
    schema = ValueSchema(dimension=2) if value_type == "vector" else None
    return Feature(
        id="user.f.v1",
        entity="user",
        name="f",
        version=1,
        value_type=value_type,
        created=7,
        updated=7,
        schema=schema,
    )


def made(value_type: ValueType, check_type: str, **config: Any) -> Check:
    return make_check(feature_of(value_type), "c", check_type, config)


def blamed(value_type: ValueType, check_type: str, **config: Any) -> list[str]:
    """The fields that the refusal names."""
    with pytest.raises(InvalidInput) as refusal:
        made(value_type, check_type, **config)
    assert all(fault.message for fault in refusal.value.faults)
    return [fault.field for fault in refusal.value.faults]


GOOD: list[tuple[ValueType, str, dict[str, Any]]] = [
    ("json", "null", {"maxNullRate": 0.1}),
    ("json", "null", {"maxNullRate": 0, "window": "1h"}),
    ("json", "null", {"maxNullRate": 1}),
    ("number", "range", {"min": 0}),
    ("number", "range", {"max": 0.5, "maxViolationRate": 0.01, "window": 60}),
    ("number", "range", {"min": 1, "max": 1}),
    ("integer", "range", {"min": 0.5, "max": 1.5}),
    ("timestamp", "range", {"min": "2025-01-01T00:00:00Z", "max": "2025-01-01T00:00:00Z"}),
    ("string", "enum", {"values": ["a", "b"]}),
    ("boolean", "enum", {"values": [True]}),
    ("string", "pattern", {"regex": "^a+$"}),
    ("vector", "unique", {"minUnique": 1}),
    ("string", "unique", {"maxUnique": 5, "window": "2d"}),
    ("number", "freshness", {"maxAge": "1h"}),
    ("number", "volume", {"window": "1h", "min": 1}),
    ("number", "volume", {"window": 1.5, "max": 10}),
    ("number", "drift", {}),
    ("number", "drift", {"threshold": 0.5, "method": "psi", "window": "1d"}),
    ("vector", "drift", {"method": "vectorShift"}),
    ("string", "drift", {"method": "chiSquare"}),
]


@pytest.mark.parametrize(("value_type", "check_type", "config"), GOOD)
def test_a_good_config_makes_a_check_that_survives_its_note(
    value_type: ValueType, check_type: str, config: dict[str, Any]
) -> None:
    check = made(value_type, check_type, **config)
    assert (check.id, check.feature_id, check.created, check.check_type) == ("c", "user.f.v1", 7, check_type)
    assert check.config == config
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(check), type=Check)
    assert again == check
    assert again.typed == check.typed


def test_an_unknown_type_of_check_is_named_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput) as refusal:
        made("number", "schema")
    assert [fault.field for fault in refusal.value.faults] == ["checkType"]
    assert all(name in refusal.value.detail for name in CHECK_TYPES)


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_range_enum_and_pattern_are_for_the_types_that_they_make_sense_for(value_type: ValueType) -> None:
    value = SOME_VALUE[value_type]
    configs: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
        "range": (ORDERED, {"min": value}),
        "enum": (ENUMERABLE, {"values": [value]}),
        "pattern": (("string",), {"regex": "x"}),
    }
    for check_type, (types, config) in configs.items():
        if value_type in types:
            assert made(value_type, check_type, **config).config == config
        else:
            assert blamed(value_type, check_type, **config) == ["checkType"]


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_the_other_types_of_check_are_for_every_type_of_value(value_type: ValueType) -> None:
    made(value_type, "null", maxNullRate=0.5)
    made(value_type, "unique", minUnique=1)
    made(value_type, "freshness", maxAge="1h")
    made(value_type, "volume", window="1h", min=1)
    made(value_type, "drift")


MISSING: list[tuple[ValueType, str, dict[str, Any], str]] = [
    ("number", "null", {}, "config.maxNullRate"),
    ("string", "enum", {}, "config.values"),
    ("string", "pattern", {}, "config.regex"),
    ("number", "freshness", {}, "config.maxAge"),
    ("number", "volume", {"min": 1}, "config.window"),
]


@pytest.mark.parametrize(("value_type", "check_type", "config", "field"), MISSING)
def test_a_field_that_is_missing_is_named(
    value_type: ValueType, check_type: str, config: dict[str, Any], field: str
) -> None:
    assert blamed(value_type, check_type, **config) == [field]


@pytest.mark.parametrize("check_type", CHECK_TYPES)
def test_a_field_that_is_unknown_is_named(check_type: str) -> None:
    value_type, config = next((value_type, config) for value_type, name, config in GOOD if name == check_type)
    assert blamed(value_type, check_type, **config, colour="red") == ["config.colour"]


BAD: list[tuple[ValueType, str, dict[str, Any], str]] = [
    ("number", "null", {"maxNullRate": -0.01}, "config.maxNullRate"),
    ("number", "null", {"maxNullRate": 1.01}, "config.maxNullRate"),
    ("number", "null", {"maxNullRate": "0.1"}, "config.maxNullRate"),
    ("number", "null", {"maxNullRate": None}, "config.maxNullRate"),
    ("number", "null", {"maxNullRate": True}, "config.maxNullRate"),
    ("number", "null", {"maxNullRate": float("nan")}, "config.maxNullRate"),
    ("number", "null", {"maxNullRate": 0.1, "window": 0}, "config.window"),
    ("number", "null", {"maxNullRate": 0.1, "window": -5}, "config.window"),
    ("number", "null", {"maxNullRate": 0.1, "window": "yesterday"}, "config.window"),
    ("number", "null", {"maxNullRate": 0.1, "window": [1]}, "config.window"),
    ("number", "null", {"maxNullRate": 0.1, "window": True}, "config.window"),
    ("number", "range", {}, "config.min"),
    ("number", "range", {"min": None, "max": None}, "config.min"),
    ("number", "range", {"min": 2, "max": 1}, "config.min"),
    ("number", "range", {"min": "2"}, "config.min"),
    ("number", "range", {"max": True}, "config.max"),
    ("number", "range", {"max": [1]}, "config.max"),
    ("number", "range", {"max": float("inf")}, "config.max"),
    ("number", "range", {"min": 0, "maxViolationRate": 2}, "config.maxViolationRate"),
    ("number", "range", {"min": 0, "maxViolationRate": -1}, "config.maxViolationRate"),
    ("number", "range", {"min": 0, "window": "0s"}, "config.window"),
    ("integer", "range", {"min": 1.2, "max": 1.8}, "config.min"),
    ("integer", "range", {"max": "5"}, "config.max"),
    ("timestamp", "range", {"min": 5}, "config.min"),
    ("timestamp", "range", {"max": "tomorrow"}, "config.max"),
    ("timestamp", "range", {"min": "2025-01-02T00:00:00Z", "max": "2025-01-01T00:00:00Z"}, "config.min"),
    ("string", "enum", {"values": "abc"}, "config.values"),
    ("string", "enum", {"values": None}, "config.values"),
    ("string", "enum", {"values": ["a", 5]}, "config.values[1]"),
    ("string", "enum", {"values": ["a", None]}, "config.values[1]"),
    ("integer", "enum", {"values": [1, 2, 2.5]}, "config.values[2]"),
    ("number", "enum", {"values": [True]}, "config.values[0]"),
    ("boolean", "enum", {"values": [True, 0]}, "config.values[1]"),
    ("timestamp", "enum", {"values": ["noon"]}, "config.values[0]"),
    ("string", "enum", {"values": ["a"], "maxViolationRate": 1.5}, "config.maxViolationRate"),
    ("string", "pattern", {"regex": "("}, "config.regex"),
    ("string", "pattern", {"regex": "a{4294967296}"}, "config.regex"),
    ("string", "pattern", {"regex": 5}, "config.regex"),
    ("string", "pattern", {"regex": "a", "maxViolationRate": -0.5}, "config.maxViolationRate"),
    ("string", "pattern", {"regex": "a", "window": "1 h"}, "config.window"),
    ("string", "unique", {}, "config.minUnique"),
    ("string", "unique", {"minUnique": 5, "maxUnique": 4}, "config.minUnique"),
    ("string", "unique", {"minUnique": 1.5}, "config.minUnique"),
    ("string", "unique", {"maxUnique": "9"}, "config.maxUnique"),
    ("number", "freshness", {"maxAge": 0}, "config.maxAge"),
    ("number", "freshness", {"maxAge": "1w"}, "config.maxAge"),
    ("number", "freshness", {"maxAge": None}, "config.maxAge"),
    ("number", "volume", {"window": "1h"}, "config.min"),
    ("number", "volume", {"window": "1h", "min": 3, "max": 2}, "config.min"),
    ("number", "volume", {"window": "-1h", "min": 3}, "config.window"),
    ("number", "volume", {"window": None, "min": 3}, "config.window"),
    ("number", "volume", {"window": "1h", "min": 0.5}, "config.min"),
    ("number", "drift", {"threshold": 0}, "config.threshold"),
    ("number", "drift", {"threshold": -1}, "config.threshold"),
    ("number", "drift", {"threshold": float("nan")}, "config.threshold"),
    ("number", "drift", {"threshold": "large"}, "config.threshold"),
    ("number", "drift", {"method": "chiSquare"}, "config.method"),
    ("number", "drift", {"method": "guessing"}, "config.method"),
    ("string", "drift", {"method": "ks"}, "config.method"),
    ("vector", "drift", {"method": "psi"}, "config.method"),
    ("number", "drift", {"method": 5}, "config.method"),
    ("number", "drift", {"window": 0}, "config.window"),
]  # fmt: skip


@pytest.mark.parametrize(("value_type", "check_type", "config", "field"), BAD)
def test_a_bad_field_is_named(value_type: ValueType, check_type: str, config: dict[str, Any], field: str) -> None:
    assert blamed(value_type, check_type, **config) == [field]


@pytest.mark.parametrize(
    ("value_type", "check_type", "config"),
    [
        ("number", "range", {"max": 10**30}),
        ("number", "enum", {"values": [1, 10**30]}),
        ("integer", "range", {"min": -(10**30)}),
        ("string", "unique", {"maxUnique": 10**30}),
        ("number", "volume", {"window": "1h", "max": 10**30}),
    ],
)
def test_a_number_that_the_notes_cannot_hold_is_refused_or_kept_but_never_lost(
    value_type: ValueType, check_type: str, config: dict[str, Any]
) -> None:
    try:
        check = made(value_type, check_type, **config)
    except InvalidInput as refusal:
        assert refusal.faults[0].field.startswith("config.")
        return
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(check), type=Check).config == config


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-2, 2)
    | st.sampled_from(["", "a", "1h", "(", "psi"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=3,
)
FIELDS = (
    "maxNullRate", "min", "max", "maxViolationRate", "values", "regex", "minUnique", "maxUnique", "maxAge",
    "window", "threshold", "method",
)  # fmt: skip


@given(
    st.sampled_from(VALUE_TYPES),
    st.sampled_from(CHECK_TYPES),
    st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=4),
)
def test_whatever_the_config_it_makes_a_check_or_names_a_field(
    value_type: ValueType, check_type: str, config: dict[str, Any]
) -> None:
    try:
        check = made(value_type, check_type, **config)
    except InvalidInput as refusal:
        (fault,) = refusal.faults
        assert fault.field == "checkType" or fault.field.startswith("config")
        return
    assert check.typed is not None
    assert check.window is None or check.window > 0


def test_the_window_of_a_check_is_in_microseconds_and_none_for_everything() -> None:
    assert made("number", "null", maxNullRate=0, window="1h").window == 3_600 * SECOND
    assert made("number", "volume", window=1.5, min=1).window == 1_500_000
    assert made("number", "null", maxNullRate=0).window is None
    assert made("number", "freshness", maxAge="1h").window is None


@pytest.mark.parametrize(
    ("value_type", "config", "bounds"),
    [
        ("number", {"min": 1}, (1.0, None)),
        ("integer", {"min": 0.5, "max": 2.5}, (1, 2)),
        ("timestamp", {"max": "1970-01-01T00:00:01+00:00"}, (None, SECOND)),
    ],
)
def test_the_bounds_of_a_range_are_as_the_feature_keeps_its_values(
    value_type: ValueType, config: dict[str, Any], bounds: tuple[Any, Any]
) -> None:
    assert bounds_of(feature_of(value_type), made(value_type, "range", **config).typed) == bounds


def test_checks_of_one_id_on_different_features_have_different_keys() -> None:
    one = made("number", "drift")
    other = make_check(msgspec.structs.replace(feature_of("number"), id="user.g.v1"), "c", "drift", {})
    assert one.key != other.key
