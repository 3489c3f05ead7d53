"""Time is int64 microseconds since 1970 in UTC, everywhere inside. This is where text becomes that and back."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.errors import InvalidInput

SECOND = 1_000_000
NEVER = -(2**63)
"""Before every timestamp: the time of a value that was never written."""
FOREVER = 2**63 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_ONE = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
LAST_MOMENT = (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_MICROSECOND = timedelta(microseconds=1)
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"([0-9]+)(?:\.([0-9]+))?([dhms])")
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]+))?(?:([Zz]| UTC)|([+-][0-9]{2})(?::?([0-9]{2}))?)?)?"
)
_LONGEST_TEXT = 128
_LONGEST_DURATION = 32
_SHAPES = (20, 24, 27, 30)
_MICROSECONDS = 27
"""What is longer has digits beyond microseconds, which are cut."""
_SEPARATORS = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":"}


def now() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000


def parse_timestamp(text: str, field: str = "timestamp") -> int:
    """RFC 3339 to microseconds; what is finer is cut, so that no moment is later than it was given.

    Also as databases write it: with a space for the T, an offset without minutes or colon, ` UTC`, or a date
    alone, which is its first moment. Without an offset it is UTC.

    >>> parse_timestamp("2025-11-07T10:00:00Z"), parse_timestamp("2025-11-07T10:00:00.0000019Z")
    (1762509600000000, 1762509600000001)
    >>> parse_timestamp("2025-11-07 12:00:00.25+02"), parse_timestamp("2025-11-07")
    (1762509600250000, 1762473600000000)

    Raises InvalidInput naming `field`.
    """
    found = _MOMENT.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    try:
        if found is None:
            raise ValueError
        day, time, fraction, _, hours, minutes = found.groups()
        offset = "Z" if hours is None else f"{hours}:{minutes or '00'}"
        moment = msgspec.convert(f"{day}T{time or '00:00:00'}.{(fraction or '0')[:6]}{offset}", datetime)
        return (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        cut = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "..."
        raise InvalidInput.at(
            field, f"{cut!r} is not an RFC 3339 timestamp such as 2025-11-07T10:00:00Z"
        ) from None


def parse_timestamps(texts: Sequence[str]) -> NDArray[np.int64] | None:
    """Many timestamps in one of the four common UTC shapes at once, or None where one has another shape.

    Shapes: seconds, milliseconds, microseconds or nanoseconds, which are cut, with `Z`. Returns int64[n].
    None asks the caller to go one by one, which also finds the one to blame.
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
    """Microseconds to RFC 3339: three digits, six where the microseconds are not whole milliseconds.

    >>> format_timestamp(1762509600000000), format_timestamp(1762509600000001)
    ('2025-11-07T10:00:00.000Z', '2025-11-07T10:00:00.000001Z')
    """
    moment = _EPOCH + timedelta(microseconds=micros)
    digits = "milliseconds" if micros % 1_000 == 0 else "microseconds"
    return moment.replace(tzinfo=None).isoformat(timespec=digits) + "Z"


Duration = int | float | str


def parse_duration(given: object, field: str) -> int:
    """Seconds as a number, or "7d", "12h", "30m", "45s", to microseconds; it must be positive.

    What is finer than a microsecond is cut.

    >>> parse_duration("7d", "window"), parse_duration(1.5, "window"), parse_duration("0.0000019s", "window")
    (604800000000, 1500000, 1)
    """
    micros = _duration_micros(given)
    if micros is None or not 0 < micros < 2**62:
        shown = repr(given)
        shown = shown if len(shown) <= _LONGEST_TEXT else shown[:_LONGEST_TEXT] + "..."
        raise InvalidInput.at(field, f"{shown} is not a positive duration such as 3600, '7d' or '12h'")
    return micros


def _duration_micros(given: object) -> int | None:
    if isinstance(given, str):
        match = _DURATION.fullmatch(given)
        if match is None or len(given) > _LONGEST_DURATION:
            return None
        whole, fraction, unit = match.groups(default="")
        micros: int = int(whole + fraction) * _UNITS[unit] * SECOND // 10 ** len(fraction)
        return micros
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    # Through its shortest digits: 0.29 means 290,000 microseconds, though its float64 is a little less.
    return int(Decimal(repr(given)) * SECOND) if abs(given) < 2**42 else None


@lru_cache(maxsize=4_096)
def duration(given: Duration) -> int:
    """A duration that was checked before, in microseconds."""
    return parse_duration(given, "duration")
