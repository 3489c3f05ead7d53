"""What was set aside comes back as it was, from memory or from a file that nobody else sees."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.ingest import spool as spools
from actors.ingest.spool import Spool
from actors.table.batch import Table
from tests.actors.test_columns import plain
from tests.actors.test_shared_entities import all_same, sharing, tables, together
from tests.batches import a_table, flat, tables_of


def taken(spool: Spool) -> list[list[Table]]:
    return list(spool.take_all())


@pytest.mark.parametrize("room", [1, 200, spools.IN_MEMORY_BYTES])
@given(st.lists(tables(), max_size=6))
@settings(deadline=None, max_examples=15)
def test_lots_come_back_in_order_and_to_the_bit_from_memory_and_from_a_file(
    room: int, lots: list[list[Table]]
) -> None:
    with patch.object(spools, "IN_MEMORY_BYTES", room), Spool() as spool:
        for lot in lots:
            spool.put(lot)
        back = taken(spool)
    assert len(back) == len(lots)
    assert all(all_same(found, lot) for found, lot in zip(back, lots, strict=True))
    assert [sharing(found) for found in back] == [sharing(lot) for lot in lots]


def test_nothing_put_is_nothing_taken() -> None:
    with Spool() as spool:
        assert taken(spool) == []


def test_a_lot_of_no_tables_is_a_lot() -> None:
    with Spool() as spool:
        spool.put([])
        spool.put(tables_of([plain(["a"])]))
        spool.put([])
        assert [len(lot) for lot in spool.take_all()] == [0, 1, 0]


def test_everything_may_be_taken_again() -> None:
    with Spool() as spool:
        for number in range(3):
            spool.put([together([f"user.f{number}.v1"], ["a", "b"])])
        first, second = taken(spool), taken(spool)
    assert [lot[0].columns[0].feature for lot in first] == ["user.f0.v1", "user.f1.v1", "user.f2.v1"]
    assert all(all_same(one, other) for one, other in zip(first, second, strict=True))


def test_what_was_put_may_be_changed_afterwards() -> None:
    entities, values = ["a", "b"], np.array([1.0, 2.0])
    table = a_table("user.x.v1", 1, entities, np.arange(2), values, np.zeros(2, np.bool_))
    with Spool() as spool:
        spool.put([table])
        values[:] = 0
        entities[0] = "changed"
        [[back]] = map(flat, taken(spool))
    assert (back.entities, back.values.tolist()) == (["a", "b"], [1.0, 2.0])


def test_more_than_fits_in_memory_goes_to_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(spools, "IN_MEMORY_BYTES", 10_000)
    lots = [[together(["user.x.v1"], [f"entity-{number}-{row}" for row in range(100)])] for number in range(20)]
    with patch.object(tempfile, "TemporaryFile", wraps=tempfile.TemporaryFile) as opened:
        with Spool() as spool:
            spool.put(lots[0])
            assert opened.call_count == 0
            for lot in lots[1:]:
                spool.put(lot)
            assert opened.call_count == 1
            assert list(tmp_path.iterdir()) == [], "a killed process would leave it behind"
            back = taken(spool)
    assert all(all_same(found, lot) for found, lot in zip(back, lots, strict=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", [1, spools.IN_MEMORY_BYTES])
def test_it_lets_go_of_everything_at_the_end_even_of_a_failure(room: int) -> None:
    spools_seen: list[Spool] = []
    with patch.object(spools, "IN_MEMORY_BYTES", room), pytest.raises(ZeroDivisionError):
        with Spool() as spool:
            spools_seen.append(spool)
            spool.put(tables_of([plain(["a"])]))
            spool.put(tables_of([plain(["b" * (1 // 0)])]))
    with pytest.raises(ValueError, match="closed file"):
        taken(spools_seen[0])
