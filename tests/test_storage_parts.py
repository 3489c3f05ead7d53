"""What each part of a storage promises, held by every storage that has the part."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from actors.domain import VALUE_TYPES, Feature, Group
from actors.errors import Conflict
from actors.opening import AnyStorage
from actors.stats.windows import DAY, FIVE_MINUTES, WHOLE, Window, coarser
from actors.storage.carrying import fingerprints
from actors.storage.embedded.local import LocalStorage, MemoryStorage
from actors.storage.entries import Catalogued, Deleted, Erased, Grouped, Noted, Registered, Uncatalogued, Written
from actors.storage.protocol import LatestQuestion, Storage, SummaryKey
from actors.table.batch import Table
from actors.table.grid import Features
from actors.table.rows import Rows, merge
from actors.timestamps import FOREVER, NEVER
from actors.types.values import render
from tests.actors.test_storage import MODEL, PAIR, VALUES, X, Y, a_feature, by_id, seen, table_of
from tests.conftest import SHARED_STORES
from tests.live import storage_over

KNOWN = by_id(X, msgspec.structs.replace(Y, created=1))
BOTH = list(KNOWN.values())
AT_NO_TIME = 0


@pytest.fixture
def storage(any_storage: AnyStorage) -> AnyStorage:
    """A storage of any kind in which two features are registered."""
    any_storage.log.commit([Registered(feature) for feature in BOTH])
    return any_storage


def batch(arrived: int, *tables: Table, key: str | None = None, answer: bytes = b"{}") -> Written:
    return Written(arrived, tables, key, answer)


def settle(storage: Storage, known: Any = KNOWN) -> None:
    """What waits in a journal moves into the history; elsewhere all is there at once."""
    if isinstance(storage, LocalStorage):
        while storage.history.flush(lambda: known, AT_NO_TIME).observations:
            pass


def cells(feature: Feature, entities: list[str], rows: Rows) -> list[tuple[str, int, Any]]:
    return [tuple(cell[:3]) for cell in seen(feature, entities, rows)]


# The log


def test_a_new_log_has_nothing(any_storage: AnyStorage) -> None:
    log = any_storage.log
    assert list(log.replay(log.trimmed())) == []
    assert log.answers(["k"], 0) == {}
    log.trim(FOREVER, AT_NO_TIME)


def test_what_is_committed_is_replayed_in_order_until_it_is_trimmed(storage: AnyStorage) -> None:
    begun = storage.log.trimmed()
    times = [1, 2, 3]
    recorded = [storage.log.commit([batch(begun + time, table_of(X, ("a", time, 0.5)))])[0] for time in times]
    arrived = [entry.arrived for entry in recorded if isinstance(entry, Written)]
    assert arrived == sorted(set(arrived)) and len(arrived) == 3
    replayed = list(storage.log.replay(begun))
    assert [at for at, _ in replayed] == arrived
    assert [table.times.tolist() for _, tables in replayed for table in tables] == [[1], [2], [3]]
    assert [at for at, _ in storage.log.replay(arrived[0])] == arrived[1:]
    settle(storage)
    storage.log.trim(arrived[1], AT_NO_TIME)
    assert [at for at, _ in storage.log.replay(arrived[1])] == arrived[2:]


def test_an_answer_is_given_again_to_the_key_that_is_known(storage: AnyStorage) -> None:
    storage.log.commit([batch(10, table_of(X, ("a", 1, 1.0)), key="one", answer=b"1")])
    storage.log.commit([batch(20, key="two", answer=b"2")])
    assert storage.log.answers(["one", "two", "none"], 0) == {"one": b"1", "two": b"2"}
    assert storage.log.answers([], 0) == {}


def test_an_erased_entity_answers_nothing_and_comes_back_with_what_is_written_later(storage: AnyStorage) -> None:
    storage.log.commit([batch(10, table_of(X, ("a", 1, 1.0), ("b", 1, 2.0)))])
    storage.log.commit([Erased("user", "a", 20)])
    storage.log.commit([batch(30, table_of(X, ("a", 2, 3.0)))])
    settle(storage)
    rows = storage.history.versions(X, ["a", "b"], NEVER, FOREVER)
    assert cells(X, ["a", "b"], rows) == [("a", 2, 3.0), ("b", 1, 2.0)]


# The history


@pytest.mark.parametrize("value_type", VALUE_TYPES)
def test_values_of_every_type_are_read_back(any_storage: AnyStorage, value_type: str) -> None:
    feature = a_feature(value_type=value_type, created=5)
    any_storage.log.commit([Registered(feature)])
    values = [*VALUES[value_type], None]
    any_storage.log.commit([batch(10, table_of(feature, *(("a", at, value) for at, value in enumerate(values))))])
    settle(any_storage, by_id(feature))
    found = cells(feature, ["a"], any_storage.history.read(feature, ["a"], NEVER, FOREVER).rows)
    assert [time for _, time, _ in found] == list(range(len(values)))
    (expected,) = table_of(feature, *(("a", 0, value) for value in values)).columns
    rendered = json.loads(msgspec.json.encode(render(value_type, expected.values, expected.nulls)))
    assert [value for _, _, value in found] == rendered


def test_only_the_entities_and_the_range_asked_for_are_read(storage: AnyStorage) -> None:
    names = ["a", "b", "ab", "é", "😀", "Z", " "]
    storage.log.commit(
        [batch(10, table_of(X, *((name, time, float(time)) for name in names for time in range(5))))]
    )
    storage.log.commit([batch(11, table_of(BOTH[1], ("a", 2, 9.0)))])
    settle(storage)
    asked = ["é", "nobody", "a", "😀"]
    found = cells(X, asked, storage.history.read(X, asked, 1, 3).rows)
    assert sorted(found) == sorted((name, time, float(time)) for name in ("é", "a", "😀") for time in (1, 2, 3))
    assert storage.history.read(X, ["a"], 3, 2).rows.size == 0


def test_versions_are_all_there_in_order_and_the_last_to_arrive_counts(storage: AnyStorage) -> None:
    for arrived, value in ((10, 1.0), (20, 2.0), (30, 3.0)):
        storage.log.commit([batch(arrived, table_of(X, ("a", 5, value), ("b", arrived, value)))])
        if arrived == 10:
            settle(storage)
    versions = storage.history.versions(X, ["b", "a"], NEVER, FOREVER)
    assert cells(X, ["b", "a"], versions) == [
        *(("b", time, float(value)) for time, value in ((10, 1), (20, 2), (30, 3))),
        *(("a", 5, value) for value in (1.0, 2.0, 3.0)),
    ]
    settle(storage)
    (row,) = cells(X, ["a"], merge([storage.history.read(X, ["a"], NEVER, FOREVER).rows]))
    assert row == ("a", 5, 3.0)


def test_everything_accepted_of_a_period_is_observed(storage: AnyStorage) -> None:
    storage.log.commit([batch(10, table_of(X, ("a", 1, 1.0), ("b", 2, 2.0), ("c", 3, None)))])
    settle(storage)
    storage.log.commit([batch(20, table_of(X, ("a", 1, 4.0), ("d", 9, 5.0)), table_of(BOTH[1], ("a", 2, 6.0)))])
    parts = list(storage.history.observations(X, 1, 3))
    found = [
        (time, None if null else value)
        for part in parts
        for time, value, null in zip(part.times.tolist(), part.values.tolist(), part.nulls.tolist(), strict=True)
    ]
    assert sorted(found, key=repr) == sorted([(1, 1.0), (2, 2.0), (3, None), (1, 4.0)], key=repr)
    assert list(storage.history.observations(X, 4, 8)) == []


def test_a_deleted_feature_is_forgotten_with_its_summaries_and_the_others_stay(storage: AnyStorage) -> None:
    other = BOTH[1]
    storage.log.commit([batch(10, table_of(X, ("a", 1, 1.0)), table_of(other, ("a", 1, 2.0)))])
    settle(storage)
    position = storage.summaries.position
    keys = [SummaryKey(one.id, one.created, 0, 0) for one in BOTH]
    storage.summaries.save(position, dict.fromkeys(keys, b"state"), b"".join)
    storage.log.commit([Deleted(X)])
    storage.history.forget(lambda: by_id(other))
    assert storage.summaries.read_whole(X).states == {}
    assert storage.summaries.read_whole(other).states == {Window(0, 0): b"state"}
    rows = storage.history.read(other, ["a"], NEVER, FOREVER).rows
    assert cells(other, ["a"], rows) == [("a", 1, 2.0)]


# The summaries


def test_summaries_are_merged_with_what_is_saved_and_come_back_with_their_position(storage: AnyStorage) -> None:
    summaries, begun = storage.summaries, storage.summaries.position
    whole, window = SummaryKey(X.id, X.created, 0, 0), SummaryKey(X.id, X.created, DAY, 0)
    summaries.save(begun + 5, {whole: b"a", window: b"b"}, b"".join)
    summaries.save(begun + 7, {whole: b"c"}, b"".join)
    assert summaries.position == begun + 7
    assert summaries.totals() == (begun + 7, {whole: b"ac"})
    assert summaries.read_whole(X) == (begun + 7, {Window(0, 0): b"ac"})
    assert summaries.read(X, DAY - 1, FOREVER) == (begun + 7, {Window(DAY, 0): b"b"})
    assert summaries.read(X, DAY, FOREVER) == (begun + 7, {})
    assert summaries.read(BOTH[1], NEVER, FOREVER) == (begun + 7, {})
    assert dict(summaries.all()) == {whole: b"ac", window: b"b"}


def test_windows_of_all_years_that_a_version_before_has_kept_apart_become_few(storage: AnyStorage) -> None:
    summaries, now, kept = storage.summaries, 20_000 * DAY, {SummaryKey(X.id, X.created, *WHOLE): b"0"}
    for day in [*range(-700_000, 14_000, 900), *range(19_990, 20_020), *range(21_000, 2_900_000, 3_000)]:
        kept[SummaryKey(X.id, X.created, DAY if day < now // DAY else FIVE_MINUTES, day * DAY)] = b"1"
    summaries.save(summaries.position + 1, kept, b"".join)
    for _ in range(2):
        getattr(summaries, "coarsen_now", summaries.coarsen)(now, b"".join)
    found = summaries.read(X, NEVER, FOREVER).states
    assert summaries.read_whole(X).states == {WHOLE: b"0"}
    grown = Counter(coarser(Window(*key[2:]), now) for key in kept if key.width)
    assert {window: len(state) for window, state in found.items()} == grown
    widths = Counter(window.width for window in found)
    assert (widths[DAY], widths[FIVE_MINUTES]) == (10 + 5, 15)
    assert sum(widths.values()) < 800
    assert len(kept) > 1_700


# The notes


def test_notes_are_kept_until_they_are_taken_back(storage: AnyStorage) -> None:
    storage.log.commit([Noted("check", "one", b"1"), Noted("check", "two", b"2"), Noted("alert", "one", b"3")])
    storage.log.commit([Noted("check", "one", b"4"), Noted("check", "two", None)])
    assert storage.notes("check") == {"one": b"4"}
    assert storage.notes("alert") == {"one": b"3"}
    assert storage.notes("other") == {}


# The mover


def test_what_is_carried_out_of_a_storage_into_another_is_all_there_with_its_arrivals(storage: AnyStorage) -> None:
    for arrived in (10, 20, 30):
        tables = (table_of(feature, ("a", 5, arrived / 10), ("b", arrived, None)) for feature in BOTH)
        storage.log.commit([batch(arrived, *tables)])
    assert storage.mover.held(NEVER) > 0
    lots = list(storage.mover.carried(KNOWN, NEVER))
    target = MemoryStorage()
    target.open()
    target.log.commit([Registered(feature) for feature in BOTH])
    for lot in lots:
        target.mover.carry(lot, Noted("migration", "here", b"%d" % lot.mark))
    assert target.notes("migration") == {"here": b"%d" % lots[-1].mark}
    there = [part for lot in target.mover.carried(KNOWN, NEVER) for part in lot.parts]
    assert fingerprints(there, {}) == fingerprints([part for lot in lots for part in lot.parts], {})
    assert sum(len(part.arrived) for part in there) == 12
    target.close()


def test_what_is_carried_into_a_storage_may_come_twice_and_is_there_once_with_its_note(
    storage: AnyStorage,
) -> None:
    source = MemoryStorage()
    source.open()
    source.log.commit(
        [Registered(X), batch(10, table_of(X, ("a", 1, 1.0))), batch(20, table_of(X, ("a", 1, 2.0)))]
    )
    (lot,) = source.mover.carried(by_id(X), NEVER)
    storage.mover.carry(lot, Noted("migration", "here", b"20"))
    assert storage.notes("migration") == {"here": b"20"}
    settle(storage)
    rows = storage.history.versions(X, ["a"], NEVER, FOREVER)
    assert (rows.values.tolist(), rows.arrived.tolist()) == ([1.0, 2.0], [10, 20])
    assert list(storage.mover.carried(KNOWN, 20)) == []
    source.close()


# What a shared storage has besides: the values, the registry (claims: test_shared_keys.py)


@pytest.fixture(params=SHARED_STORES)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """Two processes' storages over one store."""
    if request.param == "postgresql":
        store = {"STORAGE_TYPE": "postgresql", "STORAGE_URL": request.getfixturevalue("database")}
    else:
        server = request.getfixturevalue("valkey" if request.param == "redis" else "valkey_cluster")
        server.empty()
        store = {"STORAGE_TYPE": "redis", "STORAGE_URL": server.url}
    with storage_over(store) as one, storage_over(store) as two:
        yield one, two


