"""Batches packed and unpacked, split by shard, and grouped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.table.batch import Column, Table, Tables, joined, without_ids
from actors.table.columns import group_rows
from actors.table.ids import Ids, numbered
from actors.table.packing import pack, unpack
from actors.table.sharding import shard_of, shards_of, split
from tests.batches import OneFeature, flat, tables_of

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
def blocks(draw: st.DrawFn, kind: str, entity_type: str = "user", least: int = 0) -> OneFeature:
    entities = draw(st.lists(TEXTS, min_size=least, max_size=12))
    count = len(entities)
    times = draw(st.lists(st.integers(-(2**62), 2**62), min_size=count, max_size=count))
    nulls = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return OneFeature(
        f"{entity_type}.x.v1",
        draw(st.integers(0, 2**60)),
        entities,
        np.array(times, np.int64),
        draw(values_strategy(kind, count)),
        np.array(nulls, np.bool_),
    )


def same(one: OneFeature, other: OneFeature) -> bool:
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


def plain(entities: list[str], entity_type: str = "user") -> OneFeature:
    count = len(entities)
    return OneFeature(
        f"{entity_type}.x.v1",
        1,
        entities,
        np.arange(count),
        np.arange(count, dtype=np.float64),
        np.zeros(count, np.bool_),
    )


# Packing


@pytest.mark.parametrize("kind", DTYPES)
@given(st.data())
@settings(deadline=None, max_examples=40)
def test_what_was_packed_is_unpacked_to_the_bit(kind: str, data: st.DataObject) -> None:
    given_ = data.draw(st.lists(blocks(kind), max_size=3))
    returned = flat(unpack(pack(tables_of(given_))))
    assert len(returned) == len(given_)
    assert all(same(one, other) for one, other in zip(given_, returned, strict=True))


def test_columns_that_are_views_with_a_stride_are_packed_as_their_rows() -> None:
    whole = plain(["a", "b", "c", "d"])
    strided = OneFeature(*whole[:2], ["a", "c"], whole.times[::2], whole.values[::2], whole.nulls[::2])
    (rows,) = flat([tables_of([whole])[0].take(np.array([0, 2]))])
    assert same(flat(unpack(pack(tables_of([strided]))))[0], rows)


def test_nothing_is_packed_as_nothing() -> None:
    assert unpack(pack([])) == []


@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 65])
def test_null_masks_of_any_length_come_back(count: int) -> None:
    block = plain([str(row) for row in range(count)])
    for mask in (np.arange(count) % 3 == 0, np.ones(count, np.bool_), np.zeros(count, np.bool_)):
        packed = pack(tables_of([block._replace(nulls=mask)]))
        assert flat(unpack(packed))[0].nulls.tolist() == mask.tolist()


@given(st.lists(st.integers(0, 5), max_size=8))
@settings(deadline=None, max_examples=40)
def test_taking_rows_takes_them_from_every_column_in_the_order_given(rows: list[int]) -> None:
    (table,) = tables_of([plain(list("abcdef"))])
    (taken,) = flat([table.take(np.array(rows, np.int64))])
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
    parts = split(tables_of(given_), shards)
    for shard in range(shards):
        expected = [
            flat([tables_of([block])[0].take(np.array(rows))])[0]
            for block in given_
            if (
                rows := [
                    row
                    for row, entity in enumerate(block.entities)
                    if shard_of(block.feature.partition(".")[0], entity, shards) == shard
                ]
            )
        ]
        own = flat(parts.get(shard, []))
        assert len(own) == len(expected)
        assert all(same(one, other) for one, other in zip(own, expected, strict=True))


# What was written together


def together(entities: Sequence[str], features: int = 3, entity_type: str = "user", later: int = 0) -> Table:
    """A number for each feature of some rows."""
    one = plain(list(entities), entity_type)
    columns = [Column(f"{entity_type}.f{number}.v1", 1, *one[4:]) for number in range(features)]
    return Table(entity_type, numbered(one.entities), one.times + later, columns)


def shapes(batch: Sequence[Table]) -> list[list[str]]:
    """The features of each table."""
    return [[column.feature.split(".")[1] for column in table.columns] for table in batch]


def test_what_was_written_together_is_one_table_wherever_it_goes() -> None:
    one, other = together("abcdab"), together("abcdab", 1, later=1)
    other = other.only([other.columns[0]._replace(feature="user.g.v1")])
    batch, expected = [one, other], [["f0", "f1", "f2"], ["g"]]
    assert shapes(unpack(pack(batch))) == expected
    assert shapes(without_ids(batch)) == expected
    assert shapes(unpack(pack(without_ids(batch)))) == expected
    assert shapes(joined([*batch, *batch])) == expected
    for own in split(batch, 3).values():
        assert shapes(own) == expected
    assert shapes([one.cut(1, 3), one.take(np.array([2]))]) == [["f0", "f1", "f2"]] * 2


def test_a_table_is_packed_with_its_ids_and_times_once() -> None:
    one, four = (len(pack([together([f"entity{number}" for number in range(500)], count)])) for count in (1, 4))
    assert four - one < 3 * (500 * 8 + 100)


def test_what_is_apart_and_says_the_same_is_one_table_once_it_is_joined() -> None:
    one, other = together("aba", 1), together("aba", 2)
    assert shapes(joined([one, other.only(other.columns[1:])])) == [["f0", "f1"]]
    (both,) = joined([one, together("aba", 1, later=3)])
    assert list(both.entities) == list("abaaba") and both.times.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_feature_that_comes_again_stays_behind_what_of_it_came_before() -> None:
    one, other = together("ab", 1), together("ab", 1, later=1)
    batch = [one, other, Table("user", one.entities, one.times, one.columns)]
    for again in (batch, unpack(pack(batch))):
        assert [table.times.tolist() for table in again] == [[0, 1], [1, 2], [0, 1]]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1)), min_size=1, max_size=3), st.data())
@settings(deadline=None, max_examples=60)
def test_columns_are_of_one_table_where_their_entities_and_times_are_the_same(
    rows: list[tuple[str, int]], data: st.DataObject
) -> None:
    others = data.draw(st.lists(st.just(rows) | st.permutations(rows), max_size=3))
    tables, ids = Tables(), Ids(["a", "b"])
    sent = [rows, *others]
    for number, own in enumerate(sent):
        who = numbered([entity for entity, _ in own])
        codes = np.array([ids.texts.index(entity) for entity in who])
        column = Column(f"user.f{number}.v1", 1, np.arange(float(len(own))), np.zeros(len(own), np.bool_))
        tables.add("user", type(who)(ids, codes), np.array([time for _, time in own], np.int64), column)
    found = {column.feature: table for table in tables.made for column in table.columns}
    met = [(own, found[f"user.f{number}.v1"]) for number, own in enumerate(sent)]
    for own, table in met:
        assert list(zip(table.entities, table.times.tolist(), strict=True)) == own
    for (own, table), (following, next_table) in pairwise(met):
        assert (own == following) == (table is next_table)


# Packed by earlier versions


def old(*columns: Any) -> bytes:
    """Feature, ids, times and codes of columns of two numbers, as they were packed."""
    values = np.array([1.0, 2.0]).tobytes()
    times = np.array([5, 6]).tobytes()
    return msgspec.msgpack.encode(
        [
            (feature, 1, ids, times if when is None else when, "<f8", 0, values, b"", *codes)
            for feature, ids, when, *codes in columns
        ]
    )


def test_ids_without_places_are_those_of_the_rows() -> None:
    found = unpack(old(("user.f.v1", ["a", "a"], None), ("user.g.v1", 0, 0, None), ("user.h.v1", 0, None)))
    assert shapes(found) == [["f", "g"], ["h"]]
    assert [list(table.entities) for table in found] == [["a", "a"]] * 2
    assert found[0].entities is found[1].entities


def test_places_and_times_of_an_earlier_column_are_taken_from_there() -> None:
    codes = bytes([1, 0])
    found = unpack(
        old(
            ("user.f.v1", ["a", "b"], None, codes),
            ("user.g.v1", 0, 0, 0),
            ("user.h.v1", 0, 0, bytes([0, 0])),
            ("item.f.v1", 0, 0, 0),
        )
    )
    assert shapes(found) == [["f", "g"], ["h"], ["f"]]
    assert [list(table.entities) for table in found] == [["b", "a"], ["a", "a"], ["b", "a"]]
    assert [table.entity_type for table in found] == ["user", "user", "item"]
    assert all(table.times.tolist() == [5, 6] for table in found)


# Groups


@given(st.lists(st.sampled_from(["a", "b", ("a", 1), ("a", 2), None]), max_size=20))
@settings(deadline=None, max_examples=100)
def test_rows_are_grouped_by_key_in_order_of_first_appearance(keys: list[Any]) -> None:
    naive: dict[Any, list[int]] = {}
    for row, key in enumerate(keys):
        naive.setdefault(key, []).append(row)
    assert [(key, rows.tolist()) for key, rows in group_rows(keys)] == list(naive.items())
