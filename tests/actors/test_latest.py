"""The tables of latest values against dictionaries, while columns come, go and come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.table.latest import ColumnPlaces, LatestColumn, LatestTable
from actors.timestamps import NEVER

KINDS: list[tuple[Any, int]] = [
    (np.dtype(np.float64), 0),
    (np.dtype(np.int64), 0),
    (np.dtype(object), 0),
    (np.dtype(np.float32), 3),
]
SLOT = st.integers(0, 40)
STEP = st.one_of(
    st.tuples(st.just("make"), st.integers(0, len(KINDS) - 1), st.sampled_from([NEVER, 7])),
    st.tuples(st.just("free"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("put"), st.integers(0, 9), SLOT),
)


def places_of(column: LatestColumn) -> ColumnPlaces:
    return ColumnPlaces(np.array([column.at]), [(column.kept, np.array([column.value_column]))])


def a_value(column: LatestColumn, number: int) -> Any:
    dtype, width = column.kept
    if width:
        return np.full(width, number, np.float32)
    return f"text {number}" if dtype == "|O" else number


def told(column: LatestColumn, slots: list[int]) -> list[Any]:
    """What a question about one feature is answered, slot by slot."""
    gathered = column.table.gather(places_of(column), np.array(slots), [NEVER], tick=0)
    cold = np.zeros(len(slots), np.bool_) if gathered.cold is None else gathered.cold[0]
    values = [value.tolist() if isinstance(value, np.ndarray) else value for value in gathered.values[0][0]]
    return list(zip(gathered.times[0].tolist(), gathered.nulls[0].tolist(), values, cold.tolist(), strict=True))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_a_column_tells_what_was_put_into_it_whatever_becomes_of_the_others(steps: list[Any]) -> None:
    table = LatestTable()
    live: list[tuple[LatestColumn, int, dict[int, Any]]] = []
    for number, (step, which, argument) in enumerate(steps):
        if step == "make":
            dtype, width = KINDS[which]
            live.append((table.column(dtype, width, argument), argument, {}))
        elif step == "free" and live:
            table.free(live.pop(which % len(live))[0])
        elif step == "put" and live:
            column, _, known = live[which % len(live)]
            table.make_room(argument + 1)
            value = a_value(column, number)
            column.times[argument], column.values[argument], column.nulls[argument] = number, value, number % 2
            known[argument] = (number, bool(number % 2), getattr(value, "tolist", lambda value=value: value)())
    for column, base, known in live:
        blank = np.zeros(column.kept[1]).tolist() if column.kept[1] else None if column.kept[0] == "|O" else 0
        expected = [
            (*known.get(slot, (NEVER, False, blank)), known.get(slot, (NEVER,))[0] < base)
            for slot in range(table.room)
        ]
        assert told(column, list(range(table.room))) == expected


def test_many_columns_of_several_kinds_are_gathered_at_once() -> None:
    table = LatestTable()
    columns = [table.column(KINDS[position % 2][0], 0, NEVER) for position in range(9)]
    table.make_room(5)
    for position, column in enumerate(columns):
        column.times[:] = np.arange(table.room) + 100 * position
        column.values[:] = np.arange(table.room) + 1_000 * position
    floats, integers = columns[0::2], columns[1::2]
    tables = [(kind[0].kept, np.array([column.value_column for column in kind])) for kind in (floats, integers)]
    asked = ColumnPlaces(np.array([column.at for column in columns]), tables)
    gathered = table.gather(asked, np.array([4, 1, 1]), [NEVER] * 9, tick=3)
    assert gathered.times.tolist() == [[4 + 100 * p, 1 + 100 * p, 1 + 100 * p] for p in range(9)]
    assert [part.tolist() for part in gathered.values] == [
        [[4 + 1_000 * p, 1 + 1_000 * p, 1 + 1_000 * p] for p in range(start, 9, 2)] for start in (0, 1)
    ]
    assert gathered.cold is None
    assert [column.used[:5].tolist() for column in columns] == [[0, 3, 0, 0, 3]] * 9


@pytest.mark.parametrize("visible_from, cold", [(NEVER, True), (6, True), (7, False)])
def test_values_that_are_to_be_hidden_ask_no_disk(visible_from: int, cold: bool) -> None:
    table = LatestTable()
    column = table.column(np.dtype(np.float64), 0, 7)
    gathered = table.gather(places_of(column), np.array([0]), [visible_from], tick=0)
    assert (gathered.cold is not None) == cold
