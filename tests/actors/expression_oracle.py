"""Random expressions, and a slow interpreter of them, on exact fractions and None.

A tree is a tuple: its kind, then its parts. `text_of` writes it in the language, with all parentheses.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from timewell.timestamps import LAST_MOMENT, YEAR_ONE, format_timestamp
from timewell.wire import ValueType

TYPES: dict[str, ValueType] = {
    "x": "number",
    "y": "number",
    "n": "integer",
    "class": "integer",
    "user.country": "string",
    "order-id": "string",
    "ok": "boolean",
    "flag": "boolean",
    "at": "timestamp",
    "since": "timestamp",
    "v": "json",
}
WRITTEN = {"order-id": "`order-id`"}
Tree = tuple[Any, ...]
LEAST, LARGEST = -(2**63), 2**63 - 1
DIGITS = Context(prec=2_000, rounding=ROUND_HALF_EVEN, Emax=10**6, Emin=-(10**6))

edgy_floats = st.sampled_from(
    [0.0, -0.0, 0.5, 1.5, 2.5, -1.0, 2.0, 3.0, 1e308, 5e-324, 2.0**53, 2.0**63, -(2.0**63), 2.675]
)
edgy_integers = st.sampled_from(
    [0, 1, -1, 2, 3, 2**53, 2**53 + 1, -(2**53) - 1, 2**62, LEAST, LARGEST, 3_037_000_500]
)
finite = edgy_floats | st.floats(allow_nan=False, allow_infinity=False)
integers = edgy_integers | st.integers(LEAST, LARGEST) | st.integers(-5, 5)
texts = st.sampled_from(["", "a", "ab", "B", "ß", "İ", "ŉ", "😀a", "it's", 'a"\\\n']) | st.text(max_size=4)
moments = st.sampled_from([YEAR_ONE, LAST_MOMENT, 0, 1_700_000_000_123_456]) | st.integers(YEAR_ONE, LAST_MOMENT)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": edgy_floats | st.floats() | st.floats(-10, 10),
    "integer": integers,
    "string": texts,
    "boolean": st.booleans(),
    "timestamp": moments,
    "json": st.just("{}"),
}


# Trees


@functools.cache
def trees(type_: str, depth: int, real: bool) -> st.SearchStrategy[Tree]:
    """Trees of a type. `real`: with functions whose last bit no standard fixes."""
    names = [name for name, one in TYPES.items() if one == type_]
    literal = {"number": finite, "timestamp": None}.get(type_, VALUES[type_])
    leaf: st.SearchStrategy[Tree] = st.sampled_from([("field", name) for name in names])
    if literal is not None:
        leaf |= literal.map(lambda value: ("literal", value))
    if depth == 0:
        return leaf

    def sub(one: str) -> st.SearchStrategy[Tree]:
        return st.sampled_from([0, depth - 1]).flatmap(lambda less: trees(one, less, real))

    numeric = sub("number") | sub("integer")
    any_type = st.sampled_from(["number", "integer", "string", "boolean", "timestamp"]).flatmap(sub)
    null = st.just(("null",))
    branches = [
        leaf,
        st.tuples(st.just("if"), sub("boolean"), sub(type_), sub(type_) | null),
        st.tuples(st.just("coalesce"), sub(type_), sub(type_)),
        *_OF_TYPE[type_](sub, numeric, any_type, real),
    ]
    return st.one_of(branches)


def _numbers(sub: Any, numeric: Any, any_type: Any, real: bool) -> list[Any]:
    functions = st.sampled_from(["floor", "ceil", "round", "abs", "neg"])
    inexact = [
        st.tuples(st.just("call"), st.sampled_from(["log", "log1p", "exp"]), numeric),
        st.tuples(st.just("op"), st.just("**"), numeric, numeric),
    ]
    return [
        st.tuples(st.just("op"), st.sampled_from("+-*/%"), sub("number"), numeric),
        st.tuples(st.just("op"), st.just("/"), numeric, numeric),
        st.tuples(st.just("op"), st.just("-"), sub("timestamp"), sub("timestamp")),
        st.tuples(st.just("call"), functions, sub("number")),
        st.tuples(st.just("call"), st.just("sqrt"), numeric),
        st.tuples(st.just("decimals"), sub("number"), st.integers(0, 15)),
        st.tuples(st.sampled_from(["min", "max"]), sub("number"), numeric),
        *(inexact if real else []),
    ]


def _integers(sub: Any, numeric: Any, any_type: Any, real: bool) -> list[Any]:
    return [
        st.tuples(st.just("op"), st.sampled_from("+-*%"), sub("integer"), sub("integer")),
        st.tuples(st.just("call"), st.sampled_from(["abs", "neg", "round"]), sub("integer")),
        st.tuples(st.just("call"), st.just("length"), sub("string")),
        st.tuples(st.sampled_from(["min", "max"]), sub("integer"), sub("integer"), sub("integer")),
    ]


def _strings(sub: Any, numeric: Any, any_type: Any, real: bool) -> list[Any]:
    return [st.tuples(st.just("call"), st.sampled_from(["lower", "upper"]), sub("string"))]


def _moments(sub: Any, numeric: Any, any_type: Any, real: bool) -> list[Any]:
    near = st.integers(-(10**6), 10**6).map(lambda value: ("literal", value))
    return [
        st.tuples(st.just("op"), st.sampled_from("+-"), sub("timestamp"), numeric | near),
        st.tuples(st.sampled_from(["min", "max"]), sub("timestamp"), sub("timestamp")),
    ]


def _booleans(sub: Any, numeric: Any, any_type: Any, real: bool) -> list[Any]:
    order = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    moment = moments.map(lambda micros: ("moment", micros))
    members = {
        "number": finite | integers,
        "integer": finite | integers,
        "string": texts,
        "boolean": st.booleans(),
    }
    return [
        st.tuples(st.just("op"), order, numeric, numeric),
        st.tuples(st.just("op"), order, sub("string"), sub("string")),
        st.tuples(st.just("op"), order, sub("timestamp"), sub("timestamp") | moment),
        st.tuples(st.just("op"), st.sampled_from(["==", "!="]), sub("boolean"), sub("boolean")),
        st.tuples(st.just("call"), st.just("not"), sub("boolean")),
        st.tuples(st.sampled_from(["and", "or"]), sub("boolean"), sub("boolean"), sub("boolean")),
        st.tuples(st.just("is null"), any_type | st.just(("field", "v")), st.booleans()),
        st.tuples(st.sampled_from(["startsWith", "endsWith", "contains"]), sub("string"), sub("string")),
        *(
            st.tuples(st.just("in"), sub(one), st.lists(values | st.none(), min_size=1, max_size=4), st.booleans())
            for one, values in members.items()
        ),
    ]


_OF_TYPE: dict[str, Callable[..., list[Any]]] = {
    "number": _numbers,
    "integer": _integers,
    "string": _strings,
    "timestamp": _moments,
    "boolean": _booleans,
}


# As text


def literal_text(value: Any) -> str:
    """A value as it is written."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        inner = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
        return f"'{inner}'"
    return f"({value!r})" if repr(value).startswith("-") else repr(value)  # -2 ** 2 is -(2 ** 2)


