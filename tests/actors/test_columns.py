"""Blocks packed and unpacked, split by shard, and grouped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.table.columns import (
    Alike,
    Block,
    Keys,
    group_rows,
    joined,
    numbered,
    pack,
    shard_of,
    shards_of,
    split,
    unpack,
    without_ids,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
DTYPES = ["float64", "int64", "bool", "object", "float32", "vector"]


def values_strategy(kind: str, count: int) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    if kind == "object":
        return st.lists(st.none() | TEXTS, min_size=count, max_size=count).map(objects)
    if kind == "bool":
        return st.lists(st.booleans(), min_size=count, max_size=count).map(lambda items: np.array(items, bool))
    if kind == "int64":
        whole = st.integers(-(2**63), 2**63 - 1)
        return st.lists(whole, min_size=count, max_size=count).map(lambda items: np.array(items, np.int64))
    width = 3 if kind == "vector" else 1
    numbers = st.lists(st.floats(width=32), min_size=count * width, max_size=count * width)
    if kind == "vector":
        return numbers.map(lambda items: np.array(items, np.float32).reshape(count, 3))
    return numbers.map(lambda items: np.array(items, kind))


def objects(items: list[str | None]) -> np.ndarray[Any, Any]:
    column = np.empty(len(items), object)
    column[:] = items
    return column


@st.composite
def blocks(draw: st.DrawFn, kind: str, entity_type: str = "user", least: int = 0) -> Block:
    entities = draw(st.lists(TEXTS, min_size=least, max_size=12))
    count = len(entities)
    times = draw(st.lists(st.integers(-(2**62), 2**62), min_size=count, max_size=count))
    nulls = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return Block(
        f"{entity_type}.x.v1",
        draw(st.integers(0, 2**60)),
        Keys(entities, np.array(times, np.int64)),
        draw(values_strategy(kind, count)),
        np.array(nulls, np.bool_),
    )


def same(one: Block, other: Block) -> bool:
    columns = zip((one.times, one.values, one.nulls), (other.times, other.values, other.nulls), strict=True)
    return (
        one[:2] == other[:2]
        and list(one.entities) == list(other.entities)
        and all(
            first.dtype == second.dtype and first.shape == second.shape and listed(first) == listed(second)
            for first, second in columns
        )
    )


def listed(column: np.ndarray[Any, Any]) -> object:
    return column.tolist() if column.dtype == object else column.tobytes()


def plain(entities: list[str], entity_type: str = "user") -> Block:
    count = len(entities)
    return Block(
        f"{entity_type}.x.v1",
        1,
        Keys(entities, np.arange(count)),
        np.arange(count, dtype=np.float64),
        np.zeros(count, np.bool_),
    )


# Packing


@pytest.mark.parametrize("kind", DTYPES)
@given(st.data())
@settings(deadline=None, max_examples=40)
def test_what_was_packed_is_unpacked_to_the_bit(kind: str, data: st.DataObject) -> None:
    given_ = data.draw(st.lists(blocks(kind), max_size=3))
    returned = unpack(pack(given_))
    assert len(returned) == len(given_)
    assert all(same(one, other) for one, other in zip(given_, returned, strict=True))


def test_columns_that_are_views_with_a_stride_are_packed_as_their_rows() -> None:
    block = plain(["a", "b", "c", "d"]).take(np.arange(4))
    keys = Keys(["a", "c"], block.times[::2])
    strided = block._replace(keys=keys, values=block.values[::2], nulls=block.nulls[::2])
    assert same(unpack(pack([strided]))[0], block.take(np.array([0, 2])))


def test_nothing_is_packed_as_nothing() -> None:
    assert unpack(pack([])) == []


@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 65])
def test_null_masks_of_any_length_come_back(count: int) -> None:
    block = plain([str(row) for row in range(count)])
    for mask in (np.arange(count) % 3 == 0, np.ones(count, np.bool_), np.zeros(count, np.bool_)):
        assert unpack(pack([block._replace(nulls=mask)]))[0].nulls.tolist() == mask.tolist()


@given(st.lists(st.integers(0, 5), max_size=8))
@settings(deadline=None, max_examples=40)
def test_taking_rows_takes_them_from_every_column_in_the_order_given(rows: list[int]) -> None:
    block = plain(list("abcdef"))
    taken = block.take(np.array(rows, np.int64))
    assert taken.entities == ["abcdef"[row] for row in rows]
    assert taken.times.tolist() == taken.values.tolist() == rows


# Shards


@pytest.mark.parametrize(
    ("entity_type", "entity", "shards", "shard"),
    [
        ("user", "user123", 1, 0),
        ("user", "user123", 4, 1),
        ("user", "user123", 7, 1),
        ("user", "user123", 256, 201),
        ("user", "user123", 2**31, 1_426_491_849),
        ("user", "ünï", 4, 0),
        ("item", "user123", 4, 3),
    ],
)
def test_the_owner_of_an_entity_never_changes(entity_type: str, entity: str, shards: int, shard: int) -> None:
    assert shard_of(entity_type, entity, shards) == shard


@given(st.lists(TEXTS, max_size=20), st.integers(1, 256))
@settings(deadline=None, max_examples=60)
def test_many_owners_at_once_are_the_owners_one_by_one(entities: list[str], shards: int) -> None:
    assert shards_of("user", entities, shards).tolist() == [shard_of("user", one, shards) for one in entities]


def test_entities_are_spread_over_the_shards() -> None:
    counts = np.bincount(shards_of("user", [f"user{number}" for number in range(8_000)], 8), minlength=8)
    assert counts.min() > 800
    assert counts.max() < 1_200


@pytest.mark.parametrize("kind", DTYPES)
@given(st.data(), st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_splitting_keeps_the_order_of_arrival_and_loses_nothing(
    kind: str, data: st.DataObject, shards: int
) -> None:
    given_ = data.draw(
        st.lists(st.sampled_from(["user", "item"]).flatmap(lambda t: blocks(kind, t, 1)), max_size=4)
    )
    given_ = [block._replace(created=number) for number, block in enumerate(given_)]
    parts = split(given_, shards)
    for shard in range(shards):
        expected = [
            block.take(np.array(rows))
            for block in given_
            if (
                rows := [
                    row
                    for row, entity in enumerate(block.entities)
                    if shard_of(block.feature.partition(".")[0], entity, shards) == shard
                ]
            )
        ]
        own = parts.get(shard, [])
        assert len(own) == len(expected)
        assert all(same(one, other) for one, other in zip(own, expected, strict=True))


# What was written together


def table(entities: Sequence[str], features: int = 3, entity_type: str = "user") -> list[Block]:
    """A block for each feature of some rows, which have their keys in common."""
    one = plain(list(entities), entity_type)
    return [one._replace(feature=f"{entity_type}.f{number}.v1") for number in range(features)]


def shapes(blocks: Sequence[Block]) -> list[int]:
    """For each block the first that has its keys."""
    first: dict[Keys, int] = {}
    return [first.setdefault(block.keys, place) for place, block in enumerate(blocks)]


@pytest.mark.parametrize("entities", [list("abcdab"), numbered(list("abcdab"))], ids=["listed", "numbered"])
def test_blocks_of_one_table_have_one_object_as_keys_wherever_they_go(entities: Sequence[str]) -> None:
    keys, other = Keys(entities, np.arange(6)), Keys(entities, np.arange(6) + 1)
    whole = [block._replace(keys=keys) for block in table("abcdab")]
    whole[1] = whole[1]._replace(keys=other)
    assert shapes(whole) == [0, 1, 0]
    assert shapes(unpack(pack(whole))) == [0, 1, 0]
    assert shapes(without_ids(whole)) == [0, 1, 0]
    assert shapes(unpack(pack(without_ids(whole)))) == [0, 1, 0]
    assert shapes(joined([*whole, *whole])) == [0, 1, 0]
    for own in split(whole, 3).values():
        assert shapes(own) == [0, 1, 0]


def test_a_table_is_packed_with_its_ids_and_times_once() -> None:
    one, four = (len(pack(table([f"entity{number}" for number in range(500)], count))) for count in (1, 4))
    assert four - one < 3 * (500 * 8 + 100)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1)), min_size=1, max_size=3), st.data())
@settings(deadline=None, max_examples=60)
def test_columns_are_alike_where_their_entities_and_times_are_the_same(
    rows: list[tuple[str, int]], data: st.DataObject
) -> None:
    others = data.draw(st.lists(st.just(rows) | st.permutations(rows), max_size=3))
    alike, met = Alike(), list[tuple[list[tuple[str, int]], Keys]]()
    for own in [rows, *others]:
        ids, times = [entity for entity, _ in own], np.array([time for _, time in own], np.int64)
        block = alike.one(plain(ids)._replace(keys=Keys(ids, times)))
        assert (block.entities, block.times.tolist()) == (ids, times.tolist())
        for before, keys in met:
            assert (before == own) == (keys is block.keys)
        met.append((own, block.keys))


# Groups


@given(st.lists(st.sampled_from(["a", "b", ("a", 1), ("a", 2), None]), max_size=20))
@settings(deadline=None, max_examples=100)
def test_rows_are_grouped_by_key_in_order_of_first_appearance(keys: list[Any]) -> None:
    naive: dict[Any, list[int]] = {}
    for row, key in enumerate(keys):
        naive.setdefault(key, []).append(row)
    assert [(key, rows.tolist()) for key, rows in group_rows(keys)] == list(naive.items())
