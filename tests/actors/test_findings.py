"""What checks find, against the words of the contract counted out in plain Python."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from actors.domain import Feature, ValueSchema, ValueType
from actors.monitoring.checks import Check, make_check
from actors.monitoring.findings import Finding, evaluate, evaluate_drift
from actors.stats.drift.judgement import Judgement
from actors.stats.summary import Accepted, Summary, of_a_window, of_all
from actors.types.constraints import coerce
from tests.model import rfc3339

NOW = 1_762_509_600_000_000
SECOND = 1_000_000


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


class Stream(NamedTuple):
    """What was accepted, its summary, and how often it had to be read again."""

    feature: Feature
    parts: list[Accepted]
    summary: Summary
    reads: list[int]

    def found(self, check_type: str, newest: int | None = None, now: int = NOW, **config: Any) -> Finding:
        """What a check of it finds."""
        check = make_check(self.feature, "c", check_type, config)
        return evaluate(check, self.feature, self.summary, newest, now, self._read)

    def _read(self) -> Iterator[Accepted]:
        self.reads.append(1)
        return iter(self.parts)


def stream(value_type: ValueType, *batches: Sequence[Any], make: Callable[[int], Summary] = of_all) -> Stream:
    """Values in JSON, in batches."""
    feature = feature_of(value_type)
    parts, summary = [], make(feature.created)
    for batch in batches:
        if batch:
            column = coerce(feature, list(batch))
            assert not column.refused
            moments = np.full(len(batch), NOW, np.int64)
            parts.append(Accepted(moments, moments, column.values, column.nulls))
            summary.add(parts[-1])
    return Stream(feature, parts, summary, [])


def share(part: int, whole: int, most: float) -> tuple[str, float]:
    """Status and observed of a rate."""
    return ("passing" if part / whole <= most else "failing"), part / whole


def bounded(found: int, low: int | None, high: int | None) -> tuple[str, int]:
    """Status and observed of a count."""
    within = (low is None or found >= low) and (high is None or found <= high)
    return ("passing" if within else "failing"), found


def lists_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[list[Any]]]:
    """Batches with nulls among the values."""
    return st.lists(st.lists(st.none() | values, max_size=12), max_size=3)


def flat(batches: list[list[Any]]) -> list[Any]:
    return [value for batch in batches for value in batch]


rates = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0])
numbers = st.sampled_from([-1e300, -2.5, -1, -0.0, 0.0, 0.1, 1, 2, 2.5, 1e300])
integers = st.sampled_from([-(2**63), -3, -1, 0, 1, 2, 3, 2**53 + 1, 2**63 - 1])
words = st.sampled_from(["", "a", "b", "ab", "abc", "é", "x" * 59, "x" * 60, "x" * 64, "x" * 65, "x" * 64 + "y"])
moments = st.sampled_from([rfc3339(NOW + seconds * SECOND) for seconds in range(-3, 4)])


@given(lists_of(numbers), rates)
def test_the_share_of_nulls(batches: list[list[Any]], most: float) -> None:
    given_ = flat(batches)
    finding = stream("number", *batches).found("null", maxNullRate=most)
    if not given_:
        assert finding[:2] == ("insufficient", None)
    else:
        assert finding[:2] == share(given_.count(None), len(given_), most)


def range_oracle(values: list[Any], low: Any, high: Any, most: float) -> tuple[str, float | None]:
    values = [value for value in values if value is not None]
    if not values:
        return "insufficient", None
    broken = [
        value for value in values if (low is not None and value < low) or (high is not None and value > high)
    ]
    return share(len(broken), len(values), most)


def bounds_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    """(min, max), of which one may be missing."""
    both = st.tuples(values, values).map(lambda pair: (min(pair), max(pair)))
    return both | st.tuples(values, st.none()) | st.tuples(st.none(), values)


@given(lists_of(numbers), bounds_of(numbers), rates)
def test_the_share_of_numbers_out_of_range(batches: list[list[Any]], bounds: tuple[Any, Any], most: float) -> None:
    config = {"min": bounds[0], "max": bounds[1], "maxViolationRate": most}
    finding = stream("number", *batches).found("range", **config)
    assert finding[:2] == range_oracle(flat(batches), *bounds, most)


@given(lists_of(integers), bounds_of(st.sampled_from([-(2**63), -1.5, -1, 0, 0.5, 2, 2**53 + 1, 2**63 - 1])))
def test_the_share_of_integers_out_of_range_is_exact_at_the_ends_of_64_bits(
    batches: list[list[Any]], bounds: tuple[Any, Any]
) -> None:
    config = {"min": bounds[0], "max": bounds[1]}
    assume(bounds not in ((-1.5, -1.5), (0.5, 0.5)))  # no integer is in such a range
    finding = stream("integer", *batches).found("range", **config)
    assert finding[:2] == range_oracle(flat(batches), *bounds, 0.0)


@given(lists_of(moments), bounds_of(moments), rates)
def test_the_share_of_timestamps_out_of_range(
    batches: list[list[Any]], bounds: tuple[Any, Any], most: float
) -> None:
    config = {"min": bounds[0], "max": bounds[1], "maxViolationRate": most}
    finding = stream("timestamp", *batches).found("range", **config)
    assert finding[:2] == range_oracle(flat(batches), *bounds, most)


def test_values_that_are_all_in_range_are_not_read_again() -> None:
    values = stream("number", [1, 2, 3, None])
    assert values.found("range", min=1, max=3)[:2] == ("passing", 0)
    assert not values.reads
    assert values.found("range", min=1.5)[:2] == ("failing", 1 / 3)
    assert values.reads


def each_oracle(values: list[Any], broken: Callable[[Any], bool], most: float) -> tuple[str, float | None]:
    values = [value for value in values if value is not None]
    if not values:
        return "insufficient", None
    return share(sum(map(broken, values)), len(values), most)


ENUMERABLE: dict[ValueType, st.SearchStrategy[Any]] = {
    "number": numbers,
    "integer": integers,
    "string": words,
    "boolean": st.booleans(),
    "timestamp": moments,
}


@given(st.data(), st.sampled_from(sorted(ENUMERABLE)), rates)
def test_the_share_of_values_that_are_not_among_the_allowed(
    data: st.DataObject, value_type: ValueType, most: float
) -> None:
    values = ENUMERABLE[value_type]
    batches = data.draw(lists_of(values))
    allowed = data.draw(st.lists(values, min_size=1, max_size=4))
    finding = stream(value_type, *batches).found("enum", values=allowed, maxViolationRate=most)
    assert finding[:2] == each_oracle(flat(batches), lambda value: value not in allowed, most)


@given(lists_of(words), st.sampled_from(["", "^a", "b$", "^$", "x{60}", "x{65}", "y", "é", "[ab]{2}"]), rates)
def test_the_share_of_texts_in_which_the_expression_is_not_found(
    batches: list[list[Any]], regex: str, most: float
) -> None:
    finding = stream("string", *batches).found("pattern", regex=regex, maxViolationRate=most)
    assert finding[:2] == each_oracle(flat(batches), lambda text: not re.search(regex, text), most)


@pytest.mark.parametrize("make", [of_all, of_a_window])
def test_more_texts_than_are_counted_exactly_are_read_again_and_counted_exactly(
    make: Callable[[int], Summary],
) -> None:
    texts = [f"{number:04}" for number in range(1_500)]
    many = stream("string", texts[:700], [None, *texts[700:], *texts], make=make)
    assert not many.summary.top.exact
    assert many.found("pattern", regex="^0")[:2] == ("failing", 500 / 1_500)
    assert many.found("enum", values=texts[:600], maxViolationRate=0.6)[:2] == ("passing", 900 / 1_500)


UNIQUE: dict[ValueType, st.SearchStrategy[Any]] = {
    **ENUMERABLE,
    "vector": st.sampled_from([[0, 0], [0, 1], [1, 0], [0.5, -1]]),
    "json": st.sampled_from([[], {}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, "a", 1, [1]]),
}


def told_apart(value_type: str, value: Any) -> str:
    """Equal for equal values."""
    if value_type == "json":
        return json.dumps(value, sort_keys=True)
    return repr(value + 0.0) if value_type == "number" else repr(value)


@given(st.data(), st.sampled_from(sorted(UNIQUE)), st.none() | st.integers(0, 4), st.none() | st.integers(4, 8))
def test_how_many_distinct_values(
    data: st.DataObject, value_type: ValueType, low: int | None, high: int | None
) -> None:
    if low is None and high is None:
        low = 1
    batches = data.draw(lists_of(UNIQUE[value_type]))
    finding = stream(value_type, *batches).found("unique", minUnique=low, maxUnique=high)
    distinct = {told_apart(value_type, value) for value in flat(batches) if value is not None}
    expected = bounded(len(distinct), low, high) if flat(batches) else ("insufficient", None)
    assert finding[:2] == expected


def test_so_many_distinct_values_that_they_are_estimated_are_said_to_be_about_so_many() -> None:
    many = stream("integer", list(range(20_000)))
    status, observed, message = many.found("unique", minUnique=19_000, maxUnique=21_000)
    assert status == "passing"
    assert observed == pytest.approx(20_000, rel=0.05)
    assert message.startswith("about ")
    assert not stream("integer", [1, 2]).found("unique", minUnique=1).message.startswith("about")


@given(lists_of(words), st.none() | st.integers(0, 6), st.none() | st.integers(6, 40))
def test_how_many_observations_nulls_included(batches: list[list[Any]], low: int | None, high: int | None) -> None:
    if low is None and high is None:
        high = 5
    finding = stream("string", *batches).found("volume", window="1h", min=low, max=high)
    assert finding[:2] == bounded(len(flat(batches)), low, high)


def test_no_observations_at_all_are_a_volume_of_zero_and_not_insufficient() -> None:
    assert stream("json").found("volume", window="1h", min=1)[:2] == ("failing", 0)
    assert stream("json").found("volume", window="1h", max=1)[:2] == ("passing", 0)


@given(st.integers(-5 * SECOND, 20 * SECOND), st.sampled_from([10, 10.0, "10s", 0.5]))
def test_how_old_the_newest_observation_is(age: int, max_age: Any) -> None:
    seconds = 10 if max_age == "10s" else max_age
    finding = stream("boolean").found("freshness", newest=NOW - age, maxAge=max_age)
    assert finding.status == ("passing" if age <= seconds * SECOND else "failing")
    assert finding.observed == max(0, age) / SECOND
    assert rfc3339(NOW - age)[:19] in finding.message


@pytest.mark.parametrize(("age", "status"), [(0, "insufficient"), (3_600, "insufficient"), (3_601, "failing")])
def test_what_was_never_written_is_late_from_its_registration_on(age: int, status: str) -> None:
    feature = msgspec.structs.replace(feature_of("vector"), created=NOW - age * SECOND)
    check = make_check(feature, "c", "freshness", {"maxAge": "1h"})
    found = evaluate(check, feature, Summary(feature.created), None, NOW, lambda: ())
    assert found[:2] == (status, None)
    assert "never written" in found.message


@pytest.mark.parametrize(
    ("value_type", "check_type", "config"),
    [
        ("number", "range", {"min": 0}),
        ("string", "enum", {"values": ["a"]}),
        ("boolean", "enum", {"values": [True]}),
        ("string", "pattern", {"regex": "a"}),
    ],
)
def test_nothing_but_nulls_is_too_little_to_look_at(
    value_type: ValueType, check_type: str, config: dict[str, Any]
) -> None:
    assert stream(value_type, [None, None]).found(check_type, **config)[:2] == ("insufficient", None)


def test_messages_say_how_many_of_how_many_and_what_was_allowed() -> None:
    numbers_ = stream("number", [1, 5, None])
    assert numbers_.found("null", maxNullRate=0.25).message == "1 of 3 are null: 0.3333 (at most 0.25)"
    assert numbers_.found("range", max=4).message == "1 of 2 values are out of range: 0.5 (at most 0)"
    assert numbers_.found("unique", maxUnique=1).message == "2 distinct values, at most 1 expected"
    assert "in the last 1h, at least 9 expected" in numbers_.found("volume", window="1h", min=9).message


# Drift


def drift_check(**config: Any) -> Check:
    return make_check(feature_of("number"), "c", "drift", config)


@pytest.mark.parametrize(
    ("verdict", "severity", "by_severity", "by_threshold"),
    [
        ("stable", "none", "passing", "passing"),
        ("insufficient", "none", "insufficient", "insufficient"),
        ("drift", "low", "passing", "failing"),
        ("drift", "medium", "failing", "failing"),
        ("drift", "high", "failing", "failing"),
    ],
)
def test_drift_fails_from_medium_severity_on_or_from_the_threshold_that_is_given(
    verdict: Any, severity: Any, by_severity: str, by_threshold: str
) -> None:
    score = None if verdict == "insufficient" else 0.2
    drift = None if score is None else verdict == "drift"
    judgement = Judgement(verdict, drift, score, "psi", 0.1, score, severity, {}, ["moved", "p = 0"])
    plain = evaluate_drift(drift_check(), judgement)
    assert plain == (by_severity, score, "moved; p = 0")
    assert evaluate_drift(drift_check(threshold=0.1), judgement) == (by_threshold, score, "moved; p = 0")
