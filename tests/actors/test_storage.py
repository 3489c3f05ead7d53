"""Both storages keep what they were given, whatever was flushed, trimmed, merged, forgotten or cut off."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

import actors.storage.embedded.filed
import actors.storage.embedded.runs
from actors.domain import (
    VALUE_TYPES,
    EntityType,
    Feature,
    FeatureService,
    Group,
    Retention,
    ServiceFeature,
    ValueSchema,
    ValueType,
)
from actors.errors import StartupError, StorageDown, TooLarge, TooMuchAtOnce
from actors.stats.windows import Window
from actors.storage.embedded import layout
from actors.storage.embedded.database import set_meta
from actors.storage.embedded.local import LocalStorage, MemoryStorage
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.storage.embedded.run_files import Change
from actors.storage.entries import (
    Catalogued,
    Deleted,
    Grouped,
    Registered,
    Together,
    Uncatalogued,
    Ungrouped,
    Written,
)
from actors.storage.protocol import HistoryPlan, LoadedRows, SummaryKey, Trimmed
from actors.table.batch import Table
from actors.table.rows import Rows, merge
from actors.timestamps import FOREVER, NEVER, parse_timestamp
from actors.types.constraints import coerce
from actors.types.values import render
from tests.batches import a_table, flat

NOW = parse_timestamp("2025-11-07T10:00:00Z")
HOUR = 3_600_000_000
EARLIEST, LATEST = parse_timestamp("0001-01-01T00:00:00Z"), parse_timestamp("9999-12-31T23:59:59.999999Z")
VALUES: dict[str, list[Any]] = {
    "number": [1.5, -0.25, 1e300, 5e-324],
    "integer": [2**63 - 1, -(2**63), 0, 2**53 + 1],
    "string": ["", "é😀", "a\x00b", "x" * 70],
    "boolean": [True, False, True, False],
    "timestamp": [
        "1969-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00.000Z",
        "9999-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00.000Z",
    ],
    "vector": [[0.5, -1.5], [0.0, 0.0], [3e38, 1e-38], [1.0, 2.0]],
    "json": [{"a": [1, None]}, [], "text", 0.5],
}


def a_feature(
    name: str = "x", value_type: str = "number", created: int = 0, age: int | None = None, entity: str = "user"
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
        retention=None if age is None else Retention(age=age),
    )


def table_of(feature: Feature, *rows: tuple[str, int, Any]) -> Table:
    column = coerce(feature, [value for _, _, value in rows])
    assert column.refused == []
    times = np.array([time for _, time, _ in rows], np.int64)
    return a_table(
        feature.id, feature.created, [entity for entity, _, _ in rows], times, column.values, column.nulls
    )


def written(arrived: int, *batch: Table, key: str | None = None, answer: bytes = b"{}") -> Written:
    return Written(arrived, batch, key, answer)


def by_id(*features: Feature) -> dict[str, Feature]:
    return {feature.id: feature for feature in features}


X, Y = a_feature("x"), a_feature("y")
PAIR = EntityType(name="pair", keys=("a", "b"), created=3, updated=4, description="ü", tags=("t",), owner="we")
MODEL = FeatureService(
    name="model",
    version=2,
    features=(ServiceFeature(X.id, "x"), ServiceFeature(Y.id, "y", (("a", "b"),)), ServiceFeature(Y.id, "z", "c")),
    created=5,
    updated=6,
)
FEATURES = by_id(X, Y)


@pytest.fixture(params=["embedded", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalStorage]:
    """Either storage, opened."""
    made = EmbeddedStorage(str(tmp_path / "data")) if request.param == "embedded" else MemoryStorage()
    made.open()
    yield made
    made.close()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedStorage]:
    """The embedded storage, opened, in `tmp_path / "data"`."""
    made = EmbeddedStorage(str(tmp_path / "data"))
    made.open()
    yield made
    made.close()


class Seen(NamedTuple):
    """An observation as it is read back."""

    entity: str
    time: int
    value: Any
    arrived: int


def seen(feature: Feature, entities: list[str], rows: Rows) -> list[Seen]:
    values = json.loads(msgspec.json.encode(render(feature.value_type, rows.values, rows.nulls)))
    owners = [entities[slot] for slot in rows.slots.tolist()]
    return [Seen(*cells) for cells in zip(owners, rows.times.tolist(), values, rows.arrived.tolist(), strict=True)]


def read(
    storage: LocalStorage, feature: Feature, *entities: str, start: int = NEVER, end: int = FOREVER
) -> list[Seen]:
    """What the history has, in the order it is read."""
    found = storage.history.read(feature, list(entities), start, end)
    return seen(feature, list(entities), found.rows)


def replayed(storage: LocalStorage, after: int = 0) -> list[int]:
    return [arrived for arrived, _ in storage.log.replay(after)]


def flush(storage: LocalStorage, features: Mapping[str, Feature] = FEATURES, now: int = NOW) -> int:
    """Everything. The number of observations that took."""
    moved = 0
    while observations := storage.history.flush(lambda: features, now).observations:
        moved += observations
    return moved


def write(storage: LocalStorage, arrived: int, *rows: tuple[str, int, Any], feature: Feature = X) -> None:
    storage.log.commit([written(arrived, table_of(feature, *rows))])


def stored(storage: LocalStorage) -> list[tuple[str, str]]:
    """The (feature, entity) of every row of every run."""
    tables = [run.table() for run in storage._runs.runs()]
    return [
        pair
        for table in tables
        for pair in zip(table["feature"].to_pylist(), table["entity_id"].to_pylist(), strict=True)
    ]


def loaded(rows: Iterator[LoadedRows]) -> list[tuple[str, str, int, int]]:
    """(feature, entity, time, arrived) of what a rebuild loads."""
    return [
        (column.feature, entity, time, arrived)
        for table, arrivals in rows
        for column in table.columns
        for entity, time, arrived in zip(table.entities, table.times.tolist(), arrivals.tolist(), strict=True)
    ]


# The journal


def test_a_new_storage_knows_nothing(storage: LocalStorage) -> None:
    assert replayed(storage) == []
    assert storage.history.flush(FEATURES.copy, NOW) == (0, 0)
    assert read(storage, X, "a") == []
    assert storage.log.trimmed() == 0
    assert storage.summaries.position == 0
    assert storage.summaries.totals() == (0, {})
    assert storage.history.plan(10) == HistoryPlan(0, NEVER, [])
    storage.history.forget(FEATURES.copy)
    storage.history.compact(FEATURES.copy, NOW)
    storage.log.trim(FOREVER, NOW)


def test_batches_are_replayed_in_order_of_arrival_from_anywhere(storage: LocalStorage) -> None:
    storage.log.commit([written(30, table_of(X, ("c", 1, 3.0)))])
    storage.log.commit([written(10, table_of(X, ("a", 1, 1.0))), written(20, table_of(X, ("b", 1, 2.0)))])
    assert replayed(storage) == [10, 20, 30]
    assert replayed(storage, 10) == [20, 30]
    assert replayed(storage, 30) == []


@pytest.mark.parametrize("count", [63, 64, 65, 130])
def test_a_long_journal_is_replayed_to_its_end(storage: LocalStorage, count: int) -> None:
    storage.log.commit([written(arrived, table_of(X, ("a", arrived, 1.0))) for arrived in range(1, count + 1)])
    assert replayed(storage) == list(range(1, count + 1))


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_tables_of_every_type_are_replayed_as_they_were_written(storage: LocalStorage, value_type: str) -> None:
    feature = a_feature(value_type=value_type)
    batch = [table_of(feature, *((f"e{n}", n, value) for n, value in enumerate([*VALUES[value_type], None])))]
    storage.log.commit([written(10, *batch, table_of(Y, ("b", 2, 5.0)))])
    ((_, replayed),) = storage.log.replay(0)
    (back, other), (sent,) = flat(replayed), flat(batch)
    assert back[:3] == sent[:3]
    assert back.times.tolist() == sent.times.tolist()
    assert back.values.tolist() == sent.values.tolist()
    assert back.nulls.tolist() == sent.nulls.tolist()
    assert other.feature == Y.id


def test_a_commit_is_all_or_nothing(storage: LocalStorage) -> None:
    write(storage, 10, ("a", 1, 1.0))
    with pytest.raises(StorageDown):
        storage.log.commit(
            [
                written(11, table_of(X, ("b", 1, 1.0))),
                Registered(Y),
                written(10, table_of(X, ("c", 1, 1.0)), key="k"),
            ]
        )
    assert replayed(storage) == [10]
    assert storage.log.answers(["k"], 0) == {}
    write(storage, 11, ("d", 1, 1.0))
    assert replayed(storage) == [10, 11]


def test_a_closed_storage_says_that_it_is_down(storage: LocalStorage) -> None:
    storage.close()
    with pytest.raises(StorageDown):
        write(storage, 10, ("a", 1, 1.0))
    storage.close()


# Idempotency answers


def test_answers_are_given_again_to_the_keys_that_are_known(storage: LocalStorage) -> None:
    storage.log.commit([written(10, table_of(X, ("a", 1, 1.0)), key="one", answer=b"1")])
    storage.log.commit([written(20, key="two", answer=b"2"), written(30, key="three", answer=b"3")])
    assert storage.log.answers(["one", "two", "none"], 0) == {"one": b"1", "two": b"2"}
    assert storage.log.answers(["one", "two", "three"], 20) == {"three": b"3"}
    assert storage.log.answers([], 0) == {}
    assert replayed(storage) == [10]


def test_a_key_used_again_after_its_time_has_the_later_answer(storage: LocalStorage) -> None:
    storage.log.commit([written(10, key="k", answer=b"1")])
    storage.log.commit([written(20, key="k", answer=b"2")])
    assert storage.log.answers(["k"], 0) == {"k": b"2"}


def test_answers_are_trimmed_after_a_day(storage: LocalStorage) -> None:
    storage.log.commit(
        [written(NOW - 25 * HOUR, key="old", answer=b"1"), written(NOW - 23 * HOUR, key="new", answer=b"2")]
    )
    storage.log.trim(FOREVER, NOW)
    assert storage.log.answers(["old", "new"], 0) == {"new": b"2"}


# From the journal into the history


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_flushed_values_of_every_type_are_read_back(storage: LocalStorage, value_type: str) -> None:
    feature = a_feature(value_type=value_type)
    values = [*VALUES[value_type], None]
    times = [EARLIEST, -1, 0, NOW + 1, LATEST]
    storage.log.commit([written(10, table_of(feature, *zip(["a"] * 5, times, values, strict=True)))])
    assert flush(storage, by_id(feature)) == 5
    found = read(storage, feature, "a")
    assert [(cell.time, cell.arrived) for cell in found] == [(time, 10) for time in times]
    if value_type == "vector":
        assert [cell.value and np.float32(cell.value).tolist() for cell in found] == [
            value and np.float32(value).tolist() for value in values
        ]
    else:
        assert [cell.value for cell in found] == values


def test_a_vector_column_of_nulls_alone_is_read_back(storage: LocalStorage) -> None:
    feature = a_feature(value_type="vector")
    write(storage, 10, ("a", 1, None), ("b", 1, None), feature=feature)
    flush(storage, by_id(feature))
    assert [cell.value for cell in read(storage, feature, "a", "b")] == [None, None]


def test_the_position_and_the_count_of_a_flush_are_those_of_what_it_moved(storage: LocalStorage) -> None:
    write(storage, 10, ("a", 1, 1.0), ("b", 1, 1.0))
    write(storage, 20, ("a", 1, 1.0))
    assert storage.history.flush(FEATURES.copy, NOW) == (20, 3)
    assert storage.history.flush(FEATURES.copy, NOW) == (20, 0)
    assert storage.history.read(X, ["a"], NEVER, FOREVER).position == 20


def test_a_flush_moves_the_oldest_first_and_no_more_than_so_many(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.storage.embedded.filed, "FLUSH_VALUES", 3)
    for arrived in range(1, 6):
        write(storage, arrived, ("a", arrived, 1.0), ("b", arrived, 1.0))
    assert [storage.history.flush(FEATURES.copy, NOW) for _ in range(4)] == [(2, 4), (4, 4), (5, 2), (5, 0)]
    assert [cell.time for cell in read(storage, X, "a")] == [1, 2, 3, 4, 5]


def test_corrections_are_all_kept_and_read_in_order_of_arrival(storage: LocalStorage) -> None:
    write(storage, 10, ("a", 5, 1.0), ("a", 5, 2.0))
    write(storage, 20, ("a", 5, None))
    flush(storage)
    write(storage, 30, ("a", 5, 3.0), ("a", 4, 0.0))
    flush(storage)
    corrected = [(cell.value, cell.arrived) for cell in read(storage, X, "a") if cell.time == 5]
    assert corrected == [(1, 10), (2, 10), (None, 20), (3, 30)]
    assert len(stored(storage)) == 5


def test_reading_more_than_the_limit_is_too_large(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    write(storage, 10, *(("a", time, 1.0) for time in range(5)))
    flush(storage)
    monkeypatch.setattr(actors.storage.embedded.filed, "MAX_ROWS_FROM_DISK", 4)
    assert len(read(storage, X, "a", end=3)) == 4
    with pytest.raises(TooLarge, match=r"user\.x\.v1"):
        read(storage, X, "a")


def test_reading_more_bytes_than_the_limit_is_too_much(storage: LocalStorage) -> None:
    text = a_feature("text", "string")
    storage.history._most_bytes = 2_500
    write(storage, 10, *(("a", time, "x" * 1_000) for time in range(4)), feature=text)
    for moved in (False, True):
        if moved:
            flush(storage, by_id(text))
            assert len(read(storage, text, "a", end=1)) == 2
            with pytest.raises(TooMuchAtOnce, match=r"user\.text\.v1 with more than 2500 bytes"):
                read(storage, text, "a")
        assert storage.history.versions(text, ["a"], 0, 1).size == 2
        assert sum(len(part.times) for part in storage.history.observations(text, 0, 1)) == 2
        with pytest.raises(TooMuchAtOnce):
            storage.history.versions(text, ["a"], 0, 9)
        with pytest.raises(TooMuchAtOnce):
            list(storage.history.observations(text, 0, 9))


def keys_of(storage: LocalStorage) -> list[tuple[str, bytes, int, int]]:
    """(feature, entity, time, arrived) of every row of every run, in the order in which they stand there."""
    tables = [run.table() for run in storage._runs.runs()]
    return [
        (feature, entity.encode(), time, arrived)
        for table in tables
        for feature, entity, time, arrived in zip(
            table["feature"].to_pylist(),
            table["entity_id"].to_pylist(),
            table["event_timestamp"].cast(pa.int64()).to_pylist(),
            table["arrived_at"].cast(pa.int64()).to_pylist(),
            strict=True,
        )
    ]


MANY = by_id(*(a_feature(f"f{number}") for number in range(12)))


def test_runs_are_sorted_by_feature_entity_time_and_arrival(storage: LocalStorage) -> None:
    for arrived in (10, 11):
        rows = [(entity, time, 1.0) for entity in ("b", "a", "é", "B") for time in (5, -5, 0)]
        storage.log.commit([written(arrived, *(table_of(feature, *rows) for feature in reversed(MANY.values())))])
    flush(storage, MANY)
    keys = keys_of(storage)
    assert keys == sorted(keys)
    assert len(keys) == 12 * 24


def test_a_large_flush_keeps_the_order_of_its_corrections(storage: LocalStorage) -> None:
    count = 100_000
    values = np.arange(count, dtype=np.float64)
    table = a_table(X.id, X.created, ["a"] * count, np.full(count, 5), values, np.zeros(count, np.bool_))
    storage.log.commit([written(10, table)])
    flush(storage)
    assert storage.history.read(X, ["a"], NEVER, FOREVER).rows.values.tolist() == values.tolist()


def write_corrections(storage: LocalStorage, *arrivals: int) -> None:
    """Four values for one moment in each batch, and as many rows of another feature."""
    for arrived in arrivals:
        rows = [("a", 5, float(4 * arrived + number)) for number in range(4)]
        storage.log.commit([written(arrived, table_of(X, *rows), table_of(Y, *rows))])


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The history is read a few rows at a time, as a large one is read many thousands at a time."""
    monkeypatch.setattr(actors.storage.embedded.runs, "ROW_GROUP_ROWS", 4)
    monkeypatch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 1)


