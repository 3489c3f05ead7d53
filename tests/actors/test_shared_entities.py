"""Blocks that share one list of entities are packed, split, applied and replayed like blocks that do not."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain import Feature, ValueSchema, ValueType
from actors.storage.embedded.journal_file import Journal
from actors.storage.protocol import Written
from actors.table.columns import Block, Keys, pack, split, unpack
from actors.table.partition import Partition
from actors.timestamps import FOREVER, NEVER
from tests.actors.test_columns import DTYPES, TEXTS, listed, same, values_strategy

TYPE_OF = {
    "float64": "number",
    "int64": "integer",
    "bool": "boolean",
    "object": "string",
    "vector": "vector",
}
TIMES = st.integers(-(2**40), 2**40) | st.integers(0, 3)


@st.composite
def tables(draw: st.DrawFn, kinds: list[str] = DTYPES, least: int = 0) -> list[Block]:
    """Blocks over two lists of ids; some share a list, some hold an equal one, one feature may come twice."""
    lists = draw(st.lists(st.lists(TEXTS, min_size=least, max_size=9), min_size=1, max_size=2))
    blocks = []
    for number in range(draw(st.integers(0, 6))):
        entities = draw(st.sampled_from(lists))
        if draw(st.booleans()) and draw(st.booleans()):
            entities = list(entities)
        kind = draw(st.sampled_from(kinds))
        count = len(entities)
        times = draw(st.lists(TIMES, min_size=count, max_size=count))
        nulls = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        name = f"{draw(st.sampled_from(['user', 'item']))}.{kind}.v{draw(st.integers(1, 2))}"
        values = draw(values_strategy(kind, count))
        blocks.append(
            Block(name, number, Keys(entities, np.array(times, np.int64)), values, np.array(nulls, np.bool_))
        )
    return blocks


def apart(blocks: list[Block]) -> list[Block]:
    """The same blocks, each with a list of its own."""
    return [block._replace(keys=Keys(list(block.entities), block.times)) for block in blocks]


def all_same(some: list[Block], others: list[Block]) -> bool:
    return len(some) == len(others) and all(same(one, other) for one, other in zip(some, others, strict=True))


def sharing(blocks: list[Block]) -> list[int]:
    """For each block the position of the first that has its very list."""
    lists = [id(block.entities) for block in blocks]
    return [lists.index(one) for one in lists]


def a_table(names: list[str], entities: list[str]) -> list[Block]:
    """A number for each of the entities and features, which have their keys in common."""
    count = len(entities)
    keys = Keys(entities, np.arange(count))
    return [
        Block(name, 1, keys, np.arange(count) + 100.0 * number, np.zeros(count, np.bool_))
        for number, name in enumerate(names)
    ]


# Packing


@given(tables())
@settings(deadline=None, max_examples=50)
def test_a_shared_list_comes_out_of_the_pack_as_separate_lists_do(blocks: list[Block]) -> None:
    assert all_same(unpack(pack(blocks)), blocks)
    assert all_same(unpack(pack(blocks)), unpack(pack(apart(blocks))))


@given(tables())
@settings(deadline=None, max_examples=40)
def test_who_shared_a_list_shares_one_again_and_nobody_else_does(blocks: list[Block]) -> None:
    assert sharing(unpack(pack(blocks))) == sharing(blocks)
    assert sharing(unpack(pack(unpack(pack(blocks))))) == sharing(blocks)


def test_ids_that_are_shared_are_packed_once() -> None:
    entities = [f"a-rather-long-entity-id-{number}" for number in range(50)]
    blocks = a_table([f"user.f{number}.v1" for number in range(20)], entities)
    assert pack(blocks).count(b"a-rather-long-entity-id-49") == 1
    assert pack(apart(blocks)).count(b"a-rather-long-entity-id-49") == 20


def test_a_list_that_is_shared_later_on_is_found_at_its_first_block() -> None:
    one, other = ["a", "b"], ["b", "a", "c"]
    blocks = [
        block
        for number in range(3)
        for entities in (one, other)
        for block in a_table([f"user.f{number}.v1"], entities)
    ]
    assert [block.entities for block in unpack(pack(blocks))] == [one, other] * 3


# Splitting


@given(tables(least=1), st.integers(1, 5))
@settings(deadline=None, max_examples=50)
def test_a_shared_list_is_split_as_separate_lists_are(blocks: list[Block], shards: int) -> None:
    together, alone = split(blocks, shards), split(apart(blocks), shards)
    assert list(together) == list(alone)
    assert all(all_same(together[shard], alone[shard]) for shard in together)
    replayed = split(unpack(pack(blocks)), shards)
    assert all(all_same(replayed[shard], alone[shard]) for shard in alone)


def test_one_list_of_two_entity_types_is_split_for_each() -> None:
    entities = [f"e{number}" for number in range(40)]
    blocks = a_table(["user.f.v1", "item.f.v1"], entities)
    together, alone = split(blocks, 4), split(apart(blocks), 4)
    assert {shard: [block.entities for block in own] for shard, own in together.items()} == {
        shard: [block.entities for block in own] for shard, own in alone.items()
    }
    assert any(own[0].entities != own[1].entities for own in together.values())


def test_what_a_store_owns_of_a_shared_list_is_a_shared_list() -> None:
    parts = split(a_table([f"user.f{number}.v1" for number in range(5)], [f"e{n}" for n in range(20)]), 2)
    assert all(sharing(own) == [0] * 5 for own in parts.values())


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


def held(partition: Partition, blocks: list[Block]) -> list[Any]:
    """Everything that a partition holds of the features and entities of the blocks."""
    found = []
    for block in blocks:
        feature = a_feature(block.feature, block.created)
        entities = sorted(set(block.entities))
        slots = partition.slots(feature.entity, entities)
        ranges = partition.between(feature, slots, NEVER, FOREVER, None)
        found.append([entities, slots.tolist(), *(listed(column) for column in ranges)])
    return found


@given(st.lists(tables(list(TYPE_OF), least=1), min_size=1, max_size=3))
@settings(deadline=None, max_examples=60)
def test_shared_lists_are_applied_as_separate_lists_are(batches: list[list[Block]]) -> None:
    batches = [[block._replace(created=1) for block in blocks] for blocks in batches]
    copies = [unpack(pack(apart(blocks))) for blocks in batches]
    together, alone, replayed = Partition(), Partition(), Partition()
    for arrived, blocks in enumerate(batches, 1):
        together.apply(arrived, blocks)
        alone.apply(arrived, apart(blocks))
        replayed.apply(arrived, unpack(pack(blocks)))
    everything = [block for blocks in batches for block in blocks]
    expected = held(alone, everything)
    assert held(together, everything) == expected
    assert held(replayed, everything) == expected
    assert all(all_same(blocks, before) for blocks, before in zip(batches, copies, strict=True)), "changed"


def test_a_feature_that_comes_twice_over_one_list_keeps_the_later_block() -> None:
    first, second = a_table(["user.float64.v1", "user.float64.v1"], ["a", "b", "a"])
    partition = Partition()
    partition.apply(1, [first, second])
    kept = held(partition, [first])[0]
    assert kept[0] == ["a", "b"]
    assert np.frombuffer(kept[4]).tolist() == [100.0, 102.0, 101.0]


def test_an_entity_type_of_its_own_has_slots_of_its_own_for_the_same_list() -> None:
    partition = Partition()
    partition.apply(1, a_table(["user.float64.v1"], ["x", "a", "b"]))
    partition.apply(2, a_table(["item.float64.v1", "user.float64.v2"], ["b", "a"]))
    assert partition.slots("user", ["x", "a", "b"]).tolist() == [1, 2, 3]
    assert partition.slots("item", ["b", "a", "x"]).tolist() == [1, 2, 0]


# The journal


@given(st.lists(tables(least=1), min_size=1, max_size=3))
@settings(deadline=None, max_examples=40)
def test_a_journal_replays_shared_lists_as_they_were_written(batches: list[list[Block]]) -> None:
    batches = [blocks for blocks in batches if blocks]
    journal = Journal(":memory:")
    journal.open()
    try:
        journal.commit([Written(arrived, blocks, None, b"") for arrived, blocks in enumerate(batches, 1)])
        replayed = list(journal.batches(0))
    finally:
        journal.close()
    assert [arrived for arrived, _ in replayed] == list(range(1, len(batches) + 1))
    assert all(all_same(found, given_) for (_, found), given_ in zip(replayed, batches, strict=True))


@pytest.mark.parametrize("shared", [True, False])
def test_a_journal_counts_every_value_of_a_shared_list(shared: bool) -> None:
    blocks = a_table([f"user.f{number}.v1" for number in range(7)], ["a", "b", "c"])
    journal = Journal(":memory:")
    journal.open()
    try:
        journal.commit([Written(1, blocks if shared else apart(blocks), None, b"")])
        assert journal.count(0) == 21
    finally:
        journal.close()
