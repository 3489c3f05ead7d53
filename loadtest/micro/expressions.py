"""Group `expressions`: typical expressions for one row and over columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from actors.derive.expressions.node import Operand
from actors.derive.expressions.parsing import parse
from actors.types.type import no_nulls
from loadtest.machine.measure import Result, at_most, repeated
from timewell.wire import ValueType

ROWS = 100_000
REPEATS = 2_000
TYPES: dict[str, ValueType] = {"amount": "number", "avg": "number", "n": "integer", "country": "string"}
ROW = {"amount": 12.5, "avg": 40.0, "n": 5, "country": "NO"}
TEXTS = (
    "amount / avg",
    "amount / avg * 100 > n",
    "country == 'NO' and amount > 10",
    "log1p(amount) - log1p(avg) if n >= 3 else null",
)


def run() -> Iterator[Result]:
    """Each expression for one row, then over columns, one with nulls and one dictionary-encoded."""
    columns = _columns(np.random.default_rng(1))
    for text in TEXTS:
        expression = parse(text, TYPES)
        one_row, all_rows = partial(expression.row, ROW), partial(expression.column, columns, ROWS)
        took = [one / REPEATS * 1e6 for one in repeated(_many_times(one_row), 15)]
        yield Result(f"expressions: one row, {text}", "us", took, at_most(2))
        took = [one / ROWS * 1e6 for one in repeated(all_rows, 15)]
        yield Result(f"expressions: a row of 100,000, {text}", "us", took, at_most(0.1))


def _many_times(evaluate: Callable[[], Any]) -> Callable[[], None]:
    def evaluate_all() -> None:
        for _ in range(REPEATS):
            evaluate()

    return evaluate_all


def _columns(random: np.random.Generator) -> dict[str, Operand]:
    countries = np.array(["NO", "SE", *(f"c{number}" for number in range(48))], object)
    return {
        "amount": Operand(random.lognormal(3, 1, ROWS), no_nulls(ROWS)),
        "avg": Operand(random.lognormal(3, 0.3, ROWS), random.random(ROWS) < 0.05),
        "n": Operand(random.integers(0, 10, ROWS), no_nulls(ROWS)),
        "country": Operand(countries, no_nulls(ROWS), random.integers(0, 50, ROWS).astype(np.int32)),
    }
