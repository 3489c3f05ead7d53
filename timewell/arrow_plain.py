"""Arrow columns in plain types: without dictionaries, run ends, views and extension types, at any depth.

With one exception: JSON texts (arrow.json) nested in another type keep their extension type. A column of them
becomes text.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column with its values written out; a plain column is returned as it is."""
    if is_plain(column.type):
        return column
    chunks = [plain_array(chunk) for chunk in column.chunks]
    return pa.chunked_array(chunks) if chunks else pa.chunked_array([plain_array(pa.array([], column.type))])


def is_plain(kind: pa.DataType) -> bool:
    """Whether a type, and every type nested in it, stores its values directly."""
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind) or isinstance(kind, pa.BaseExtensionType):
        return False
    if types.is_string_view(kind) or types.is_binary_view(kind) or is_list_view(kind):
        return False
    return all(is_plain(one.type) for one in within(kind))


def within(kind: pa.DataType) -> list[pa.Field]:
    """The fields of a nested type."""
    return [kind.field(place) for place in range(kind.num_fields)]


def is_list_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def plain_array(values: pa.Array) -> pa.Array:
    """An array with its values written out."""
    kind, types = values.type, pa.types
    if is_plain(kind):
        return values
    if isinstance(kind, pa.BaseExtensionType):
        return _storage(values)
    if types.is_dictionary(kind):
        return plain_array(values.dictionary).take(values.indices)
    if types.is_run_end_encoded(kind):
        return plain_array(values.values).take(pa.array(runs_of(values)))
    if types.is_string_view(kind):
        return values.cast(pa.string())
    if types.is_binary_view(kind):
        return values.cast(pa.binary())
    return _nested(values)


def _storage(values: pa.Array) -> pa.Array:
    storage = values.storage
    if isinstance(values.type, pa.UuidType):
        return pa.array([None if one is None else str(one) for one in values.to_pylist()], pa.string())
    if isinstance(values.type, pa.Bool8Type):
        return pc.not_equal(storage, 0)
    return plain_array(storage)


def runs_of(values: pa.RunEndEncodedArray) -> NDArray[np.int64]:
    """For each row, the index of its value among the runs."""
    ends = values.run_ends.to_numpy()
    return np.searchsorted(ends, np.arange(values.offset, values.offset + len(values)), "right")


def _inner(values: pa.Array) -> pa.Array:
    """A nested array with its values written out, where JSON texts stay distinct from plain texts."""
    if isinstance(values.type, pa.JsonType):
        return pa.ExtensionArray.from_storage(pa.json_(), plain_array(values.storage).cast(pa.string()))
    return plain_array(values)


def _nested(values: pa.Array) -> pa.Array:
    kind, types, gaps = values.type, pa.types, values.is_null()
    if types.is_struct(kind):
        fields = [_inner(values.field(place)) for place in range(kind.num_fields)]
        named = [pa.field(kind.field(place).name, field.type) for place, field in enumerate(fields)]
        return pa.StructArray.from_arrays(fields, fields=named, mask=gaps)
    if types.is_fixed_size_list(kind):
        size = kind.list_size
        items = _inner(values.values.slice(values.offset * size, len(values) * size))
        return pa.FixedSizeListArray.from_arrays(items, size, mask=gaps)
    if is_list_view(kind):
        sizes = np.where(gaps, 0, values.sizes.to_numpy()).astype(np.int64)
        ends = np.cumsum(sizes)
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(
            values.offsets.to_numpy() - ends + sizes, sizes
        )
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        return pa.ListArray.from_arrays(offsets, _inner(values.values).take(pa.array(places)), mask=gaps)
    offsets = pa.array(np.array(values.offsets.to_numpy()))
    if types.is_map(kind):
        return pa.MapArray.from_arrays(offsets, _inner(values.keys), _inner(values.items), mask=gaps)
    made = pa.LargeListArray if types.is_large_list(kind) else pa.ListArray
    return made.from_arrays(offsets, _inner(values.values), mask=gaps)
