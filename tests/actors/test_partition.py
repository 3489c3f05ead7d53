"""What one store owns: slots, series, re-registration, eviction, and rows from disk."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import actors.table.partition
import actors.table.series
from actors.domain import Feature, Retention, ValueSchema, ValueType
from actors.table import pieces
from actors.table.batch import Table
from actors.table.grid import Cells, Features
from actors.table.index import Index
from actors.table.partition import EVICT_DOWN_TO, DiskRows, Partition
from actors.table.rows import Rows
from actors.timestamps import FOREVER, NEVER
from actors.types.constraints import coerce
from tests.batches import a_table


def a_feature(
    name: str = "x", value_type: str = "number", created: int = 1, entity: str = "user", kept: int = 1_000
) -> Feature:
    return Feature(
        id=f"{entity}.{name}.v1",
        entity=entity,
        name=name,
        version=1,
        value_type=cast(ValueType, value_type),
        created=created,
        updated=created,
        schema=ValueSchema(dimension=2) if value_type == "vector" else None,
        retention=Retention(values=kept),
    )


def table_of(feature: Feature, *rows: tuple[str, int, Any]) -> Table:
    column = coerce(feature, [value for _, _, value in rows])
    times = np.array([time for _, time, _ in rows], np.int64)
    return a_table(
        feature.id, feature.created, [entity for entity, _, _ in rows], times, column.values, column.nulls
    )


def disk_rows(feature: Feature, entities: list[str], *rows: tuple[str, int, int, Any]) -> DiskRows:
    """Rows as (entity, time, arrived, value)."""
    column = coerce(feature, [value for _, _, _, value in rows])
    found = DiskRows(
        max((arrived for _, _, arrived, _ in rows), default=0),
        entities,
        Rows(
            Index(
                np.array([entities.index(entity) for entity, _, _, _ in rows], np.int32),
                np.array([time for _, time, _, _ in rows], np.int64),
                np.array([arrived for _, _, arrived, _ in rows], np.int64),
            ),
            column.values,
            column.nulls,
        ),
    )
    return found.merged()


def latest(partition: Partition, feature: Feature, *entities: str, now: int = FOREVER) -> Cells:
    slots = partition.slots(feature.entity, entities)
    return partition.latest(Features([feature]), slots, now, [NEVER]).cells()[0]


def shown(cells: Cells) -> list[Any]:
    """The values, None where nothing was found, "cold" where the disk must be asked."""
    cold = np.zeros(len(cells.times), np.bool_) if cells.cold is None else cells.cold
    columns = zip(cells.times.tolist(), cells.values.tolist(), cold.tolist(), strict=True)
    return ["cold" if ask else None if time == NEVER else value for time, value, ask in columns]


def flush(partition: Partition, kept_values: dict[str, int] | None = None) -> None:
    """The history files have everything now."""
    partition.flushed = partition.position
    for _ in partition.trimming(kept_values or {}):
        pass


X = a_feature()


# Writing


def test_what_was_applied_is_served() -> None:
    partition = Partition()
    partition.apply(10, [table_of(X, ("a", 5, 1.0), ("b", 5, 2.0), ("a", 6, 3.0))])
    assert shown(latest(partition, X, "b", "a", "c")) == [2.0, 3.0, None]


def test_applying_a_batch_again_changes_nothing() -> None:
    partition = Partition()
    batches = [(10, [table_of(X, ("a", 5, 1.0))]), (11, [table_of(X, ("a", 5, 2.0), ("b", 1, 3.0))])]
    for arrived, blocks in [*batches, *batches, batches[0]]:
        partition.apply(arrived, blocks)
    assert shown(latest(partition, X, "a", "b")) == [2.0, 3.0]
    assert partition.rows == 3
    assert partition.position == 11


def test_what_a_rebuild_found_in_the_history_is_not_applied_again() -> None:
    partition = Partition(position=10)
    partition.load([table_of(X, ("a", 5, 1.0))], [np.array([9])])
    partition.apply(10, [table_of(X, ("a", 5, 2.0))])
    assert shown(latest(partition, X, "a")) == [1.0]


@given(st.lists(st.integers(1, 8), max_size=20))
@settings(deadline=None, max_examples=60)
def test_batches_that_come_twice_in_a_row_of_replays_count_once(order: list[int]) -> None:
    partition, applied = Partition(), dict[str, float]()
    position = 0
    for arrived in order:
        partition.apply(arrived, [table_of(X, ("a", 5, float(arrived)), (f"e{arrived}", 5, 0.0))])
        if arrived > position:
            position, applied["a"] = arrived, float(arrived)
            applied[f"e{arrived}"] = 0.0
    entities = ["a", *(f"e{arrived}" for arrived in range(1, 9))]
    assert shown(latest(partition, X, *entities)) == [applied.get(entity) for entity in entities]


def test_entity_types_have_slots_of_their_own() -> None:
    partition = Partition()
    item = a_feature(entity="item")
    partition.apply(10, [table_of(X, ("a", 1, 1.0)), table_of(item, ("b", 1, 2.0), ("a", 1, 3.0))])
    assert shown(latest(partition, X, "a", "b")) == [1.0, None]
    assert shown(latest(partition, item, "a", "b")) == [3.0, 2.0]


def test_entities_never_written_have_slot_zero_and_nothing_in_it() -> None:
    partition = Partition()
    assert partition.slots("user", ["a", "b"]).tolist() == [0, 0]
    partition.apply(10, [table_of(X, ("a", 1, 1.0))])
    assert partition.slots("user", ["b", "a", "b"]).tolist() == [0, 1, 0]
    assert shown(latest(partition, a_feature("other"), "a", "b")) == [None, None]


@pytest.mark.parametrize(
    ("value_type", "value"),
    [
        ("number", 1.5),
        ("integer", 2**60 + 1),
        ("boolean", True),
        ("string", "s"),
        ("json", {"a": 1}),
        ("vector", [1, 2]),
    ],
)
def test_every_type_is_served_before_and_after_it_was_written(value_type: str, value: Any) -> None:
    partition, feature = Partition(), a_feature(value_type=value_type)
    assert latest(partition, feature, "a").times.tolist() == [NEVER]
    table = table_of(feature, ("a", 1, value), ("b", 1, None))
    partition.apply(10, [table])
    cells = latest(partition, feature, "a", "b", "c")
    assert cells.values[0:2].tolist() == table.columns[0].values.tolist()
    assert cells.nulls.tolist() == [False, True, False]
    assert cells.times.tolist() == [1, 1, NEVER]


# Features that are deleted and registered again


def test_a_feature_registered_again_starts_empty() -> None:
    partition = Partition()
    partition.apply(10, [table_of(X, ("a", 1, 1.0))])
    again = a_feature(created=11)
    assert shown(latest(partition, again, "a")) == [None]
    partition.apply(12, [table_of(again, ("a", 0, 2.0))])
    assert shown(latest(partition, again, "a")) == [2.0]


def test_blocks_of_a_feature_since_replaced_are_passed_over() -> None:
    partition, again = Partition(), a_feature(created=11, value_type="string")
    partition.apply(12, [table_of(again, ("a", 1, "new"))])
    partition.apply(13, [table_of(X, ("a", 2, 1.0))])
    assert shown(latest(partition, again, "a")) == ["new"]


def test_one_who_asks_for_a_feature_since_replaced_finds_nothing() -> None:
    partition, again = Partition(), a_feature(created=11, value_type="string")
    partition.apply(12, [table_of(again, ("a", 1, "new"))])
    assert shown(latest(partition, X, "a")) == [None]
    assert shown(latest(partition, again, "a")) == ["new"]


def test_a_deleted_feature_is_forgotten() -> None:
    partition = Partition()
    partition.apply(10, [table_of(X, ("a", 1, 1.0))])
    partition.drop(X.id)
    partition.drop(X.id)
    assert partition.rows == 0
    assert shown(latest(partition, X, "a")) == [None]


def test_only_features_older_than_the_snapshot_may_have_rows_that_were_not_loaded() -> None:
    partition = Partition(base_floor=100, position=50)
    assert shown(latest(partition, a_feature(created=50), "a")) == ["cold"]
    assert shown(latest(partition, a_feature("young", created=51), "a")) == [None]


# Memory


def test_trimming_keeps_what_each_feature_asks_for() -> None:
    partition, y = Partition(), a_feature("y")
    rows = [("a", time, float(time)) for time in range(5)]
    partition.apply(10, [table_of(X, *rows), table_of(y, *rows)])
    flush(partition, {X.id: 2, y.id: 3})
    assert partition.rows == 5
    assert shown(latest(partition, X, "a")) == [4.0]
    assert shown(latest(partition, X, "a", now=2)) == ["cold"]
    assert shown(latest(partition, y, "a", now=2)) == [2.0]


def test_the_column_of_a_deleted_feature_is_cleared_before_it_is_another_s() -> None:
    partition, first, other = Partition(), a_feature("x"), a_feature("y")
    partition.apply(10, [table_of(first, ("a", 1, 1.0), ("b", 2, 2.0))])
    column = partition.series(first).column
    partition.drop(first.id)
    assert partition.series(other).column.at != column.at
    while partition.tidy():
        pass
    third = partition.series(a_feature("z"))
    assert third.column.at == column.at
    assert third.as_of(partition.slots("user", ["a", "b"]), FOREVER).times.tolist() == [NEVER, NEVER]
    assert third.column.times.tolist() == [NEVER] * third.room


def test_trimming_does_one_series_a_step() -> None:
    partition = Partition()
    partition.apply(10, [table_of(a_feature(name), ("a", 1, 1.0), ("a", 2, 1.0)) for name in "xyz"])
    partition.flushed = 10
    held = [partition.rows for _ in partition.trimming({f"user.{name}.v1": 1 for name in "xyz"})]
    assert held == [5, 4, 3]


def test_what_is_not_flushed_is_not_let_go() -> None:
    partition = Partition()
    partition.apply(10, [table_of(X, ("a", 1, 1.0), ("a", 2, 2.0))])
    partition.evict(1)
    assert partition.rows == 2
    assert shown(latest(partition, X, "a", now=1)) == [1.0]


def test_the_least_recently_used_pairs_go_first() -> None:
    partition = Partition()
    entities = [f"e{number}" for number in range(10)]
    partition.apply(10, [table_of(X, *((entity, time, 1.0) for entity in entities for time in range(10)))])
    flush(partition, {X.id: 1_000})
    for tick, entity in enumerate(reversed(entities), 1):
        partition.tick = tick
        latest(partition, X, entity)
    partition.evict(50)
    assert partition.rows == 40
    assert shown(latest(partition, X, *entities)) == [1.0] * 4 + ["cold"] * 6


def test_nothing_goes_while_the_budget_holds() -> None:
    partition = Partition()
    partition.apply(10, [table_of(X, ("a", 1, 1.0), ("b", 1, 1.0))])
    flush(partition, {X.id: 1})
    partition.evict(2)
    assert partition.rows == 2
    Partition().evict(1)


USES = st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abcdef")), max_size=20)
WRITES = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from("abcdef"), st.integers(0, 20)), min_size=1, max_size=60
)


@given(WRITES, USES, st.integers(1, 40))
@settings(deadline=None, max_examples=100)
def test_eviction_comes_down_to_the_budget_and_no_further_than_it_must(
    writes: list[tuple[str, str, int]], uses: list[tuple[str, str]], budget: int
) -> None:
    features = {name: a_feature(name) for name in "xyz"}
    held = {(name, entity, time) for name, entity, time in writes}
    partition = Partition()
    for arrived, (name, entity, time) in enumerate(sorted(held), 1):
        partition.apply(arrived, [table_of(features[name], (entity, time, 1.0))])
    flush(partition, {feature.id: 1_000 for feature in features.values()})
    used = dict.fromkeys(((name, entity) for name, entity, _ in held), 0)
    for partition.tick, (name, entity) in enumerate(uses, 1):
        latest(partition, features[name], entity)
        used[name, entity] = partition.tick
    partition.evict(budget)
    counts = {pair: sum(row[:2] == pair for row in held) for pair in used}
    left = {pair for pair in warm_pairs(partition, features) if counts[pair]}
    gone = {pair for pair in used if counts[pair]} - left
    assert partition.rows == sum(counts[pair] for pair in left) <= budget
    assert all(used[out] <= used[stayed] for out in gone for stayed in left)
    if gone:
        # The last to go was needed to get down to the target.
        last = max(used[pair] for pair in gone)
        largest = max(counts[pair] for pair in gone if used[pair] == last)
        assert partition.rows + largest > budget * EVICT_DOWN_TO
    else:
        assert len(held) <= budget


def warm_pairs(partition: Partition, features: dict[str, Feature]) -> set[tuple[str, str]]:
    return {
        (name, entity)
        for name, feature in features.items()
        for entity in "abcdef"
        if shown(latest(partition, feature, entity)) == [1.0]
    }


def test_corrections_that_merge_away_make_room_before_any_pair_has_to_go() -> None:
    partition = Partition()
    partition.apply(10, [table_of(X, *(("a", 1, float(number)) for number in range(100)))])
    flush(partition, {X.id: 1_000})
    partition.apply(11, [table_of(X, *(("a", 1, float(number)) for number in range(100)))])
    partition.flushed = 11
    partition.evict(50)
    assert shown(latest(partition, X, "a")) == [99.0]


def test_pairs_that_must_stay_do_not_keep_others_from_making_room() -> None:
    partition = Partition()
    partition.apply(10, [table_of(X, *(("flushed", time, 1.0) for time in range(60)))])
    flush(partition, {X.id: 1_000})
    partition.apply(11, [table_of(X, *(("fresh", time, 1.0) for time in range(50)))])
    partition.tick = 1
    latest(partition, X, "flushed")
    partition.evict(80)
    assert partition.rows <= 80
    assert shown(latest(partition, X, "flushed", "fresh")) == ["cold", 1.0]


def test_an_eviction_goes_in_steps_and_what_comes_in_between_is_kept() -> None:
    features = [msgspec.structs.replace(X, id=f"user.x{number}.v1") for number in range(6)]
    names = [f"e{number}" for number in range(100)]
    partition = Partition()
    partition.apply(10, [table_of(feature, *((name, 1, 1.0) for name in names)) for feature in features])
    flush(partition, {feature.id: 1_000 for feature in features})
    steps = partition.evicting(300)
    looked_at = []
    for number, rows in enumerate(steps):
        looked_at.append(rows)
        partition.apply(11 + number, [table_of(features[number % 6], (f"new{number}", 2, float(number)))])
    assert max(looked_at) < 150
    assert len(looked_at) >= 2 * len(features)
    assert partition.rows <= 300 + len(looked_at)
    for number in range(len(looked_at)):
        assert shown(latest(partition, features[number % 6], f"new{number}")) == [float(number)]
    for feature in features:
        assert set(shown(latest(partition, feature, *names))) <= {"cold", 1.0}


# Rows from disk


def test_rows_from_disk_are_placed_sorted_with_the_last_arrival_of_each_time() -> None:
    partition = Partition()
    partition.apply(10, [table_of(X, ("b", 1, 1.0))])
    disk = disk_rows(X, ["a", "b", "c"], ("b", 2, 3, 2.0), ("a", 5, 4, 3.0), ("a", 4, 5, 4.0), ("a", 5, 6, 5.0))
    placed = partition.place(X, disk)
    slots = dict(zip("abc", partition.slots("user", ["a", "b", "c"]).tolist(), strict=True))
    assert slots["c"] == 0
    rows = set(zip(placed.slots.tolist(), placed.times.tolist(), placed.values.tolist(), strict=True))
    assert rows == {(slots["b"], 2, 2.0), (slots["a"], 4, 4.0), (slots["a"], 5, 5.0)}
    pairs = list(zip(placed.slots.tolist(), placed.times.tolist(), strict=True))
    assert pairs == sorted(pairs)


@pytest.mark.parametrize("value_type", ["number", "string", "vector"])
def test_evicted_pairs_come_back_from_disk(value_type: str) -> None:
    values: dict[str, list[Any]] = {
        "number": [1.0, 2.0, 3.0],
        "string": ["p", "q", "r"],
        "vector": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
    }
    one, two, three = values[value_type]
    partition, feature = Partition(), a_feature(value_type=value_type, kept=1)
    partition.apply(10, [table_of(feature, ("a", 1, one), ("a", 2, two), ("b", 1, three))])
    flush(partition, {feature.id: 1_000})
    partition.evict(1)
    assert shown(latest(partition, feature, "a", "b")) == ["cold", "cold"]
    disk = disk_rows(feature, ["b", "a"], ("b", 1, 10, three), ("a", 1, 10, one), ("a", 2, 10, two))
    placed = partition.place(feature, disk)
    slots = partition.slots("user", ["a", "b"])
    assert shown(partition.as_of(feature, slots, 1, NEVER, placed)._replace(cold=None)) == [one, three]
    partition.install(feature, disk.entities, placed)
    assert shown(latest(partition, feature, "a", "b")) == [two, three]
    assert shown(latest(partition, feature, "a", now=1)) == ["cold"]
    assert partition.rows == 2


def test_entities_without_rows_on_disk_are_known_to_have_none() -> None:
    partition = Partition(base_floor=100, position=50)
    partition.apply(51, [table_of(X, ("a", 1, 1.0), ("b", 1, 1.0))])
    assert shown(latest(partition, X, "a")) == ["cold"]
    disk = disk_rows(X, ["a", "nobody"])
    partition.install(X, disk.entities, partition.place(X, disk))
    assert shown(latest(partition, X, "a", "b")) == [1.0, "cold"]


def test_ranges_join_disk_and_memory() -> None:
    partition = Partition()
    partition.apply(10, [table_of(X, ("a", 1, 1.0), ("a", 2, 2.0), ("a", 3, 3.0))])
    flush(partition, {X.id: 1})
    partition.apply(11, [table_of(X, ("a", 2, 9.0))])
    placed = partition.place(X, disk_rows(X, ["a"], ("a", 1, 10, 1.0), ("a", 2, 10, 2.0), ("a", 3, 10, 3.0)))
    ranges = partition.between(X, partition.slots("user", ["a"]), 1, 3, placed)
    assert ranges.values.tolist() == [1.0, 9.0, 3.0]


@pytest.mark.parametrize("value_type", ["number", "string", "boolean", "vector"])
@pytest.mark.parametrize("written", [True, False])
def test_a_column_for_which_the_tables_are_copied_is_made_in_steps(
    monkeypatch: pytest.MonkeyPatch, value_type: str, written: bool
) -> None:
    monkeypatch.setattr(pieces, "CELLS_A_STEP", 500)
    partition, value = Partition(), {"string": "a", "boolean": True, "vector": [1.0, 2.0]}.get(value_type, 1.5)
    features = [a_feature(f"x{number}", value_type) for number in range(30)]
    for arrived, feature in enumerate(features[:-1], 1):
        partition.apply(arrived, [table_of(feature, *((f"u{entity}", arrived, value) for entity in range(400)))])
    while len(partition._latest["user"].times[0]) > len(partition._series):  # no column is to spare
        features.insert(-1, spare := a_feature(f"y{len(features)}", value_type))
        partition.series(spare)
    new = features[-1]
    assert partition.lacks([new])
    if written:
        steps = len(list(partition.applying(100, [table_of(new, ("u7", 5, value))])))
    else:
        steps = len(list(partition.making_columns([new])))
    assert steps > 400 * len(features) / 500
    assert not partition.lacks([new])
    assert shown(latest(partition, new, "u7", "u8")) == [value if written else None, None]
    assert all(shown(latest(partition, one, "u0", "u399")) == [value] * 2 for one in features[:29] if one != new)


@given(
    st.permutations("abcd"),
    st.lists(st.sampled_from("abcd"), max_size=4),
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), max_size=20),
)
def test_rows_from_disk_are_placed_in_the_order_of_the_partition(
    asked: list[str], known: list[str], rows: list[tuple[str, int]]
) -> None:
    partition = Partition(base_floor=FOREVER)
    for number, entity in enumerate(known):
        partition.load([table_of(X, (entity, 9, 1.0))], [np.array([number])])
    disk = disk_rows(X, asked, *((entity, time, place, float(place)) for place, (entity, time) in enumerate(rows)))
    placed = partition.place(X, disk)
    slots = dict(zip("abcd", partition.slots("user", "abcd").tolist(), strict=True))
    newest = {(slots[entity], time): float(place) for place, (entity, time) in enumerate(rows)}
    assert 0 not in {slot for slot, _ in newest}
    found = list(zip(placed.slots.tolist(), placed.times.tolist(), placed.values.tolist(), strict=True))
    assert found == [(*key, newest[key]) for key in sorted(newest)]


@pytest.mark.parametrize("value_type", ["number", "string"])
def test_a_table_of_many_rows_is_applied_in_steps_to_the_same_end(
    monkeypatch: pytest.MonkeyPatch, value_type: str
) -> None:
    monkeypatch.setattr(actors.table.partition, "ROWS_APPENDED_AT_ONCE", 50)
    monkeypatch.setattr(actors.table.series, "ROWS_PER_TURN", 10)
    partition, feature = Partition(), a_feature("x", value_type)
    value = str if value_type == "string" else float
    rows = [(f"u{number % 40}", number * 7 % 13, value(number)) for number in range(200)]
    steps = len(list(partition.applying(1, [table_of(feature, *rows)])))
    assert steps >= 20
    expected = {(entity, time): found for entity, time, found in rows}
    for entity in {entity for entity, _, _ in rows}:
        newest = max(time for other, time in expected if other == entity)
        assert shown(latest(partition, feature, entity)) == [expected[entity, newest]]
        assert shown(latest(partition, feature, entity, now=3)) == [
            next((expected[entity, time] for time in (3, 2, 1, 0) if (entity, time) in expected), None)
        ]
