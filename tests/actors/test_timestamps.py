"""Timestamps and durations against the standard library's datetime."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.errors import InvalidInput
from actors.timestamps import (
    FOREVER,
    NEVER,
    SECOND,
    duration,
    format_timestamp,
    parse_duration,
    parse_timestamp,
    parse_timestamps,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = (datetime.min.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
MOMENTS = st.integers(FIRST, LAST)
DIGITS = {"seconds": SECOND, "milliseconds": 1_000, "microseconds": 1}


def moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def written(micros: int, digits: str) -> str:
    return moment(micros).replace(tzinfo=None).isoformat(timespec=digits) + "Z"


def one_by_one(texts: list[str]) -> list[int] | None:
    """What the patient parser makes of each, or None where it refuses one."""
    try:
        return [parse_timestamp(text) for text in texts]
    except InvalidInput:
        return None


def agrees(texts: list[str]) -> bool:
    """The quick parser may decline, but what it answers is what the patient one says."""
    quick = parse_timestamps(texts)
    return quick is None or quick.tolist() == one_by_one(texts)


@given(MOMENTS)
@example(FIRST)
@example(LAST)
@example(-1)
@settings(deadline=None, max_examples=200)
def test_formatting_then_parsing_gives_the_same_microsecond(micros: int) -> None:
    assert parse_timestamp(format_timestamp(micros)) == micros


@given(MOMENTS)
@settings(deadline=None, max_examples=100)
def test_a_timestamp_has_three_digits_or_six_where_three_are_not_enough(micros: int) -> None:
    digits = "microseconds" if micros % 1_000 else "milliseconds"
    assert format_timestamp(micros) == written(micros, digits)


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)), st.integers(-1_439, 1_439))
@settings(deadline=None, max_examples=200)
def test_an_offset_is_taken_off(local: datetime, minutes: int) -> None:
    when = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_timestamp(when.isoformat()) == (when - EPOCH) // timedelta(microseconds=1)


def test_without_an_offset_it_is_utc() -> None:
    assert parse_timestamp("2025-11-07T10:00:00") == parse_timestamp("2025-11-07T10:00:00Z")


def test_lower_case_letters_are_taken_as_rfc_3339_has_it() -> None:
    assert parse_timestamp("2025-11-07t10:00:00z") == parse_timestamp("2025-11-07T10:00:00Z")


FORMS = [
    "2025-11-07T10:00:00.000000Z",
    "2025-11-07T10:00:00",
    "2025-11-07 10:00:00",
    "2025-11-07 10:00:00Z",
    "2025-11-07 10:00:00 UTC",
    "2025-11-07 12:00:00+02",
    "2025-11-07T12:00:00+0200",
    "2025-11-07 05:30:00-04:30",
]


@pytest.mark.parametrize("text", FORMS)
def test_a_timestamp_may_be_written_as_databases_do(text: str) -> None:
    assert parse_timestamp(text) == parse_timestamp("2025-11-07T10:00:00Z")


def test_a_date_is_its_first_moment_in_utc() -> None:
    assert parse_timestamp("2025-11-07") == parse_timestamp("2025-11-07T00:00:00Z")


@given(MOMENTS, st.text("0123456789", max_size=12), st.sampled_from(["Z", "+00:00", "+00", ""]))
@example(-1, "9", "Z")
@example(LAST, "999", "Z")
@settings(deadline=None, max_examples=100)
def test_what_is_finer_than_a_microsecond_is_cut_towards_the_past(micros: int, finer: str, offset: str) -> None:
    text = written(micros, "microseconds")[:-1] + finer + offset
    assert parse_timestamp(text) == micros
    assert parse_timestamps([text]) in (None, [micros])


def test_a_column_of_nanoseconds_is_cut_at_once() -> None:
    texts = ["1969-12-31T23:59:59.999999999Z", "2025-11-07T10:00:00.000001999Z"]
    found = parse_timestamps(texts)
    assert found is not None
    assert found.tolist() == [-1, 1_762_509_600_000_001]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2025-11-07Z",
        "2025-11-07T",
        "2025-11-07T10:00Z",
        "2025-11-07T10:00:00.Z",
        "2025-11-07T10:00:00+2",
        "2025-11-07  10:00:00",
        "2025-11-07T10:00:00." + "9" * 200 + "Z",
        "2025-02-29T00:00:00Z",
        "2025-13-01T00:00:00Z",
        "2025-01-01T24:00:00Z",
        "2025-01-01T00:60:00Z",
        "2025-01-01T00:00:00+24:00",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "10000-01-01T00:00:00Z",
        "1762509600",
        " 2025-11-07T10:00:00Z",
        "2025-11-07T10:00:00Z ",
        "٢٠٢٥-11-07T10:00:00Z",
    ],
)
def test_what_is_no_timestamp_is_refused_by_the_name_of_its_field(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_timestamp(text, "startTime")
    assert caught.value.faults[0].field == "startTime"


# The quick parser


@pytest.mark.parametrize("digits", DIGITS)
@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_column_of_one_common_shape_is_parsed_at_once(digits: str, data: st.DataObject) -> None:
    step = DIGITS[digits]
    moments = [micros // step * step for micros in data.draw(st.lists(MOMENTS, min_size=1, max_size=20))]
    moments = [max(micros, FIRST) for micros in moments]
    quick = parse_timestamps([written(micros, digits) for micros in moments])
    assert quick is not None
    assert quick.dtype == np.int64
    assert quick.tolist() == moments


@given(st.lists(st.tuples(MOMENTS, st.sampled_from(sorted(DIGITS))), min_size=1, max_size=8))
@settings(deadline=None, max_examples=100)
def test_mixed_shapes_are_declined_or_parsed_right(moments: list[tuple[int, str]]) -> None:
    assert agrees([written(micros, digits) for micros, digits in moments])


@given(st.lists(st.text("0123456789-:TZtz. +é٣", min_size=18, max_size=28), min_size=1, max_size=4))
@settings(deadline=None, max_examples=200)
def test_random_text_never_becomes_a_number_that_the_patient_parser_would_not_give(texts: list[str]) -> None:
    assert agrees(texts)


@given(
    st.sampled_from(sorted(DIGITS)),
    st.lists(MOMENTS, min_size=1, max_size=4),
    st.integers(0, 107),
    st.sampled_from("0123456789-:TZ. +é٣\x00"),
)
@settings(deadline=None, max_examples=300)
def test_one_wrong_letter_never_gives_another_number(
    digits: str, moments: list[int], place: int, letter: str
) -> None:
    texts = [written(micros, digits) for micros in moments]
    row = place % len(texts)
    column = place % len(texts[row])
    texts[row] = texts[row][:column] + letter + texts[row][column + 1 :]
    assert agrees(texts)


@given(st.lists(MOMENTS, min_size=2, max_size=5), st.data())
@settings(deadline=None, max_examples=100)
def test_texts_cut_in_the_wrong_places_are_not_stuck_together(moments: list[int], data: st.DataObject) -> None:
    joined = "".join(written(micros, "seconds") for micros in moments)
    cuts = data.draw(st.lists(st.integers(20, len(joined)), min_size=len(moments) - 2, max_size=len(moments) - 2))
    bounds = [0, 20, *sorted(cuts), len(joined)]
    assert agrees([joined[start:end] for start, end in itertools.pairwise(bounds)])


def test_a_text_that_lends_its_end_to_the_next_is_not_parsed() -> None:
    assert agrees(["2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z2025", "-01-01T00:00:00Z"])


@pytest.mark.parametrize("fraction", ["", ".000", ".000000"])
def test_the_year_zero_is_not_parsed_by_either(fraction: str) -> None:
    assert agrees([f"0000-01-01T00:00:00{fraction}Z"])


def test_a_leap_second_and_hour_24_are_declined() -> None:
    assert parse_timestamps(["2016-12-31T23:59:60Z"]) is None
    assert parse_timestamps(["2016-12-31T24:00:00Z"]) is None


# Durations


@pytest.mark.parametrize(
    ("given_", "seconds"),
    [("7d", 604_800), ("12h", 43_200), ("30m", 1_800), ("45s", 45), ("1.5h", 5_400), (90, 90), (0.25, 0.25)],
)
def test_durations_are_read_in_their_units(given_: object, seconds: float) -> None:
    assert parse_duration(given_, "window") == seconds * SECOND


@pytest.mark.parametrize(
    ("given_", "micros"),
    [
        ("0.0000019s", 1),
        (0.0000019, 1),
        (59.9999999, 59_999_999),
        (0.29, 290_000),
        ("0.29s", 290_000),
        (1.1, 1_100_000),
    ],
)
def test_a_duration_is_cut_to_the_microsecond_and_not_for_its_float(given_: object, micros: int) -> None:
    assert parse_duration(given_, "window") == micros


@given(st.integers(1, 10**6), st.sampled_from(["d", "h", "m", "s"]))
@settings(deadline=None, max_examples=50)
def test_a_checked_duration_is_what_its_parts_say(number: int, unit: str) -> None:
    seconds = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}[unit]
    assert duration(f"{number}{unit}") == number * seconds * SECOND


@pytest.mark.parametrize(
    "given_",
    [
        0,
        -1,
        "0s",
        "-1s",
        "7",
        "d",
        "7 d",
        "7d ",
        "7D",
        "7w",
        "1h30m",
        "\u0667d",
        "",
        True,
        None,
        [],
        {},
        float("nan"),
        float("inf"),
        1e-9,
        10**30,
        "9" * 40 + "d",
        "99999999999999d",
    ],
)
def test_what_is_no_positive_duration_is_refused_by_the_name_of_its_field(given_: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_duration(given_, "lookback")
    assert caught.value.faults[0].field == "lookback"


@given(st.one_of(st.text(max_size=20), st.floats(), st.integers()))
@settings(deadline=None, max_examples=200)
def test_any_duration_is_a_positive_number_that_fits_or_is_refused(given_: object) -> None:
    try:
        micros = parse_duration(given_, "window")
    except InvalidInput:
        return
    assert 0 < micros < 2**62


def test_never_and_forever_enclose_every_timestamp() -> None:
    assert NEVER < FIRST
    assert LAST < FOREVER