def text_of(tree: Tree) -> str:
    """A tree in the language."""
    kind, *parts = tree
    if kind == "field":
        return WRITTEN.get(parts[0]) or str(parts[0])
    if kind in ("literal", "null"):
        return literal_text(parts[0] if parts else None)
    if kind == "moment":
        return literal_text(format_timestamp(parts[0]))
    if kind == "op":
        return f"({text_of(parts[1])} {parts[0]} {text_of(parts[2])})"
    if kind == "call":
        written = {"neg": "-", "not": "not "}.get(parts[0], parts[0])
        return (
            f"({written}({text_of(parts[1])}))"
            if parts[0] in ("neg", "not")
            else f"{written}({text_of(parts[1])})"
        )
    if kind == "if":
        return f"({text_of(parts[1])} if {text_of(parts[0])} else {text_of(parts[2])})"
    return _compound_text(kind, parts)


def _compound_text(kind: str, parts: list[Any]) -> str:
    if kind in ("and", "or"):
        return f"({f' {kind} '.join(map(text_of, parts))})"
    if kind == "is null":
        return f"({text_of(parts[0])} is {'' if parts[1] else 'not '}null)"
    if kind == "in":
        members = ", ".join(map(literal_text, parts[1]))
        return f"({text_of(parts[0])} {'' if parts[2] else 'not '}in ({members}))"
    if kind == "decimals":
        return f"round({text_of(parts[0])}, {parts[1]})"
    return f"{kind}({', '.join(map(text_of, parts))})"


# The interpreter


def answer(tree: Tree, row: Mapping[str, Any]) -> Any:
    """The value of a tree for a row, with -0.0 as 0.0."""
    value = _value(tree, row)
    return value + 0.0 if isinstance(value, float) else value


