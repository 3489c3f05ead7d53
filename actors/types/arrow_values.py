"""Arrow columns as columns of a feature's type: the same checks as for JSON values, a column at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.domain import Feature
from actors.errors import InvalidInput
from actors.settings import MAX_VALUE_BYTES
from actors.types.arrow_contents import without_values
from actors.types.constraints import constrain
from actors.types.values import (
    Array,
    Column,
    Nulls,
    Refused,
    blank,
    convert,
    dtype_of,
    empty,
    render_all,
    width_of,
)
from timewell.arrow_moments import micros_of
from timewell.arrow_objects import Unsayable, has_bytes, objects
from timewell.arrow_plain import plain_array
from timewell.wire import FIRST_INEXACT

_FIRST_INEXACT = {pa.float16(): 2.0**11, pa.float32(): 2.0**24, pa.float64(): FIRST_INEXACT}


def convert_arrow(feature: Feature, values: pa.Array, field: str) -> Column:
    """An Arrow array as a column of the feature's type, constraints not looked at; NaN is a null.

    Raises InvalidInput that names `field` where the array's type cannot be the feature's at all; single values
    that are not acceptable are refused in the column.
    """
    values = plain_array(values)
    if without_values(values):
        return Column(empty(feature, len(values)), np.ones(len(values), np.bool_), [])
    return _CONVERT[feature.value_type](feature, values, field)


def constrain_arrow(feature: Feature, column: Column) -> None:
    """Refuse in the column what the feature's schema does not allow."""
    constrain(feature, column, _Shown(feature.value_type, column.values))


class _Shown(Sequence[Any]):
    """Values for messages, made only where one is told of."""

    def __init__(self, value_type: str, values: Array) -> None:
        self._value_type = value_type
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, position: Any) -> Any:
        return render_all(self._value_type, self._values[position : position + 1])[0]


def _nulls(values: pa.Array) -> Nulls:
    return np.asarray(values.is_null().to_numpy(zero_copy_only=False), np.bool_)


def _mismatch(feature: Feature, values: pa.Array, field: str) -> InvalidInput:
    reason = f"a column of {values.type} cannot be the values of {feature.id} ({feature.value_type})"
    return InvalidInput.at(field, reason)


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _numbers(feature: Feature, values: pa.Array, field: str) -> Column:
    if not _is_numeric(values.type):
        raise _mismatch(feature, values, field)
    if pa.types.is_decimal(values.type):  # through their digits: Arrow's own conversion is not the nearest
        return convert(feature, [None if one is None else float(one) for one in values.to_pylist()])
    numbers = np.array(values.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False))
    nulls = np.isnan(numbers)
    infinite = np.isinf(numbers)
    refused = [Refused(int(place), "not a finite float64") for place in np.flatnonzero(infinite)]
    numbers[nulls | infinite] = 0.0
    numbers += 0.0  # no -0.0, which is 0 and would be told apart from it
    return Column(numbers, nulls, refused)


def _integers(feature: Feature, values: pa.Array, field: str) -> Column:
    if not _is_numeric(values.type):
        raise _mismatch(feature, values, field)
    if pa.types.is_decimal(values.type):
        exact = [
            None if one is None else int(one) if one == int(one) else float(one) for one in values.to_pylist()
        ]
        return convert(feature, exact)
    if pa.types.is_signed_integer(values.type):
        whole = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        return Column(np.array(whole, np.int64), _nulls(values), [])
    if pa.types.is_unsigned_integer(values.type):
        unsigned = values.cast(pa.uint64()).fill_null(0).to_numpy(zero_copy_only=False)
        refused = [Refused(int(p), "does not fit in 64 bits") for p in np.flatnonzero(unsigned >= 2**63)]
        return Column(unsigned.astype(np.int64), _nulls(values), refused)
    column = _numbers(feature, values, field)  # floats: what pandas makes of integers with gaps
    # Beyond its digits a float stands for its neighbours as well.
    odd = (np.floor(column.values) != column.values) | (np.abs(column.values) >= _FIRST_INEXACT[values.type])
    refused = [Refused(p, _why_no_integer(float(column.values[p]))) for p in np.flatnonzero(odd).tolist()]
    return Column(np.where(odd, 0, column.values).astype(np.int64), column.nulls, [*column.refused, *refused])


