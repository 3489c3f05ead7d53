"""Python values as JSON values. A value keeps its meaning, or is refused with its place in the input.

    None, bool, int, str, float     as they are; NaN and infinities are refused
    Decimal                         a number: whole ones as integers, others as the nearest float
    datetime, and numpy's, pandas'  RFC 3339 in UTC (naive ones are UTC), to the microsecond, cut towards the past
    UUID                            its text
    Enum                            its value
    list, tuple, arrays, columns    arrays
    mappings with text as keys      objects
    NaT, pandas' NA                 null

Everything else is refused: bytes in any form (decode them first), dates, times of day, durations, sets,
dataclasses, paths. msgspec alone would turn bytes into Base64 and most of the others into texts or arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import numpy as np

from timewell.errors import InvalidInput
from timewell.times import is_missing, moment

T = TypeVar("T")
EntityId = str | int | UUID
"""The id of an entity: text; a whole number or a UUID stands for its text."""

_THEMSELVES = frozenset((int, bool, type(None)))
_BYTES = (bytes, bytearray, memoryview, np.bytes_)
_LISTS_OF = ("values", "rows")
"""Fields whose items are named by their index in errors."""


class _Odd(Exception):
    """A value that is refused. `place`: the names and indices that lead to it, outermost first."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.place: list[str | int] = []


def to_plain(value: Any, name: str = "value", index: int | None = None) -> Any:
    """A value as a JSON value.

    >>> to_plain({"a": np.int64(5), "b": (Decimal("1.50"), np.array([1.5, 2.0]))})
    {'a': 5, 'b': [1.5, [1.5, 2.0]]}

    Raises InvalidInput that names the place within `name`.
    """
    try:
        return _plain(value)
    except _Odd as odd:
        raise InvalidInput.at(name + _written(odd.place), str(odd), index) from None
    except RecursionError:
        raise InvalidInput.at(name, "is nested too deeply", index) from None


def encode_body(body: Mapping[str, Any]) -> bytes:
    """A body as JSON. Raises InvalidInput that names the field, and the index in a batch."""
    try:
        return msgspec.json.encode(_plain(body))
    except _Odd as odd:
        place = odd.place
        if len(place) > 2 and place[0] in _LISTS_OF and isinstance(place[1], int):
            raise InvalidInput.at(_written(place[2:])[1:], str(odd), place[1]) from None
        raise InvalidInput.at(_written(place)[1:], str(odd)) from None
    except RecursionError:
        raise InvalidInput("the request is nested too deeply") from None


def entity_text(given: object, name: str = "entityId", index: int | None = None) -> str:
    """An entity id: text, a whole number as its digits, a UUID as its text. Raises InvalidInput for others."""
    if isinstance(given, Enum):
        given = given.value
    if isinstance(given, str | UUID):
        return str(given)
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        told = _told_of_bytes(given) if isinstance(given, _BYTES) else None
        raise InvalidInput.at(name, told or f"{given!r} is neither text nor a whole number", index)
    return str(int(given))


def listed(given: Iterable[T] | None, name: str) -> list[T] | None:
    """The items as a list. Raises InvalidInput for a single text, which would be read as its letters."""
    if isinstance(given, str | bytes | bytearray):
        raise InvalidInput.at(name, f"give a list: [{given!r}]")
    return None if given is None else list(given)


def _written(place: list[str | int]) -> str:
    """A place in JSON, such as `.a[2].b`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _THEMSELVES:
        return value
    if kind is str:
        return _text(value)
    if kind is float:
        return _number(value)
    if kind is dict:
        return {_key(name): _within(member, name) for name, member in value.items()}
    if kind is list or kind is tuple:
        return [_within(member, place) for place, member in enumerate(value)]
    return _other(value)


def _within(value: Any, name: str | int) -> Any:
    kind = type(value)
    if kind in _THEMSELVES or (kind is str and value.isascii()):  # most are, and a call costs more than this test
        return value
    try:
        return _plain(value)
    except _Odd as odd:
        odd.place.insert(0, name)
        raise


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Odd(f"{value!r} is not Unicode: half of a surrogate pair stands alone") from None
    return value


def _number(value: float) -> float:
    if not isfinite(value):
        raise _Odd(f"{value} is not a number; None writes a null")
    return value


def _key(name: Any) -> str:
    if type(name) is str and name.isascii():
        return name
    if not isinstance(name, str):
        raise _Odd(f"{name!r} is a key and no text")
    return _text(str(name))


def _told_of_bytes(value: Any) -> str:
    return f"{bytes(value)[:20]!r} are bytes, which are no text before they are decoded"


def _decimal(value: Decimal) -> int | float:
    number = _number(float("nan") if value.is_nan() else float(value))
    return int(value) if value == value.to_integral_value() else number


def _other(value: Any) -> Any:
    """A value of a type that JSON lacks, converted. Raises _Odd if it has no counterpart."""
    if is_missing(value):
        return None
    for kinds, convert in _CONVERT:
        if isinstance(value, kinds):
            return convert(value)
    if hasattr(value, "to_list"):
        return _plain(value.to_list())
    raise _Odd(f"a {type(value).__name__} is no value of a feature: {value!r}")


def _moment(value: datetime | np.datetime64) -> str:
    try:
        return moment(value)
    except InvalidInput as error:
        raise _Odd(error.errors[0].message) from None


def _refuse_date(value: date) -> None:
    raise _Odd(f"{value!r} is a date; a datetime says which moment")


def _refuse_bytes(value: Any) -> None:
    raise _Odd(_told_of_bytes(value))


def _of_numpy(value: np.generic) -> Any:
    found = value.item()
    if isinstance(found, np.generic):  # Python has no counterpart
        raise _Odd(f"a {type(value).__name__} is no value of a feature: {value!r}")
    return _plain(found)


_CONVERT: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (_BYTES, _refuse_bytes),
    (Enum, lambda value: _plain(value.value)),
    (str, lambda value: _text(str(value))),
    (float, lambda value: _number(float(value))),
    (int, int),
    (datetime | np.datetime64, _moment),
    (date, _refuse_date),
    (Decimal, _decimal),
    (UUID, str),
    (np.ndarray, lambda value: _plain(value.tolist())),
    (np.generic, _of_numpy),
    (Mapping, lambda value: _plain(dict(value))),
    ((list, tuple), lambda value: _plain(list(value))),
)
