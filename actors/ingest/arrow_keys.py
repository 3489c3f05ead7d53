"""Arrow columns of entity ids and of timestamps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from actors.errors import Fault, InvalidInput
from actors.settings import IDS_AT_ONCE
from actors.table.columns import Times
from actors.table.ids import Entities, Ids
from actors.types.arrow_contents import without_values
from actors.types.type import is_text
from timewell.arrow_moments import judged_moments
from timewell.arrow_plain import plain
from timewell.timestamps import judged_texts


def settled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column in a plain type; a column without any values gets the null type, whatever type it had."""
    column = plain(column)
    return pa.chunked_array([pa.nulls(len(column))]) if without_values(column) else column


def settled_ids(column: pa.ChunkedArray, field: str) -> pa.ChunkedArray:
    """A column of ids, settled. Raises InvalidInput for JSON, in which the id u1 would be "u1" with its quotes."""
    if isinstance(column.type, pa.JsonType):
        raise InvalidInput.at(field, "must be strings or integers, not JSON")
    return settled(column)


def entities_of_arrow(column: pa.ChunkedArray, field: str) -> Entities:
    """Convert a column to entity ids: strings, or integers as their digits; nulls become empty strings.

    Only distinct ids become Python strings. Raises InvalidInput, naming `field`, for columns of other types.
    """
    column = settled_ids(column, field)
    if not (is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise InvalidInput.at(field, f"must be strings or integers, not {column.type}")
    names, codes = coded(column)
    return Entities(Ids(_texts(names.cast(pa.string()))), codes)


def _texts(names: pa.StringArray) -> list[str]:
    """Convert to Python strings, nulls to empty ones. Works in parts, as Arrow holds the GIL while it converts."""
    texts = list[str]()
    for start in range(0, len(names), IDS_AT_ONCE):
        texts += ["" if name is None else name for name in names.slice(start, IDS_AT_ONCE).to_pylist()]
    return texts


def coded(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int32]]:
    """The distinct values of a column, including null if it has any, and each row's position in them: int32[n]."""
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    encoded = column.dictionary_encode().combine_chunks()
    names, indices = encoded.dictionary, encoded.indices
    if encoded.null_count:
        names, indices = pa.concat_arrays([names, pa.nulls(1, names.type)]), indices.fill_null(len(names))
    return names, np.asarray(indices.to_numpy(zero_copy_only=False), np.int32)


def times_of_arrow(column: pa.ChunkedArray, field: str) -> Times:
    """Convert timestamps of any unit (UTC if without a zone) or RFC 3339 strings to int64[n], 0 for nulls.

    Raises InvalidInput, which names `field`, and the rows if single values are invalid.
    """
    times, faults = judged_times(column, field)
    return _without_faults(times, faults)


def judged_times(column: pa.ChunkedArray, field: str) -> tuple[Times, list[Fault]]:
    """Convert timestamps, and list the faults of invalid rows, whose times are 0.

    Raises InvalidInput for columns of other types.
    """
    column = settled(column)
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64), []
    try:
        times, wrong = judged_moments(column)
    except TypeError as error:
        raise InvalidInput.at(field, str(error)) from None
    return times, _faults(field, wrong)


def times_of_texts(texts: list[str], field: str) -> Times:
    """Convert RFC 3339 strings to microseconds: int64[n]. Raises InvalidInput, which names the invalid rows."""
    times, wrong = judged_texts(texts)
    return _without_faults(times, _faults(field, wrong))


def _without_faults(times: Times, faults: list[Fault]) -> Times:
    if faults:
        first, more = faults[0], f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise InvalidInput(f"{first.place}: {first.message}{more}", faults)
    return times


def _faults(field: str, wrong: Mapping[int, str]) -> list[Fault]:
    return [Fault(field, message, row) for row, message in wrong.items()]
