"""What of a shared store is not seen from outside: how values are laid out, and how often the server is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import psycopg
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import actors.storage.postgres.stored_rows
from actors import shared_store as remote
from actors.domain import Feature, ValueSchema, ValueType
from actors.errors import StoreCrashed, TooLarge
from actors.messages import About, Latest
from actors.shared_store import SharedStoreActor
from actors.storage.entries import Registered, Written
from actors.storage.postgres.storage import PostgresStorage
from actors.storage.protocol import LatestAnswers, LatestQuestion
from actors.storage.shared.packed import copy_rows, together, unpacked
from actors.supervisor import supervise
from actors.table.batch import Table, joined
from actors.table.grid import Features, Grid
from actors.table.rows import Rows
from actors.timestamps import NEVER
from actors.types.type import Array
from actors.types.values import dtype_of
from tests.batches import a_table, flat
from tests.faults import instead
from tests.servers.postgres import PostgresServer

Ask = Callable[[Sequence[LatestQuestion]], LatestAnswers]
TYPES: list[ValueType] = ["number", "integer", "boolean", "timestamp", "vector", "string"]


def feature(place: int, value_type: ValueType) -> Feature:
    schema = ValueSchema(dimension=3) if value_type == "vector" else None
    name = f"{value_type}{place}"
    return Feature(
        id=f"user.{name}.v1",
        entity="user",
        name=name,
        version=1,
        value_type=value_type,
        created=place + 1,
        updated=place + 1,
        schema=schema,
    )


FEATURES = [feature(place, value_type) for place, value_type in enumerate([*TYPES, "number", "integer"])]


def column(value_type: str, random: np.random.Generator, count: int) -> Array:
    if value_type == "vector":
        return random.random((count, 3)).astype(np.float32)
    if value_type == "string":
        texts = np.empty(count, object)
        texts[:] = [f"é{number}" for number in random.integers(0, 9, count).tolist()]
        return texts
    return random.integers(0, 2, count).astype(dtype_of(value_type))


def written_of(one: Feature, entities: Sequence[str], times: Sequence[int], random: np.random.Generator) -> Table:
    nulls = random.random(len(entities)) < 0.2
    values = column(one.value_type, random, len(entities))
    values[nulls] = None if values.dtype == object else 0
    return a_table(one.id, one.created, list(entities), np.array(times, np.int64), values, nulls)


def opened(url: str) -> PostgresStorage:
    storage = PostgresStorage(url, 10.0)
    storage.open()
    for one in FEATURES:
        storage.log.commit([Registered(one)])
    return storage


def counted(url: str, what: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(f"SELECT count(*) FROM timewell.{what}".encode()).fetchone()
    assert row is not None
    return int(row[0])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(FEATURES), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=6)
        ),
        max_size=8,
    ),
    st.integers(0, 2**32),
)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_version_comes_back_as_it_was_written(
    postgres: PostgresServer, batches: list[tuple[Feature, list[tuple[str, int]]]], seed: int
) -> None:
    random = np.random.default_rng(seed)
    storage = opened(postgres.empty())
    expected: dict[str, list[tuple[object, ...]]] = {one.id: [] for one in FEATURES}
    for one, index in batches:
        written = written_of(one, [entity for entity, _ in index], [time for _, time in index], random)
        storage.log.commit([Written(0, [written], None, b"")])
        expected[one.id] += zip(
            written.entities,
            written.times.tolist(),
            written.columns[0].values.tolist(),
            written.columns[0].nulls.tolist(),
            strict=True,
        )
    for one in FEATURES:
        rows: Rows = storage.history.read(one, ["a", "b", "c"], 0, 9).rows
        owners = ["abc"[slot] for slot in rows.slots.tolist()]
        found = zip(owners, rows.times.tolist(), rows.values.tolist(), rows.nulls.tolist(), strict=True)
        assert sorted(found, key=repr) == sorted(expected[one.id], key=repr)
        assert (
            len(set(zip(rows.slots.tolist(), rows.times.tolist(), rows.arrived.tolist(), strict=True)))
            == rows.size
        )
    storage.close()


def test_an_id_that_cannot_be_is_nobody_s(database: str) -> None:
    storage = opened(database)
    storage.log.commit([Written(0, [written_of(FEATURES[0], ["a"], [5], np.random.default_rng(1))], None, b"")])
    rows = storage.history.read(FEATURES[0], ["nul\0", "a"], 0, 9).rows
    assert rows.slots.tolist() == [1]
    storage.close()


def test_what_is_written_together_is_one_row(database: str) -> None:
    random, storage = np.random.default_rng(1), opened(database)
    batch = joined([written_of(one, ["a", "b"], [5, 5], random) for one in FEATURES])
    storage.log.commit([Written(0, batch, None, b"")])
    assert counted(database, "rows") == 2 * 2  # the string is on its own
    assert counted(database, "shapes") == 2
    storage.log.commit([Written(0, batch, None, b"")])
    assert counted(database, "shapes") == 2
    storage.close()


def test_there_are_only_so_many_ways_of_keeping_features_together(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.storage.postgres.stored_rows, "MOST_WIDE_SHAPES", 2)
    random, storage = np.random.default_rng(1), opened(database)
    numbers = [one for one in FEATURES if one.value_type != "string"]
    for first in range(4):
        batch = joined([written_of(one, ["a"], [first], random) for one in numbers[first : first + 3]])
        storage.log.commit([Written(0, batch, None, b"")])
        for one, written in zip(numbers[first:], flat(batch), strict=False):
            newest = storage.history.read(one, ["a"], first, first).rows
            assert newest.values.tolist() == written.values.tolist()
    assert counted(database, "shapes WHERE cardinality(members) > 1") == 2
    storage.close()


def test_a_payload_is_a_bit_for_each_null_and_the_values() -> None:
    random = np.random.default_rng(1)
    batch = joined(
        [written_of(one, ["a"], [5], random) for one in FEATURES if one.value_type in ("number", "boolean")]
    )
    (group,) = together(batch)
    data, last = copy_rows(7, group, 1_000)
    assert last == 1_000
    payload = data[-(1 + 8 + 1 + 8) :]
    for one in flat(batch):
        values, nulls = unpacked(group.shape, [payload], {one.created}).columns[one.created]
        assert (values.tolist(), nulls.tolist()) == (one.values.tolist(), one.nulls.tolist())


class Faulty(PostgresStorage):
    """Fails as no storage should, once."""

    def __init__(self, url: str) -> None:
        super().__init__(url, 10.0)
        self.failed = False
        instead(self.values, "latest", self._latest)

    def _latest(self, sane: Ask, questions: Sequence[LatestQuestion]) -> LatestAnswers:
        if not self.failed:
            self.failed = True
            raise RuntimeError("injected")
        return sane(questions)


MOST_BYTES = 1_000


async def over(storage: PostgresStorage, feature: Feature) -> SharedStoreActor:
    """A store over an opened storage with one feature."""
    await trio.to_thread.run_sync(storage.open)
    storage.log.commit([Registered(feature)])
    return SharedStoreActor(0, storage.values, MOST_BYTES)


async def test_a_store_that_crashes_answers_who_asked_and_goes_on(database: str) -> None:
    one, storage = FEATURES[0], Faulty(database)
    actor = await over(storage, one)
    question = Latest([About("user", ["u"], Features([one]), [0])], 9, True)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, actor)
        with trio.fail_after(10):
            with pytest.raises(StoreCrashed):
                await actor.mailbox.ask(question)
            while actor.mailbox.refusing:
                await trio.lowlevel.checkpoint()
            (grid,) = await actor.mailbox.ask(question)
        assert grid.times.tolist() == [[NEVER]]
        nursery.cancel_scope.cancel()
    storage.close()


class Visited(PostgresStorage):
    """Counts visits, and makes the first one wait for more questions."""

    def __init__(self, url: str) -> None:
        super().__init__(url, 10.0)
        self.visits = 0
        instead(self.values, "latest", self._latest)

    def _latest(self, sane: Ask, questions: Sequence[LatestQuestion]) -> LatestAnswers:
        self.visits += 1
        return sane(questions)


async def test_reads_that_wait_together_go_to_the_server_in_one_visit(database: str) -> None:
    one, storage = FEATURES[0], Visited(database)
    actor, found = await over(storage, one), dict[int, Grid]()
    written = [written_of(one, [f"u{number}" for number in range(100)], [5] * 100, np.random.default_rng(1))]
    storage.log.commit([Written(0, written, None, b"")])

    async def ask(number: int) -> None:
        message = Latest([About("user", [f"u{number}"], Features([one]), [0])], 9, True)
        (found[number],) = await actor.mailbox.ask(message)

    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, actor)
        async with trio.open_nursery() as askers:
            for number in range(100):
                askers.start_soon(ask, number)
        nursery.cancel_scope.cancel()
    assert storage.visits < 20
    for number, grid in found.items():
        assert grid.nulls[0, 0] == written[0].columns[0].nulls[number]
        assert grid.nulls[0, 0] or grid.values[0][0, 0] == written[0].columns[0].values[number]
    storage.close()


class Texts(PostgresStorage):
    """Notes how many entities each visit is about."""

    def __init__(self, url: str) -> None:
        super().__init__(url, 10.0)
        self.asked = list[int]()
        instead(self.values, "latest", self._latest)

    def _latest(self, sane: Ask, questions: Sequence[LatestQuestion]) -> LatestAnswers:
        self.asked += [len(question.entities) for question in questions]
        return sane(questions)


TEXT = next(one for one in FEATURES if one.value_type == "string")


async def test_texts_come_some_at_a_time_and_no_further_than_an_answer_may_have_bytes(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "TEXTS_PER_VISIT", 3)
    storage = Texts(database)
    actor = await over(storage, TEXT)
    ids = [f"u{number}" for number in range(20)]
    values = np.array([f"{number:099}" for number in range(20)], object)
    written = a_table(TEXT.id, TEXT.created, ids, np.full(20, 5), values, np.zeros(20, np.bool_))
    storage.log.commit([Written(0, [written], None, b"")])

    async def ask(entities: Sequence[str]) -> Grid:
        about = About("user", entities, Features([TEXT]), [0])
        (answer,) = await actor.mailbox.ask(Latest([about], 9, True))
        return answer

    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, actor)
        grid = await ask(["u7", "nobody", *["u3", "u7"] * 50, "u1"])
        assert grid.values[0][0].tolist() == [values[7], None, *[values[3], values[7]] * 50, values[1]]
        assert storage.asked == [3, 1]
        storage.asked.clear()
        with pytest.raises(TooLarge, match="fewer entities"):
            await ask(ids)
        assert storage.asked == [3] * 4
        nursery.cancel_scope.cancel()
    storage.close()
