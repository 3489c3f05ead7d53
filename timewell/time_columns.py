"""Columns of timestamps: from timestamps, dates and text, and from numbers if their unit is given."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from math import floor
from typing import Any, Literal

import numpy as np

from timewell.errors import InvalidInput
from timewell.timestamps import LAST_MOMENT, YEAR_ONE, format_timestamp

Unit = Literal["s", "ms", "us", "ns"]
"""The unit of numbers that count from 1970: seconds, milliseconds, microseconds, nanoseconds."""

UNITS = {"s": Decimal(1_000_000), "ms": Decimal(1_000), "us": Decimal(1), "ns": Decimal("0.001")}


def micros_since(number: Any, unit: Unit) -> int | None:
    """A number as microseconds since 1970, cut towards the past; None if not a number or not in years 1 to 9999.

    >>> micros_since(1762509600.25, "s"), micros_since("1762509600123", "ms"), micros_since(-1, "ns")
    (1762509600250000, 1762509600123000, -1)
    """
    try:
        exact = Decimal(str(number)) * UNITS[unit]
        if not YEAR_ONE <= exact <= LAST_MOMENT:
            return None
    except InvalidOperation:
        return None
    return floor(exact)


def text_since(number: Any, unit: Unit, name: str, index: int) -> str:
    """A number since 1970 as RFC 3339. Raises InvalidInput if it is not one."""
    micros = None if isinstance(number, bool) else micros_since(number, unit)
    if micros is None:
        raise InvalidInput.at(name, _no_number(number, unit), index)
    return format_timestamp(micros)


def moments_of(column: Any, name: str, unit: Unit | None) -> Any:
    """An Arrow column without nulls as timestamps to the microsecond; values without a zone are in UTC.

    Raises InvalidInput that names `name` and the first row at fault.
    """
    import pyarrow as pa

    from timewell.arrow_moments import judged_moments
    from timewell.arrow_plain import plain_array

    kind, moment = column.type, pa.timestamp("us", "UTC")
    if len(column) == 0 or pa.types.is_null(kind):
        return pa.nulls(len(column), moment)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if unit is not None and (number or pa.types.is_string(kind)):
        return pa.array(_counted(column.to_pylist(), name, unit), moment)
    if number:
        reason = f"{column[0].as_py()} is not a moment unless its unit is said (s, ms, us or ns)"
        raise InvalidInput.at(name, reason, 0)
    if unit is not None:
        raise InvalidInput.at(name, f"a column of {kind} has no unit to be told")
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("s" if kind == pa.date32() else "ms"))
    try:
        times, wrong = judged_moments(plain_array(column))
    except TypeError as error:
        raise InvalidInput.at(name, str(error)) from None
    for row, message in wrong.items():
        raise InvalidInput.at(name, message, row)
    return pa.array(times).cast(moment)


def _counted(numbers: Sequence[Any], name: str, unit: Unit) -> Any:
    found = [micros_since(number, unit) for number in numbers]
    if None in found:
        index = found.index(None)
        raise InvalidInput.at(name, _no_number(numbers[index], unit), index)
    return np.array(found, np.int64)


def _no_number(given: Any, unit: Unit) -> str:
    words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
    return f"{given!r} is not a number of {words} within the years 1 to 9999"
