"""Rows as they were sent: a batch is judged as each of its rows would be alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain import FeatureChange, ValueSchema
from actors.errors import Conflict, InvalidInput, NotFound
from actors.ingest.entity_ids import MOST_FAULTS_NAMED, check_entity_id, check_entity_ids
from actors.ingest.sent import (
    Ingested,
    Sent,
    ingest,
    judging,
    resolve_version,
)
from actors.registry import FeatureRegistry
from actors.timestamps import parse_timestamp
from actors.types.values import render
from tests.batches import flat

NOW = 1_762_509_600_000_000
CHANGES = [
    FeatureChange(entity="user", name="clicks", value_type="integer", schema=ValueSchema(min=0)),
    FeatureChange(entity="user", name="clicks", value_type="number", version=2),
    FeatureChange(entity="user", name="name", value_type="string"),
    FeatureChange(entity="item", name="name", value_type="string", schema=ValueSchema(nullable=False)),
    FeatureChange(entity="user", name="place", value_type="vector", schema=ValueSchema(dimension=2)),
]
REFERENCES = st.sampled_from(
    [
        "user.clicks.v1",
        "user.clicks",
        "clicks",
        "user.name",
        "name",
        "item.name.v1",
        "place",
        "nobody",
        "a.b.c.d",
        "",
    ]
)
ENTITY_IDS = st.sampled_from(["u1", "u2", "üser", "😀", "a b"]) | st.sampled_from(
    ["", "a\nb", "\x7f", "\x85", "x" * 513, "é" * 257, "x" * 512, "é" * 256, "\u200b", "\u2028"]
)
VALUES: st.SearchStrategy[Any] = st.sampled_from([0, 1, -1, 2.5, None, "text", True, [1, 2], [1], {}])
TIMESTAMPS = st.sampled_from(
    [
        None,
        "2025-11-07T10:00:00Z",
        "2025-11-07T10:00:00.250Z",
        "2025-11-07T12:00:00+02:00",
        "2025-02-29T10:00:00Z",
        "0000-01-01T00:00:00Z",
        "",
        "now",
    ]
)
ROWS = st.lists(
    st.tuples(REFERENCES, ENTITY_IDS, VALUES, TIMESTAMPS, st.sampled_from([None, None, 1, 2, 3])), max_size=12
)
GOOD_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["clicks", "user.name.v1", "user.clicks.v1"]),
        st.sampled_from(["u1", "u2"]),
        st.none(),
        st.sampled_from(["2025-11-07T10:00:00Z", "2025-11-07T10:00:01Z"]),
        st.none(),
    ),
    max_size=8,
)
Row = tuple[str, str, Any, str | None, int | None]


def registry() -> FeatureRegistry:
    made = FeatureRegistry()
    for now, change in enumerate(CHANGES, 1):
        made.apply(made.registration(change, now)[0])
    return made


REGISTRY = registry()


def sent(rows: Sequence[Row]) -> Sent:
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 5
    return Sent(*columns)


def judged(*rows: Row) -> Ingested:
    return ingest(REGISTRY, sent(rows), NOW)


def written(ingested: Ingested) -> dict[str, list[tuple[str, int, Any]]]:
    """By feature: its rows in order of arrival."""
    found = {}
    for one in flat(ingested.batch):
        feature = REGISTRY.features[one.feature]
        assert one.created == feature.created
        values = render(feature.value_type, one.values, one.nulls)
        assert one.feature not in found
        found[one.feature] = list(zip(one.entities, one.times.tolist(), values, strict=True))
    return found


@given(ROWS | GOOD_ROWS)
@settings(deadline=None, max_examples=300)
def test_a_batch_is_judged_as_each_of_its_rows_would_be_alone(rows: list[Row]) -> None:
    whole = judged(*rows)
    expected: dict[str, list[tuple[str, int, Any]]] = {}
    blamed = []
    for index, row in enumerate(rows):
        alone = judged(row)
        blamed += [(index, fault.field, fault.message) for fault in alone.faults]
        assert alone.accepted == (0 if alone.faults else 1)
        for id_, own in written(alone).items():
            expected.setdefault(id_, []).extend(own)
    assert written(whole) == expected
    assert sorted((fault.index, fault.field, fault.message) for fault in whole.faults) == sorted(blamed)
    assert [fault.index for fault in whole.faults] == sorted(index for index, _, _ in blamed)
    assert whole.accepted == sum(map(len, expected.values()))


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        (("user.name.v1", "", "a", None, None), ["entityId"]),
        (("user.name.v1", "u\x00", "a", None, None), ["entityId"]),
        (("user.name.v1", "u", 5, None, None), ["value"]),
        (("user.name.v1", "u", "a", "soon", None), ["timestamp"]),
        (("user.name.v1", "u", "a", None, 2), ["version"]),
        (("user.nobody.v1", "u", "a", None, None), ["featureId"]),
        (("name", "u", "a", None, None), ["featureId"]),
        (("user.name.v1", "", 5, "soon", None), ["entityId", "timestamp", "value"]),
    ],
)
def test_each_fault_names_its_field_and_its_row(row: Row, fields: list[str]) -> None:
    good: Row = ("user.name.v1", "u", "a", None, None)
    found = judged(good, row, good)
    assert sorted(fault.field for fault in found.faults) == fields
    assert {fault.index for fault in found.faults} == {1}
    assert found.accepted == 2


@pytest.mark.parametrize("entities", [3, 2_000])
def test_features_of_the_same_entities_and_times_have_the_same_keys(entities: int) -> None:
    names, when = ["clicks", "user.name.v1", "place"], "2025-11-07T09:00:00Z"
    values: list[Any] = [1, "text", [1, 2]]
    rows = [
        (name, f"u{number}", value, when if name != "place" or number else None, None)
        for number in range(entities)
        for name, value in zip(names, values, strict=True)
    ]
    batch = judged(*rows).batch
    assert [len(table.columns) for table in batch] == [2, 1]
    clicks, _, place = flat(batch)
    assert list(clicks.entities) == list(place.entities) == [f"u{number}" for number in range(entities)]


def test_nothing_sent_is_nothing_written() -> None:
    assert judged() == Ingested([], 0, [])


def test_a_missing_timestamp_is_now_and_a_given_one_is_kept() -> None:
    found = judged(
        ("place", "a", [1, 2], None, None),
        ("place", "b", [1, 2], "2025-11-07T10:00:00.000001Z", None),
        ("place", "c", None, None, None),
    )
    moment = parse_timestamp("2025-11-07T10:00:00.000001Z")
    assert [time for _, time, _ in written(found)["user.place.v1"]] == [NOW, moment, NOW]


def test_references_to_one_feature_by_several_names_are_one_block_in_order_of_arrival() -> None:
    rows: list[Row] = [
        ("clicks", "a", 1, None, None),
        ("user.clicks.v2", "b", 2, None, None),
        ("user.clicks", "c", 3, None, 2),
        ("user.clicks", "d", 4, None, 1),
        ("user.clicks.v1", "e", 5, None, 1),
    ]
    found = written(judged(*rows))
    assert [entity for entity, _, _ in found["user.clicks.v2"]] == ["a", "b", "c"]
    assert [entity for entity, _, _ in found["user.clicks.v1"]] == ["d", "e"]


def test_equal_observations_of_one_batch_are_all_kept_in_order() -> None:
    found = judged(*(("user.name.v1", "u", str(number), "2025-11-07T10:00:00Z", None) for number in range(3)))
    assert [value for _, _, value in written(found)["user.name.v1"]] == ["0", "1", "2"]


def test_a_batch_of_nothing_but_faults_names_so_many_and_writes_none() -> None:
    found = judged(*(("user.name.v1", "", "a", None, None) for _ in range(MOST_FAULTS_NAMED + 1)))
    assert (found.batch, found.accepted) == ([], 0)
    assert [fault.index for fault in found.faults] == list(range(MOST_FAULTS_NAMED))


# Entity ids


@given(st.lists(ENTITY_IDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=8))
@settings(deadline=None, max_examples=200)
def test_entity_ids_are_checked_together_as_they_are_alone(entities: list[str]) -> None:
    alone = [(index, why) for index, entity in enumerate(entities) if (why := check_entity_id(entity))]
    assert check_entity_ids(entities) == alone


@pytest.mark.parametrize("entity", ["a", "x" * 512, "é" * 256, "😀" * 128, "a b", "../etc", "\u200b", "\u00a0"])
def test_any_text_up_to_512_bytes_is_an_entity_id(entity: str) -> None:
    assert check_entity_id(entity) is None
    assert check_entity_ids(["x", entity]) == []


@pytest.mark.parametrize(
    "entity", ["", "x" * 513, "é" * 257, "😀" * 129, "a\n", "\x00", "\t", "\x1f", "\x7f", "\x80", "\x9f"]
)
def test_empty_long_and_control_characters_are_refused(entity: str) -> None:
    assert check_entity_id(entity) is not None
    assert [index for index, _ in check_entity_ids(["x", entity])] == [1]


# Versions


@pytest.mark.parametrize(
    ("reference", "version", "id_"),
    [
        ("user.clicks.v1", None, "user.clicks.v1"),
        ("user.clicks.v1", 1, "user.clicks.v1"),
        ("user.clicks", None, "user.clicks.v2"),
        ("user.clicks", 1, "user.clicks.v1"),
        ("clicks", 2, "user.clicks.v2"),
    ],
)
def test_a_version_beside_a_reference_picks_it(reference: str, version: int | None, id_: str) -> None:
    assert resolve_version(REGISTRY, reference, version).id == id_


@pytest.mark.parametrize(
    ("reference", "version", "error"),
    [
        ("user.clicks.v1", 2, InvalidInput),
        ("user.clicks.v1", 0, InvalidInput),
        ("clicks", 3, NotFound),
        ("nobody", 1, NotFound),
        ("name", 1, Conflict),
    ],
)
def test_a_version_that_contradicts_is_refused(reference: str, version: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        resolve_version(REGISTRY, reference, version)


@pytest.mark.parametrize(("each_seconds", "steps"), [(0.0, 2), (1.0, 33)])
def test_values_that_take_long_are_judged_fewer_at_a_time(
    monkeypatch: pytest.MonkeyPatch, each_seconds: float, steps: int
) -> None:
    rows: list[Row] = [("user.clicks.v1", f"u{number}", number, None, None) for number in range(40)]
    rows[37] = ("user.clicks.v1", "u", -1, None, None)
    expected = judged(*rows)
    moments = count(0, each_seconds)
    monkeypatch.setattr("actors.ingest.sent.time.perf_counter", lambda: next(moments))
    judging_steps, taken = judging(REGISTRY, sent(rows), NOW), 0
    while True:
        try:
            next(judging_steps)
        except StopIteration as done:
            assert done.value.faults == expected.faults and [one.index for one in expected.faults] == [37]
            assert written(done.value) == written(expected)
            break
        taken += 1
    assert taken >= steps
