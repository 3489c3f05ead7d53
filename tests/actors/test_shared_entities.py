"""Batches that share one list of entities are packed, split, applied and replayed like blocks that do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain import Feature, ValueSchema, ValueType
from actors.storage.embedded.journal_file import Journal
from actors.storage.entries import Written
from actors.table.batch import Column, Table
from actors.table.ids import Entities, Ids, numbered
from actors.table.packing import pack, unpack
from actors.table.partition import Partition
from actors.table.sharding import split
from actors.timestamps import FOREVER, NEVER
from tests.actors.test_columns import DTYPES, TEXTS, listed, same, values_strategy
from tests.batches import flat

TYPE_OF = {
    "float64": "number",
    "int64": "integer",
    "bool": "boolean",
    "object": "string",
    "vector": "vector",
}
TIMES = st.integers(-(2**40), 2**40) | st.integers(0, 3)


@st.composite
def tables(draw: st.DrawFn, kinds: list[str] = DTYPES, least: int = 0) -> list[Table]:
    """Over two lists of ids; some share a list, some have an equal one, one feature may come twice."""
    lists = draw(st.lists(st.lists(TEXTS, min_size=least, max_size=9), min_size=1, max_size=2))
    shared = [numbered(entities) for entities in lists]
    found = []
    for _ in range(draw(st.integers(0, 6))):
        entities = draw(st.sampled_from(shared))
        if draw(st.booleans()) and draw(st.booleans()):
            entities = numbered(list(entities))
        count = len(entities)
        times = draw(st.lists(TIMES, min_size=count, max_size=count))
        entity_type = draw(st.sampled_from(["user", "item"]))
        columns = [draw(a_column(entity_type, kinds, count)) for _ in range(draw(st.integers(1, 2)))]
        found.append(Table(entity_type, entities, np.array(times, np.int64), columns))
    return found


@st.composite
def a_column(draw: st.DrawFn, entity_type: str, kinds: list[str], count: int) -> Column:
    kind = draw(st.sampled_from(kinds))
    nulls = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    name = f"{entity_type}.{kind}.v{draw(st.integers(1, 2))}"
    created = draw(st.integers(0, 5))
    return Column(name, created, draw(values_strategy(kind, count)), np.array(nulls, np.bool_))


def apart(batch: Sequence[Table]) -> list[Table]:
    """The same batch, each column in a table of its own, with a list of its own."""
    return [
        Table(table.entity_type, numbered(list(table.entities)), table.times, [column])
        for table in batch
        for column in table.columns
    ]


def all_same(some: Sequence[Table], others: Sequence[Table]) -> bool:
    one, other = flat(some), flat(others)
    return len(one) == len(other) and all(map(same, one, other))


def sharing(batch: Sequence[Table]) -> list[int]:
    """For each table the position of the first that has its very list."""
    lists = [table.entities.ids for table in batch]
    return [lists.index(one) for one in lists]


def together(names: list[str], entities: list[str]) -> Table:
    """A number for each of the entities and features."""
    count = len(entities)
    columns = [
        Column(name, 1, np.arange(count) + 100.0 * number, np.zeros(count, np.bool_))
        for number, name in enumerate(names)
    ]
    return Table(names[0].partition(".")[0], numbered(entities), np.arange(count), columns)


# Packing


@given(tables())
@settings(deadline=None, max_examples=50)
def test_a_shared_list_comes_out_of_the_pack_as_separate_lists_do(batch: list[Table]) -> None:
    assert all_same(unpack(pack(batch)), batch)
    assert all_same(unpack(pack(batch)), unpack(pack(apart(batch))))


@given(tables())
@settings(deadline=None, max_examples=40)
def test_who_shared_a_list_shares_one_again_and_nobody_else_does(batch: list[Table]) -> None:
    assert sharing(unpack(pack(batch))) == sharing(batch)
    assert sharing(unpack(pack(unpack(pack(batch))))) == sharing(batch)


def test_ids_that_are_shared_are_packed_once() -> None:
    entities = [f"a-rather-long-entity-id-{number}" for number in range(50)]
    batch = [together([f"user.f{number}.v1" for number in range(20)], entities)]
    assert pack(batch).count(b"a-rather-long-entity-id-49") == 1
    assert pack(apart(batch)).count(b"a-rather-long-entity-id-49") == 20


def test_a_list_that_is_shared_later_on_is_found_at_its_first_table() -> None:
    one, other = Ids(["a", "b"]), Ids(["b", "a", "c"])
    batch = []
    for number in range(3):
        for ids in (one, other):
            table = together([f"user.f{number}.v1"], ids.texts)
            who = Entities(ids, np.arange(len(ids)))
            batch.append(Table("user", who, table.times + number, table.columns))
    found = unpack(pack(batch))
    assert [list(table.entities) for table in found] == [one.texts, other.texts] * 3
    assert sharing(found) == [0, 1] * 3


# Splitting


@given(tables(least=1), st.integers(1, 5))
@settings(deadline=None, max_examples=50)
def test_a_shared_list_is_split_as_separate_lists_are(batch: list[Table], shards: int) -> None:
    shared, alone = split(batch, shards), split(apart(batch), shards)
    assert list(shared) == list(alone)
    assert all(all_same(shared[shard], alone[shard]) for shard in shared)
    replayed = split(unpack(pack(batch)), shards)
    assert all(all_same(replayed[shard], alone[shard]) for shard in alone)


def test_one_list_of_two_entity_types_is_split_for_each() -> None:
    entities = [f"e{number}" for number in range(40)]
    one, other = together(["user.f.v1"], entities), together(["item.f.v1"], entities)
    batch = [one, Table("item", one.entities, other.times, other.columns)]
    shared, alone = split(batch, 4), split(apart(batch), 4)
    assert {shard: [list(table.entities) for table in own] for shard, own in shared.items()} == {
        shard: [list(table.entities) for table in own] for shard, own in alone.items()
    }
    assert any(list(own[0].entities) != list(own[1].entities) for own in shared.values())


def test_what_a_store_owns_of_a_table_is_a_table() -> None:
    parts = split([together([f"user.f{number}.v1" for number in range(5)], [f"e{n}" for n in range(20)])], 2)
    assert [[len(table.columns) for table in own] for own in parts.values()] == [[5]] * 2


# Applying


def a_feature(id_: str, created: int) -> Feature:
    entity, name, version = id_.split(".")
    return Feature(
        id=id_,
        entity=entity,
        name=name,
        version=int(version[1:]),
        value_type=cast(ValueType, TYPE_OF[name]),
        created=created,
        updated=created,
        schema=ValueSchema(dimension=3) if name == "vector" else None,
    )


def held(partition: Partition, batch: Sequence[Table]) -> list[Any]:
    """Everything that a partition holds of the features and entities of a batch."""
    found = []
    for one in flat(batch):
        feature = a_feature(one.feature, one.created)
        entities = sorted(set(one.entities))
        slots = partition.slots(feature.entity, entities)
        ranges = partition.between(feature, slots, NEVER, FOREVER, None)
        found.append([entities, slots.tolist(), *(listed(column) for column in ranges)])
    return found


def all_of_one_registry(batch: Sequence[Table]) -> list[Table]:
    return [table.only([column._replace(created=1) for column in table.columns]) for table in batch]


@given(st.lists(tables(list(TYPE_OF), least=1), min_size=1, max_size=3))
@settings(deadline=None, max_examples=60)
def test_shared_lists_are_applied_as_separate_lists_are(batches: list[list[Table]]) -> None:
    batches = [all_of_one_registry(batch) for batch in batches]
    copies = [unpack(pack(apart(batch))) for batch in batches]
    shared, alone, replayed = Partition(), Partition(), Partition()
    for arrived, batch in enumerate(batches, 1):
        shared.apply(arrived, batch)
        alone.apply(arrived, apart(batch))
        replayed.apply(arrived, unpack(pack(batch)))
    everything = [table for batch in batches for table in batch]
    expected = held(alone, everything)
    assert held(shared, everything) == expected
    assert held(replayed, everything) == expected
    assert all(all_same(batch, before) for batch, before in zip(batches, copies, strict=True)), "changed"


def test_a_feature_that_comes_twice_over_one_list_keeps_the_later_column() -> None:
    both = together(["user.float64.v1", "user.float64.v1"], ["a", "b", "a"])
    partition = Partition()
    partition.apply(1, [both])
    kept = held(partition, [both])[0]
    assert kept[0] == ["a", "b"]
    assert np.frombuffer(kept[4]).tolist() == [100.0, 102.0, 101.0]


def test_an_entity_type_of_its_own_has_slots_of_its_own_for_the_same_list() -> None:
    partition = Partition()
    partition.apply(1, [together(["user.float64.v1"], ["x", "a", "b"])])
    item, user = together(["item.float64.v1"], ["b", "a"]), together(["user.float64.v2"], ["b", "a"])
    partition.apply(2, [item, Table("user", item.entities, user.times, user.columns)])
    assert partition.slots("user", ["x", "a", "b"]).tolist() == [1, 2, 3]
    assert partition.slots("item", ["b", "a", "x"]).tolist() == [1, 2, 0]


# The journal


@given(st.lists(tables(least=1), min_size=1, max_size=3))
@settings(deadline=None, max_examples=40)
def test_a_journal_replays_shared_lists_as_they_were_written(batches: list[list[Table]]) -> None:
    batches = [batch for batch in batches if batch]
    journal = Journal(":memory:")
    journal.open()
    try:
        journal.commit([Written(arrived, batch, None, b"") for arrived, batch in enumerate(batches, 1)])
        replayed = list(journal.batches(0))
    finally:
        journal.close()
    assert [arrived for arrived, _ in replayed] == list(range(1, len(batches) + 1))
    assert all(all_same(found, given_) for (_, found), given_ in zip(replayed, batches, strict=True))


@pytest.mark.parametrize("shared", [True, False])
def test_a_journal_counts_every_value_of_a_table(shared: bool) -> None:
    batch = [together([f"user.f{number}.v1" for number in range(7)], ["a", "b", "c"])]
    journal = Journal(":memory:")
    journal.open()
    try:
        journal.commit([Written(1, batch if shared else apart(batch), None, b"")])
        assert journal.count(0) == 21
    finally:
        journal.close()
