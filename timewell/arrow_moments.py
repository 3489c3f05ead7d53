"""Arrow columns of timestamps, of any type and unit, as microseconds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from timewell.timestamps import LAST_MOMENT, SECOND, YEAR_ONE, judged_texts

_DAY = 86_400 * SECOND
_MICROS = {"s": SECOND, "ms": 1_000, "us": 1}
_EPOCH = "1970-01-01T00:00:00Z"
_BEYOND = "is not within the years 1 to 9999"


def judged_moments(column: pa.ChunkedArray | pa.Array) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Timestamps, dates or RFC 3339 texts as microseconds, with a message for each invalid row.

    Invalid rows and nulls are 0. Raises TypeError for a column of another type.
    """
    kind, types = column.type, pa.types
    if types.is_string(kind) or types.is_large_string(kind):
        return judged_texts(column.cast(pa.string()).fill_null(_EPOCH).to_pylist())
    if not (types.is_timestamp(kind) or types.is_date(kind)):
        hint = "; cast what counts seconds to pa.timestamp('s')" if types.is_integer(kind) else ""
        raise TypeError(f"must be a timestamp, a date or RFC 3339 strings, not {kind}{hint}")
    times, beyond = micros_of(column)
    return np.where(beyond, 0, times), dict.fromkeys(np.flatnonzero(beyond).tolist(), _BEYOND)


def micros_of(column: pa.ChunkedArray | pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A column of timestamps or dates as microseconds (0 for nulls), and which rows are beyond RFC 3339's years.

    Digits beyond the microsecond are cut towards the past. Arrow's own conversions cut towards 1970, and overflow.
    """
    kind = column.type
    if pa.types.is_date32(kind):
        column = column.cast(pa.int32())
    given = np.asarray(column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    if kind == pa.timestamp("ns", getattr(kind, "tz", None)):
        return given // 1_000, np.zeros(len(given), np.bool_)  # 64 bits of nanoseconds end in 2262
    unit = _DAY if pa.types.is_date32(kind) else _MICROS["ms" if pa.types.is_date64(kind) else kind.unit]
    # Compared in the column's unit: a count of seconds may overflow as microseconds.
    beyond = (given > LAST_MOMENT // unit) | (given < YEAR_ONE // unit)
    return np.where(beyond, 0, given) * unit, beyond
