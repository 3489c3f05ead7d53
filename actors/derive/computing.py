"""The values of features that are computed on demand, for the rows of a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from actors.derive.expressions.node import Operand
from actors.derive.on_demand import Computed
from actors.domain import ValueType
from actors.settings import ROWS_PER_TURN
from actors.table.grid import Cells, Grid, filled
from actors.turns import Steps
from actors.types.type import Nulls

Fields = Mapping[tuple[str, ValueType], Operand]
"""Fields of the rows of a request, by name and type: each a value per row."""


def part_of(fields: Fields, rows: slice) -> Fields:
    """The fields of a slice of the rows."""
    return {name: operand.part(rows.start, rows.stop) for name, operand in fields.items()}


def computing(selected: Computed, stored: Sequence[Operand], fields: Fields, count: int) -> Steps[list[Operand]]:
    """The columns of all features for `count` rows, in the order of the selection, in steps.

    `stored`: the columns of the stored features, with a null for what is not there or has expired.
    """
    parts = [list[Operand]() for _ in selected.formulas]
    for start in range(0, max(1, count), ROWS_PER_TURN):
        cut = slice(start, min(start + ROWS_PER_TURN, count))
        read, made = [column.part(cut.start, cut.stop) for column in stored], list[Operand]()
        of_rows = part_of(fields, cut)
        for formula, own in zip(selected.formulas, parts, strict=True):
            named = {name: made[~at] if at < 0 else read[at] for name, at in formula.features.items()}
            named |= {field[0]: of_rows[field] for field in formula.request}
            made.append(formula.expression.column(named, cut.stop - cut.start).decoded())
            own.append(made[-1])
        yield
    whole = [_joined(own) for own in parts]
    return [whole[~at] if at < 0 else stored[at] for at in selected.columns]


def _joined(parts: Sequence[Operand]) -> Operand:
    if len(parts) == 1:
        return parts[0]
    values, nulls = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    return Operand(values, nulls)


def completing(selected: Computed, grid: Grid, hidden: Nulls, fields: Fields, at: int) -> Steps[Grid]:
    """The grid of all features, from that of the stored ones, in steps.

    `hidden`: bool[stored, n], where their values are not served. What is computed has `at` as its time.
    """
    count = grid.nulls.shape[1]
    cells = grid.cells()
    stored = [Operand(cells[place].values, hidden[place]) for place in range(len(cells))]
    columns = yield from computing(selected, stored, fields, count)
    now, found = np.full(count, at, np.int64), list[Cells]()
    for number, column in zip(selected.columns, columns, strict=True):
        found.append(Cells(now, column.values, column.nulls, None) if number < 0 else cells[number])
    return filled(selected.kinds, found)
