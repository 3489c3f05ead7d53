"""Arrays that grow where they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from actors.table.latest import ColumnPlaces, LatestTable
from actors.table.pieces import MAPPED_BYTES, Pieces
from actors.timestamps import NEVER


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize(("dtype", "filling"), [("i8", NEVER), ("f8", 0), ("?", 0), ("O", 0)])
def test_what_was_written_stays_and_new_rows_are_blank_however_often_it_grows(
    dtype: str, filling: int, looked_at: bool
) -> None:
    pieces, views, rows = Pieces(np.dtype(dtype), (3,), filling), [], 1
    blank = None if dtype == "O" else filling
    for number in range(1, 30):
        pieces.array[rows - 1, 1] = number
        if looked_at:
            views.append(pieces.array[:, 1])
        grown = rows + 40_000 if rows > 1_000 else rows * 2
        pieces.grow(grown)
        assert pieces.array.shape == (grown, 3)
        assert pieces.array[rows - 1, 1] == (True if dtype == "?" else number)
        assert pieces.array[rows, 0] == blank == pieces.array[-1, 2]
        rows = grown
    assert pieces.array.nbytes > MAPPED_BYTES
    assert len({id(row) for row in views}) == len(views)
    assert len(list(pieces.widening(5))) > 1
    assert pieces.array.shape == (rows, 5)
    assert pieces.array[0, 1] == 1
    assert pieces.array[0, 4] == blank
    pieces.grow(rows + 1)
    assert pieces.array[-1, 4] == blank


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_vector_that_few_entities_have_takes_memory_for_these_few() -> None:
    table = LatestTable()
    table.make_room(100_000)
    before = resident()
    columns = [table.column(np.dtype(np.float32), 4_096, NEVER) for _ in range(2)]
    table.make_room(120_000)
    columns[1].times[77] = 5
    columns[1].values[77] = 3.0
    places = ColumnPlaces(np.array([1, 0]), [(columns[0].kept, np.array([1, 0]))])
    gathered = table.gather(places, np.array([0, 77, 119_999]), [NEVER, NEVER], 0)
    assert gathered.times[0].tolist() == [NEVER, 5, NEVER]
    assert gathered.values[0][:, :, 9].tolist() == [[0, 3, 0], [0, 0, 0]]
    assert resident() - before < 200_000_000  # of 4 GB
