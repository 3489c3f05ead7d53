"""The constraints of a feature's schema: nullable, min, max, enum, pattern, maxLength, dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from actors.domain import Feature, ValueSchema
from actors.errors import InvalidInput
from actors.settings import MAX_ENUM_VALUES, MAX_VALUE_BYTES, MAX_VECTOR_DIMENSION
from actors.types.patterns import Search, Unusable, check_pattern
from actors.types.type import Array, Coerced, Nulls, Refused, shown
from actors.types.values import TYPES, convert, convert_one, render_all

_CONSTRAINTS = ("min", "max", "enum", "pattern", "max_length", "dimension")


def coerce(feature: Feature, given: Sequence[Any]) -> Coerced:
    """Convert JSON values into a column of the feature's type, validating each against type and schema."""
    return constrain(feature, convert(feature, given), given)


def constrain(feature: Feature, column: Coerced, given: Sequence[Any]) -> Coerced:
    """Refuse values of a column that the schema does not allow. `given`: the original values, for messages."""
    schema = feature.schema or ValueSchema()
    if not schema.nullable:
        refused = {position for position, _ in column.refused}
        missing = [place for place in np.flatnonzero(column.nulls).tolist() if place not in refused]
        column.refused.extend(Refused(position, "null, but the feature is not nullable") for position in missing)
    _check_constraints(feature, schema, column, given)
    if not column.refused:
        return column
    nulls = column.nulls.copy()
    nulls[[position for position, _ in column.refused]] = True
    return column._replace(nulls=nulls)


def constrain_arrow(feature: Feature, column: Coerced) -> Coerced:
    """Refuse values that came in Arrow and that the schema does not allow.

    Only values that appear in a message are converted to JSON.
    """
    return constrain(feature, column, _Shown(feature.value_type, column.values))


class _Shown(Sequence[Any]):
    def __init__(self, value_type: str, values: Array) -> None:
        self._value_type = value_type
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, position: Any) -> Any:
        return render_all(self._value_type, self._values[position : position + 1])[0]


def check_schema(value_type: str, schema: ValueSchema | None) -> None:
    """Raise InvalidInput for a schema that does not fit the type (pattern for numbers) or itself (min > max)."""
    allowed = TYPES[value_type].constraints
    if "dimension" in allowed and (schema is None or schema.dimension is None):
        raise InvalidInput.at("schema.dimension", "a vector feature needs its dimension")
    if schema is None:
        return
    for name in _CONSTRAINTS:
        if getattr(schema, name) is not None and name not in allowed:
            raise InvalidInput.at(f"schema.{camel(name)}", f"makes no sense for valueType {value_type}")
    _check_sizes(schema)
    _check_storable(schema)
    _check_bounds(value_type, schema)
    for position, item in enumerate(schema.enum or ()):
        constraint_value(value_type, item, f"schema.enum[{position}]")


def _check_storable(schema: ValueSchema) -> None:
    """Raise InvalidInput for an integer that does not fit in 64 bits: MessagePack cannot encode it."""
    given = [("schema.min", schema.min), ("schema.max", schema.max)]
    given += [(f"schema.enum[{position}]", item) for position, item in enumerate(schema.enum or ())]
    for field, value in given:
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise InvalidInput.at(field, "does not fit in 64 bits; write a larger number with an exponent")


