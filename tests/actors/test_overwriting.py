"""A batch that overwrites its own rows says how many, whichever way its rows come."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.ingest import overwriting
from actors.ingest.overwriting import Overwriting, overwritten
from actors.table.batch import Table
from actors.types.type import FEW
from tests.batches import a_table

Row = tuple[str, str, int]
ROWS = st.lists(
    st.tuples(st.sampled_from(["a.x.v1", "a.y.v1"]), st.sampled_from("uvw"), st.integers(-2, 2)), max_size=20
)


def table(rows: Sequence[Row]) -> Table:
    times = np.array([time for _, _, time in rows], np.int64)
    values, nulls = np.zeros(len(rows)), np.zeros(len(rows), np.bool_)
    return a_table(rows[0][0], 1, [entity for _, entity, _ in rows], times, values, nulls)


def tables(rows: Sequence[Row], cut: int) -> list[Table]:
    """By feature, and in two parts."""
    parts = [
        [row for row in part if row[0] == feature]
        for part in (rows[:cut], rows[cut:])
        for feature in ("a.x.v1", "a.y.v1")
    ]
    return [table(part) for part in parts if part]


@pytest.mark.parametrize("few", [0, FEW])
@given(rows=ROWS, cut=st.integers(0, 20))
@settings(deadline=None, max_examples=60)
def test_rows_that_are_there_more_than_once_are_counted_once_less(few: int, rows: list[Row], cut: int) -> None:
    with patch.object(overwriting, "FEW", few):
        assert overwritten(tables(rows, cut)) == len(rows) - len(set(rows))


@given(lots=st.lists(ROWS, max_size=4), at_once=st.integers(4, 9))
@settings(deadline=None, max_examples=60)
def test_rows_of_a_stream_are_counted_over_all_its_lots_however_few_are_sorted_at_once(
    lots: list[list[Row]], at_once: int
) -> None:
    rows = [row for lot in lots for row in lot]
    with patch.object(overwriting, "KEYS_IN_MEMORY", at_once), Overwriting() as stream:
        for lot in lots:
            stream.add(tables(lot, len(lot)))
        assert stream.count() == len(rows) - len(set(rows))


def test_features_that_have_their_rows_in_common_each_count() -> None:
    one = table([("a.x.v1", "u", 1)] * (FEW + 2))
    (column,) = one.columns
    assert overwritten([one.only([column, column._replace(feature="a.y.v1")])]) == 2 * (FEW + 1)
    assert overwritten([one, one]) == overwritten([one.only([column, column])]) == 2 * (FEW + 2) - 1
