"""Arrow columns of timestamps as microseconds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from actors.columns import Times
from actors.errors import Fault, InvalidInput
from actors.timestamps import parse_timestamp, parse_timestamps


def times_of_arrow(column: pa.ChunkedArray, field: str) -> Times:
    """Timestamps of any unit (without a zone: UTC) or RFC 3339 strings. int64[n], 0 for nulls.

    Raises InvalidInput that names `field`, and the rows where single strings are to blame.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return times_of_texts(column.fill_null("1970-01-01T00:00:00Z").to_pylist(), field)
    if not pa.types.is_timestamp(column.type):
        raise InvalidInput.at(field, f"must be a timestamp or RFC 3339 strings, not {column.type}")
    micros = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64()).fill_null(0)
    return np.asarray(micros.to_numpy(), np.int64)


def times_of_texts(texts: list[str], field: str) -> Times:
    """RFC 3339 strings as microseconds. Raises InvalidInput that names the rows to blame."""
    if not texts:
        return np.zeros(0, np.int64)
    parsed = parse_timestamps(texts)
    if parsed is not None:
        return parsed
    times, faults = np.zeros(len(texts), np.int64), []
    for index, text in enumerate(texts):
        try:
            times[index] = parse_timestamp(text)
        except InvalidInput as error:
            faults.append(Fault(field, error.faults[0].message, index))
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise InvalidInput(f"[{faults[0].index}].{field}: {faults[0].message}{more}", faults)
    return times
