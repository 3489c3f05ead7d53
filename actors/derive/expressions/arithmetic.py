"""Arithmetic of numbers and timestamps.

`number` is float64, whose results are correctly rounded but for exp, log, log1p and **; one that is not finite is
null. `integer` is int64, and a result that does not fit is null. A timestamp is int64 microseconds.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from actors.derive.expressions.node import Node, NodeType, Unsuitable, strict
from actors.timestamps import LAST_MOMENT, SECOND, YEAR_ONE
from actors.types.type import Array, Nulls

Result = tuple[Array, Nulls | None]
Many = Callable[..., Result]
One = Callable[..., Any]
NUMERIC = frozenset({"integer", "number"})
LEAST, LARGEST = -(2**63), 2**63 - 1
_LARGEST_EXPONENT = 709.782712893384
MOST_DECIMALS = 15


def as_number(node: Node) -> Node:
    """An integer as the nearest float64."""
    return (
        node if node.type == "number" else strict("number", [node], lambda a: (a.astype(np.float64), None), float)
    )


def negative(node: Node) -> Node:
    """Minus a number."""
    if node.type == "integer":
        return strict("integer", [node], lambda a: (-a, a == LEAST), lambda a: None if a == LEAST else -a)
    _need_numbers("-", [node])
    return strict("number", [node], lambda a: (-a, None), operator.neg)


def combined(sign: str, left: Node, right: Node) -> Node:
    """One of + - * / % ** of two parts."""
    if "timestamp" in (left.type, right.type) and sign in "+-":
        return _moved(sign, left, right)
    _need_numbers(sign, [left, right])
    if sign in _OF_INTEGERS and left.type == right.type == "integer":
        many, one = _OF_INTEGERS[sign]
        return strict("integer", [left, right], many, one)
    many, one = _OF_NUMBERS[sign]
    return strict("number", [as_number(left), as_number(right)], many, one)


def _need_numbers(sign: str, parts: Sequence[Node]) -> None:
    for part in parts:
        if part.type not in NUMERIC:
            raise Unsuitable(f"{sign} needs numbers, got {told(part.type)}")


def told(type_: NodeType) -> str:
    """A type in a message."""
    return "null" if type_ == "null" else f"{'an' if type_ == 'integer' else 'a'} {type_}"


# Integers


def _added(a: Any, b: Any) -> Result:
    total = a + b
    return total, ((a ^ total) & (b ^ total)) < 0


def _subtracted(a: Any, b: Any) -> Result:
    difference = a - b
    return difference, ((a ^ b) & (a ^ difference)) < 0


def _multiplied(a: Any, b: Any) -> Result:
    product = a * b
    if _peak(a) * _peak(b) <= LARGEST:
        return product, None
    divisor = np.where((b == 0) | (np.asarray(b) == -1), 1, b)  # the product of the least number and -1 overflows
    wrong = (product // divisor != a) & (divisor == b)
    return product, wrong | ((np.asarray(b) == -1) & (np.asarray(a) == LEAST))


def _peak(a: Any) -> int:
    """The largest absolute value."""
    if isinstance(a, int):
        return abs(a)
    return max(abs(int(a.min())), abs(int(a.max()))) if len(a) else 0


def _remaining(a: Any, b: Any) -> Result:
    zero = np.asarray(b) == 0
    return np.remainder(a, np.where(zero, 1, b)), zero if zero.shape else None


def _fitting(operation: Callable[[int, int], int]) -> One:
    def one(a: int, b: int) -> int | None:
        result = operation(a, b)
        return result if LEAST <= result <= LARGEST else None

    return one


def _remainder(a: int, b: int) -> int | None:
    return a % b if b else None


_OF_INTEGERS: dict[str, tuple[Many, One]] = {
    "+": (_added, _fitting(operator.add)),
    "-": (_subtracted, _fitting(operator.sub)),
    "*": (_multiplied, _fitting(operator.mul)),
    "%": (_remaining, _remainder),
}


# Numbers


def _finite(values: Array) -> Result:
    finite = np.isfinite(values)
    return values, None if finite.all() else ~finite


def _checked(operation: Callable[..., Any]) -> Many:
    return lambda *given: _finite(operation(*given))


def _add(a: float, b: float) -> float | None:
    total = a + b
    return total if total - total == 0.0 else None


def _subtract(a: float, b: float) -> float | None:
    difference = a - b
    return difference if difference - difference == 0.0 else None


def _multiply(a: float, b: float) -> float | None:
    product = a * b
    return product if product - product == 0.0 else None


def _divide(a: float, b: float) -> float | None:
    if b == 0.0:
        return None
    quotient = a / b
    return quotient if quotient - quotient == 0.0 else None


def _modulo(a: float, b: float) -> float | None:
    return a % b if b else None


def _powers(a: Any, b: Any) -> Array:
    # numpy has other kernels for a scalar exponent, as which it also takes that of a single row: avoid them.
    bases, exponents = (np.ascontiguousarray(one) for one in np.broadcast_arrays(a, b))
    if len(bases) == 1:
        return _powers(np.repeat(bases, 2), np.repeat(exponents, 2))[:1]
    powers = np.power(bases, exponents)
    squared = exponents == 2.0
    result: Array = np.where(squared, bases * bases, powers)
    return result


def _power(a: float, b: float) -> float | None:
    if b == 2.0:
        return _multiply(a, a)
    with np.errstate(all="ignore"):
        power: float = np.power(np.array((a, a)), np.array((b, b))).item(0)
    return power if power - power == 0.0 else None


_OF_NUMBERS: dict[str, tuple[Many, One]] = {
    "+": (_checked(operator.add), _add),
    "-": (_checked(operator.sub), _subtract),
    "*": (_checked(operator.mul), _multiply),
    "/": (_checked(np.divide), _divide),
    "%": (_checked(np.remainder), _modulo),
    "**": (_checked(_powers), _power),
}


# Timestamps


def _moved(sign: str, left: Node, right: Node) -> Node:
    if left.type == right.type == "timestamp" and sign == "-":
        return strict(
            "number", [left, right], lambda a, b: ((a - b) / SECOND, None), lambda a, b: float(a - b) / SECOND
        )
    moment, seconds = (left, right) if left.type == "timestamp" else (right, left)
    if seconds.type not in NUMERIC or (sign == "-" and moment is right):
        raise Unsuitable(f"{told(left.type)} {sign} {told(right.type)} has no meaning; seconds are numbers")
    distance = as_number(seconds)
    return strict("timestamp", [moment, negative(distance) if sign == "-" else distance], _shifted, _shift)


def _shifted(moments: Any, seconds: Any) -> Result:
    micros = np.rint(np.asarray(seconds) * float(SECOND))
    near = np.abs(micros) < 2.0**62
    shifted = moments + np.where(near, micros, 0).astype(np.int64)
    return shifted, ~near | (shifted < YEAR_ONE) | (shifted > LAST_MOMENT)


def _shift(moment: int, seconds: float) -> int | None:
    micros = seconds * SECOND
    if not abs(micros) < 2.0**62:
        return None
    shifted = moment + round(micros)
    return shifted if YEAR_ONE <= shifted <= LAST_MOMENT else None


# Functions


def absolute(node: Node) -> Node:
    """abs(x)."""
    _need_numbers("abs", [node])
    if node.type == "integer":
        return strict(
            "integer", [node], lambda a: (np.abs(a), a == LEAST), lambda a: None if a == LEAST else abs(a)
        )
    return strict("number", [node], lambda a: (np.abs(a), None), abs)


def extreme(name: str, parts: Sequence[Node]) -> Node:
    """min(...) or max(...) of parts of one type."""
    if parts[0].type not in (*NUMERIC, "timestamp"):
        raise Unsuitable(f"{name} needs numbers or timestamps, got {told(parts[0].type)}")
    many, one = (np.minimum, min) if name == "min" else (np.maximum, max)
    return strict(parts[0].type, parts, lambda *given: (reduce(many, given), None), one)


def whole(name: str, node: Node) -> Node:
    """round(x), half to even, floor(x) or ceil(x). Integers are whole already."""
    _need_numbers(name, [node])
    many, one = _WHOLE[name]
    return node if node.type == "integer" else strict("number", [node], lambda a: (many(a), None), one)


_WHOLE: dict[str, tuple[Callable[[Any], Any], One]] = {
    "round": (np.rint, lambda a: float(round(a))),
    "floor": (np.floor, lambda a: float(math.floor(a))),
    "ceil": (np.ceil, lambda a: float(math.ceil(a))),
}


def decimals(node: Node, digits: Node) -> Node:
    """round(x, n): rounded half to even at n decimals of the exact value, as Python's `round` does."""
    _need_numbers("round", [node])
    if not digits.constant or digits.type != "integer" or not 0 <= digits.value <= MOST_DECIMALS:
        raise Unsuitable(f"the decimals of round are an integer from 0 to {MOST_DECIMALS}")
    if node.type == "integer":
        return node
    places: int = digits.value

    def many(a: Array) -> Result:
        return np.array([round(number, places) for number in a.tolist()], np.float64), None

    return strict("number", [node], many, lambda a: round(a, places))


def real(name: str, node: Node) -> Node:
    """log(x), log1p(x), exp(x) or sqrt(x)."""
    _need_numbers(name, [node])
    many, one = _REAL[name]
    return strict("number", [as_number(node)], _checked(many), one)


def _log(a: float) -> float | None:
    return float(np.log(a)) if a > 0.0 else None


def _log1p(a: float) -> float | None:
    return float(np.log1p(a)) if a > -1.0 else None


def _exp(a: float) -> float | None:
    return float(np.exp(a)) if a <= _LARGEST_EXPONENT else None


def _sqrt(a: float) -> float | None:
    return math.sqrt(a) if a >= 0.0 else None


_REAL: dict[str, tuple[Callable[[Any], Any], One]] = {
    "log": (np.log, _log),
    "log1p": (np.log1p, _log1p),
    "exp": (np.exp, _exp),
    "sqrt": (np.sqrt, _sqrt),
}
