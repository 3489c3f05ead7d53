"""Conversions between JSON, Arrow and columns for all value types. In memory values are:

number     float64      integer, timestamp  int64      boolean  bool
string     object (str) json  object (canonical JSON text)  vector  float32[dimension]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from actors.domain import Feature
from actors.types.arrow_contents import without_values
from actors.types.boolean import Boolean
from actors.types.integer import Integer
from actors.types.json import Json
from actors.types.number import Number
from actors.types.string import String
from actors.types.timestamp import Timestamp
from actors.types.type import NO_FEATURE, Array, Coerced, Nulls, Observed, Type, blank, column_of
from actors.types.vector import Vector
from timewell.arrow_plain import plain_array

TYPES: dict[str, Type] = {
    type_.name: type_ for type_ in (Number(), Integer(), String(), Boolean(), Timestamp(), Vector(), Json())
}
"""All types by name, in the order of the columns in history files."""


def type_of(feature: Feature) -> Type:
    """The type of a feature's values."""
    return TYPES[feature.value_type]


def dtype_of(value_type: str) -> np.dtype[Any]:
    """The dtype of values of a type in memory."""
    return TYPES[value_type].dtype


def width_of(feature: Feature) -> int:
    """The dimension of a vector feature, 0 for any other."""
    is_vector = type_of(feature).compared == "components"
    return (feature.schema.dimension or 0) if is_vector and feature.schema else 0


def _shape(feature: Feature, count: int) -> tuple[int, ...]:
    return (count, width_of(feature)) if type_of(feature).compared == "components" else (count,)


def empty(feature: Feature, count: int) -> Array:
    """A column of `count` nulls: shape (count,), or (count, dimension) for a vector."""
    return blank(type_of(feature).dtype, _shape(feature, count))


def convert(feature: Feature, given: Sequence[Any]) -> Coerced:
    """Convert JSON values to a column of the feature's type. Nulls are allowed; constraints are not checked."""
    return column_of(type_of(feature), feature, given, _shape(feature, len(given)))


def convert_one(value_type: str, value: Any) -> Any:
    """Convert one JSON value of a type other than vector to its stored form. Raises Refusal (a ValueError)."""
    return TYPES[value_type].from_json(NO_FEATURE, value)


def convert_arrow(feature: Feature, values: pa.Array, field: str) -> Coerced:
    """Convert an Arrow array to a column of the feature's type. Constraints are not checked; NaN is a null.

    Raises InvalidInput, naming `field`, if the array's type does not fit the feature; single values that are not
    acceptable are listed in the column's `refused`.
    """
    values = plain_array(values)
    if without_values(values):
        return Coerced(empty(feature, len(values)), np.ones(len(values), np.bool_), [])
    return type_of(feature).from_arrow(feature, values, field)


def render(value_type: str, values: Array, nulls: Nulls) -> list[Any]:
    """Render a column as objects that msgspec encodes to the API's JSON; nulls as None."""
    rendered = render_all(value_type, values)
    if nulls.any():
        for position in np.flatnonzero(nulls).tolist():
            rendered[position] = None
    return rendered


def render_all(value_type: str, values: Array) -> list[Any]:
    """Render a column like `render`, but nulls as the type's zero."""
    return TYPES[value_type].to_json(values)


def by_dtype(types: Iterable[Type]) -> dict[tuple[np.dtype[Any], bool], Type]:
    """The types by their dtype and whether values are vectors, by which statistics recognise them.

    Raises TypeError if two types are kept alike, and statistics would use something else of their values.
    """
    found = dict[tuple[np.dtype[Any], bool], Type]()
    for type_ in types:
        first = found.setdefault((type_.dtype, type_.compared == "components"), type_)
        if type(first).observed is not type(type_).observed:
            raise TypeError(
                f"{first.name} and {type_.name} are both kept as {type_.dtype} and observed differently"
            )
    return found


_BY_DTYPE = by_dtype(TYPES.values())


def observed(values: Array) -> Observed:
    """Compute what statistics use of values. Their type is recognised by dtype: statistics know no features."""
    return _BY_DTYPE[values.dtype, values.ndim == 2].observed(values)
