"""Timestamps and durations: int64 microseconds since 1970 UTC throughout. What clients share is in `timewell`."""

from __future__ import annotations

import re
import time
from decimal import Decimal
from functools import lru_cache

from actors.errors import InvalidInput
from timewell.timestamps import (
    LAST_MOMENT,
    LONGEST_TEXT,
    SECOND,
    YEAR_ONE,
    format_timestamp,
    micros_of_text,
    parse_timestamps,
    why_no_moment,
)
from timewell.wire import Duration

__all__ = [
    "FOREVER",
    "LAST_MOMENT",
    "NEVER",
    "SECOND",
    "YEAR_ONE",
    "Duration",
    "duration",
    "format_timestamp",
    "now",
    "parse_duration",
    "parse_timestamp",
    "parse_timestamps",
]

NEVER = -(2**63)
"""Before every timestamp: the time of a value that was never written."""
FOREVER = 2**63 - 1

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"([0-9]+)(?:\.([0-9]+))?([dhms])")
_LONGEST_DURATION = 32


def now() -> int:
    """The wall clock, in microseconds."""
    return time.time_ns() // 1_000


def parse_timestamp(text: str, field: str = "timestamp") -> int:
    """Parse a timestamp, see `micros_of_text`. Raises InvalidInput, which names `field`."""
    micros = micros_of_text(text)
    if micros is None:
        raise InvalidInput.at(field, why_no_moment(text))
    return micros


def parse_duration(given: object, field: str) -> int:
    """Parse a positive duration, given as seconds or as "7d", "12h", "30m", "45s", into microseconds.

    Fractions of a microsecond are dropped. Raises InvalidInput, which names `field`.

    >>> parse_duration("7d", "window"), parse_duration(1.5, "window"), parse_duration("0.0000019s", "window")
    (604800000000, 1500000, 1)
    """
    micros = _duration_micros(given)
    if micros is None or not 0 < micros < 2**62:
        shown = repr(given)
        shown = shown if len(shown) <= LONGEST_TEXT else shown[:LONGEST_TEXT] + "..."
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
    # Via the shortest decimal: 0.29 means 290,000 microseconds, although the nearest float64 is a little less.
    return int(Decimal(repr(given)) * SECOND) if abs(given) < 2**42 else None


@lru_cache(maxsize=4_096)
def duration(given: Duration) -> int:
    """A duration that has been validated before, in microseconds."""
    return parse_duration(given, "duration")
