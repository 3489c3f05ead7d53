"""Moments: int64 microseconds, RFC 3339 in JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from actors.domain import Feature
from actors.errors import InvalidInput
from actors.timestamps import LAST_MOMENT, format_timestamp, parse_timestamp
from actors.types.type import (
    Array,
    Coerced,
    Nulls,
    Observed,
    Refused,
    Type,
    column_of,
    expected,
    is_text,
    mismatch,
    nulls_of,
)
from timewell.arrow_moments import micros_of


class Timestamp(Type):
    """See the module."""

    name = "timestamp"
    dtype = np.dtype(np.int64)
    arrow = pa.timestamp("us", "UTC")
    constraints = frozenset({"min", "max", "enum"})
    compared = "amounts"
    slow = True

    def one(self, feature: Feature, value: Any) -> int:
        """What RFC 3339 has, and the shorter forms that are taken everywhere."""
        if type(value) is not str:
            raise expected("an RFC 3339 string", value)
        try:
            return parse_timestamp(value)
        except InvalidInput:
            raise expected("an RFC 3339 timestamp", value) from None

    def rendered(self, values: Array) -> list[Any]:
        """RFC 3339."""
        return [format_timestamp(micros) for micros in values.tolist()]

    def taken(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """Timestamps and dates of any unit, or texts."""
        if is_text(values.type):
            return column_of(self, feature, values.to_pylist(), (len(values),))
        if not (pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)):
            raise mismatch(feature, values, field)
        micros, beyond = micros_of(values)
        refused = [Refused(int(place), "is not within the years 1 to 9999") for place in np.flatnonzero(beyond)]
        return Coerced(np.where(beyond, 0, micros), nulls_of(values), refused)

    def given(self, values: Array, nulls: Nulls) -> pa.Array:
        """Microseconds, UTC."""
        return pa.array(values, mask=nulls).cast(self.arrow)

    def restored(self, feature: Feature, column: pa.Array, nulls: Nulls) -> Array:
        """Microseconds."""
        return super().restored(feature, column.cast(pa.int64()), nulls)

    def observed(self, values: Array) -> Observed:
        """Amounts."""
        return Observed(values, values)

    def told(self, amount: float | int | None) -> Any:
        """RFC 3339. float64 rounds the last microseconds of the year 9999 into the next."""
        return None if amount is None else format_timestamp(min(round(amount), LAST_MOMENT))
