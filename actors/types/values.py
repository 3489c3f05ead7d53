"""Values between JSON and columns: what a type accepts, how it is kept, how it comes back.

    number     float64      integer, timestamp  int64      boolean  bool
    string     object (str) json  object (canonical JSON text)  vector  float32[dimension]

A null is kept as the type's zero (None for objects) beside True in the null mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.domain import Feature
from actors.errors import InvalidInput
from actors.settings import MAX_JSON_DEPTH, MAX_VALUE_BYTES
from actors.timestamps import format_timestamp, parse_timestamp
from timewell.wire import FIRST_INEXACT

Array = NDArray[Any]
Nulls = NDArray[np.bool_]

_DTYPES = {
    "number": np.dtype(np.float64),
    "integer": np.dtype(np.int64),
    "timestamp": np.dtype(np.int64),
    "boolean": np.dtype(np.bool_),
    "string": np.dtype(object),
    "json": np.dtype(object),
    "vector": np.dtype(np.float32),
}
_JSON = msgspec.json.Encoder(order="sorted")
_LARGEST_WHOLE = 2.0**63
FEW = 128
"""Up to so many values Python is done before numpy has begun."""


class Refused(NamedTuple):
    """The value at `position` was refused, and why."""

    position: int
    reason: str


class Column(NamedTuple):
    """Coerced values with their null mask; `refused` positions hold a null and must not be written."""

    values: Array
    nulls: Nulls
    refused: list[Refused]


def dtype_of(value_type: str) -> np.dtype[Any]:
    """The dtype in which values of a type are kept."""
    return _DTYPES[value_type]


def width_of(feature: Feature) -> int:
    """The dimension of a vector feature, 0 for one whose values are single."""
    return (feature.schema.dimension or 0) if feature.value_type == "vector" and feature.schema else 0


def empty(feature: Feature, count: int) -> Array:
    """`count` nulls of the feature's type: shape (count,), or (count, dimension) for a vector."""
    shape = (count, width_of(feature)) if feature.value_type == "vector" else (count,)
    return blank(dtype_of(feature.value_type), shape)