def _why_no_integer(number: float) -> str:
    if number.is_integer():
        return "a float of this size stands for several integers; give it as an integer"
    return "expected an integer"


def _booleans(feature: Feature, values: pa.Array, field: str) -> Column:
    if not pa.types.is_boolean(values.type):
        raise _mismatch(feature, values, field)
    flags = values.cast(pa.bool_()).fill_null(False).to_numpy(zero_copy_only=False)
    return Column(np.array(flags, np.bool_), _nulls(values), [])


def _timestamps(feature: Feature, values: pa.Array, field: str) -> Column:
    if _is_text(values.type):
        return convert(feature, values.to_pylist())
    if not (pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)):
        raise _mismatch(feature, values, field)
    micros, beyond = micros_of(values)
    refused = [Refused(int(place), "is not within the years 1 to 9999") for place in np.flatnonzero(beyond)]
    return Column(np.where(beyond, 0, micros), _nulls(values), refused)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _texts(feature: Feature, values: pa.Array, field: str) -> Column:
    if not _is_text(values.type):
        raise _mismatch(feature, values, field)
    texts = blank(dtype_of("string"), (len(values),))
    texts[:] = values.to_pylist()
    lengths = values.cast(pa.string()).cast(pa.binary())
    sizes = np.array(pc.binary_length(lengths).fill_null(0).to_numpy(zero_copy_only=False))
    refused = [
        Refused(int(p), f"longer than {MAX_VALUE_BYTES} bytes") for p in np.flatnonzero(sizes > MAX_VALUE_BYTES)
    ]
    return Column(texts, _nulls(values), refused)


def _json(feature: Feature, values: pa.Array, field: str) -> Column:
    """JSON texts, as they come out of a training set; values that are no texts are taken as they are."""
    if not _is_text(values.type):
        if has_bytes(values.type):
            raise _mismatch(feature, values, field)
        try:
            given = objects(values, _number_of)
        except Unsayable as error:
            raise InvalidInput.at(field, str(error)) from None
        endless = [place for place, one in enumerate(given) if _is_endless(one)]
        for place in endless:
            given[place] = None
        column = convert(feature, [None if isinstance(one, float) and math.isnan(one) else one for one in given])
        told = [Refused(place, "JSON has no infinities") for place in endless]
        return Column(column.values, column.nulls, [*column.refused, *told])
    decoded, refused = [], []
    for place, text in enumerate(values.to_pylist()):
        try:
            decoded.append(None if text is None else msgspec.json.decode(text))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            decoded.append(None)
            refused.append(Refused(place, "expected JSON text"))
    column = convert(feature, decoded)
    return Column(column.values, column.nulls, [*column.refused, *refused])


def _is_endless(value: Any) -> bool:
    """Whether a value is an infinity, or holds one, which would become a null."""
    if isinstance(value, float):
        return math.isinf(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_is_endless, parts))


def _number_of(exact: Decimal) -> int | float:
    return int(exact) if exact == int(exact) else float(exact)


def _vectors(feature: Feature, values: pa.Array, field: str) -> Column:
    kind, dimension = values.type, width_of(feature)
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not (listed and _is_numeric(kind.value_type)):
        raise _mismatch(feature, values, field)
    nulls = _nulls(values)
    lengths = np.array(pc.list_value_length(values).fill_null(dimension).to_numpy(zero_copy_only=False))
    wrong = lengths != dimension
    refused = [
        Refused(int(p), f"has {lengths[p]} components, the feature's dimension is {dimension}")
        for p in np.flatnonzero(wrong)
    ]
    vectors = blank(dtype_of("vector"), (len(values), dimension))
    good = np.flatnonzero(~(nulls | wrong))
    flat = values.take(pa.array(good)).flatten().cast(pa.float64(), safe=False).fill_null(np.nan)
    with np.errstate(over="ignore"):
        vectors[good] = flat.to_numpy(zero_copy_only=False).reshape(-1, dimension).astype(np.float32) + 0.0
    endless = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    refused += [Refused(int(p), "a component is not a finite float32") for p in endless]
    vectors[endless] = 0
    return Column(vectors, nulls, refused)


_CONVERT: dict[str, Callable[[Feature, pa.Array, str], Column]] = {
    "number": _numbers,
    "integer": _integers,
    "boolean": _booleans,
    "timestamp": _timestamps,
    "string": _texts,
    "json": _json,
    "vector": _vectors,
}
