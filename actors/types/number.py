"""The type `number`: finite float64. Whole numbers are rendered as 5, not 5.0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from actors.domain import Feature
from actors.types.type import (
    FEW,
    Array,
    Coerced,
    Observed,
    Refusal,
    Refused,
    Type,
    column_of,
    expected,
    is_numeric,
    mismatch,
)

_LARGEST_WHOLE = 2.0**63


class Number(Type):
    """The type `number`."""

    name = "number"
    dtype = np.dtype(np.float64)
    arrow = pa.float64()
    constraints = frozenset({"min", "max", "enum"})
    compared = "amounts"
    numeric = True
    repeats = False

    def all_from_json(self, given: Sequence[Any]) -> Array | None:
        """Convert a column of finite numbers without nulls."""
        types = set(map(type, given))
        if not types <= {int, float}:
            return None
        try:
            values = np.array(given, np.float64)
        except OverflowError:
            return None
        return values + 0.0 if np.isfinite(values).all() else None

    def from_json(self, feature: Feature, value: Any) -> float:
        """Convert to the nearest float64. Raises Refusal if that is not finite."""
        if type(value) not in (int, float):
            raise expected("a number", value)
        try:
            number = float(value)
        except OverflowError:
            number = np.inf
        if not np.isfinite(number):
            raise Refusal("not a finite float64")
        return number + 0.0  # turns -0.0 into 0.0, which has other bits

    def to_json(self, values: Array) -> list[Any]:
        """Render whole numbers as integers."""
        if len(values) <= FEW:
            return [int(x) if x.is_integer() and abs(x) < _LARGEST_WHOLE else x for x in values.tolist()]
        whole = (np.floor(values) == values) & (np.abs(values) < _LARGEST_WHOLE)
        if whole.all():
            return values.astype(np.int64).tolist()  # type: ignore[no-any-return]
        numbers: list[Any] = values.tolist()
        if whole.any():
            for position in np.flatnonzero(whole).tolist():
                numbers[position] = int(numbers[position])
        return numbers

    def from_arrow(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """Accept numbers of any Arrow type; NaN is a null."""
        if not is_numeric(values.type):
            raise mismatch(feature, values, field)
        if pa.types.is_decimal(values.type):  # Arrow's own conversion does not give the nearest float
            given = [None if one is None else float(one) for one in values.to_pylist()]
            return column_of(self, feature, given, (len(given),))
        return floats_of(values)

    def observed(self, values: Array) -> Observed:
        """Observe the values as amounts."""
        return Observed(values, values)


def floats_of(values: pa.Array) -> Coerced:
    """Convert Arrow numbers other than decimals to float64. NaN becomes null, infinities are refused."""
    numbers = np.array(values.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False))
    nulls = np.isnan(numbers)
    infinite = np.isinf(numbers)
    refused = [Refused(int(place), "not a finite float64") for place in np.flatnonzero(infinite)]
    numbers[nulls | infinite] = 0.0
    numbers += 0.0
    return Coerced(numbers, nulls, refused)