def blank(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Zeros, or None for objects."""
    return np.full(shape, None, dtype) if dtype.kind == "O" else np.zeros(shape, dtype)


def convert(feature: Feature, given: Sequence[Any]) -> Column:
    """Turn JSON values into a column of the feature's type, nulls allowed and constraints not looked at."""
    nulls = np.zeros(len(given), np.bool_)
    if None in given:
        nulls[[position for position, value in enumerate(given) if value is None]] = True
    refused: list[Refused] = []
    values = _WHOLE.get(feature.value_type, _nothing)(given)
    if values is None:
        values = _one_by_one(feature, given, refused)
    return Column(values, nulls, refused)


def convert_one(value_type: str, value: Any) -> Any:
    """One value of a type other than vector, as it is kept. Raises ValueError that says what was expected."""
    return _ONE[value_type](_NO_FEATURE, value)


def shown(value: Any) -> str:
    """A JSON value for a message, cut where it is long."""
    text = _JSON.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


# The quick way: a whole column at once where every value is plainly of the type.


def _nothing(_: Sequence[Any]) -> Array | None:
    return None


def _all_numbers(given: Sequence[Any]) -> Array | None:
    types = set(map(type, given))
    if not types <= {int, float}:
        return None
    try:
        values = np.array(given, np.float64)
    except OverflowError:
        return None
    return values + 0.0 if np.isfinite(values).all() else None


def _all_integers(given: Sequence[Any]) -> Array | None:
    if set(map(type, given)) != {int}:
        return None
    try:
        return np.array(given, np.int64)
    except OverflowError:
        return None


def _all_booleans(given: Sequence[Any]) -> Array | None:
    return np.array(given, np.bool_) if set(map(type, given)) == {bool} else None


def _all_short_strings(given: Sequence[Any]) -> Array | None:
    # UTF-8 takes at most four bytes a character.
    if set(map(type, given)) != {str} or max(map(len, given)) * 4 > MAX_VALUE_BYTES:
        return None
    return _objects(given)


_WHOLE: dict[str, Callable[[Sequence[Any]], Array | None]] = {
    "number": _all_numbers,
    "integer": _all_integers,
    "boolean": _all_booleans,
    "string": _all_short_strings,
}


def _objects(given: Sequence[Any]) -> Array:
    column = np.empty(len(given), object)
    column[:] = given
    return column


# The patient way: one by one, which names those to blame.


def _one_by_one(feature: Feature, given: Sequence[Any], refused: list[Refused]) -> Array:
    values = empty(feature, len(given))
    coerce_one = _ONE[feature.value_type]
    for position, value in enumerate(given):
        if value is None:
            continue
        try:
            values[position] = coerce_one(feature, value)
        except _Refusal as refusal:
            refused.append(Refused(position, str(refusal)))
    return values


class _Refusal(ValueError):
    pass


def _expected(what: str, value: object) -> _Refusal:
    return _Refusal(f"expected {what}, got {shown(value)}")


def _number(_: Feature, value: Any) -> float:
    if type(value) not in (int, float):
        raise _expected("a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = np.inf
    if not np.isfinite(number):
        raise _Refusal("not a finite float64")
    return number + 0.0  # no -0.0, which is 0 and would be told apart from it


def _integer(_: Feature, value: Any) -> int:
    if type(value) is float and value.is_integer():  # 5.0, as whole numbers with gaps are written
        if abs(value) >= FIRST_INEXACT:
            raise _Refusal(
                "a float of this size stands for several integers; write it without fraction or exponent"
            )
        return int(value)
    if type(value) is not int:
        raise _expected("an integer", value)
    if not -(2**63) <= value < 2**63:
        raise _Refusal("does not fit in 64 bits")
    return value


def _boolean(_: Feature, value: Any) -> bool:
    if type(value) is not bool:
        raise _expected("true or false", value)
    return value


def _string(_: Feature, value: Any) -> str:
    if type(value) is not str:
        raise _expected("a string", value)
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise _Refusal(f"longer than {MAX_VALUE_BYTES} bytes")
    return value


def _timestamp(_: Feature, value: Any) -> int:
    if type(value) is not str:
        raise _expected("an RFC 3339 string", value)
    try:
        return parse_timestamp(value)
    except InvalidInput:
        raise _expected("an RFC 3339 timestamp", value) from None


def _vector(feature: Feature, value: Any) -> Array:
    dimension = feature.schema.dimension if feature.schema else None
    if type(value) is not list or not set(map(type, value)) <= {int, float}:
        raise _expected("an array of numbers", value)
    if len(value) != dimension:
        raise _Refusal(f"has {len(value)} components, the feature's dimension is {dimension}")
    try:
        with np.errstate(over="ignore"):
            vector = np.array(value, np.float64).astype(np.float32) + 0.0
    except OverflowError:
        vector = np.full(1, np.inf, np.float32)
    if not np.isfinite(vector).all():
        raise _Refusal("a component is not a finite float32")
    return vector


def _json(_: Feature, value: Any) -> str:
    if _depth(value) > MAX_JSON_DEPTH:
        raise _Refusal(f"nested deeper than {MAX_JSON_DEPTH} levels")
    try:
        text = _JSON.encode(value)
    except (ValueError, OverflowError):
        raise _Refusal("holds a number that JSON cannot carry") from None
    if len(text) > MAX_VALUE_BYTES:
        raise _Refusal(f"longer than {MAX_VALUE_BYTES} bytes of canonical JSON")
    if b"-0.0" in text:
        text = _JSON.encode(_without_negative_zero(value))
    return text.decode()


def _without_negative_zero(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_negative_zero(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_negative_zero(one) for one in value]
    return value + 0.0 if type(value) is float else value


def _depth(value: Any) -> int:
    """How deep arrays and objects are nested, without recursion."""
    level, depth = [value], 0
    while level := [child for parent in level for child in _children(parent)]:
        depth += 1
        if depth > MAX_JSON_DEPTH:
            break
    return depth


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


_NO_FEATURE = Feature(id="", entity="", name="", version=1, value_type="number", created=0, updated=0)

_ONE: dict[str, Callable[[Feature, Any], Any]] = {
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "string": _string,
    "timestamp": _timestamp,
    "vector": _vector,
    "json": _json,
}


# Back to JSON.


def render(value_type: str, values: Array, nulls: Nulls) -> list[Any]:
    """A column as objects that msgspec encodes to the contract's JSON; nulls become None."""
    rendered = render_all(value_type, values)
    if nulls.any():
        for position in np.flatnonzero(nulls).tolist():
            rendered[position] = None
    return rendered


def render_all(value_type: str, values: Array) -> list[Any]:
    """The same without regard to nulls, which stand as the type's zero."""
    return _RENDER[value_type](values)


def _render_numbers(values: Array) -> list[Any]:
    # "5 stays 5": a whole number goes out as an int.
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


def _render_plain(values: Array) -> list[Any]:
    return values.tolist()  # type: ignore[no-any-return]


def _render_timestamps(values: Array) -> list[Any]:
    return [format_timestamp(micros) for micros in values.tolist()]


def _render_json(values: Array) -> list[Any]:
    return [None if text is None else msgspec.Raw(text.encode()) for text in values.tolist()]


def _render_vectors(values: Array) -> list[Any]:
    # Through the shortest text of each float32, so that 0.1 comes back as 0.1 and not as 0.10000000149.
    shortest = values.astype("U").astype(np.float64)
    flat = _render_numbers(shortest.ravel())
    width = values.shape[1]
    return [flat[start : start + width] for start in range(0, len(flat), width)]


_RENDER: dict[str, Callable[[Array], list[Any]]] = {
    "number": _render_numbers,
    "integer": _render_plain,
    "boolean": _render_plain,
    "string": _render_plain,
    "timestamp": _render_timestamps,
    "json": _render_json,
    "vector": _render_vectors,
}