def _value(tree: Tree, row: Mapping[str, Any]) -> Any:
    kind, *parts = tree
    if kind == "field":
        value = row[parts[0]]
        return None if isinstance(value, float) and not math.isfinite(value) else value
    if kind in ("literal", "moment"):
        return parts[0]
    if kind == "null":
        return None
    if kind == "if":
        return _value(parts[1] if _value(parts[0], row) is True else parts[2], row)
    if kind == "is null":
        return (_value(parts[0], row) is None) is parts[1]
    return _compound(tree, [_value(part, row) for part in parts if isinstance(part, tuple)])


def _compound(tree: Tree, given: list[Any]) -> Any:
    kind, *parts = tree
    if kind == "coalesce":
        return next((one for one in given if one is not None), None)
    if kind in ("and", "or"):
        return (kind == "or") if (kind == "or") in given else None if None in given else kind == "and"
    if None in given:
        return None
    if kind == "in":
        found = any(one is not None and given[0] == one for one in parts[1])
        return parts[2] if found else None if None in parts[1] else not parts[2]
    if kind == "decimals":
        return float(DIGITS.quantize(Decimal(given[0]), Decimal(1).scaleb(-parts[1])))
    if kind == "op":
        return _operation(tree, *given)
    return _call(parts[0] if kind == "call" else kind, given, tree)


def type_of(tree: Tree) -> str:
    """The type of a tree of numbers or timestamps, whose values are both integers to the interpreter."""
    kind, *parts = tree
    if kind == "field":
        return TYPES[parts[0]]
    if kind == "literal":
        return {bool: "boolean", int: "integer", float: "number", str: "string"}[type(parts[0])]
    if kind == "if":
        return type_of(parts[1])
    if kind == "op":
        types = [type_of(part) for part in parts[1:]]
        if types[0] == "timestamp":
            return "number" if types[1] == "timestamp" else "timestamp"
        return "number" if "number" in types or parts[0] in ("/", "**") else "integer"
    if kind == "call":
        return {"length": "integer", "abs": "", "neg": "", "round": ""}.get(parts[0], "number") or type_of(
            parts[1]
        )
    if kind == "decimals":
        return "number"
    types = [type_of(part) for part in parts]
    return "number" if "number" in types else types[0]


def _float(exact: Fraction | int) -> float | None:
    try:
        return float(exact)
    except OverflowError:
        return None


def _operation(tree: Tree, a: Any, b: Any) -> Any:
    sign = tree[1]
    compare = {"==": a == b, "!=": a != b}
    if sign in compare:
        return compare[sign]
    if sign in ("<", "<=", ">", ">="):
        return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[sign]
    types = [type_of(part) for part in tree[2:]]
    if types == ["timestamp", "timestamp"]:
        return float(a - b) / 1e6
    if types[0] == "timestamp":
        moved = Fraction(float(b)) * 10**6
        micros = a + (1 if sign == "+" else -1) * round(_float(moved) or 0) if _float(moved) is not None else LEAST
        return micros if YEAR_ONE <= micros <= LAST_MOMENT else None
    whole = types == ["integer", "integer"] and sign != "/"
    left, right = (Fraction(one) if whole else Fraction(float(one)) for one in (a, b))
    if sign in "/%" and right == 0:
        return None
    exact = {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "/": lambda: left / right,
        "%": lambda: left % right,
    }[sign]()
    if not whole:
        return _float(exact)
    return int(exact) if LEAST <= exact <= LARGEST else None


def _call(name: str, given: list[Any], tree: Tree) -> Any:
    if name in ("min", "max"):
        if type_of(tree) == "number":
            given = [float(one) for one in given]
        return sorted(given)[0 if name == "min" else -1]
    one = given[0]
    if name in ("startsWith", "endsWith", "contains"):
        other = given[1]
        ends = {"startsWith": one[: len(other)] == other, "endsWith": other in ("", one[-len(other) :])}
        return ends[name] if name in ends else one.find(other) >= 0
    if name in ("lower", "upper", "length"):
        return len(one) if name == "length" else one.lower() if name == "lower" else one.upper()
    if name == "not":
        return one is False
    if name == "sqrt":
        return None if one < 0 else math.sqrt(float(one))
    if isinstance(one, int):
        result = {"abs": abs(one), "neg": -one, "round": one}[name]
        return result if LEAST <= result <= LARGEST else None
    exact = Fraction(one)
    floor = math.floor(exact)
    found: dict[str, Fraction | int] = {
        "floor": floor,
        "ceil": -math.floor(-exact),
        "round": round(exact),
        "abs": abs(exact),
        "neg": -exact,
    }
    return float(found[name])
