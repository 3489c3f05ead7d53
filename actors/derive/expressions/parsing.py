"""From the text of an expression to an Expression, which is checked against the types of the fields."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.derive.expressions import arithmetic, comparisons, logic
from actors.derive.expressions.functions import FUNCTIONS, called
from actors.derive.expressions.node import Node, Operand, Operands, Row, Unsuitable, constant, field
from actors.derive.expressions.scanning import LARGEST_WRITTEN, Literal, Name, ScannedText, scanned
from actors.errors import InvalidInput
from actors.settings import MAX_EXPRESSION_DEPTH
from actors.types.type import blank, known_without_nulls, lean_nulls
from timewell.wire import ValueType

_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Mod: "%",
    ast.Pow: "**",
}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_MOST_NAMED = 20


class Expression:
    """A parsed expression. `type`: of its values. `names`: the fields that it reads, in order of appearance.

    `size`: how many names and values it has, in proportion to which it takes time.
    """

    def __init__(self, text: str, node: Node, type_: ValueType, names: tuple[str, ...], size: int) -> None:
        self.text = text
        self.size = size
        self.type = type_
        self.names = names
        self._node = node
        self._row = node.row

    def column(self, columns: Operands, count: int) -> Operand:
        """Evaluate `count` rows, of which `columns` has at least the fields in `names`.

        Takes time in proportion to `count`; for many rows evaluate parts of the columns (`Operand.part`). The
        result is stored as the type stores values, with its zero, or None, at nulls; a text may have codes.
        """
        with np.errstate(all="ignore"):
            values, nulls, codes = self._node.column(columns, count)
        nulls = lean_nulls(nulls)
        if codes is not None:
            return Operand(values, nulls, codes)
        if self.type == "number":
            values = values + 0.0  # turns -0.0 into 0.0
        if not known_without_nulls(nulls):
            values = np.where(nulls, blank(values.dtype, (1,)), values)
        return Operand(values, nulls)

    def row(self, values: Row) -> Any:
        """Evaluate one row of Python values as the types store them; None, or a field left out, is null.

        Returns what `column` has for such a row, as a Python value.
        """
        result = self._row(values)
        return result + 0.0 if type(result) is float else result

    def matching(self, columns: Operands, count: int) -> NDArray[np.bool_]:
        """The rows for which a condition is true, neither false nor null: bool[count]."""
        values, nulls, _ = self.column(columns, count)
        return values if known_without_nulls(nulls) else values & ~nulls


def parse(text: str, types: Mapping[str, ValueType], field_name: str = "expression") -> Expression:
    """Parse a text over fields of these types. Raises InvalidInput, naming `field_name` and the place in the text.

    >>> ratio = parse("amount / coalesce(user.avg_30d, 1)", {"amount": "number", "user.avg_30d": "number"})
    >>> ratio.type, ratio.names
    ('number', ('amount', 'user.avg_30d'))
    >>> ratio.row({"amount": 30.0, "user.avg_30d": 12.0})
    2.5
    """
    found = scanned(text, field_name)
    builder = _Builder(found, types)
    node = builder.node(found.parsed(), 1)
    if node.type == "null":
        raise found.wrong(0, "is always null")
    if node.type in ("vector", "json"):
        raise found.wrong(0, f"{arithmetic.told(node.type)} can only be asked whether it is null")
    return Expression(text, node, node.type, tuple(builder.names), len(found.letters))


def parse_condition(text: str, types: Mapping[str, ValueType], field_name: str = "where") -> Expression:
    """Parse a text like `parse` does. Raises InvalidInput also for what is not true, false or null."""
    condition = parse(text, types, field_name)
    if condition.type != "boolean":
        raise InvalidInput.at(field_name, f"a condition is needed, and this is {arithmetic.told(condition.type)}")
    return condition


class _Builder:
    """Makes nodes of what Python has parsed."""

    def __init__(self, found: ScannedText, types: Mapping[str, ValueType]) -> None:
        self.found = found
        self.types = types
        self.names: dict[str, Node] = {}

    def node(self, tree: ast.expr, depth: int) -> Node:
        """The node of a part and of all parts in it. Raises InvalidInput."""
        if depth > MAX_EXPRESSION_DEPTH:
            raise self.wrong(tree, f"nested more than {MAX_EXPRESSION_DEPTH} levels deep")
        make = _MAKERS.get(type(tree))
        if make is None:
            raise self.wrong(tree, f"is not part of the language: {self.found.source(tree)!r}")
        try:
            node: Node = make(self, tree, depth + 1)
            return node
        except Unsuitable as unsuitable:
            raise self.wrong(tree, f"{unsuitable}: {self.found.source(tree)!r}") from None

    def wrong(self, tree: ast.expr, reason: str) -> InvalidInput:
        """An error where a part begins."""
        return self.found.wrong(self.found.position(tree), reason)

    def leaf(self, tree: ast.expr) -> Name | Literal | None:
        """What a letter stands for."""
        if not isinstance(tree, ast.Name):
            return None
        leaf = self.found.letters.get(tree.id)
        if leaf is None:  # two tokens with nothing between them
            raise self.wrong(tree, f"cannot be read from here on: {self.found.source(tree)!r}")
        return leaf

    def named(self, tree: ast.Name, depth: int) -> Node:
        leaf = self.leaf(tree)
        if isinstance(leaf, Literal):
            return self.literal(tree, leaf.value)
        assert isinstance(leaf, Name)
        if leaf.name not in self.names:
            if leaf.name not in self.types:
                raise self.wrong(tree, f"{leaf.name!r} is no field; there are {_listed(self.types)}")
            self.names[leaf.name] = field(leaf.name, self.types[leaf.name])
        return self.names[leaf.name]

    def literal(self, tree: ast.expr, value: bool | int | float | str | None) -> Node:
        if _is_too_large(Literal(value)):
            raise self.wrong(tree, f"{value} does not fit in 64 bits")
        return constant(_TYPE_OF[type(value)], value)

    def unary(self, tree: ast.UnaryOp, depth: int) -> Node:
        if isinstance(tree.op, ast.Not):
            return logic.negation(self.node(tree.operand, depth))
        if isinstance(tree.op, ast.USub) and _is_too_large(self.leaf(tree.operand)):
            return constant("integer", -LARGEST_WRITTEN)
        node = self.node(tree.operand, depth)
        negative = arithmetic.negative(node)
        return negative if isinstance(tree.op, ast.USub) else node

    def binary(self, tree: ast.BinOp, depth: int) -> Node:
        sign = _ARITHMETIC.get(type(tree.op))
        if sign is None:
            raise Unsuitable(f"there are only the operators {' '.join(_ARITHMETIC.values())}")
        return arithmetic.combined(sign, self.node(tree.left, depth), self.node(tree.right, depth))

    def joined(self, tree: ast.BoolOp, depth: int) -> Node:
        return logic.conjunction([self.node(part, depth) for part in tree.values], isinstance(tree.op, ast.Or))

    def chosen(self, tree: ast.IfExp, depth: int) -> Node:
        test, then, otherwise = (self.node(part, depth) for part in (tree.test, tree.body, tree.orelse))
        return logic.choice(test, then, otherwise)

    def compared(self, tree: ast.Compare, depth: int) -> Node:
        if len(tree.ops) > 1:
            raise Unsuitable("comparisons are not chained; write a < b and b < c")
        operation, right = tree.ops[0], tree.comparators[0]
        left = self.node(tree.left, depth)
        if isinstance(operation, ast.In | ast.NotIn):
            members = right.elts if isinstance(right, ast.Tuple) else [right]
            return comparisons.member(
                left, [self.member(one, depth) for one in members], isinstance(operation, ast.In)
            )
        if isinstance(operation, ast.Is | ast.IsNot):
            if self.leaf(right) != Literal(None):
                raise Unsuitable("only null can stand after is")
            return logic.nullity(left, isinstance(operation, ast.Is))
        return comparisons.compared(_COMPARISONS[type(operation)], left, self.node(right, depth))

    def member(self, tree: ast.expr, depth: int) -> Node:
        node = self.node(tree, depth)
        if not node.constant:
            raise self.wrong(tree, f"a list has only values, no fields: {self.found.source(tree)!r}")
        return node

    def call(self, tree: ast.Call, depth: int) -> Node:
        function = self.leaf(tree.func)
        if not isinstance(function, Name) or tree.keywords:
            raise Unsuitable("is no call of a function")
        if function.name not in FUNCTIONS:
            raise Unsuitable(f"{function.name!r} is no function; there are {', '.join(FUNCTIONS)}")
        return called(function.name, [self.node(part, depth) for part in tree.args])


_TYPE_OF: dict[type, Any] = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
_MAKERS: dict[type[ast.expr], Any] = {
    ast.Name: _Builder.named,
    ast.UnaryOp: _Builder.unary,
    ast.BinOp: _Builder.binary,
    ast.BoolOp: _Builder.joined,
    ast.IfExp: _Builder.chosen,
    ast.Compare: _Builder.compared,
    ast.Call: _Builder.call,
}


def _is_too_large(leaf: Name | Literal | None) -> bool:
    """Whether an integer fits in 64 bits only with a minus before it."""
    return isinstance(leaf, Literal) and type(leaf.value) is int and leaf.value == LARGEST_WRITTEN


def _listed(types: Mapping[str, ValueType]) -> str:
    names = list(types)[:_MOST_NAMED]
    more = len(types) - len(names)
    return (", ".join(names) or "none") + (f" and {more} more" if more else "")
