"""The work and memory that computing features takes."""

from __future__ import annotations

import numpy as np
import pytest

from actors.derive.computing import computing
from actors.derive.expressions.node import Operand
from actors.derive.expressions.parsing import parse
from actors.derive.on_demand import Computed, Formula
from actors.domain import ValueType
from actors.errors import TooMuchAtOnce
from actors.table.selection import SelectedFeature, Selection
from actors.turns import at_once
from actors.types.type import NO_FEATURE

ROWS = 10_000
ANY = 1 << 40


def computed(expression: str, value_type: ValueType, times: int = 1) -> Computed:
    """An expression over the request's field `x`, asked for several times."""
    parsed = parse(expression, {"x": value_type})
    selected = [SelectedFeature(f"f{number}", NO_FEATURE, ("user",)) for number in range(times)]
    formulas = [Formula(one.name, NO_FEATURE, parsed, {}, [("x", value_type)]) for one in selected]
    return Computed(selected, Selection([]), formulas, [~number for number in range(times)])


def of_field(values: list[object], value_type: ValueType) -> dict[tuple[str, ValueType], Operand]:
    array = np.empty(len(values), object if value_type == "string" else np.float64)
    array[:] = values
    return {("x", value_type): Operand(array, np.zeros(len(values), np.bool_))}


@pytest.mark.parametrize(
    ("selected", "count"),
    [
        (computed(f"max({', '.join(['round(x, 2)'] * 100)})", "number"), ROWS),
        (computed(f"max({', '.join(['round(x, 2)'] * 100)})", "number", 500), 1),
        (computed("length(upper(x))", "string"), ROWS),
    ],
)
def test_others_get_a_turn_the_more_often_the_more_there_is_to_compute(selected: Computed, count: int) -> None:
    value_type = selected.formulas[0].request[0][1]
    value: object = "a" * 10_000 if value_type == "string" else 1.005
    steps = computing(selected, [], of_field([value] * count, value_type), count, ANY)
    turns = sum(1 for _ in steps)
    assert turns >= 30


def test_columns_computed_in_many_turns_are_in_the_order_of_the_rows() -> None:
    expression = f"max({', '.join(['x'] * 300)})"
    (column,) = at_once(
        computing(computed(expression, "number"), [], of_field([*range(ROWS)], "number"), ROWS, ANY)
    )
    assert column.values.tolist() == [*range(ROWS)]


def test_texts_are_not_made_beyond_the_limit() -> None:
    fields = of_field(["a" * 1_000] * ROWS, "string")
    steps = computing(computed("upper(x)", "string", 1_000), [], fields, ROWS, 2_000_000)
    with pytest.raises(TooMuchAtOnce, match="2000000"):
        at_once(steps)
    assert len(at_once(computing(computed("upper(x)", "string"), [], fields, ROWS, ROWS * 1_000))) == 1
