"""A range of a shared store is read a bounded number of bytes at a time, and no further than is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from actors.amount import Amount
from actors.domain import Feature, ValueSchema
from actors.errors import TooMuchAtOnce
from actors.settings import MAX_PAYLOAD_BYTES
from actors.storage.entries import Registered, Written
from actors.storage.postgres.storage import PostgresStorage
from actors.storage.redis import stored_rows as redis_rows
from actors.storage.redis.storage import RedisStorage
from actors.storage.shared.packed import together
from actors.table.batch import Table
from actors.table.rows import Rows
from actors.timestamps import FOREVER, NEVER
from actors.types.type import Array
from tests.batches import a_table

TEXT = Feature(id="user.text.v1", entity="user", name="text", version=1, value_type="string", created=1, updated=1)
NUMBER = Feature(
    id="user.number.v1", entity="user", name="number", version=1, value_type="number", created=2, updated=2
)
WIDE = Feature(
    id="user.wide.v1",
    entity="user",
    name="wide",
    version=1,
    value_type="vector",
    created=3,
    updated=3,
    schema=ValueSchema(dimension=1_000),
)
MOST_BYTES = 5_000
ENTITIES = ["a", "b", "c"]


def table_of(feature: Feature, entities: list[str], times: list[int], values: Array) -> Table:
    nulls = np.zeros(len(times), np.bool_)
    return a_table(feature.id, feature.created, entities, np.array(times, np.int64), values, nulls)


def texts(values: list[str]) -> Array:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def columns(rows: Rows) -> tuple[Array, ...]:
    return rows.slots, rows.times, rows.arrived, rows.values, rows.nulls


@pytest.fixture(params=["postgresql", "redis", "cluster"])
def storage(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Twenty texts of 100 bytes and twenty numbers of each entity, in a store that lets few bytes be read."""
    made: PostgresStorage | RedisStorage
    if request.param == "postgresql":
        made = PostgresStorage(request.getfixturevalue("database"), 10.0, MOST_BYTES)
    else:
        server = request.getfixturevalue("valkey" if request.param == "redis" else "valkey_cluster")
        server.empty()
        made = RedisStorage(server.url, 10.0, MOST_BYTES)
    made.open()
    try:
        for feature in (TEXT, NUMBER, WIDE):
            made.log.commit([Registered(feature)])
        for time in range(20):
            own = texts([f"{entity}{time:099}" for entity in ENTITIES])
            numbers = np.full(3, float(time))
            blocks = [table_of(TEXT, ENTITIES, [time] * 3, own), table_of(NUMBER, ENTITIES, [time] * 3, numbers)]
            made.log.commit([Written(0, blocks, None, b"")])
        yield made
    finally:
        made.close()


def test_more_bytes_than_allowed_are_refused_and_fewer_are_read(storage: Any) -> None:
    with pytest.raises(TooMuchAtOnce, match=r"user\.text\.v1 with more than 5000 bytes \(MAX_READ_BYTES\)"):
        storage.history.read(TEXT, ENTITIES, NEVER, FOREVER)
    rows = storage.history.read(TEXT, ["b"], NEVER, FOREVER).rows
    assert rows.values.tolist() == [f"b{time:099}" for time in range(20)]
    assert storage.history.read(NUMBER, ENTITIES, NEVER, FOREVER).rows.size == 60


def test_all_that_anybody_has_in_a_period_is_bounded_too(storage: Any) -> None:
    if isinstance(storage, PostgresStorage):  # others read some entities at a time
        with pytest.raises(TooMuchAtOnce):
            list(storage.history.observations(TEXT, NEVER, FOREVER))
    assert sum(len(part.times) for part in storage.history.observations(TEXT, 3, 5)) == 9


def test_what_is_too_much_is_not_brought(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    brought, add = list[int](), Amount.add

    def noted(amount: Amount, rows: int, size: int) -> None:
        brought.append(size)
        add(amount, rows, size)

    monkeypatch.setattr(Amount, "add", noted)
    monkeypatch.setattr(redis_rows, "VISIT_BYTES", 200_000)  # three texts, were they as long as they may be
    with pytest.raises(TooMuchAtOnce):
        storage.history.read(TEXT, ENTITIES, NEVER, FOREVER)
    assert MOST_BYTES < sum(brought) + 60 * 20 < 2 * MOST_BYTES


@pytest.mark.parametrize("visit_bytes", [1, 150_000, 400_000])
def test_visits_of_any_size_bring_the_same(
    storage: Any, visit_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> list[Any]:
        found = [
            storage.history.read(NUMBER, ENTITIES, 2, 17).rows,
            storage.history.read(TEXT, ["c", "a"], 3, 9).rows,
        ]
        return [[column.tolist() for column in columns(rows)] for rows in found]

    whole = read()
    monkeypatch.setattr(redis_rows, "VISIT_BYTES", visit_bytes)
    assert read() == whole


def test_a_long_vector_is_not_read_for_the_sake_of_what_was_written_with_it() -> None:
    wide = table_of(WIDE, ["a"], [1], np.zeros((1, 1_000), np.float32))
    number = table_of(NUMBER, ["a"], [1], np.zeros(1))
    assert [one.shape.members for one in together([wide, number])] == [(3,), (2,)]


def test_what_is_written_together_is_kept_apart_where_it_would_be_long() -> None:
    vectors = [
        table_of(msgspec.structs.replace(WIDE, created=place), ["a"], [1], np.zeros((1, 256), np.float32))
        for place in range(100)
    ]
    shapes = [one.shape for one in together(vectors)]
    assert [len(shape.members) for shape in shapes] == [63, 37]
    assert [member for shape in shapes for member in shape.members] == list(range(100))
    assert max(shape.most_bytes for shape in shapes) <= MAX_PAYLOAD_BYTES
