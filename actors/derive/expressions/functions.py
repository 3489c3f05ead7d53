"""The functions of the language, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from actors.derive.expressions import arithmetic, logic, texts
from actors.derive.expressions.node import Node, Unsuitable


class Function(NamedTuple):
    """How many parts a function takes, None for any number from `least` on, and how its node is made."""

    least: int
    most: int | None
    made: Callable[[Sequence[Node]], Node]


def _rounded(parts: Sequence[Node]) -> Node:
    return arithmetic.whole("round", parts[0]) if len(parts) == 1 else arithmetic.decimals(*parts)


def _extreme(name: str, parts: Sequence[Node]) -> Node:
    return arithmetic.extreme(name, logic.unified(parts))


def _unary(make: Callable[[str, Node], Node], name: str) -> Function:
    return Function(1, 1, lambda parts: make(name, parts[0]))


FUNCTIONS: dict[str, Function] = {
    "abs": Function(1, 1, lambda parts: arithmetic.absolute(parts[0])),
    **{name: Function(2, None, partial(_extreme, name)) for name in ("min", "max")},
    "round": Function(1, 2, _rounded),
    **{name: _unary(arithmetic.whole, name) for name in ("floor", "ceil")},
    **{name: _unary(arithmetic.real, name) for name in ("log", "log1p", "exp", "sqrt")},
    "coalesce": Function(1, None, lambda parts: logic.first_known(logic.unified(parts))),
    **{
        name: Function(count, count, partial(texts.function, name))
        for name, (_, count, _) in texts.FUNCTIONS.items()
    },
}


def called(name: str, parts: Sequence[Node]) -> Node:
    """The node of a call of one of FUNCTIONS. Raises Unsuitable."""
    least, most, made = FUNCTIONS[name]
    if len(parts) < least or (most is not None and len(parts) > most):
        wanted = f"{least} or more" if most is None else str(least) if least == most else f"{least} or {most}"
        raise Unsuitable(f"{name} takes {wanted} argument{'' if wanted == '1' else 's'}, got {len(parts)}")
    return made(parts)
