"""True or false."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from actors.domain import Feature
from actors.types.type import Array, Coerced, Nulls, Observed, Type, expected, mismatch, nulls_of


class Boolean(Type):
    """See the module."""

    name = "boolean"
    dtype = np.dtype(np.bool_)
    arrow = pa.bool_()
    constraints = frozenset({"enum"})
    compared = "categories"
    repeats = False
    further = "true_rate"

    def whole(self, given: Sequence[Any]) -> Array | None:
        """Those that are."""
        return np.array(given, np.bool_) if set(map(type, given)) == {bool} else None

    def one(self, feature: Feature, value: Any) -> bool:
        """No number stands for one."""
        if type(value) is not bool:
            raise expected("true or false", value)
        return value

    def taken(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """Booleans alone."""
        if not pa.types.is_boolean(values.type):
            raise mismatch(feature, values, field)
        flags = values.cast(pa.bool_()).fill_null(False).to_numpy(zero_copy_only=False)
        return Coerced(np.array(flags, np.bool_), nulls_of(values), [])

    def restored(self, feature: Feature, column: pa.Array, nulls: Nulls) -> Array:
        """As they are."""
        return column.fill_null(False).to_numpy(zero_copy_only=False).astype(np.bool_, copy=False)  # type: ignore[no-any-return]

    def observed(self, values: Array) -> Observed:
        """How many of either."""
        truths = int(np.count_nonzero(values))
        counted = {"true": truths, "false": len(values) - truths}
        seen = {word: count for word, count in counted.items() if count}
        return Observed(np.array([word == "true" for word in seen]), counts=seen)

    def counted(self, texts: Sequence[str]) -> Sequence[Any] | None:
        """Either word."""
        return [word == "true" for word in texts]