@pytest.mark.usefixtures("small_batches")
def test_forgetting_a_feature_leaves_the_order_of_the_others(storage: LocalStorage) -> None:
    write_corrections(storage, *range(10, 30))
    flush(storage)
    storage.log.commit([Deleted(Y)])
    storage.history.forget(by_id(X).copy)
    assert [cell.value for cell in read(storage, X, "a")] == list(range(40, 120))


@pytest.mark.usefixtures("small_batches")
def test_merging_runs_leaves_the_order_of_their_rows(storage: LocalStorage) -> None:
    for first in (10, 20, 30):
        write_corrections(storage, *range(first, first + 10))
        flush(storage)
    storage.history.compact(FEATURES.copy, NOW)
    assert len(storage._runs.runs()) == 1
    assert [cell.value for cell in read(storage, X, "a")] == list(range(40, 160))
    keys = keys_of(storage)
    assert keys == sorted(keys)


@pytest.mark.usefixtures("small_batches")
def test_a_rebuild_loads_corrections_in_order_of_arrival(storage: LocalStorage) -> None:
    write_corrections(storage, *range(10, 30))
    flush(storage)
    parts = [
        one.values.tolist()
        for table, _ in storage.history.load(storage.history.plan(1_000), FEATURES)
        for one in table.columns
        if one.feature == X.id
    ]
    assert [value for part in parts for value in part] == list(range(40, 120))