def camel(name: str) -> str:
    """The camelCase name of a field, as used in JSON."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def _check_bounds(value_type: str, schema: ValueSchema) -> None:
    bounds = [
        None if bound is None else constraint_value(value_type, bound, field)
        for bound, field in ((schema.min, "schema.min"), (schema.max, "schema.max"))
    ]
    low, high = bounds
    if low is not None and high is not None and low > high:
        raise InvalidInput.at("schema.min", "is greater than schema.max")


def _check_sizes(schema: ValueSchema) -> None:
    if schema.dimension is not None and not 1 <= schema.dimension <= MAX_VECTOR_DIMENSION:
        raise InvalidInput.at("schema.dimension", f"must be from 1 to {MAX_VECTOR_DIMENSION}")
    if schema.max_length is not None and not 0 <= schema.max_length <= MAX_VALUE_BYTES:
        raise InvalidInput.at("schema.maxLength", f"must be from 0 to {MAX_VALUE_BYTES}")
    if schema.pattern is not None:
        check_pattern(schema.pattern, "schema.pattern")
    if schema.enum is not None and not schema.enum:
        raise InvalidInput.at("schema.enum", "is empty: no value could be written")
    check_enum(schema.enum or (), "schema.enum")


def check_enum(values: Sequence[Any], field: str) -> None:
    """Raise InvalidInput if more than MAX_ENUM_VALUES are listed."""
    if len(values) > MAX_ENUM_VALUES:
        raise InvalidInput.at(field, f"has {len(values)} values, at most {MAX_ENUM_VALUES} are taken")


def constraint_value(value_type: str, value: Any, field: str) -> Any:
    """Convert a bound or enum member to the type's stored form. Raises InvalidInput."""
    try:
        if field.endswith((".min", ".max")):
            return TYPES[value_type].bound(value, field.endswith(".min"))
        return convert_one(value_type, value)
    except ValueError as refusal:
        raise InvalidInput.at(field, str(refusal)) from None


def _check_constraints(feature: Feature, schema: ValueSchema, column: Coerced, given: Sequence[Any]) -> None:
    if feature.schema is None:
        return
    skip = column.nulls.copy()
    skip[[position for position, _ in column.refused]] = True
    for broken, reason in _broken(feature.value_type, schema, column.values, skip):
        for position in np.flatnonzero(broken & ~skip).tolist():
            column.refused.append(Refused(position, f"{shown(given[position])} {reason}"))
            skip[position] = True


def _broken(value_type: str, schema: ValueSchema, values: Array, skip: Nulls) -> list[tuple[Nulls, str]]:
    """For each constraint of the schema: which values violate it (bool[n]), and the words for that."""
    found: list[tuple[Nulls, str]] = []
    if schema.min is not None:
        found.append(
            (
                values < constraint_value(value_type, schema.min, "schema.min"),
                f"is below the minimum {schema.min}",
            )
        )
    if schema.max is not None:
        found.append(
            (
                values > constraint_value(value_type, schema.max, "schema.max"),
                f"is above the maximum {schema.max}",
            )
        )
    if schema.enum is not None:
        allowed = _allowed(value_type, schema.enum)
        found.append((_each(values, skip, lambda value: value not in allowed), "is not one of the enum"))
    if schema.max_length is not None:
        longest = schema.max_length
        found.append((_each(values, skip, lambda text: len(text) > longest), f"is longer than {longest}"))
    if schema.pattern is not None:
        found.append(_unmatched(schema.pattern, values, skip))
    return found


@lru_cache(maxsize=128)
def _allowed(value_type: str, enum: tuple[Any, ...]) -> frozenset[Any]:
    return frozenset(constraint_value(value_type, item, "schema.enum") for item in enum)


def _unmatched(pattern: str, values: Array, skip: Nulls) -> tuple[Nulls, str]:
    try:
        search = Search(pattern)
    except Unusable as error:
        return ~skip, f"cannot be judged: the schema's pattern {error}; register the feature with another one"
    looked_at = np.flatnonzero(~skip)
    broken = np.zeros(len(values), np.bool_)
    broken[looked_at] = search.misses(values[looked_at].tolist())
    return broken, f"does not match {pattern}"


def _each(values: Array, skip: Nulls, broken: Callable[[Any], bool]) -> Nulls:
    return np.fromiter(
        (not skipped and broken(value) for value, skipped in zip(values.tolist(), skip.tolist(), strict=True)),
        np.bool_,
        len(values),
    )
