"""References, names and what a feature says of itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain import (
    VALUE_TYPES,
    Feature,
    Reference,
    Retention,
    ValueSchema,
    check_name,
    feature_id,
    parse_reference,
)
from actors.errors import InvalidInput
from actors.timestamps import SECOND
from timewell.wire import DEFAULT_RETENTION_VALUES

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,127}", fullmatch=True)
VERSIONS = st.integers(1, 999_999_999)


def feature(retention: Retention | None = None, max_age: int | float | str | None = None) -> Feature:
    return Feature(
        id="user.clicks.v1",
        entity="user",
        name="clicks",
        version=1,
        value_type="number",
        created=1,
        updated=1,
        retention=retention,
        max_age=max_age,
    )


@given(NAMES, NAMES, VERSIONS)
@settings(deadline=None, max_examples=100)
def test_an_id_is_taken_apart_into_what_it_was_made_of(entity: str, name: str, version: int) -> None:
    assert parse_reference(feature_id(entity, name, version)) == Reference(entity, name, version)


@given(NAMES, NAMES)
@settings(deadline=None, max_examples=100)
def test_a_reference_without_a_version_or_an_entity_says_so(entity: str, name: str) -> None:
    assert parse_reference(f"{entity}.{name}") == Reference(entity, name, None)
    assert parse_reference(name) == Reference(None, name, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "user.",
        ".clicks",
        "user.clicks.",
        "user.clicks.1",
        "user.clicks.v0",
        "user.clicks.v01",
        "user.clicks.v-1",
        "user.clicks.v",
        "user.clicks.V1",
        "user.clicks.v1.x",
        "user.clicks.v1\n",
        "user clicks",
        "1clicks",
        "-clicks",
        "clïcks",
        "clicks\n",
        "user.clicks.v٣",
        "x" * 129,
    ],
)
def test_what_cannot_be_a_reference_is_none(text: str) -> None:
    assert parse_reference(text) is None


@given(st.text(max_size=30))
@settings(deadline=None, max_examples=200)
def test_any_text_is_a_reference_that_writes_back_to_itself_or_is_none(text: str) -> None:
    found = parse_reference(text)
    if found is not None:
        parts = [found.entity, found.name, None if found.version is None else f"v{found.version}"]
        assert ".".join(part for part in parts if part is not None) == text


@given(NAMES)
@settings(deadline=None, max_examples=50)
def test_names_are_taken_up_to_128_letters(name: str) -> None:
    check_name(name, "name")


@pytest.mark.parametrize("name", ["", "a.b", "a b", "1a", "-a", "é", "a\n", "a\x00", "a" * 129])
def test_what_cannot_be_a_name_is_refused_by_the_name_of_its_field(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_name(name, "entity")
    assert caught.value.faults[0].field == "entity"


def test_there_are_seven_value_types() -> None:
    assert set(VALUE_TYPES) == {"number", "integer", "string", "boolean", "timestamp", "vector", "json"}


def test_a_feature_keeps_1000_values_for_ever_unless_it_says_otherwise() -> None:
    assert feature().kept_values == DEFAULT_RETENTION_VALUES == 1_000
    assert feature().kept_age is None
    assert feature().expires_after is None


def test_durations_of_a_feature_are_microseconds() -> None:
    assert feature(max_age="2h").expires_after == 7_200 * SECOND
    assert feature(max_age=1.5).expires_after == 1_500_000
    kept = feature(Retention(values=7, age="1d"))
    assert (kept.kept_values, kept.kept_age) == (7, 86_400 * SECOND)


def test_a_schema_allows_nulls_unless_it_says_otherwise() -> None:
    assert ValueSchema().nullable
