"""Times and durations of Python, numpy and pandas, converted to the contract's form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from timewell.errors import InvalidInput

Time = datetime | np.datetime64 | str
"""A timestamp, aware or naive (then in UTC). A pandas Timestamp is a datetime. Text is RFC 3339."""
Length = timedelta | np.timedelta64 | int | float | str
"""A duration. A number counts seconds; text is such as "7d", "12h", "30m", "45s"."""


def moment(given: Time, name: str = "timestamp", index: int | None = None) -> str:
    """A time as RFC 3339, to the microsecond. Text is returned as it is: the service judges it.

    >>> moment(datetime(2025, 11, 7, 10)), moment(np.datetime64("2025-11-07T10:00:00.000001999", "ns"))
    ('2025-11-07T10:00:00Z', '2025-11-07T10:00:00.000001Z')

    Raises InvalidInput that names `name` for anything else, NaT included.
    """
    if isinstance(given, str):
        return given
    return as_datetime(given, name, index).replace(tzinfo=None).isoformat() + "Z"


def moment_or_none(given: Time | None, name: str) -> str | None:
    """A time as RFC 3339, or None for None."""
    return None if given is None else moment(given, name)


def as_datetime(given: object, name: str, index: int | None = None) -> datetime:
    """A time as an aware datetime in UTC. Raises InvalidInput that names `name`."""
    time = _to_datetime(given)
    if time is None:
        raise InvalidInput.at(name, f"{given!r} is not a time", index)
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise InvalidInput.at(name, f"{given!r} is not within the years 1 to 9999 in UTC", index) from None


def _to_datetime(given: Any) -> datetime | None:
    """A time as a datetime, None if it is not a time."""
    if isinstance(given, str):
        try:
            return datetime.fromisoformat(given)
        except ValueError:
            return None
    if isinstance(given, np.datetime64):
        micros = given.astype("datetime64[us]")
        # numpy wraps around if 64 bits of microseconds cannot hold the time
        given = micros.item() if _within(micros, given) else None
    if not isinstance(given, datetime) or is_missing(given):
        return None
    try:
        return given.to_pydatetime(warn=False) if hasattr(given, "to_pydatetime") else given
    except (OverflowError, ValueError):  # pandas has years that Python lacks
        return None


def _within(micros: np.datetime64, given: np.datetime64) -> bool:
    """Whether a time is the same in microseconds, apart from its finer digits."""
    return bool(np.abs((micros.astype("datetime64[s]") - given.astype("datetime64[s]")).astype(np.int64)) <= 1)


def span(given: Length | None, name: str) -> int | float | str | None:
    """A duration as the contract's JSON has it: seconds, or its text.

    >>> span(timedelta(days=7), "window"), span("12h", "window"), span(np.timedelta64(1500, "ms"), "window")
    (604800, '12h', 1.5)
    """
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, np.timedelta64):
        given = given.astype("timedelta64[us]").item()
    if isinstance(given, timedelta):
        given = given.total_seconds()
    if isinstance(given, bool) or not isinstance(given, int | float | np.number) or not np.isfinite(given):
        raise InvalidInput.at(name, f"{given!r} is not a duration such as timedelta(days=7) or '7d'")
    seconds = float(given)
    return int(seconds) if seconds.is_integer() else seconds


def span_word(given: Length | None, name: str) -> str | None:
    """A duration for a query string, where seconds need a unit.

    >>> span_word(timedelta(milliseconds=1), "lookback"), span_word(3600, "lookback")
    ('0.001s', '3600s')
    """
    found = span(given, name)
    return found if found is None or isinstance(found, str) else f"{found:.6f}".rstrip("0").rstrip(".") + "s"


def period(given: tuple[Time, Time] | None, name: str) -> str | None:
    """A period as the text START/END."""
    return None if given is None else f"{moment(given[0], name)}/{moment(given[1], name)}"


def is_missing(value: Any) -> bool:
    """Whether a value is NaT or pandas' NA."""
    return type(value).__name__ in ("NaTType", "NAType") or (
        isinstance(value, np.datetime64) and bool(np.isnat(value))
    )
