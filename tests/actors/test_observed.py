"""Everything observed, in lots: split as far as a bound asks, and the same whatever the bound."""

from __future__ import annotations

from itertools import count

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import TooMuchAtOnce
from actors.listing import Listing
from actors.observed import Observations, ObservedLot, Whole
from actors.settings import INDEX_BYTES
from actors.storage.embedded.local import MemoryStorage
from actors.storage.entries import Registered
from actors.timestamps import FOREVER, NEVER
from tests.actors.test_storage import X, Y, table_of, written

ROW_BYTES = INDEX_BYTES + 8
Cell = tuple[str, int, float | None, float | None]
WRITTEN = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(0, 6), st.none() | st.integers(0, 99)),
    max_size=30,
)
"""(feature, entity, event time, value), one batch each."""


def opened() -> MemoryStorage:
    storage = MemoryStorage()
    storage.open()
    storage.log.commit([Registered(X), Registered(Y)])
    return storage


async def lots_of(storage: MemoryStorage, most_bytes: int, asked: Whole) -> list[ObservedLot]:
    history, readers = storage.history, trio.CapacityLimiter(1)
    observations = Observations(Listing(storage.ids), history, readers, most_bytes)
    return [lot async for lot in observations.lots(asked)]


def cells(lots: list[ObservedLot]) -> list[Cell]:
    found = list[Cell]()
    for lot in lots:
        values = [
            [None if null else value for value, null in zip(column.tolist(), nulls.tolist(), strict=True)]
            for column, nulls in lot.columns
        ]
        entities = [lot.entities[one] for one in lot.owner.tolist()]
        found += zip(entities, lot.at.tolist(), *values, strict=True)
    return found


@given(WRITTEN, st.integers(1, 12), st.integers(0, 30))
@settings(max_examples=60)
def test_lots_have_what_a_naive_oracle_has_whatever_fits_in_one(
    batches: list[tuple[str, int, int, int | None]], rows_at_once: int, known: int
) -> None:
    storage, arrivals = opened(), count(10)
    oracle: dict[tuple[str, int], list[float | None]] = {}
    for name, entity, time, value in batches:
        feature, arrived = {"a": X, "b": Y}[name], next(arrivals)
        storage.log.commit([written(arrived, table_of(feature, (f"e{entity}", time, value)))])
        if arrived <= 10 + known:
            oracle.setdefault((f"e{entity}", time), [None, None])["ab".index(name)] = value
    asked = Whole([X, Y], NEVER, FOREVER, 0, 10 + known)
    most = 2 * rows_at_once * ROW_BYTES
    lots = trio.run(lots_of, storage, most, asked)
    assert cells(lots) == [(*place, *values) for place, values in sorted(oracle.items())]
    assert all(len(lot.at) <= 2 * rows_at_once for lot in lots)


def test_one_moment_with_more_than_the_bound_is_refused() -> None:
    storage = opened()
    storage.log.commit([written(10, table_of(X, ("e", 3, 1.0)))])
    with pytest.raises(TooMuchAtOnce):
        trio.run(lots_of, storage, ROW_BYTES - 1, Whole([X], NEVER, FOREVER, 0, FOREVER))
