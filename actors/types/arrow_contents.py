"""Inspects Arrow columns before they are converted: only nulls, infinities, size once decoded."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from actors.errors import InvalidInput
from timewell.arrow_plain import is_list_view, is_plain, runs_of, within

Sizes = NDArray[np.int64]

LEAST_BYTES = 8
"""The least that a value takes once it is a Python object in a list."""


def without_values(values: pa.Array | pa.ChunkedArray) -> bool:
    """Whether a column has only nulls or NaN: pandas gives a column of missing values the type double."""
    if pa.types.is_null(values.type):
        return True
    if values.null_count == len(values) > 0:
        return True
    if not pa.types.is_floating(values.type):
        return False
    return bool(pc.all(pc.is_nan(values.cast(pa.float64())), min_count=0).as_py())


def has_infinity(values: pa.Array) -> bool:
    """Whether there is an infinite number among plain values, at any level of nesting."""
    kind, types = values.type, pa.types
    if types.is_floating(kind):
        return bool(pc.any(pc.is_inf(values.cast(pa.float64())), min_count=0).as_py())
    if types.is_struct(kind):
        return any(has_infinity(values.field(place)) for place in range(kind.num_fields))
    if types.is_map(kind):
        return has_infinity(values.keys) or has_infinity(values.items)
    return kind.num_fields > 0 and has_infinity(values.flatten())


def full_bytes(table: pa.Table) -> int:
    """The total size of nested and encoded columns once decoded. Raises InvalidInput for unsupported types."""
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
    """Whether decoded values of this type may take far more space than its buffers."""
    if isinstance(kind, pa.BaseExtensionType):
        return _may_grow(kind.storage_type)
    return kind.num_fields > 0 or not is_plain(kind)


def _sizes(values: pa.Array) -> Sizes:
    """The size in bytes of each value once it is decoded: int64[n]."""
    kind, types = values.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _sizes(values.storage)
    if types.is_dictionary(kind):
        return _padded(values.dictionary)[np.asarray(values.indices.fill_null(0).to_numpy(), np.int64)]
    if types.is_run_end_encoded(kind):
        return _padded(values.values)[runs_of(values)]
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
    """The sizes, with a 0 appended for null entries to refer to."""
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
    if not is_list_view(kind):
        sizes += before[offsets[1:]] - before[offsets[:-1]]
        return sizes
    lengths = np.where(values.is_null(), 0, values.sizes.to_numpy()).astype(np.int64)
    offsets = np.where(lengths, offsets, 0)
    sizes += before[offsets + lengths] - before[offsets]
    return sizes


def _width(kind: pa.DataType) -> int:
    try:
        return max(LEAST_BYTES, int(kind.bit_width) // 8)
    except ValueError:  # the null type has no bit width
        return LEAST_BYTES
