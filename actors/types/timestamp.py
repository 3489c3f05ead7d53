"""The type `timestamp`: moments as int64 microseconds; in JSON, RFC 3339 texts."""

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
    """The type `timestamp`."""

    name = "timestamp"
    dtype = np.dtype(np.int64)
    arrow = pa.timestamp("us", "UTC")
    constraints = frozenset({"min", "max", "enum"})
    compared = "amounts"
    slow = True

    def from_json(self, feature: Feature, value: Any) -> int:
        """Parse an RFC 3339 text, or one of the shorter forms that `parse_timestamp` accepts."""
        if type(value) is not str:
            raise expected("an RFC 3339 string", value)
        try:
            return parse_timestamp(value)
        except InvalidInput:
            raise expected("an RFC 3339 timestamp", value) from None

    def to_json(self, values: Array) -> list[Any]:
        """Render RFC 3339 texts."""
        return [format_timestamp(micros) for micros in values.tolist()]

    def from_arrow(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """Accept Arrow timestamps and dates of any unit, and texts."""
        if is_text(values.type):
            return column_of(self, feature, values.to_pylist(), (len(values),))
        if not (pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)):
            raise mismatch(feature, values, field)
        micros, beyond = micros_of(values)
        refused = [Refused(int(place), "is not within the years 1 to 9999") for place in np.flatnonzero(beyond)]
        return Coerced(np.where(beyond, 0, micros), nulls_of(values), refused)

    def to_arrow(self, values: Array, nulls: Nulls) -> pa.Array:
        """Convert to an Arrow array of microseconds in UTC."""
        return pa.array(values, mask=nulls).cast(self.arrow)

    def restored(self, feature: Feature, column: pa.Array, nulls: Nulls) -> Array:
        """Restore the microseconds; nulls become 0."""
        return super().restored(feature, column.cast(pa.int64()), nulls)

    def amount_to_json(self, amount: float | int | None) -> Any:
        """Render an RFC 3339 text. As float64, the last microseconds of the year 9999 round to the year 10000."""
        return None if amount is None else format_timestamp(min(round(amount), LAST_MOMENT))
