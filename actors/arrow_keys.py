"""Arrow columns of entity ids and of timestamps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from actors.columns import Times
from actors.errors import Fault, InvalidInput
from actors.timestamps import LAST_MOMENT, SECOND, YEAR_ONE, parse_timestamp, parse_timestamps


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A dictionary column as its values: what goes out has no dictionaries, not even within lists."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    if "dictionary" in str(column.type):
        return pa.chunked_array([pa.array(column.to_pylist())])
    return column


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def ids_of_arrow(column: pa.ChunkedArray, field: str) -> list[str]:
    """Entity ids: strings, or whole numbers as their digits; a null is an empty text.

    Raises InvalidInput that names `field` for columns of other types.
    """
    column = plain(column)
    if not (_is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise InvalidInput.at(field, f"must be strings or integers, not {column.type}")
    return ["" if one is None else one for one in column.cast(pa.string()).to_pylist()]


_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def times_of_arrow(column: pa.ChunkedArray, field: str) -> Times:
    """Timestamps of any unit (without a zone: UTC) or RFC 3339 strings. int64[n], 0 for nulls.

    Raises InvalidInput that names `field`, and the rows where single values are to blame.
    """
    column = plain(column)
    if _is_text(column.type):
        return times_of_texts(column.cast(pa.string()).fill_null("1970-01-01T00:00:00Z").to_pylist(), field)
    if not pa.types.is_timestamp(column.type):
        raise InvalidInput.at(field, f"must be a timestamp or RFC 3339 strings, not {column.type}")
    given = np.asarray(column.cast(pa.int64()).fill_null(0).to_numpy())
    scale = _PER_SECOND[column.type.unit]
    # Compared in the column's own unit: microseconds may not hold what seconds do.
    beyond = (given > LAST_MOMENT * scale // SECOND) | (given < -(-YEAR_ONE * scale // SECOND))
    if beyond.any():
        faults = [Fault(field, "is not within the years 1 to 9999", int(row)) for row in np.flatnonzero(beyond)]
        raise InvalidInput(f"[{faults[0].index}].{field}: {faults[0].message}", faults)
    return given * (SECOND // scale) if scale <= SECOND else given // (scale // SECOND)


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
