"""The type `vector`: arrays of finite float32, of one dimension per feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.domain import Feature
from actors.types.number import Number
from actors.types.type import (
    Array,
    Coerced,
    Nulls,
    Observed,
    Refusal,
    Refused,
    Type,
    blank,
    expected,
    is_numeric,
    mismatch,
    nulls_of,
)

_NUMBER = Number()


class Vector(Type):
    """The type `vector`."""

    name = "vector"
    dtype = np.dtype(np.float32)
    arrow = pa.list_(pa.float32())
    constraints = frozenset({"dimension"})
    compared = "components"
    repeats = False
    further = "norms"

    def from_json(self, feature: Feature, value: Any) -> Array:
        """Accept an array of numbers of the feature's dimension."""
        dimension = feature.schema.dimension if feature.schema else None
        if type(value) is not list or not set(map(type, value)) <= {int, float}:
            raise expected("an array of numbers", value)
        if len(value) != dimension:
            raise Refusal(f"has {len(value)} components, the feature's dimension is {dimension}")
        try:
            with np.errstate(over="ignore"):
                vector = np.array(value, np.float64).astype(np.float32) + 0.0
        except OverflowError:
            vector = np.full(1, np.inf, np.float32)
        if not np.isfinite(vector).all():
            raise Refusal("a component is not a finite float32")
        return vector

    def to_json(self, values: Array) -> list[Any]:
        """Render by the shortest text of each float32: as 0.1 rather than 0.10000000149."""
        shortest = values.astype("U").astype(np.float64)
        flat = _NUMBER.to_json(shortest.ravel())
        width = values.shape[1]
        return [flat[start : start + width] for start in range(0, len(flat), width)]

    def from_arrow(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """Accept Arrow lists of numbers of the feature's dimension."""
        kind, dimension = values.type, _dimension(feature)
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not (listed and is_numeric(kind.value_type)):
            raise mismatch(feature, values, field)
        nulls = nulls_of(values)
        lengths = np.array(pc.list_value_length(values).fill_null(dimension).to_numpy(zero_copy_only=False))
        wrong = lengths != dimension
        refused = [
            Refused(int(p), f"has {lengths[p]} components, the feature's dimension is {dimension}")
            for p in np.flatnonzero(wrong)
        ]
        vectors = blank(self.dtype, (len(values), dimension))
        good = np.flatnonzero(~(nulls | wrong))
        flat = values.take(pa.array(good)).flatten().cast(pa.float64(), safe=False).fill_null(np.nan)
        with np.errstate(over="ignore"):
            vectors[good] = flat.to_numpy(zero_copy_only=False).reshape(-1, dimension).astype(np.float32) + 0.0
        endless = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        refused += [Refused(int(p), "a component is not a finite float32") for p in endless]
        vectors[endless] = 0
        return Coerced(vectors, nulls, refused)

    def to_arrow(self, values: Array, nulls: Nulls) -> pa.Array:
        """Convert to an Arrow array of lists."""
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
        return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(nulls) if nulls.any() else None)

    def restored(self, feature: Feature, column: pa.Array, nulls: Nulls) -> Array:
        """Restore float32[n, dimension]; nulls become zeros."""
        width = _dimension(feature)
        vectors = blank(self.dtype, (len(column), width))
        vectors[~nulls] = column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        return vectors

    def observed(self, values: Array) -> Observed:
        """Observe the norms as amounts, and the components."""
        return Observed(values, np.linalg.norm(values.astype(np.float64), axis=1), components=values)


def _dimension(feature: Feature) -> int:
    return (feature.schema.dimension or 0) if feature.schema else 0