# Trimming the journal


def test_what_was_trimmed_cannot_be_replayed(storage: LocalStorage) -> None:
    for arrived in (10, 20, 30):
        write(storage, arrived, ("a", arrived, 1.0))
    flush(storage)
    write(storage, 40, ("a", 40, 1.0))
    storage.log.trim(20, NOW)
    assert storage.log.trimmed() == 20
    with pytest.raises(Trimmed):
        replayed(storage)
    with pytest.raises(Trimmed):
        replayed(storage, 19)
    assert replayed(storage, 20) == [30, 40]
    assert [cell.time for cell in read(storage, X, "a")] == [10, 20, 30]


def test_what_the_history_does_not_have_is_not_trimmed(storage: LocalStorage) -> None:
    write(storage, 10, ("a", 1, 1.0))
    storage.log.trim(FOREVER, NOW)
    assert replayed(storage) == [10]
    flush(storage)
    write(storage, 20, ("a", 1, 1.0))
    storage.log.trim(FOREVER, NOW)
    assert replayed(storage, 10) == [20]


def test_a_replay_under_way_notices_that_it_was_overtaken(storage: LocalStorage) -> None:
    storage.log.commit([written(arrived, table_of(X, ("a", 1, 1.0))) for arrived in range(1, 201)])
    under_way = storage.log.replay(0)
    next(under_way)
    flush(storage)
    storage.log.trim(FOREVER, NOW)
    with pytest.raises(Trimmed):
        list(under_way)


def test_a_monitor_that_lags_further_than_before_brings_back_nothing(storage: LocalStorage) -> None:
    write(storage, 10, ("a", 1, 1.0))
    flush(storage)
    storage.log.trim(FOREVER, NOW)
    storage.log.trim(0, NOW)
    assert storage.log.trimmed() == 10
    with pytest.raises(Trimmed):
        replayed(storage)


# Deleted features


def test_rows_of_a_deleted_feature_leave_the_history(storage: LocalStorage) -> None:
    storage.log.commit([Registered(X), Registered(Y)])
    for arrived in (10, 20, 30):
        storage.log.commit([written(arrived, table_of(X, ("a", arrived, 1.0)), table_of(Y, ("b", arrived, 2.0)))])
        flush(storage)
    write(storage, 40, ("only", 1, 1.0))
    flush(storage)
    storage.log.commit([Deleted(X)])
    storage.history.forget(by_id(Y).copy)
    assert stored(storage) == [(Y.id, "b")] * 3
    assert [run.position for run in storage._runs.runs()] == [10, 20, 30]
    assert [cell.time for cell in read(storage, Y, "b")] == [10, 20, 30]
    storage.history.forget(by_id(Y).copy)


def test_rows_of_a_deleted_feature_do_not_reach_the_history(storage: LocalStorage) -> None:
    storage.log.commit([written(10, table_of(X, ("a", 1, 1.0)), table_of(Y, ("b", 1, 1.0)))])
    write(storage, 20, ("a", 2, 1.0))
    storage.log.commit([Deleted(X)])
    assert flush(storage, by_id(Y)) == 3
    assert stored(storage) == [(Y.id, "b")]
    assert storage.history.plan(10).position == 20