def test_values_that_one_process_commits_are_those_that_another_is_told(pair: tuple[Any, Any]) -> None:
    one, two = pair
    one.log.commit([Registered(feature) for feature in BOTH])
    one.log.commit([batch(0, *(table_of(feature, ("a", 5, 1.5), ("b", 7, None)) for feature in BOTH))])
    question = LatestQuestion("user", ["b", "nobody", "a"], Features(BOTH), 6)
    first, second = two.values.latest([question, question._replace(at=7)])[1]
    assert first.times.tolist() == [[NEVER, NEVER, 5]] * 2
    assert second.times.tolist() == [[7, NEVER, 5]] * 2
    assert second.nulls.tolist() == [[True, False, False]] * 2
    found = two.values.ranges(BOTH, ["a", "b"], 0, 6)
    assert [cells(X, ["a", "b"], disk.rows) for disk in found] == [[("a", 5, 1.5)]] * 2


def test_a_change_of_the_registry_is_seen_by_its_version_and_one_judged_by_another_is_refused(
    pair: tuple[Any, Any],
) -> None:
    one, two = pair
    before = two.registry.versions_seen
    one.log.commit(
        [Registered(X), Grouped(Group(name="g", entity="user", features=(X.id,), created=1, updated=1))]
    )
    now = two.registry.versions_now()
    assert now.registry == one.registry.versions_seen > two.registry.versions_seen == before
    (refused,) = two.log.commit([Deleted(X)])
    assert isinstance(refused, Exception)
    gone = msgspec.structs.replace(PAIR, name="gone")
    one.log.commit([Catalogued(gone), Catalogued(PAIR), Catalogued(MODEL), Uncatalogued("entity", "gone")])
    assert two.registry.versions_now().registry == now.registry + 4
    found = two.registry.registered()
    assert sorted(found.catalogue, key=lambda record: record.key) == [MODEL, PAIR]
    assert [feature.id for feature in found.features] == [X.id] and [group.name for group in found.groups] == ["g"]
    assert two.registry.versions_seen == one.registry.versions_seen
    assert [one.registry.leads(), two.registry.leads()] == [True, False]


def test_a_note_that_has_to_be_new_is_refused_where_another_process_was_first(pair: tuple[Any, Any]) -> None:
    one, two = pair
    (taken,) = one.log.commit([Noted("check", "c", b"1", new=True)])
    (refused,) = two.log.commit([Noted("check", "c", b"2", new=True)])
    assert isinstance(taken, Noted) and isinstance(refused, Conflict)
    assert two.notes("check") == {"c": b"1"}
