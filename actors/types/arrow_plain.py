"""Arrow columns in plain types: without dictionaries, runs, views and extension types, also within others.

Of those, only texts that are JSON keep their type within others: a column of them is text, as it was sent.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from actors.errors import InvalidInput

Sizes = NDArray[np.int64]

LEAST_BYTES = 8
"""What a value takes at least, once it is a value of Python in a list."""


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column with its values written out; one that is plain stays as it is."""
    if is_plain(column.type):
        return column
    chunks = [plain_array(chunk) for chunk in column.chunks]
    return pa.chunked_array(chunks) if chunks else pa.chunked_array([plain_array(pa.array([], column.type))])


def without_values(values: pa.Array | pa.ChunkedArray) -> bool:
    """Whether a column is of missing values only: pandas gives such a column the type double."""
    if pa.types.is_null(values.type):
        return True
    if values.null_count == len(values) > 0:
        return True
    if not pa.types.is_floating(values.type):
        return False
    return bool(pc.all(pc.is_nan(values.cast(pa.float64())), min_count=0).as_py())


def has_infinity(values: pa.Array) -> bool:
    """Whether there is an infinite number among plain values, or within them."""
    kind, types = values.type, pa.types
    if types.is_floating(kind):
        return bool(pc.any(pc.is_inf(values.cast(pa.float64())), min_count=0).as_py())
    if types.is_struct(kind):
        return any(has_infinity(values.field(place)) for place in range(kind.num_fields))
    if types.is_map(kind):
        return has_infinity(values.keys) or has_infinity(values.items)
    return kind.num_fields > 0 and has_infinity(values.flatten())


def is_plain(kind: pa.DataType) -> bool:
    """Whether a type, and all types within, say their values directly."""
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind) or isinstance(kind, pa.BaseExtensionType):
        return False
    if types.is_string_view(kind) or types.is_binary_view(kind) or _is_list_view(kind):
        return False
    return all(is_plain(one.type) for one in within(kind))


def within(kind: pa.DataType) -> list[pa.Field]:
    """The fields of a nested type."""
    return [kind.field(place) for place in range(kind.num_fields)]


def _is_list_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def plain_array(values: pa.Array) -> pa.Array:
    """The same of one array."""
    kind, types = values.type, pa.types
    if is_plain(kind):
        return values
    if isinstance(kind, pa.BaseExtensionType):
        return _storage(values)
    if types.is_dictionary(kind):
        return plain_array(values.dictionary).take(values.indices)
    if types.is_run_end_encoded(kind):
        return plain_array(values.values).take(pa.array(_runs(values)))
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


def _runs(values: pa.RunEndEncodedArray) -> Sizes:
    """For each row the place of its value."""
    ends = values.run_ends.to_numpy()
    return np.searchsorted(ends, np.arange(values.offset, values.offset + len(values)), "right")


def _inner(values: pa.Array) -> pa.Array:
    """The same within others, where texts that are JSON stay told apart from those that are not."""
    if isinstance(values.type, pa.JsonType):
        return pa.ExtensionArray.from_storage(pa.json_(), plain_array(values.storage).cast(pa.string()))
    return plain_array(values)


def _nested(values: pa.Array) -> pa.Array:
    kind, types, gaps = values.type, pa.types, values.is_null()
    if types.is_struct(kind):
        fields = [_inner(values.field(place)) for place in range(kind.num_fields)]
        named = [pa.field(kind.field(place).name, one.type) for place, one in enumerate(fields)]
        return pa.StructArray.from_arrays(fields, fields=named, mask=gaps)
    if types.is_fixed_size_list(kind):
        size = kind.list_size
        items = _inner(values.values.slice(values.offset * size, len(values) * size))
        return pa.FixedSizeListArray.from_arrays(items, size, mask=gaps)
    if _is_list_view(kind):
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


# How much it is, before it is made


def full_bytes(table: pa.Table) -> int:
    """The bytes of columns that are not plain, written out. Raises InvalidInput for types that nobody takes."""
    total = 0
    for name, column in zip(table.column_names, table.columns, strict=True):
        refused = _refused(column.type)
        if refused is not None:
            raise InvalidInput.at(name, f"values of the Arrow type {refused} are not taken")
        if _may_grow(column.type):
            total += sum(int(_sizes(chunk).sum()) for chunk in column.chunks)
    return total


def _refused(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_union(kind) or pa.types.is_interval(kind):
        return kind
    if isinstance(kind, pa.BaseExtensionType):
        return _refused(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _refused(kind.value_type)
    return next((found for one in within(kind) if (found := _refused(one.type)) is not None), None)


def _may_grow(kind: pa.DataType) -> bool:
    """Whether values of a type may be many more than its buffers hold."""
    if isinstance(kind, pa.BaseExtensionType):
        return _may_grow(kind.storage_type)
    return kind.num_fields > 0 or not is_plain(kind)


def _sizes(values: pa.Array) -> Sizes:
    """The bytes of each value once it is written out: int64[n]."""
    kind, types = values.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _sizes(values.storage)
    if types.is_dictionary(kind):
        return _padded(values.dictionary)[np.asarray(values.indices.fill_null(0).to_numpy(), np.int64)]
    if types.is_run_end_encoded(kind):
        return _padded(values.values)[_runs(values)]
    if types.is_string_view(kind) or types.is_binary_view(kind):
        lengths = np.frombuffer(values.buffers()[1], "<i4")[::4][values.offset : values.offset + len(values)]
        return np.where(values.is_null(), 0, lengths).astype(np.int64) + LEAST_BYTES
    if (
        types.is_binary(kind)
        or types.is_string(kind)
        or types.is_large_binary(kind)
        or types.is_large_string(kind)
    ):
        return np.asarray(pc.binary_length(values).fill_null(0).to_numpy(), np.int64) + LEAST_BYTES
    return _nested_sizes(values) if kind.num_fields else np.full(len(values), _width(kind), np.int64)


def _padded(values: pa.Array) -> Sizes:
    """With one to point at where there is none."""
    return np.append(_sizes(values), 0)


def _nested_sizes(values: pa.Array) -> Sizes:
    kind, types = values.type, pa.types
    sizes: Sizes = np.full(len(values), LEAST_BYTES, np.int64)
    if types.is_struct(kind):
        for place in range(kind.num_fields):
            sizes += _sizes(values.field(place))
        return sizes
    if types.is_fixed_size_list(kind):
        begin, size = values.offset * kind.list_size, len(values) * kind.list_size
        sizes += _sizes(values.values.slice(begin, size)).reshape(len(values), kind.list_size).sum(axis=1)
        return sizes
    items = _sizes(values.keys) + _sizes(values.items) if types.is_map(kind) else _sizes(values.values)
    before: Sizes = np.concatenate([np.zeros(1, np.int64), np.cumsum(items)])
    offsets = np.asarray(values.offsets.to_numpy(), np.int64)
    if not _is_list_view(kind):
        sizes += before[offsets[1:]] - before[offsets[:-1]]
        return sizes
    lengths = np.where(values.is_null(), 0, values.sizes.to_numpy()).astype(np.int64)
    offsets = np.where(lengths, offsets, 0)
    sizes += before[offsets + lengths] - before[offsets]
    return sizes


def _width(kind: pa.DataType) -> int:
    try:
        return max(LEAST_BYTES, int(kind.bit_width) // 8)
    except ValueError:  # null has none
        return LEAST_BYTES
