"""Conditions of three values, and choices between parts: SQL's AND, OR, NOT, CASE, COALESCE and IS NULL."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from actors.derive.expressions.arithmetic import NUMERIC, as_number, told
from actors.derive.expressions.node import Node, NodeType, Operand, Operands, Row, Unsuitable, constant, strict
from actors.errors import InvalidInput
from actors.timestamps import parse_timestamp
from actors.types.type import known_without_nulls, no_nulls


def negation(node: Node) -> Node:
    """`not c`, null of null."""
    need_condition(node)
    return strict("boolean", [node], lambda a: (~a, None), operator.not_)


def need_condition(node: Node) -> None:
    """Raise Unsuitable for what is no condition."""
    if node.type != "boolean":
        raise Unsuitable(f"a condition is needed, and this is {told(node.type)}")


def conjunction(parts: Sequence[Node], deciding: bool) -> Node:
    """`and` (`deciding`: False) or `or` (True): a part that is `deciding` decides, otherwise a null."""
    for part in parts:
        need_condition(part)
    rows = [part.row for part in parts]

    def row(values: Row) -> Any:
        unknown = False
        for part in rows:
            given = part(values)
            if given is None:
                unknown = True
            elif given == deciding:
                return deciding
        return None if unknown else not deciding

    def column(columns: Operands, count: int) -> Operand:
        decided, nulls = np.zeros(count, np.bool_), no_nulls(count)
        for part in parts:
            operand = part.column(columns, count)
            hits = operand.values == deciding
            if not known_without_nulls(operand.nulls):
                hits &= ~operand.nulls
                nulls = nulls | operand.nulls
            decided |= hits
        return Operand(decided == deciding, nulls if known_without_nulls(nulls) else nulls & ~decided)

    return _folded(Node("boolean", column, row), parts)


def _folded(node: Node, parts: Sequence[Node]) -> Node:
    """The node, or a constant if its parts are."""
    return constant(node.type, node.row({})) if all(part.constant for part in parts) else node


def choice(test: Node, then: Node, otherwise: Node) -> Node:
    """`then if test else otherwise`: a test that is null chooses `otherwise`."""
    need_condition(test)
    then, otherwise = unified([then, otherwise])
    tested, first, second = test.row, then.row, otherwise.row

    def column(columns: Operands, count: int) -> Operand:
        flags, unknown, _ = test.column(columns, count)
        true = flags if known_without_nulls(unknown) else flags & ~unknown
        one, other = (part.column(columns, count).decoded() for part in (then, otherwise))
        nulls = one.nulls
        if not (known_without_nulls(one.nulls) and known_without_nulls(other.nulls)):
            nulls = np.where(true, one.nulls, other.nulls)
        return Operand(np.where(true, one.values, other.values), nulls)

    def row(values: Row) -> Any:
        return first(values) if tested(values) else second(values)

    return _folded(Node(then.type, column, row), [test, then, otherwise])


def first_known(parts: Sequence[Node]) -> Node:
    """`coalesce(...)`: the first part that is not null."""
    rows = [part.row for part in parts]

    def column(columns: Operands, count: int) -> Operand:
        values, nulls, _ = parts[0].column(columns, count).decoded()
        for part in parts[1:]:
            if known_without_nulls(nulls):
                break
            other = part.column(columns, count).decoded()
            values, nulls = np.where(nulls, other.values, values), nulls & other.nulls
        return Operand(values, nulls)

    def row(values: Row) -> Any:
        for part in rows:
            given = part(values)
            if given is not None:
                return given
        return None

    return _folded(Node(parts[0].type, column, row), parts)


def nullity(node: Node, wanted: bool) -> Node:
    """`x is null` (`wanted`: True) or `x is not null`: never null itself."""
    part = node.row

    def column(columns: Operands, count: int) -> Operand:
        nulls = node.column(columns, count).nulls
        return Operand(nulls == wanted, no_nulls(count))

    return _folded(Node("boolean", column, lambda values: (part(values) is None) == wanted), [node])


def unified(parts: Sequence[Node]) -> list[Node]:
    """The parts as one type: integers beside numbers as numbers, texts written beside timestamps as timestamps."""
    types: set[NodeType] = {part.type for part in parts} - {"null"}
    if not types:
        raise Unsuitable("all of these are null")
    if "timestamp" in types:
        parts = [as_moment(part) for part in parts]
        types = {part.type for part in parts} - {"null"}
    if types == NUMERIC:
        parts = [as_number(part) if part.type == "integer" else part for part in parts]
        types = {"number"}
    if len(types) > 1 or types & {"vector", "json"}:
        raise Unsuitable(f"{' and '.join(map(told, sorted(types)))} cannot be mixed here")
    only: NodeType = next(iter(types))
    return [constant(only, None) if part.type == "null" else part for part in parts]


def as_moment(node: Node) -> Node:
    """A text that is written in an expression as the timestamp that it means; anything else as it is."""
    if node.type != "string" or not node.constant or node.value is None:
        return node
    try:
        return constant("timestamp", parse_timestamp(node.value))
    except InvalidInput:
        raise Unsuitable(f"{node.value[:40]!r} is no timestamp such as 2025-11-07T10:00:00Z") from None
