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
    """A column in a plain type; one of missing values only in none, whatever it was given."""
    column = plain(column)
    return pa.chunked_array([pa.nulls(len(column))]) if without_values(column) else column


def ids_of_arrow(column: pa.ChunkedArray, field: str) -> list[str]:
    """Entity ids: strings, or whole numbers as their digits; a null is an empty text.

    Raises InvalidInput that names `field` for columns of other types.
    """
    return list(entities_of_arrow(column, field))


def entities_of_arrow(column: pa.ChunkedArray, field: str) -> Entities:
    """The same with each distinct one once: a Python string is made of these alone."""
    column = settled(column)
    if not (is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise InvalidInput.at(field, f"must be strings or integers, not {column.type}")
    names, codes = coded(column)
    return Entities(Ids(_texts(names.cast(pa.string()))), codes)


def _texts(names: pa.StringArray) -> list[str]:
    """As Python strings, empty for null. Some at a time: Arrow lets no other thread run while it makes them."""
    texts = list[str]()
    for start in range(0, len(names), IDS_AT_ONCE):
        texts += ["" if name is None else name for name in names.slice(start, IDS_AT_ONCE).to_pylist()]
    return texts


def coded(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int32]]:
    """The distinct values of a column, a null among them where it has some, and for each row its place there."""
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    encoded = column.dictionary_encode().combine_chunks()
    names, indices = encoded.dictionary, encoded.indices
    if encoded.null_count:
        names, indices = pa.concat_arrays([names, pa.nulls(1, names.type)]), indices.fill_null(len(names))
    return names, np.asarray(indices.to_numpy(zero_copy_only=False), np.int32)


def times_of_arrow(column: pa.ChunkedArray, field: str) -> Times:
    """Timestamps of any unit (without a zone: UTC) or RFC 3339 strings. int64[n], 0 for nulls.

    Raises InvalidInput that names `field`, and the rows where single values are to blame.
    """
    times, faults = judged_times(column, field)
    return _without_faults(times, faults)


def judged_times(column: pa.ChunkedArray, field: str) -> tuple[Times, list[Fault]]:
    """The same with what is wrong with single rows, whose times are 0. Raises InvalidInput for other types."""
    column = settled(column)
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64), []
    try:
        times, wrong = judged_moments(column)
    except TypeError as error:
        raise InvalidInput.at(field, str(error)) from None
    return times, _faults(field, wrong)


def times_of_texts(texts: list[str], field: str) -> Times:
    """RFC 3339 strings as microseconds. Raises InvalidInput that names the rows to blame."""
    times, wrong = judged_texts(texts)
    return _without_faults(times, _faults(field, wrong))


def _without_faults(times: Times, faults: list[Fault]) -> Times:
    if faults:
        first, more = faults[0], f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise InvalidInput(f"[{first.index}].{first.field}: {first.message}{more}", faults)
    return times


def _faults(field: str, wrong: Mapping[int, str]) -> list[Fault]:
    return [Fault(field, message, row) for row, message in wrong.items()]
