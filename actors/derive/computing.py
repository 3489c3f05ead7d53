"""The values of features that are computed on demand, for the rows of a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from actors.amount import bytes_of
from actors.derive.expressions.node import Operand
from actors.derive.expressions.parsing import Expression
from actors.derive.on_demand import Computed
from actors.domain import ValueType
from actors.errors import TooMuchAtOnce
from actors.settings import EXPRESSED_PER_TURN, ROWS_PER_TURN
from actors.table.grid import Cells, Grid, filled
from actors.turns import Steps
from actors.types.type import Nulls

Fields = Mapping[tuple[str, ValueType], Operand]
"""Fields of the rows of a request, by name and type: each a value per row."""


def part_of(fields: Fields, rows: slice) -> Fields:
    """The fields of a slice of the rows."""
    return {name: operand.part(rows.start, rows.stop) for name, operand in fields.items()}


def computing(
    selected: Computed, stored: Sequence[Operand], fields: Fields, count: int, most_bytes: int
) -> Steps[list[Operand]]:
    """The columns of all features for `count` rows, in the order of the selection, in steps.

    `stored`: the columns of the stored features, with a null for what is not there or has expired. Raises
    TooMuchAtOnce if the texts that are made take more than `most_bytes`, in all formulas together.
    """
    made, taken, work = list[Operand](), 0, 0
    for formula in selected.formulas:
        named = {name: made[~at] if at < 0 else stored[at] for name, at in formula.features.items()}
        named |= {field[0]: fields[field] for field in formula.request}
        cost = _cost(formula.expression, named, count)
        step, parts = max(1, min(ROWS_PER_TURN, EXPRESSED_PER_TURN // cost)), list[Operand]()
        for start in range(0, max(1, count), step):
            cut = slice(start, min(start + step, count))
            given = {name: operand.part(cut.start, cut.stop) for name, operand in named.items()}
            parts.append(formula.expression.column(given, cut.stop - cut.start).decoded())
            if parts[-1].values.dtype == object:
                taken += bytes_of(parts[-1].values)
                if taken > most_bytes:
                    reason = f"the texts that are computed take more than {most_bytes} bytes"
                    raise TooMuchAtOnce(f"{reason}: ask for less at once")
            work += cost * max(cut.stop - cut.start, _ROWS_OF_A_CALL)
            if work >= EXPRESSED_PER_TURN:
                yield
                work = 0
        made.append(_joined(parts))
    return [made[~at] if at < 0 else stored[at] for at in selected.columns]


_ROWS_OF_A_CALL = 256
"""As many rows take about as long as the calls of numpy for them."""
_CHARACTERS_OF_A_CELL = 64
"""A function of a text with as many characters takes about as long as one of a number."""


def _cost(expression: Expression, named: Mapping[str, Operand], count: int) -> int:
    """About how many values are computed for each row."""
    characters = sum(bytes_of(one.values) for one in named.values() if one.values.dtype == object)
    return max(1, expression.size) * (1 + characters // (max(1, count) * _CHARACTERS_OF_A_CELL))


def _joined(parts: Sequence[Operand]) -> Operand:
    if len(parts) == 1:
        return parts[0]
    values, nulls = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    return Operand(values, nulls)


def adding_computed(
    selected: Computed, grid: Grid, hidden: Nulls, fields: Fields, at: int, most_bytes: int
) -> Steps[Grid]:
    """The grid of all features, from that of the stored ones, in steps.

    `hidden`: bool[stored, n], where their values are not served. What is computed has `at` as its time.
    `most_bytes`: see `computing`.
    """
    count = grid.nulls.shape[1]
    cells = grid.cells()
    stored = [Operand(cells[place].values, hidden[place]) for place in range(len(cells))]
    columns = yield from computing(selected, stored, fields, count, most_bytes)
    now, found = np.full(count, at, np.int64), list[Cells]()
    for number, column in zip(selected.columns, columns, strict=True):
        found.append(Cells(now, column.values, column.nulls, None) if number < 0 else cells[number])
    return filled(selected.kinds, found)
