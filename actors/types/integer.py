"""The type `integer`: 64-bit integers.

A whole number written as 5.0 is accepted, unless it is so large that its float64 could stand for several integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from actors.domain import Feature
from actors.types.number import floats_of
from actors.types.type import (
    NO_FEATURE,
    Array,
    Coerced,
    Refusal,
    Refused,
    Type,
    column_of,
    expected,
    is_numeric,
    mismatch,
    nulls_of,
)
from timewell.wire import FIRST_INEXACT

_FIRST_INEXACT = {pa.float16(): 2.0**11, pa.float32(): 2.0**24, pa.float64(): FIRST_INEXACT}

"""From this value on a float of each type may stand for several integers."""


class Integer(Type):
    """The type `integer`."""

    name = "integer"
    dtype = np.dtype(np.int64)
    arrow = pa.int64()
    constraints = frozenset({"min", "max", "enum"})
    compared = "amounts"
    numeric = True

    def all_from_json(self, given: Sequence[Any]) -> Array | None:
        """Convert a column of numbers written as integers, without nulls."""
        if set(map(type, given)) != {int}:
            return None
        try:
            return np.array(given, np.int64)
        except OverflowError:
            return None

    def from_json(self, feature: Feature, value: Any) -> int:
        """Accept an integer, or a float that stands for exactly one integer."""
        if type(value) is float and value.is_integer():  # pandas writes integers with missing values as 5.0
            if abs(value) >= FIRST_INEXACT:
                raise Refusal(
                    "a float of this size stands for several integers; write it without fraction or exponent"
                )
            return int(value)
        if type(value) is not int:
            raise expected("an integer", value)
        if not -(2**63) <= value < 2**63:
            raise Refusal("does not fit in 64 bits")
        return value

    def bound(self, value: Any, least: bool) -> Any:
        """Accept fractions too: they are rounded to the nearest integer within the bound."""
        if type(value) in (int, float):
            return math.ceil(value) if least else math.floor(value)
        return self.from_json(NO_FEATURE, value)

    def from_arrow(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """Accept numbers of any Arrow type, if they are whole."""
        if not is_numeric(values.type):
            raise mismatch(feature, values, field)
        if pa.types.is_decimal(values.type):
            given = values.to_pylist()
            partial = [place for place, one in enumerate(given) if one is not None and one != int(one)]
            digits = [None if one is None else int(one) for one in given]
            column = column_of(self, feature, digits, (len(digits),))
            fractions = [Refused(place, "expected an integer") for place in partial]
            return column._replace(refused=[*column.refused, *fractions])
        if pa.types.is_signed_integer(values.type):
            whole = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
            return Coerced(np.array(whole, np.int64), nulls_of(values), [])
        if pa.types.is_unsigned_integer(values.type):
            unsigned = values.cast(pa.uint64()).fill_null(0).to_numpy(zero_copy_only=False)
            refused = [Refused(int(p), "does not fit in 64 bits") for p in np.flatnonzero(unsigned >= 2**63)]
            return Coerced(unsigned.astype(np.int64), nulls_of(values), refused)
        column = floats_of(values)  # pandas makes integers with missing values floats
        # From `_FIRST_INEXACT` on a float may stand for neighbouring integers as well.
        odd = (np.floor(column.values) != column.values) | (np.abs(column.values) >= _FIRST_INEXACT[values.type])
        refused = [Refused(p, _why_none(float(column.values[p]))) for p in np.flatnonzero(odd).tolist()]
        integers = np.where(odd, 0, column.values).astype(np.int64)
        return Coerced(integers, column.nulls, [*column.refused, *refused])


def _why_none(number: float) -> str:
    if number.is_integer():
        return "a float of this size stands for several integers; give it as an integer"
    return "expected an integer"
