"""Integers of 64 bits. A whole number written 5.0 is one, as far as a float64 stands for one integer alone."""

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
    Observed,
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

"""From here on a float stands for several integers."""


class Integer(Type):
    """See the module."""

    name = "integer"
    dtype = np.dtype(np.int64)
    arrow = pa.int64()
    constraints = frozenset({"min", "max", "enum"})
    compared = "amounts"
    numeric = True

    def whole(self, given: Sequence[Any]) -> Array | None:
        """Those written as integers."""
        if set(map(type, given)) != {int}:
            return None
        try:
            return np.array(given, np.int64)
        except OverflowError:
            return None

    def one(self, feature: Feature, value: Any) -> int:
        """An integer, or a float that stands for one."""
        if type(value) is float and value.is_integer():  # 5.0, as whole numbers with gaps are written
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
        """A bound may have a fraction."""
        if type(value) in (int, float):
            return math.ceil(value) if least else math.floor(value)
        return self.one(NO_FEATURE, value)

    def taken(self, feature: Feature, values: pa.Array, field: str) -> Coerced:
        """Any numbers that are whole."""
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
        column = floats_of(values)  # what pandas makes of integers with gaps
        # Beyond its digits a float stands for its neighbours as well.
        odd = (np.floor(column.values) != column.values) | (np.abs(column.values) >= _FIRST_INEXACT[values.type])
        refused = [Refused(p, _why_none(float(column.values[p]))) for p in np.flatnonzero(odd).tolist()]
        integers = np.where(odd, 0, column.values).astype(np.int64)
        return Coerced(integers, column.nulls, [*column.refused, *refused])

    def observed(self, values: Array) -> Observed:
        """Amounts."""
        return Observed(values, values)


def _why_none(number: float) -> str:
    if number.is_integer():
        return "a float of this size stands for several integers; give it as an integer"
    return "expected an integer"
