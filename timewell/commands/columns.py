"""Columns of files as columns of features: text and JSON values are converted to the type of the feature."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from timewell.arrow import holds_bytes, plain_column
from timewell.errors import InvalidInput
from timewell.time_columns import Unit, moments_of
from timewell.wire import FIRST_INEXACT, ValueType

WORDS_FOR_NOTHING = pa.array(["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"])
"""What stands for a missing value in CSV files, except in columns of text."""


class BadValue(Exception):
    """A value that does not fit its column. `index`: its row, None if the whole column is at fault."""

    def __init__(self, index: int | None, message: str) -> None:
        super().__init__(message)
        self.index = index
        self.message = message


def value_column(value_type: str, column: Any, is_text: bool) -> pa.Array:
    """A column of a file converted to a feature's type. `column`: a list of JSON values, or an Arrow column.

    Arrow columns have a type already and stay as they are, for the service to judge, unless they are text of a CSV
    (`is_text`).
    """
    if value_type not in get_args(ValueType):
        raise BadValue(None, f"is of type {value_type}, which this version of timewell does not know")
    if isinstance(column, list):
        return _from_json(value_type, column)
    column = plain_column(pa, column)
    if is_text and value_type in _OF_TEXT:
        return _OF_TEXT[value_type](column)
    if holds_bytes(column.type):
        raise BadValue(None, f"a column of {column.type} is no text before it is decoded")
    return column


# Keys


def id_column(column: Any, missing: bool = False, is_text: bool = False) -> pa.Array:
    """Entity ids as text; whole numbers as their digits. Raises BadValue for others.

    `missing`: whether ids may be missing. `is_text`: whether the file is a CSV, in which an empty field, quoted or
    not, is a missing one.
    """
    if isinstance(column, list):
        for index, value in enumerate(column):
            if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
                raise BadValue(index, f"{value!r} is neither text nor a whole number")
        column = pa.array([None if value is None else str(value) for value in column], pa.string())
    column = plain_column(pa, column)
    if missing and is_text:
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    kind = column.type
    nothing = len(column) == (column.null_count if missing else 0)
    if not (pa.types.is_string(kind) or pa.types.is_integer(kind) or nothing):
        raise BadValue(None, f"entity ids are text or whole numbers, not {kind}")
    return (column if missing else _whole(column)).cast(pa.string())


def time_column(column: Any, unit: Unit | None = None) -> pa.Array:
    """Timestamps to the microsecond. Raises BadValue for a value that is missing or not a timestamp."""
    if isinstance(column, list):
        kinds = (str,) if unit is None else (str, int, float)
        for index, value in enumerate(column):
            if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
                raise BadValue(index, f"{value!r} is not an RFC 3339 timestamp such as 2025-11-07T10:00:00Z")
        column = pa.array([None if value is None else str(value) for value in column], pa.string())
    try:
        return moments_of(_whole(plain_column(pa, column)), "timestamp", unit)
    except InvalidInput as error:
        fault = error.errors[0]
        raise BadValue(fault.index, fault.message) from None


def _whole(column: pa.Array) -> pa.Array:
    if column.null_count:
        raise BadValue(column.is_null().index(True).as_py(), "is missing")
    return column


# Text, as CSV has it


_PLUS = (r"^\+([0-9.])", r"\1")
_FORMS = {
    pa.float64(): [_PLUS],
    pa.int64(): [_PLUS, (r"^(-?[0-9]+)\.0*$", r"\1")],  # pandas writes integers beside missing values as 5.0
    pa.bool_(): [(r"^[tT]$", "true"), (r"^[fF]$", "false")],  # as PostgreSQL writes them
}


_DIGITS = {
    pa.float64(): r"(?i)^-?(?:[0-9]+\.?[0-9]*(?:e[-+]?[0-9]+)?|\.[0-9]+(?:e[-+]?[0-9]+)?|inf(?:inity)?)$",
    pa.int64(): r"^-?[0-9]+$",
}
"""The notation of numbers that is accepted. Arrow alone would also take 0x10."""


def _of_text(kind: pa.DataType, words: str) -> Callable[[pa.Array], pa.Array]:
    def convert(texts: pa.Array) -> pa.Array:
        trimmed = _without_words(pc.utf8_trim_whitespace(texts))
        for pattern, instead in _FORMS.get(kind, ()):
            trimmed = pc.replace_substring_regex(trimmed, pattern, instead)
        if kind in _DIGITS:
            odd = pc.invert(pc.fill_null(pc.match_substring_regex(trimmed, _DIGITS[kind]), True))
            if (index := odd.index(True).as_py()) >= 0:
                raise BadValue(index, f"{texts[index].as_py()!r} is not {words}")
        try:
            return trimmed.cast(kind)
        except pa.ArrowInvalid:
            pass
        for index, text in enumerate(trimmed):
            try:
                text.cast(kind)
            except pa.ArrowInvalid:
                raise BadValue(index, f"{texts[index].as_py()!r} is not {words}") from None
        raise AssertionError("a column cannot be converted, but each of its values can")

    return convert


def _without_words(texts: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_in(texts, WORDS_FOR_NOTHING), pa.scalar(None, texts.type), texts)


def _vectors_of_text(texts: pa.Array) -> pa.Array:
    lists: list[list[float] | None] = []
    for index, text in enumerate(_without_words(texts).to_pylist()):
        try:
            lists.append(None if text is None else msgspec.json.decode(text, type=list[float]))
        except msgspec.DecodeError:
            raise BadValue(index, f"{text!r} is not a list of numbers such as [0.5,1]") from None
    return pa.array(lists, pa.list_(pa.float64()))


_OF_TEXT: dict[str, Callable[[pa.Array], pa.Array]] = {
    "number": _of_text(pa.float64(), "a number"),
    "integer": _of_text(pa.int64(), "an integer"),
    "boolean": _of_text(pa.bool_(), "true or false"),
    "timestamp": _without_words,
    "vector": _vectors_of_text,
}


# JSON, as NDJSON has it

_JSON_TYPES: dict[str, tuple[Any, pa.DataType]] = {
    "number": (list[float | None], pa.float64()),
    "integer": (list[int | None], pa.int64()),
    "boolean": (list[bool | None], pa.bool_()),
    "string": (list[str | None], pa.string()),
    "timestamp": (list[str | None], pa.string()),
    "vector": (list[list[float] | None], pa.list_(pa.float64())),
}


def _from_json(value_type: str, values: list[Any]) -> pa.Array:
    if value_type == "json":
        return pa.array(
            [None if one is None else msgspec.json.encode(one).decode() for one in values], pa.string()
        )
    expected, kind = _JSON_TYPES[value_type]
    if value_type == "integer":
        values = list(map(_whole_number, values))
    try:
        return pa.array(msgspec.convert(values, expected), kind)
    except msgspec.ValidationError as error:
        found = re.search(r" - at `\$\[(\d+)\]", str(error))
        index = int(found[1]) if found else None
        raise BadValue(index, f"{values[index or 0]!r} is not of type {value_type}") from None
    except (pa.ArrowInvalid, OverflowError):
        index = next(place for place, one in enumerate(values) if one is not None and not -(2**63) <= one < 2**63)
        raise BadValue(index, f"{values[index]} does not fit in 64 bits") from None


def _whole_number(value: Any) -> Any:
    """5.0 as 5, if the float stands for that integer alone."""
    exact = type(value) is float and value.is_integer() and abs(value) < FIRST_INEXACT
    return int(value) if exact else value
