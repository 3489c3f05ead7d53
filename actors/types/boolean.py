"""The type `boolean`: true or false."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from actors.domain import Feature
from actors.types.type import Array, Coerced, Nulls, Observed, Type, expected, mismatch, nulls_of


class Boolean(Type):
    """The type `boolean`."""

    name = "boolean"
    dtype = np.dtype(np.bool_)
    arrow = pa.bool_()
    constraints = frozenset({"enum"})
    compared = "categories"
    repeats = False
    further = "true_rate"

    def all_from_json(self, given: Sequence[Any]) -> Array | None:
        """Convert a column of booleans without nulls."""
        return np.array(given, np.bool_) if set(map(type, given)) == {bool} else None

    def from_json(self, feature: Feature, value: Any) -> bool:
        """Accept only true and false, no numbers."""
        if type(value) is not bool:
            raise expected("true or false", value)
        return value

    def from_arrow(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """Accept only Arrow booleans."""
        if not pa.types.is_boolean(values.type):
            raise mismatch(feature, values, field)
        flags = values.cast(pa.bool_()).fill_null(False).to_numpy(zero_copy_only=False)
        return Coerced(np.array(flags, np.bool_), nulls_of(values), [])

    def restored(self, feature: Feature, column: pa.Array, nulls: Nulls) -> Array:
        """Restore the flags; nulls become False."""
        return column.fill_null(False).to_numpy(zero_copy_only=False).astype(np.bool_, copy=False)  # type: ignore[no-any-return]

    def observed(self, values: Array) -> Observed:
        """Count both values."""
        truths = int(np.count_nonzero(values))
        counted = {"true": truths, "false": len(values) - truths}
        seen = {word: count for word, count in counted.items() if count}
        return Observed(np.array([word == "true" for word in seen]), counts=seen)

    def values_counted(self, texts: Sequence[str]) -> Sequence[Any] | None:
        """Map the words "true" and "false" to booleans."""
        return [word == "true" for word in texts]
