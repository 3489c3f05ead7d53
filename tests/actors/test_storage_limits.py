"""A storage with very many features and erasures, and with readers that stop half way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from actors.domain import Feature, Retention
from actors.storage.embedded.local import LocalStorage, MemoryStorage
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.storage.entries import Deleted, Erased, Registered, Written
from actors.storage.protocol import SummaryKey
from actors.timestamps import FOREVER, NEVER
from tests.batches import a_table

MANY = 12_000
"""A filter that is nested a level for each of so many ends the process."""
PATIENCE_SECONDS = 20.0


@pytest.fixture
def storage() -> Iterator[LocalStorage]:
    """A storage in memory, whose runs are filtered as files are."""
    made = MemoryStorage()
    made.open()
    yield made
    made.close()


def a_feature(name: str, age: int | None = None, created: int = 0) -> Feature:
    return Feature(
        id=f"user.{name}.v1",
        entity="user",
        name=name,
        version=1,
        value_type="number",
        created=created,
        updated=created,
        retention=None if age is None else Retention(age=f"{age}s"),
    )


def a_batch(arrived: int, feature: Feature, *rows: tuple[str, int]) -> Written:
    times = np.array([time for _, time in rows], np.int64)
    table = a_table(
        feature.id, feature.created, [id_ for id_, _ in rows], times, times * 1.0, np.zeros(len(rows), bool)
    )
    return Written(arrived, [table], None, b"")


def entities(storage: LocalStorage, feature: Feature, *asked: str) -> list[str]:
    rows = storage.history.read(feature, asked, NEVER, FOREVER).rows
    return sorted({asked[slot] for slot in rows.slots.tolist()})


def test_any_number_of_features_may_have_an_age_of_their_own(storage: LocalStorage) -> None:
    features = [a_feature(f"f{n}", age=n + 1) for n in range(MANY)]
    known = {feature.id: feature for feature in features}
    now = MANY * 1_000_000
    for arrived, feature in enumerate((features[0], features[-1]), 1):
        storage.log.commit([a_batch(arrived, feature, ("old", now - 3_000_000), ("new", now - 500_000))])
    assert storage.history.flush(lambda: known, now).observations == 4
    assert entities(storage, features[0], "old", "new") == ["new"]
    assert entities(storage, features[-1], "old", "new") == ["new", "old"]


def test_any_number_of_features_may_be_deleted_and_registered_again(storage: LocalStorage) -> None:
    old = [a_feature(f"f{n}") for n in range(MANY)]
    storage.log.commit([a_batch(1, old[0], ("a", 1)), a_batch(2, old[-1], ("a", 1))])
    storage.history.flush(lambda: {feature.id: feature for feature in old}, 0)
    storage.log.commit([Deleted(feature) for feature in old])
    new = {feature.id: a_feature(feature.name, created=10) for feature in old}
    storage.log.commit([Registered(new[old[-1].id]), a_batch(11, new[old[-1].id], ("b", 1))])
    storage.history.flush(lambda: new, 0)
    storage.history.forget(lambda: new)
    assert entities(storage, old[0], "a", "b") == []
    assert entities(storage, old[-1], "a", "b") == ["b"]


def test_any_number_of_erasures_may_wait(storage: LocalStorage) -> None:
    feature, other = a_feature("x"), a_feature("y")
    known = {one.id: one for one in (feature, other)}
    ids = [f"u{n}" for n in range(MANY)]
    storage.log.commit([a_batch(1, feature, *((id_, 1) for id_ in (*ids, "stays"))), a_batch(2, other, ("u7", 1))])
    storage.history.flush(lambda: known, 0)
    storage.log.trim(FOREVER, 0)
    storage.log.commit([Erased("user", id_, 3) for id_ in ids])
    storage.log.commit([Erased("shop", "stays", 3), a_batch(4, feature, ("u8", 1))])
    assert entities(storage, feature, "u7", "u8", "stays") == ["stays"]
    found = storage.history.erase()
    assert len(found) == MANY + 1
    assert found[Erased("user", "u7", 3)] == {feature.id: 1, other.id: 1}
    assert found[Erased("user", "u9", 3)] == {feature.id: 1}
    assert found[Erased("shop", "stays", 3)] == {}
    storage.history.flush(lambda: known, 0)
    assert entities(storage, feature, "u7", "u8", "stays") == ["stays", "u8"]


def in_a_thread(call: Any) -> None:
    thread = Thread(target=call, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive(), "it waits for a lock"


def test_what_is_read_half_way_and_left_to_another_thread_holds_nothing_up(tmp_path: Path) -> None:
    storage = EmbeddedStorage(str(tmp_path / "data"))
    storage.open()
    feature = a_feature("x")
    known = {feature.id: feature}
    for arrived in (1, 2):
        storage.log.commit([a_batch(arrived, feature, ("a", arrived), ("b", arrived))])
        storage.history.flush(lambda: known, 0)
    storage.log.commit([a_batch(3, feature, ("a", 3)), a_batch(4, feature, ("a", 4))])
    keys = [SummaryKey(feature.id, 0, 0, number) for number in (0, 1)]
    storage.summaries.save(3, dict.fromkeys(keys, b"x"), b"".join)
    reading: list[Any] = [
        storage.history.observations(feature, NEVER, FOREVER),
        storage.log.replay(0),
        storage.history.load(storage.history.plan(10), known),
        storage.summaries.all(),
        storage.mover.carried(known, NEVER),
    ]
    for one in reading:
        in_a_thread(lambda one=one: next(one))
    assert sum(len(part.times) for part in storage.history.observations(feature, NEVER, FOREVER)) == 6

    def go_on() -> None:
        storage.log.commit([a_batch(5, feature, ("a", 5))])
        storage.history.flush(lambda: known, 0)
        storage.summaries.save(5, {}, b"".join)
        storage.log.trim(5, 0)
        storage.history.compact(lambda: known, 0)

    in_a_thread(go_on)  # while they are still held
    while reading:
        reading.pop().close()
    storage.close()
