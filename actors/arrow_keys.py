"""Arrow columns of entity ids and of timestamps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from actors.columns import Entities, Times
from actors.errors import Fault, InvalidInput
from actors.timestamps import LAST_MOMENT, SECOND, YEAR_ONE, parse_timestamp, parse_timestamps
from actors.values import Nulls


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A dictionary column as its values: what goes out has no dictionaries, not even within lists."""
    if pa.types.is_dictionary(column.type):
        chunks = [chunk.dictionary_decode() for chunk in column.chunks]
        column = pa.chunked_array(chunks, column.type.value_type)
    if pa.types.is_string_view(column.type):
        return column.cast(pa.string())
    if "dictionary" in str(column.type):
        return pa.chunked_array([pa.array(column.to_pylist())])
    return column


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def ids_of_arrow(column: pa.ChunkedArray, field: str) -> list[str]:
    """Entity ids: strings, or whole numbers as their digits; a null is an empty text.

    Raises InvalidInput that names `field` for columns of other types.
    """
    return list(entities_of_arrow(column, field))


def entities_of_arrow(column: pa.ChunkedArray, field: str) -> Entities:
    """The same with each distinct one once: a Python string is made of these alone."""
    column = plain(column)
    if not (_is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise InvalidInput.at(field, f"must be strings or integers, not {column.type}")
    names, codes = coded(column)
    return Entities(["" if name is None else name for name in names.cast(pa.string()).to_pylist()], codes)


def coded(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int32]]:
    """The distinct values of a column, a null among them where it has some, and for each row its place there."""
    encoded = column.dictionary_encode().combine_chunks()
    names, indices = encoded.dictionary, encoded.indices
    if encoded.null_count:
        names, indices = pa.concat_arrays([names, pa.nulls(1, names.type)]), indices.fill_null(len(names))
    return names, np.asarray(indices.to_numpy(zero_copy_only=False), np.int32)


_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def times_of_arrow(column: pa.ChunkedArray, field: str) -> Times:
    """Timestamps of any unit (without a zone: UTC) or RFC 3339 strings. int64[n], 0 for nulls.

    Raises InvalidInput that names `field`, and the rows where single values are to blame.
    """
    times, faults = judged_times(column, field)
    return _without_faults(times, faults)


def judged_times(column: pa.ChunkedArray, field: str) -> tuple[Times, list[Fault]]:
    """The same with what is wrong with single rows, whose times are 0. Raises InvalidInput for other types."""
    column = plain(column)
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64), []
    if _is_text(column.type):
        return _judged_texts(column.cast(pa.string()).fill_null(_EPOCH).to_pylist(), field)
    if not pa.types.is_timestamp(column.type):
        raise InvalidInput.at(field, f"must be a timestamp or RFC 3339 strings, not {column.type}")
    times, beyond = micros_of(column)
    rows = np.flatnonzero(beyond).tolist()
    return np.where(beyond, 0, times), [Fault(field, "is not within the years 1 to 9999", row) for row in rows]


_EPOCH = "1970-01-01T00:00:00Z"


def micros_of(column: pa.ChunkedArray | pa.Array) -> tuple[Times, Nulls]:
    """A timestamp column as microseconds, 0 for nulls, and where it leaves the years that RFC 3339 can say."""
    given = np.asarray(column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    scale = _PER_SECOND[column.type.unit]
    # Compared in the column's own unit: microseconds may not hold what seconds do.
    beyond = (given > LAST_MOMENT * scale // SECOND) | (given < YEAR_ONE * scale // SECOND)
    given = np.where(beyond, 0, given)
    return given * (SECOND // scale) if scale <= SECOND else given // (scale // SECOND), beyond


def times_of_texts(texts: list[str], field: str) -> Times:
    """RFC 3339 strings as microseconds. Raises InvalidInput that names the rows to blame."""
    times, faults = _judged_texts(texts, field)
    return _without_faults(times, faults)


def _without_faults(times: Times, faults: list[Fault]) -> Times:
    if faults:
        first, more = faults[0], f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise InvalidInput(f"[{first.index}].{first.field}: {first.message}{more}", faults)
    return times


def _judged_texts(texts: list[str], field: str) -> tuple[Times, list[Fault]]:
    parsed = parse_timestamps(texts) if texts else np.zeros(0, np.int64)
    if parsed is not None:
        return parsed, []
    times, faults = np.zeros(len(texts), np.int64), []
    for index, text in enumerate(texts):
        try:
            times[index] = parse_timestamp(text)
        except InvalidInput as error:
            faults.append(Fault(field, error.faults[0].message, index))
    return times, faults