def test_a_feature_registered_again_does_not_see_the_rows_of_the_one_before(storage: LocalStorage) -> None:
    again = a_feature(created=15, value_type="string")
    write(storage, 10, ("a", 1, 1.0))
    flush(storage)
    write(storage, 14, ("a", 2, 1.0))
    storage.log.commit([Deleted(X), Registered(again)])
    write(storage, 20, ("a", 3, "new"), feature=again)
    flush(storage, by_id(again))
    for _ in range(2):
        assert [(cell.time, cell.value) for cell in read(storage, again, "a")] == [(3, "new")]
        assert loaded(storage.history.load(storage.history.plan(10), by_id(again))) == [(again.id, "a", 3, 20)]
        storage.history.forget(by_id(again).copy)
    assert len(stored(storage)) == 1


def test_rows_of_features_that_are_not_registered_are_not_loaded(storage: LocalStorage) -> None:
    storage.log.commit([written(10, table_of(X, ("a", 1, 1.0)), table_of(Y, ("b", 1, 1.0)))])
    flush(storage)
    assert loaded(storage.history.load(storage.history.plan(10), by_id(Y))) == [(Y.id, "b", 1, 10)]
    assert loaded(storage.history.load(storage.history.plan(10), {})) == []


# Retention by age


def test_rows_past_their_age_do_not_reach_the_history(storage: LocalStorage) -> None:
    aged = a_feature(age=3_600)
    edge = NOW - HOUR
    write(storage, 10, ("a", edge - 1, 1.0), ("a", edge, 2.0), feature=aged)
    write(storage, 11, ("b", edge - 1, 3.0), feature=Y)
    assert flush(storage, by_id(aged, Y)) == 3
    assert [cell.value for cell in read(storage, aged, "a")] == [2]
    assert [cell.value for cell in read(storage, Y, "b")] == [3]


def test_a_flush_of_nothing_but_old_rows_moves_on(storage: LocalStorage) -> None:
    aged = a_feature(age=3_600)
    write(storage, 10, ("a", 0, 1.0), feature=aged)
    assert storage.history.flush(by_id(aged).copy, NOW) == (10, 1)
    assert storage.history.flush(by_id(aged).copy, NOW) == (10, 0)
    assert storage._runs.runs() == []
    storage.log.trim(FOREVER, NOW)
    assert replayed(storage, 10) == []


def test_merging_leaves_behind_what_has_come_of_age_since(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 1)
    aged = a_feature(age=3_600)
    features = by_id(aged, Y)
    for arrived in (10, 20):
        write(storage, arrived, ("a", NOW + arrived, 1.0), feature=aged)
        write(storage, arrived + 1, ("b", 0, 1.0), feature=Y)
        flush(storage, features)
    storage.history.compact(features.copy, NOW + HOUR + 11)
    assert [cell.time for cell in read(storage, aged, "a")] == [NOW + 20]
    assert len(read(storage, Y, "b")) == 2
    storage.log.commit([written(30, table_of(aged, ("a", NOW, 1.0)))])
    assert flush(storage, features, NOW) == 1


def test_merging_runs_of_nothing_but_old_rows_leaves_none(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 1)
    aged = a_feature(age=3_600)
    for arrived in (10, 20):
        write(storage, arrived, ("a", NOW, 1.0), feature=aged)
        flush(storage, by_id(aged))
    storage.history.compact(by_id(aged).copy, NOW + 2 * HOUR)
    assert storage._runs.runs() == []
    assert read(storage, aged, "a") == []
    write(storage, 30, ("a", NOW, 2.0), feature=aged)
    flush(storage, by_id(aged))
    assert [cell.value for cell in read(storage, aged, "a")] == [2]


# Merging runs


def test_many_small_runs_are_merged_and_nothing_is_lost(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 3)
    for arrived in range(1, 13):
        storage.log.commit(
            [
                written(
                    arrived,
                    table_of(X, ("a", 5, float(arrived)), (f"e{arrived}", arrived, 0.0)),
                    table_of(Y, ("a", 1, 1.0)),
                )
            ]
        )
        flush(storage)
        storage.history.compact(FEATURES.copy, NOW)
    assert len(storage._runs.runs()) <= 4
    assert [(cell.value, cell.arrived) for cell in read(storage, X, "a")] == [(n, n) for n in range(1, 13)]
    assert len(read(storage, X, *(f"e{n}" for n in range(1, 13)))) == 12
    assert [cell.arrived for cell in read(storage, Y, "a")] == list(range(1, 13))
    assert sum(run.rows for run in storage._runs.runs()) == len(stored(storage)) == 36


def test_few_runs_and_large_ones_are_left_alone(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 2)
    monkeypatch.setattr(actors.storage.embedded.filed, "MAX_RUN_ROWS", 6)
    sizes = [6, 2, 2, 2]
    for arrived, size in enumerate(sizes, 1):
        write(storage, arrived, *(("a", time, 1.0) for time in range(size)))
        flush(storage)
        if arrived == 2:
            storage.history.compact(FEATURES.copy, NOW)
            assert len(storage._runs.runs()) == 2
    storage.history.compact(FEATURES.copy, NOW)
    assert [(run.position, run.rows) for run in storage._runs.runs()] == [(1, 6), (4, 6)]


def test_large_runs_of_long_values_are_left_alone(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    text = a_feature("text", "string")
    monkeypatch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 2)
    monkeypatch.setattr(actors.storage.embedded.filed, "MAX_RUN_BYTES", 20_000)
    for arrived, length in enumerate([15_000, 10_000, 3_000, 3_000], 1):
        write(storage, arrived, ("a", arrived, "x" * length), feature=text)
        flush(storage, by_id(text))
    storage.history.compact(by_id(text).copy, NOW)
    assert [(run.position, run.rows) for run in storage._runs.runs()] == [(1, 1), (4, 3)]
    assert [len(cell.value) for cell in read(storage, text, "a")] == [15_000, 10_000, 3_000, 3_000]


def test_a_checkpoint_moves_a_bounded_number_of_bytes_a_run(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = a_feature("text", "string")
    monkeypatch.setattr(actors.storage.embedded.filed, "FLUSH_BYTES", 1_000)
    for arrived in range(1, 6):
        write(storage, arrived, ("a", arrived, "x" * 600), feature=text)
    moved = [storage.history.flush(by_id(text).copy, NOW) for _ in range(4)]
    assert [(one.position, one.observations) for one in moved] == [(2, 2), (4, 2), (5, 1), (5, 0)]
    assert len(read(storage, text, "a")) == 5


def test_long_values_are_read_few_at_a_time(embedded: EmbeddedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    text = a_feature("text", "string")
    monkeypatch.setattr(actors.storage.embedded.runs, "ROW_GROUP_BYTES", 3_000)
    rows = [("a", time, "x" * (1 + 500 * (time % 3))) for time in range(20)]
    write(embedded, 1, *rows, ("b", 1, "x" * 9_000), feature=text)
    flush(embedded, by_id(text))
    (path,) = (embedded._directory / "history").rglob("*.parquet")
    metadata = pq.ParquetFile(path).metadata
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert sum(groups) == 21
    assert max(groups) <= 6
    assert groups[-1] == 1
    assert [(cell.time, cell.value) for cell in read(embedded, text, "a")] == [
        (time, value) for _, time, value in rows
    ]


ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.none() | st.floats(-9, 9)), min_size=1, max_size=6
)
STEPS = st.lists(
    st.tuples(st.just("write"), ROWS)
    | st.sampled_from([("flush", []), ("trim", []), ("compact", []), ("forget", [])]),
    max_size=20,
)


