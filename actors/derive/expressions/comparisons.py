"""Comparisons and membership. An integer and a number are compared by their exact values, also beyond 2^53."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from actors.derive.expressions.arithmetic import NUMERIC, told
from actors.derive.expressions.logic import as_moment
from actors.derive.expressions.node import Node, Unsuitable, constant, strict
from actors.derive.expressions.texts import by_text
from actors.types.type import Array, Nulls

_EXACT = 2**53
"""Up to here each integer is a float64."""
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def compared(sign: str, left: Node, right: Node) -> Node:
    """One of == != < <= > >= of two parts."""
    if "null" in (left.type, right.type):
        raise Unsuitable(f"{sign} null is always null; write `is null` or `is not null`")
    if "timestamp" in (left.type, right.type):
        left, right = as_moment(left), as_moment(right)
    types = {left.type, right.type}
    if types & {"vector", "json"} or not (len(types) == 1 or types == NUMERIC):
        raise Unsuitable(f"{told(left.type)} cannot be compared with {told(right.type)}")
    if types == {"boolean"} and sign not in ("==", "!="):
        raise Unsuitable(f"{sign} does not apply to booleans")
    compare = _SIGNS[sign]
    if types == {"string"}:
        return by_text("boolean", [left, right], compare)
    if types == NUMERIC and left.type == "number":
        return strict(
            "boolean", [left, right], lambda a, b: (_exactly(_MIRRORED.get(sign, sign), b, a), None), compare
        )
    if types == NUMERIC:
        return strict("boolean", [left, right], lambda a, b: (_exactly(sign, a, b), None), compare)
    return strict("boolean", [left, right], lambda a, b: (compare(a, b), None), compare)


def _exactly(sign: str, integers: Any, numbers: Any) -> Array:
    """Compare integers with numbers: either may be a Python value."""
    whole, real = np.asarray(integers, np.int64), np.asarray(numbers, np.float64)
    if not whole.size or (whole.min() >= -_EXACT and whole.max() <= _EXACT):
        result: Array = _SIGNS[sign](whole.astype(np.float64), real)
        return result
    below = np.floor(real)
    fits = (below >= -(2.0**63)) & (below < 2.0**63)
    floor = np.where(fits, below, 0).astype(np.int64)
    order = (whole > floor).astype(np.int8) - (whole < floor)
    order = np.where((order == 0) & (real > below), -1, order)
    beyond: Array = _SIGNS[sign](np.where(fits, order, np.where(real > 0, -1, 1)), 0)
    return beyond


def member(node: Node, members: Sequence[Node], wanted: bool) -> Node:
    """`x in (...)` (`wanted`: True) or `x not in (...)`: null if x is not found and null is a member."""
    if node.type in ("null", "vector", "json"):
        raise Unsuitable(f"in does not apply to {told(node.type)}")
    members = [as_moment(one) if node.type == "timestamp" else one for one in members]
    for one in members:
        if one.type not in ("null", node.type) and not {one.type, node.type} <= NUMERIC:
            raise Unsuitable(f"{told(node.type)} cannot be in a list that has {told(one.type)}")
    values = frozenset(one.value for one in members if one.value is not None)
    unknown = any(one.value is None for one in members)
    if node.type == "string":
        found = by_text("boolean", [node], lambda text: (text in values) == wanted)
    else:
        kept = _representable(values, node.type)
        found = strict(
            "boolean", [node], lambda a: (_among(a, kept) == wanted, None), lambda a: (a in values) == wanted
        )
    return _unless_found(found, wanted) if unknown else found


def _representable(values: frozenset[Any], type_: str) -> Array:
    """Those values that a column of the type may hold."""
    if type_ == "boolean":
        return np.array(sorted(values), np.bool_)
    if type_ == "number":
        return np.array(sorted(float(one) for one in values if float(one) == one), np.float64)
    whole = (int(one) for one in values if int(one) == one)
    return np.array(sorted(one for one in whole if -(2**63) <= one < 2**63), np.int64)


def _among(values: Array, kept: Array) -> Array:
    """Whether each value is one of a few, which are sorted."""
    if not len(kept):
        return np.zeros(len(values), np.bool_)
    places = np.minimum(np.searchsorted(kept, values), len(kept) - 1)
    found: Array = kept.take(places) == values
    return found


def _unless_found(found: Node, wanted: bool) -> Node:
    """The same, but null for what was not found."""

    def many(given: Array) -> tuple[Array, Nulls]:
        return given, given != wanted

    return (
        constant("boolean", None)
        if found.constant and found.value != wanted
        else strict("boolean", [found], many, lambda given: wanted if given == wanted else None)
    )
