"""Functions and comparisons of texts. A text that many rows have is looked at once if the column has codes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from actors.derive.expressions.arithmetic import told
from actors.derive.expressions.node import Node, Operand, Operands, Unsuitable, constant, row_of, with_nulls
from actors.types.type import Array, no_nulls
from actors.types.values import dtype_of
from timewell.wire import ValueType

FUNCTIONS: dict[str, tuple[ValueType, int, Callable[..., Any]]] = {
    "lower": ("string", 1, str.lower),
    "upper": ("string", 1, str.upper),
    "length": ("integer", 1, len),
    "startsWith": ("boolean", 2, str.startswith),
    "endsWith": ("boolean", 2, str.endswith),
    "contains": ("boolean", 2, operator.contains),
}
"""For each function its result, how many texts it takes, and the same in Python."""


def function(name: str, parts: Sequence[Node]) -> Node:
    """A function of texts, by name."""
    type_, _, one = FUNCTIONS[name]
    for part in parts:
        if part.type != "string":
            raise Unsuitable(f"{name} is for texts, and this is {told(part.type)}")
    return by_text(type_, parts, one)


def by_text(type_: ValueType, parts: Sequence[Node], one: Callable[..., Any]) -> Node:
    """A node of one or two texts that is null if any of them is. `one`: of Python's texts."""
    if any(part.constant and part.value is None for part in parts):
        return constant(type_, None)
    if all(part.constant for part in parts):
        return constant(type_, one(*(part.value for part in parts)))
    varying = [part for part in parts if not part.constant]
    if len(varying) == 1:
        only = varying[0]
        values = [part.value for part in parts]
        place = parts.index(only)

        def of_one(text: str) -> Any:
            return one(*values[:place], text, *values[place + 1 :])

        of_text = one if len(parts) == 1 else of_one
        return Node(
            type_, lambda columns, count: _mapped(type_, only.column(columns, count), of_text), row_of(parts, one)
        )

    def column(columns: Operands, count: int) -> Operand:
        nulls, given = no_nulls(count), list[list[str]]()
        for part in varying:
            operand = part.column(columns, count).decoded()
            nulls = with_nulls(nulls, operand.nulls)
            given.append(operand.values.tolist())
        return Operand(_array(type_, list(map(one, *given))), nulls)

    return Node(type_, column, row_of(parts, one))


def _mapped(type_: ValueType, operand: Operand, one: Callable[[str], Any]) -> Operand:
    if operand.codes is not None and len(operand.values) > len(operand.codes):
        operand = operand.decoded()  # a slice of a column with many texts
    values = _array(type_, list(map(one, operand.values.tolist())))
    if operand.codes is None or type_ == "string":
        return operand._replace(values=values)
    return Operand(values.take(operand.codes), operand.nulls)


def _array(type_: ValueType, given: list[Any]) -> Array:
    values = np.empty(len(given), dtype_of(type_))
    values[:] = given
    return values