@given(STEPS)
@settings(deadline=None, max_examples=60)
def test_history_and_journal_together_are_everything_in_order_of_arrival(
    steps: list[tuple[str, list[tuple[str, int, Any]]]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 2)
        patch.setattr(actors.storage.embedded.filed, "FLUSH_VALUES", 4)
        storage = MemoryStorage()
        storage.open()
        check_steps(storage, steps)
        storage.close()


def check_steps(storage: LocalStorage, steps: list[tuple[str, list[tuple[str, int, Any]]]]) -> None:
    oracle: list[Seen] = []
    names = ["a", "b", "c"]
    actions: dict[str, Callable[[], object]] = {
        "flush": lambda: storage.history.flush(FEATURES.copy, NOW),
        "trim": lambda: storage.log.trim(FOREVER, NOW),
        "compact": lambda: storage.history.compact(FEATURES.copy, NOW),
        "forget": lambda: storage.history.forget(FEATURES.copy),
    }
    for arrived, (name, rows) in enumerate(steps, 10):
        if name == "write":
            write(storage, arrived, *rows)
            oracle += [Seen(*row, arrived) for row in rows]
        else:
            actions[name]()
        disk = storage.history.read(X, names, NEVER, FOREVER)
        found = seen(X, names, disk.rows)
        for after, batch in storage.log.replay(disk.position):
            found += [Seen(entity, time, value, after) for entity, time, value in rows_of(batch[0])]
        assert by_pair(found) == by_pair(oracle)


def rows_of(table: Table) -> list[tuple[str, int, Any]]:
    (column,) = table.columns
    values = render("number", column.values, column.nulls)
    return list(zip(table.entities, table.times.tolist(), values, strict=True))


def by_pair(cells: list[Seen]) -> dict[tuple[str, int], list[Seen]]:
    """The observations of each entity and moment, in the order given."""
    pairs: dict[tuple[str, int], list[Seen]] = {}
    for cell in cells:
        pairs.setdefault(cell[:2], []).append(cell)
    return pairs


# What a rebuild loads


def test_all_runs_are_loaded_where_they_fit(storage: LocalStorage) -> None:
    for arrived in (10, 20, 30):
        storage.log.commit([written(arrived, table_of(X, ("a", 5, 1.0)), table_of(Y, ("b", arrived, 1.0)))])
        flush(storage)
    plan = storage.history.plan(6)
    assert (plan.position, plan.base_floor) == (30, NEVER)
    rows = loaded(storage.history.load(plan, FEATURES))
    assert [row for row in rows if row[0] == X.id] == [(X.id, "a", 5, arrived) for arrived in (10, 20, 30)]
    assert [row for row in rows if row[0] == Y.id] == [(Y.id, "b", arrived, arrived) for arrived in (10, 20, 30)]


@pytest.mark.parametrize("budget", [0, 1, 2, 5, 6])
def test_the_floor_is_above_everything_that_a_small_budget_leaves_on_disk(
    storage: LocalStorage, budget: int
) -> None:
    times = {10: [NOW + 7, 3], 20: [NOW, NOW + 999], 30: [1, NOW - 1]}
    for arrived, (first, second) in times.items():
        write(storage, arrived, ("a", first, 1.0), ("b", second, 1.0))
        flush(storage)
    plan = storage.history.plan(budget)
    taken = {arrived for _, _, _, arrived in loaded(storage.history.load(plan, FEATURES))}
    assert taken == set(list(times)[len(times) - budget // 2 :])
    left = [time for arrived, both in times.items() if arrived not in taken for time in both]
    assert plan.base_floor > max(left, default=NEVER) or not left
    assert plan.base_floor <= max(left, default=NEVER) + 2_000


@pytest.mark.parametrize("greatest", [EARLIEST, -1, 0, 999, 1_000, NOW + 999_999, LATEST])
def test_the_floor_is_right_for_any_moment(storage: LocalStorage, greatest: int) -> None:
    write(storage, 10, ("a", greatest, 1.0))
    flush(storage)
    assert greatest < storage.history.plan(0).base_floor <= greatest + 2_000


def test_rows_are_loaded_in_order_of_arrival_within_each_pair(storage: LocalStorage) -> None:
    write(storage, 10, ("b", 2, 1.0), ("a", 2, 2.0), ("b", 2, 3.0))
    write(storage, 20, ("b", 2, None), ("a", 1, 5.0))
    flush(storage)
    ((table, arrived),) = storage.history.load(storage.history.plan(10), FEATURES)
    (one,) = flat([table])
    assert one.entities == ["a", "a", "b", "b", "b"]
    assert arrived.tolist() == [20, 10, 10, 10, 20]
    assert one.values.tolist()[:4] == [5.0, 2.0, 1.0, 3.0]
    assert one.nulls.tolist() == [False] * 4 + [True]


# The embedded storage: what is on disk


def reopened(storage: EmbeddedStorage, path: Path) -> EmbeddedStorage:
    storage.close()
    again = EmbeddedStorage(str(path))
    again.open()
    return again


def test_opening_again_gives_everything_back(tmp_path: Path) -> None:
    storage = EmbeddedStorage(str(tmp_path))
    assert storage.open() == ([], [], 0, 0, None, [])
    group = Group(name="g", entity="user", features=(X.id,), created=3, updated=4)
    storage.log.commit([Registered(X, [group]), Registered(Y), Grouped(msgspec.structs.replace(group, name="h"))])
    gone = msgspec.structs.replace(PAIR, name="gone")
    storage.log.commit(
        [Catalogued(MODEL), Catalogued(msgspec.structs.replace(PAIR, owner="they")), Catalogued(gone)]
    )
    owned = msgspec.structs.replace(group, name="k")
    storage.log.commit([Together([Catalogued(PAIR), Grouped(owned)])])
    storage.log.commit([Uncatalogued("entity", "gone"), Uncatalogued("service", "pair")])
    write(storage, 10, ("a", 1, 1.0))
    flush(storage)
    storage.log.trim(FOREVER, NOW)
    storage.log.commit([written(20, table_of(X, ("a", 2, 2.0)), key="k", answer=b"1"), Ungrouped("h")])
    storage.summaries.save(10, {SummaryKey(X.id, X.created, 0, 0): b"state"}, b"".join)
    storage.close()
    with_all = EmbeddedStorage(str(tmp_path))
    recovered = with_all.open()
    assert {feature.id: feature for feature in recovered.features} == FEATURES
    assert recovered.groups == [group, owned]
    assert sorted(recovered.catalogue, key=lambda record: record.key) == [MODEL, PAIR]
    assert (recovered.last_arrived, recovered.unflushed, recovered.moment) == (20, 1, NOW)
    assert replayed(with_all, 10) == [20]
    assert [cell.value for cell in read(with_all, X, "a")] == [1]
    assert with_all.log.answers(["k"], 0) == {"k": b"1"}
    assert with_all.summaries.read_whole(X) == (10, {Window(0, 0): b"state"})
    assert with_all.log.trimmed() == 10
    assert flush(with_all) == 1
    assert [cell.value for cell in read(with_all, X, "a")] == [1, 2]
    with_all.close()


def test_a_deletion_that_was_not_carried_out_is_after_the_next_start(tmp_path: Path) -> None:
    storage = EmbeddedStorage(str(tmp_path))
    storage.open()
    storage.log.commit([Registered(X), Registered(Y)])
    write(storage, 10, ("a", 1, 1.0))
    flush(storage)
    storage.log.commit([Deleted(X)])
    storage = reopened(storage, tmp_path)
    storage.history.forget(by_id(Y).copy)
    assert stored(storage) == []
    storage.close()


def test_a_directory_in_use_is_refused_by_its_name(embedded: EmbeddedStorage, tmp_path: Path) -> None:
    second = EmbeddedStorage(str(tmp_path / "data"))
    with pytest.raises(StartupError, match=f"in use by process {os.getpid()}"):
        second.open()
    second.close()


def test_a_file_in_the_place_of_the_directory_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StartupError, match="data"):
        EmbeddedStorage(str(tmp_path / "data")).open()


def commit_unknown_to_the_journal(storage: EmbeddedStorage, arrived: int) -> Change:
    """What a crash leaves behind that comes after the history was written and before the journal knew."""
    batch = [table_of(X, ("a", arrived, float(arrived)))]
    storage.log.commit([written(arrived, *batch)])
    return storage._runs.append(arrived, layout.to_table([(arrived, batch)], FEATURES))


@pytest.mark.parametrize("flushes", [0, 1, 3])
def test_a_history_commit_that_the_journal_does_not_know_is_undone(tmp_path: Path, flushes: int) -> None:
    storage = EmbeddedStorage(str(tmp_path))
    storage.open()
    for arrived in range(1, flushes + 1):
        write(storage, arrived, ("a", arrived, float(arrived)))
        flush(storage)
    commit_unknown_to_the_journal(storage, 9)
    storage = reopened(storage, tmp_path)
    assert replayed(storage, flushes) == [9]
    assert [cell.arrived for cell in read(storage, X, "a")] == list(range(1, flushes + 1))
    assert flush(storage) == 1
    assert [cell.arrived for cell in read(storage, X, "a")] == [*range(1, flushes + 1), 9]
    storage = reopened(storage, tmp_path)
    assert [cell.arrived for cell in read(storage, X, "a")] == [*range(1, flushes + 1), 9]
    storage.close()


def test_a_merge_that_the_journal_does_not_know_is_undone(tmp_path: Path) -> None:
    storage = EmbeddedStorage(str(tmp_path))
    storage.open()
    for arrived in (1, 2):
        write(storage, arrived, ("a", arrived, 1.0))
        flush(storage)
    runs = storage._runs.runs()
    storage._runs.replace(1, 2, layout.merge_tables([run.table() for run in runs]))
    storage = reopened(storage, tmp_path)
    assert [run.position for run in storage._runs.runs()] == [1, 2]
    assert [cell.arrived for cell in read(storage, X, "a")] == [1, 2]
    storage.close()


def test_no_commit_tidies_the_log_before_the_journal_knows_of_it(tmp_path: Path) -> None:
    storage = EmbeddedStorage(str(tmp_path))
    storage.open()
    log = tmp_path / "history" / "_delta_log"
    for count in range(1, 10):
        change = commit_unknown_to_the_journal(storage, count)
        assert sorted(path.name for path in log.glob("*[a-z]")) == [
            f"{version:020}.json" for version in range(count)
        ]
        # The journal learns of this one. The log is two days old when the next comes.
        storage.log.set_history(count, change)
        storage._runs.adopt(change)
        for file in log.iterdir():
            os.utime(file, (0, 0))
    commit_unknown_to_the_journal(storage, 10)
    storage = reopened(storage, tmp_path)
    assert [cell.arrived for cell in read(storage, X, "a")] == list(range(1, 10))
    assert flush(storage) == 1
    assert [cell.arrived for cell in read(storage, X, "a")] == list(range(1, 11))
    storage.close()


@pytest.mark.parametrize("torn", [b"", b"\x00" * 200, b'{"add": {"path": "run=9/par', b'{"commitInfo": {}}\n'])
def test_a_history_commit_that_was_torn_is_undone(tmp_path: Path, torn: bytes) -> None:
    storage = EmbeddedStorage(str(tmp_path))
    storage.open()
    write(storage, 1, ("a", 1, 1.0))
    flush(storage)
    (tmp_path / "history" / "_delta_log" / f"{1:020}.json").write_bytes(torn)
    storage = reopened(storage, tmp_path)
    write(storage, 2, ("a", 2, 1.0))
    flush(storage)
    assert [cell.arrived for cell in read(storage, X, "a")] == [1, 2]
    storage.close()


@pytest.mark.parametrize("deletions", [1, 2, 3])
def test_a_history_that_was_tidied_again_and_again_without_a_write_opens(tmp_path: Path, deletions: int) -> None:
    storage = EmbeddedStorage(str(tmp_path))
    storage.open()
    storage.log.commit([written(10, table_of(X, ("a", 1, 1.0)), table_of(Y, ("a", 1, 1.0)))])
    flush(storage)
    for gone in (Y, a_feature("never"), a_feature("neither"))[:deletions]:
        storage.log.commit([Deleted(gone)])
        storage.history.forget(by_id(X).copy)
        # Two days go by.
        for file in (tmp_path / "history" / "_delta_log").iterdir():
            os.utime(file, (0, 0))
    storage = reopened(storage, tmp_path)
    assert [cell.arrived for cell in read(storage, X, "a")] == [10]
    write(storage, 20, ("a", 2, 1.0))
    flush(storage)
    storage = reopened(storage, tmp_path)
    assert [cell.arrived for cell in read(storage, X, "a")] == [10, 20]
    storage.close()


def files_with(path: Path, feature: Feature) -> list[Path]:
    """The history files that hold rows of a feature, whether the table knows them or not."""
    return [
        file
        for file in sorted((path / "history").rglob("*.parquet"))
        if "_delta_log" not in file.parts
        and feature.id in pq.ParquetFile(file).read(["feature"])["feature"].to_pylist()
    ]


def test_no_file_has_rows_of_a_forgotten_feature(embedded: EmbeddedStorage, tmp_path: Path) -> None:
    embedded.log.commit([written(10, table_of(X, ("a", 1, 1.0)), table_of(Y, ("b", 1, 1.0)))])
    flush(embedded)
    write(embedded, 20, ("a", 2, 1.0))
    flush(embedded)
    assert len(files_with(tmp_path / "data", X)) == 2
    embedded.log.commit([Deleted(X)])
    embedded.history.forget(by_id(Y).copy)
    assert files_with(tmp_path / "data", X) == []
    assert len(files_with(tmp_path / "data", Y)) == 1


def test_no_file_of_a_commit_that_was_undone_has_rows_of_a_forgotten_feature(tmp_path: Path) -> None:
    storage = EmbeddedStorage(str(tmp_path))
    storage.open()
    write(storage, 1, ("a", 1, 1.0))
    flush(storage)
    commit_unknown_to_the_journal(storage, 2)
    storage = reopened(storage, tmp_path)
    flush(storage)
    storage.log.commit([Deleted(X)])
    storage.history.forget(by_id(Y).copy)
    storage.close()
    assert files_with(tmp_path, X) == []


def test_a_half_written_history_file_is_passed_over(tmp_path: Path) -> None:
    storage = EmbeddedStorage(str(tmp_path))
    storage.open()
    write(storage, 10, ("a", 1, 1.0))
    flush(storage)
    (whole,) = files_with(tmp_path, X)
    (whole.parent / "part-00000-half.parquet").write_bytes(whole.read_bytes()[:100])
    (tmp_path / "history" / "run=9").mkdir()
    (tmp_path / "history" / "run=9" / "part-00000-empty.parquet").write_bytes(b"")
    storage = reopened(storage, tmp_path)
    assert [cell.arrived for cell in read(storage, X, "a")] == [10]
    write(storage, 20, ("a", 2, 1.0))
    flush(storage)
    assert [cell.arrived for cell in read(storage, X, "a")] == [10, 20]
    storage.close()


def test_no_parquet_file_is_ever_half_there(embedded: EmbeddedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "no space left")

    history = embedded._directory / "history"
    write(embedded, 10, ("a", 1, 1.0))
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", fails)
        with pytest.raises(StorageDown, match="no space left"):
            flush(embedded)
    assert list(history.rglob("*.parquet")) == []
    flush(embedded)
    embedded.history._vacuum(0)
    assert [path.suffix for path in history.glob("run=*/*")] == [".parquet"]


@pytest.mark.parametrize(
    "names",
    [
        ("data [1]",),
        ("repo%2Fbranch", "repo/branch"),
        ("a%20b", "a b", "a%2520b"),
        (
            "x#1?y=2&z",
            "~",
            "{a}*",
            "ünï\u200d",
            "s3:",
            "file:",
            "back\\slash",
            "new\nline",
            "^`|<>\"'",
            "%",
            "%zz",
        ),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_a_directory_of_any_name_keeps_its_own_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 1)
    for round_ in (1, 2):
        for place, name in enumerate(names):
            storage = EmbeddedStorage(name if relative else str(tmp_path / name))
            storage.open()
            write(storage, 10 * round_, ("a", round_, float(place)))
            flush(storage)
            storage.history.compact(FEATURES.copy, NOW)
            storage.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({Path(name).parts[0] for name in names})
    for place, name in enumerate(names):
        storage = EmbeddedStorage(name)
        storage.open()
        assert len(storage._runs.runs()) == 1
        assert [(cell.time, cell.value) for cell in read(storage, X, "a")] == [(1, place), (2, place)]
        storage.close()


def as_written_before(directory: Path, tables: Mapping[int, pa.Table]) -> None:
    """Have the history as the deltalake library writes it, and a journal that knows nothing but its version."""
    storage = EmbeddedStorage(str(directory))
    storage.open()
    storage.log.commit([Registered(X)])
    for run, table in tables.items():
        named = table.append_column("run", pa.repeat(pa.scalar(run, pa.int64()), table.num_rows))
        write_deltalake(str(directory / "history"), named, partition_by=["run"], mode="append")
    table = DeltaTable(str(directory / "history"))
    table.delete("run = 1")
    table.create_checkpoint()
    write_deltalake(str(directory / "history"), named, mode="overwrite", predicate="run = 30")
    storage.log.set_history(30, Change(DeltaTable(str(directory / "history")).version()))
    storage.close()


def test_a_history_that_the_deltalake_library_wrote_opens_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {run: [(run, [table_of(X, ("a", run, float(run))), table_of(Y, ("a", 1, 0.0))])] for run in (1, 20, 30)}
    as_written_before(tmp_path, {run: layout.to_table(batch, FEATURES) for run, batch in rows.items()})
    storage = EmbeddedStorage(str(tmp_path))
    storage.open()
    assert [cell.arrived for cell in read(storage, X, "a")] == [20, 30]
    assert [run.features[X.id] for run in storage._runs.runs()] == [(20, 20), (30, 30)]
    monkeypatch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 1)
    write(storage, 40, ("a", 40, 1.0))
    flush(storage)
    storage.history.compact(FEATURES.copy, NOW)
    storage = reopened(storage, tmp_path)
    assert [cell.arrived for cell in read(storage, X, "a")] == [20, 30, 40]
    assert len(storage._runs.runs()) == 1
    assert DeltaTable(str(tmp_path / "history")).to_pyarrow_table().num_rows == 5
    storage.close()


def test_others_read_the_table_when_its_log_has_been_summed_up(
    embedded: EmbeddedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 1)
    rows = [(10, EARLIEST), (20, LATEST), (30, 1_500)]
    for arrived, time in rows:
        write(embedded, arrived, ('é😀"', time, 1.0))
        flush(embedded)
        embedded.history.compact(FEATURES.copy, NOW)
        for file in (tmp_path / "data" / "history" / "_delta_log").iterdir():
            os.utime(file, (0, 0))
    embedded.history._vacuum(0)
    log = tmp_path / "data" / "history" / "_delta_log"
    table = DeltaTable(str(tmp_path / "data" / "history"))
    assert sorted(path.suffix for path in log.iterdir()) == ["", ".json", ".parquet"]
    assert table.to_pyarrow_table()["arrived_at"].cast(pa.int64()).to_pylist() == [10, 30, 20]
    (stats,) = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    assert (stats["num_records"], stats["min.entity_id"]) == (3, 'é😀"')
    assert stats["min.event_timestamp"].year == 1 and stats["max.event_timestamp"].year == 9999
    columns = ["add", "metaData", "protocol"]
    checkpoint = pq.read_table(next(log.glob("*.parquet")), columns=columns).to_pylist()
    named = [name for row in checkpoint for name, body in row.items() if body]
    assert named == ["protocol", "metaData", "add"]


def test_a_journal_that_is_garbage_is_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"this is not a database at all\n" * 500)
    storage = EmbeddedStorage(str(tmp_path))
    with pytest.raises(StartupError, match=r"journal\.db"):
        storage.open()
    storage.close()


def test_a_journal_of_another_format_is_refused(tmp_path: Path) -> None:
    storage = EmbeddedStorage(str(tmp_path))
    storage.open()
    with storage.log.transaction() as database:
        set_meta(database, format=99)
    storage.close()
    with pytest.raises(StartupError, match="99"):
        storage.open()
    storage.close()


def copied(directory: Path, to: Path) -> EmbeddedStorage:
    """The files as a crash would leave them, opened by another."""
    to.mkdir()
    for name in ("journal.db", "journal.db-wal"):
        shutil.copy(directory / name, to / name)
    return EmbeddedStorage(str(to))


@pytest.mark.parametrize(
    "garbage", [b"\x00" * 32, b"\xff" * 4_096 * 3, os.urandom(5_000)], ids=["zero", "ones", "any"]
)
def test_garbage_at_the_end_of_the_log_loses_nothing_that_was_committed(
    embedded: EmbeddedStorage, tmp_path: Path, garbage: bytes
) -> None:
    for arrived in range(1, 21):
        write(embedded, arrived, ("a", arrived, 1.0))
    torn = copied(tmp_path / "data", tmp_path / "torn")
    with (tmp_path / "torn" / "journal.db-wal").open("ab") as wal:
        wal.write(garbage)
    torn.open()
    assert replayed(torn) == list(range(1, 21))
    write(torn, 21, ("a", 1, 1.0))
    assert replayed(torn, 19) == [20, 21]
    torn.close()


@pytest.mark.parametrize("cut", [1, 100, 4_000, 5_000, 20_000, 100_000])
def test_a_log_cut_off_anywhere_keeps_whole_commits_up_to_there(
    embedded: EmbeddedStorage, tmp_path: Path, cut: int
) -> None:
    for first in range(1, 41, 2):
        embedded.log.commit([written(arrived, table_of(X, ("a", arrived, 1.0))) for arrived in (first, first + 1)])
    torn = copied(tmp_path / "data", tmp_path / "torn")
    wal = tmp_path / "torn" / "journal.db-wal"
    os.truncate(wal, max(0, wal.stat().st_size - cut))
    torn.open()
    arrivals = replayed(torn)
    assert arrivals == list(range(1, len(arrivals) + 1))
    assert len(arrivals) % 2 == 0
    assert len(arrivals) < 40
    torn.close()


# The embedded storage: what others read


def test_duckdb_reads_the_history_files(embedded: EmbeddedStorage, tmp_path: Path) -> None:
    text = a_feature("t", "string")
    storage_rows = [("a", NOW, 1.5), ("a", NOW, 2.5), ("b", NOW + 1, None)]
    embedded.log.commit([written(NOW, table_of(X, *storage_rows), table_of(text, ("é", EARLIEST, "v")))])
    flush(embedded, by_id(X, text))
    files = str(tmp_path / "data" / "history" / "**" / "*.parquet")
    query = (
        "SELECT feature, entity_id, epoch_us(event_timestamp), epoch_us(arrived_at), number, string "
        f"FROM read_parquet('{files}') ORDER BY feature, entity_id, event_timestamp, number"
    )
    with duckdb.connect() as connection:
        found = connection.execute(query).fetchall()
    assert found == [
        (text.id, "é", EARLIEST, NOW, None, "v"),
        (X.id, "a", NOW, NOW, 1.5, None),
        (X.id, "a", NOW, NOW, 2.5, None),
        (X.id, "b", NOW + 1, NOW, None, None),
    ]


def test_the_history_is_a_delta_table(
    embedded: EmbeddedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.storage.embedded.filed, "RUNS_BEFORE_COMPACTION", 1)
    feature = a_feature(value_type="vector")
    for arrived in (10, 20, 30):
        write(embedded, arrived, ("a", arrived, [1.0, 2.0]), ("b", arrived, None), feature=feature)
        flush(embedded, by_id(feature))
        embedded.history.compact(by_id(feature).copy, NOW)
    table = DeltaTable(str(tmp_path / "data" / "history")).to_pyarrow_table()
    assert table.num_rows == 6
    columns = table.select(["entity_id", "event_timestamp", "vector", "number"])
    rows = sorted(zip(*columns.to_pydict().values(), strict=True), key=repr)
    assert [(entity, vector, number) for entity, _, vector, number in rows] == [
        *[("a", [1.0, 2.0], None)] * 3,
        *[("b", None, None)] * 3,
    ]
    assert table.schema.field("event_timestamp").type == pa.timestamp("us", "UTC")


# Tables


def test_runs_merged_in_order_of_arrival_are_one_sorted_run() -> None:
    tables = [
        layout.to_table(
            [(arrived, [table_of(X, ("b", 2, float(arrived)), ("a", arrived, 0.0)), table_of(Y, ("a", 1, 0.0))])],
            FEATURES,
        )
        for arrived in (1, 2, 3)
    ]
    merged = layout.merge_tables(tables)
    assert merged.schema.equals(layout.SCHEMA)
    assert merged["arrived_at"].cast(pa.int64()).to_pylist() == [1, 2, 3] * 3
    assert merged["feature"].to_pylist() == [X.id] * 6 + [Y.id] * 3


def test_a_table_of_nothing_has_the_columns_of_the_history() -> None:
    assert layout.to_table([], FEATURES).schema.equals(layout.SCHEMA)
    assert layout.greatest_time(layout.to_table([], FEATURES)) == NEVER


def test_rows_from_disk_merge_to_the_last_arrival_of_each_moment(storage: LocalStorage) -> None:
    write(storage, 10, ("a", 5, 1.0), ("b", 5, 1.0))
    flush(storage)
    write(storage, 20, ("a", 5, 2.0))
    flush(storage)
    rows = merge([storage.history.read(X, ["b", "a"], NEVER, FOREVER).rows])
    assert (rows.slots.tolist(), rows.values.tolist()) == ([0, 1], [1.0, 2.0])


def test_reading_the_history_takes_its_memory_from_the_system() -> None:
    """In a process of its own: Arrow chooses its allocator when it is imported."""
    said = subprocess.run([sys.executable, "-c", _READ_A_RUN], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["0", "True"]


_READ_A_RUN = """
import tempfile
from pathlib import Path
from actors.storage.embedded.layout import SCHEMA
from actors.storage.embedded.runs import DeltaRuns
import pyarrow as pa
import pyarrow.compute as pc
columns = {field.name: pa.nulls(100_000, field.type) for field in SCHEMA}
columns["number"] = pa.repeat(1.0, 100_000)
columns["feature"] = columns["entity_id"] = pa.repeat("x", 100_000)
columns["event_timestamp"] = pa.array(range(100_000), pa.timestamp("us", "UTC"))
with tempfile.TemporaryDirectory() as directory:
    runs = DeltaRuns(Path(directory))
    runs.adopt(runs.append(1, pa.table(columns, SCHEMA)))
    read = pa.Table.from_batches(runs.runs()[0].scan(SCHEMA.names, pc.field("number") > 0))
print(pa.mimalloc_memory_pool().max_memory(), pa.system_memory_pool().max_memory() > 0)
"""
