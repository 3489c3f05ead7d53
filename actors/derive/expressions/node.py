"""Nodes: the parts of an expression, each with a type and two ways to evaluate it, which agree bit for bit.

Both use the same operations of IEEE 754 and the same functions of numpy: those of `math` differ in the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from actors.table.columns import Codes
from actors.timestamps import LAST_MOMENT, YEAR_ONE
from actors.types.type import Array, Nulls, known_without_nulls, no_nulls
from actors.types.values import TYPES
from timewell.wire import ValueType

NodeType = ValueType | Literal["null"]
Row = Mapping[str, Any]
OneRow = Callable[[Row], Any]


class Unsuitable(Exception):
    """Parts do not go together; the message says why. Whoever knows the place tells it."""


class Operand(NamedTuple):
    """A column: values as a type stores them (see `actors.types.values`), and the null mask bool[n].

    With `codes`, an integer[n], `values` are texts, object[m], and row i is `values[codes[i]]`; the code of a null
    is any of them, or -1. What is stored at nulls does not matter.
    """

    values: Array
    nulls: Nulls
    codes: Codes | None = None

    def part(self, start: int, stop: int) -> Operand:
        """The rows from `start` to before `stop`, as views."""
        if self.codes is None:
            return Operand(self.values[start:stop], self.nulls[start:stop])
        return Operand(self.values, self.nulls[start:stop], self.codes[start:stop])

    def decoded(self) -> Operand:
        """The same without codes."""
        if self.codes is None:
            return self
        return Operand(self.values.take(self.codes), self.nulls)


Operands = Mapping[str, Operand]
ColumnFunction = Callable[[Operands, int], Operand]


class Node(NamedTuple):
    """A part of an expression. `constant`: whether it is `value` in every row."""

    type: NodeType
    column: ColumnFunction
    row: OneRow
    constant: bool = False
    value: Any = None


def constant(type_: NodeType, value: Any) -> Node:
    """A node that is the same in every row."""
    dtype = TYPES[type_].dtype if type_ in TYPES else np.dtype(object)
    blank: Any = "" if type_ == "string" else np.zeros(1, dtype)[0]

    def column(columns: Operands, count: int) -> Operand:
        values = np.empty(count, dtype)
        values.fill(blank if value is None else value)  # np.full would take the zero characters off a text's end
        return Operand(values, no_nulls(count) if value is not None else np.ones(count, np.bool_))

    return Node(type_, column, lambda row: value, True, value)


def with_nulls(one: Nulls, other: Nulls) -> Nulls:
    """The rows that are null in one of two masks."""
    if known_without_nulls(other):
        return one
    return other if known_without_nulls(one) else one | other


def strict(
    type_: NodeType,
    parts: Sequence[Node],
    many: Callable[..., tuple[Array, Nulls | None]],
    one: Callable[..., Any],
) -> Node:
    """A node that is null if any part is.

    `many`: from arrays, or Python values for constants, to the array and a mask of further nulls, or None. Garbage
    at nulls is harmless. `one`: the same for one row, None for null.
    """
    if any(part.constant and part.value is None for part in parts):
        return constant(type_, None)
    if all(part.constant for part in parts):
        return constant(type_, one(*(part.value for part in parts)))

    def column(columns: Operands, count: int) -> Operand:
        nulls, given = no_nulls(count), list[Any]()
        for part in parts:
            if part.constant:
                given.append(part.value)
            else:
                operand = part.column(columns, count)
                nulls = with_nulls(nulls, operand.nulls)
                given.append(operand.values)
        values, further = many(*given)
        return Operand(values, nulls if further is None else with_nulls(nulls, further))

    return Node(type_, column, row_of(parts, one))


def row_of(parts: Sequence[Node], one: Callable[..., Any]) -> OneRow:
    """Evaluate parts for one row and then `one` of them, or None if any is None."""
    if len(parts) == 1:
        return _unary(parts[0].row, one)
    if len(parts) > 2:
        return _of_many([part.row for part in parts], one)
    left, right = parts
    if right.constant:
        value = right.value
        return _unary(left.row, lambda given: one(given, value))
    return _binary(left.row, right.row, one)


def _unary(part: OneRow, one: Callable[[Any], Any]) -> OneRow:
    def row(values: Row) -> Any:
        given = part(values)
        return None if given is None else one(given)

    return row


def _binary(left: OneRow, right: OneRow, one: Callable[[Any, Any], Any]) -> OneRow:
    def row(values: Row) -> Any:
        first = left(values)
        if first is None:
            return None
        second = right(values)
        return None if second is None else one(first, second)

    return row


def _of_many(parts: Sequence[OneRow], one: Callable[..., Any]) -> OneRow:
    def row(values: Row) -> Any:
        given = [part(values) for part in parts]
        return None if None in given else one(*given)

    return row


# Fields


def _numbers(name: str) -> ColumnFunction:
    def column(columns: Operands, count: int) -> Operand:
        values, nulls, _ = columns[name]
        finite = np.isfinite(values)
        return Operand(values, nulls if finite.all() else nulls | ~finite)

    return column


def _number(name: str) -> OneRow:
    def row(values: Row) -> Any:
        given = values.get(name)
        if given is None:
            return None
        number = float(given)
        return number if number - number == 0.0 else None

    return row


def _moments(name: str) -> ColumnFunction:
    def column(columns: Operands, count: int) -> Operand:
        values, nulls, _ = columns[name]
        beyond = (values < YEAR_ONE) | (values > LAST_MOMENT)
        return Operand(values, nulls | beyond if beyond.any() else nulls)

    return column


def _moment(name: str) -> OneRow:
    def row(values: Row) -> Any:
        given = values.get(name)
        return None if given is None or not YEAR_ONE <= given <= LAST_MOMENT else int(given)

    return row


def _texts(name: str) -> ColumnFunction:
    def column(columns: Operands, count: int) -> Operand:
        values, nulls, codes = operand = columns[name]
        if codes is not None and len(values):
            return operand
        if codes is not None:
            return Operand(np.full(count, "", object), nulls)
        return operand if known_without_nulls(nulls) else Operand(np.where(nulls, "", values), nulls)

    return column


def _as_stored(name: str) -> ColumnFunction:
    return lambda columns, count: columns[name]


def _got(name: str) -> OneRow:
    return lambda values: values.get(name)


_COLUMNS = {"number": _numbers, "timestamp": _moments, "string": _texts}
_ROWS = {"number": _number, "timestamp": _moment}


def field(name: str, type_: ValueType) -> Node:
    """A node that reads a field. What is not finite, and moments outside the years 1 to 9999, are null."""
    return Node(type_, _COLUMNS.get(type_, _as_stored)(name), _ROWS.get(type_, _got)(name))
