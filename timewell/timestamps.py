"""Timestamps as int64 microseconds since 1970 in UTC, from text and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
from numpy.typing import NDArray

SECOND = 1_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_ONE = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
LAST_MOMENT = (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_MICROSECOND = timedelta(microseconds=1)
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]+))?(?:([Zz]| UTC)|([+-][0-9]{2})(?::?([0-9]{2}))?)?)?"
)
LONGEST_TEXT = 128
_SHAPES = (20, 24, 27, 30)
_MICROSECONDS = 27
"""A longer text has digits beyond the microsecond, which are cut."""
_SEPARATORS = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":"}


def micros_of_text(text: str) -> int | None:
    """RFC 3339 to microseconds, None for another text. Finer digits are cut, so that no time moves to the future.

    Databases' notations are taken too: a space for the T, an offset without minutes or colon, ` UTC`, or a date
    alone, which means its first moment. Without an offset the time is in UTC.

    >>> micros_of_text("2025-11-07T10:00:00Z"), micros_of_text("2025-11-07T10:00:00.0000019Z")
    (1762509600000000, 1762509600000001)
    >>> micros_of_text("2025-11-07 12:00:00.25+02"), micros_of_text("2025-11-07"), micros_of_text("noon")
    (1762509600250000, 1762473600000000, None)
    """
    found = _MOMENT.fullmatch(text) if len(text) <= LONGEST_TEXT else None
    if found is None:
        return None
    day, time, fraction, _, hours, minutes = found.groups()
    offset = "Z" if hours is None else f"{hours}:{minutes or '00'}"
    try:
        moment = msgspec.convert(f"{day}T{time or '00:00:00'}.{(fraction or '0')[:6]}{offset}", datetime)
        return (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None


def why_no_moment(text: str) -> str:
    """The message for a text that is not a timestamp."""
    cut = text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "..."
    return f"{cut!r} is not an RFC 3339 timestamp such as 2025-11-07T10:00:00Z"


def judged_texts(texts: Sequence[str]) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Many texts as microseconds, with a message for each that is not a timestamp; those are 0."""
    parsed = parse_timestamps(texts) if texts else np.zeros(0, np.int64)
    if parsed is not None:
        return parsed, {}
    found = [micros_of_text(text) for text in texts]
    wrong = {row: why_no_moment(texts[row]) for row, micros in enumerate(found) if micros is None}
    return np.array([micros or 0 for micros in found], np.int64), wrong


def parse_timestamps(texts: Sequence[str]) -> NDArray[np.int64] | None:
    """Many timestamps of the same common UTC shape at once, as int64[n]; None if one has another shape.

    The shapes end in `Z` and have seconds, milliseconds, microseconds or nanoseconds (cut). After None the caller
    has to parse the texts one by one, which also finds the one at fault.
    """
    width = len(texts[0])
    if width not in _SHAPES:
        return None
    joined = "".join(texts)
    if set(map(len, texts)) != {width} or not joined.isascii():
        return None
    letters = np.frombuffer(joined.encode(), dtype=np.uint8).reshape(len(texts), width)
    if not _has_shape(letters, width):
        return None
    try:
        kept = min(width, _MICROSECONDS) - 1
        moments = letters[:, :kept].copy().view(f"S{kept}").ravel().astype("datetime64[us]")
    except ValueError:
        return None
    micros: NDArray[np.int64] = moments.view(np.int64)
    return micros if micros.min() >= YEAR_ONE else None


def _has_shape(letters: NDArray[np.uint8], width: int) -> bool:
    separators = {**_SEPARATORS, width - 1: "Z"}
    if width > 20:
        separators[19] = "."
    digits = [column for column in range(width) if column not in separators]
    numbers = letters[:, digits]
    return bool(((numbers >= 48) & (numbers <= 57)).all()) and all(
        (letters[:, column] == ord(mark)).all() for column, mark in separators.items()
    )


def format_timestamp(micros: int) -> str:
    """Microseconds to RFC 3339, with three fractional digits, or six if they are not whole milliseconds.

    >>> format_timestamp(1762509600000000), format_timestamp(1762509600000001)
    ('2025-11-07T10:00:00.000Z', '2025-11-07T10:00:00.000001Z')
    """
    moment = _EPOCH + timedelta(microseconds=micros)
    digits = "milliseconds" if micros % 1_000 == 0 else "microseconds"
    return moment.replace(tzinfo=None).isoformat(timespec=digits) + "Z"
