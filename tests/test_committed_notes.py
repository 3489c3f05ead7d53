"""A note that comes with a batch is durable exactly when the batch is, whatever happens, in every storage."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from actors.domain import Feature, FeatureChange
from actors.errors import Conflict, StorageDown, TimewellError
from actors.ingest.sent import Ingested
from actors.opening import open_router
from actors.settings import Settings
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.storage.entries import Deleted, Noted, Registered, Written
from actors.storage.postgres.storage import PostgresStorage
from actors.storage.protocol import Stale, Storage
from actors.storage.redis.functions import NAMES, library
from actors.storage.redis.link import Command, RedisLink
from actors.storage.redis.storage import RedisStorage
from actors.table.batch import Table
from actors.timestamps import FOREVER, NEVER
from tests.batches import a_table
from tests.conftest import SHARED_STORES
from tests.live import ROOT, storage_over
from tests.servers.valkey import ValkeyServer

CLICKS = Feature(
    id="user.clicks.v1", entity="user", name="clicks", version=1, value_type="integer", created=1, updated=1
)
OTHER = msgspec.structs.replace(CLICKS, id="user.other.v1", name="other", created=2)
ENTITIES = [f"u{number}" for number in range(20)]


def table_of(value: int, feature: Feature = CLICKS) -> Table:
    """One value of each of some entities, which are on all nodes of a cluster."""
    count = len(ENTITIES)
    times, values = np.full(count, value, np.int64), np.full(count, value, np.int64)
    return a_table(feature.id, feature.created, ENTITIES, times, values, np.zeros(count, np.bool_))


def batch(value: int, key: str | None = None, judged: int | None = None, feature: Feature = CLICKS) -> Written:
    """A batch of one value, with a note of which that is."""
    return Written(value, [table_of(value, feature)], key, b"said", judged, notes=[position(value)])


def position(value: int) -> Noted:
    return Noted("position", "topic 0", b"%d" % value)


def noted(storage: Storage) -> int:
    """The value that the note is of, 0 for none."""
    return int(storage.notes("position").get("topic 0", b"0"))


def kept(storage: Storage) -> set[int]:
    """The values that all entities have."""
    found: dict[str, set[int]] = {entity: set() for entity in ENTITIES}
    rows = storage.history.versions(CLICKS, ENTITIES, NEVER, FOREVER)
    for slot, value in zip(rows.slots.tolist(), rows.values.tolist(), strict=True):
        found[ENTITIES[slot]].add(value)
    return set.intersection(*found.values())


@pytest.fixture
def storage(any_storage: Storage) -> Storage:
    """A storage of any kind in which a feature is registered."""
    any_storage.log.commit([Registered(CLICKS)])
    return any_storage


def test_a_note_and_its_batch_are_both_there_after_a_commit(storage: Storage) -> None:
    assert (noted(storage), kept(storage)) == (0, set())
    storage.log.commit([batch(1), batch(2)])
    assert (noted(storage), kept(storage)) == (2, {1, 2})
    storage.log.commit([batch(3, key="key"), Noted("position", "topic 1", b"7")])
    assert (noted(storage), kept(storage)) == (3, {1, 2, 3})
    assert storage.log.answers(["key"], 0) == {"key": b"said"}
    assert storage.notes("position") == {"topic 0": b"3", "topic 1": b"7"}


def test_a_note_may_come_without_values_and_be_taken_back(storage: Storage) -> None:
    storage.log.commit([Written(5, (), None, b"", notes=[position(5)])])
    assert (noted(storage), kept(storage)) == (5, set())
    storage.log.commit([batch(6)._replace(notes=[Noted("position", "topic 0", None)])])
    assert (noted(storage), kept(storage)) == (0, {6})


async def test_the_journal_commits_the_notes_of_a_write_and_none_of_one_that_it_refuses(tmp_path: Path) -> None:
    storage = EmbeddedStorage(str(tmp_path))
    async with open_router(Settings(), storage) as router:
        feature, _ = await router.register(FeatureChange(entity="user", name="clicks", value_type="integer"))
        good, bad = table_of(1, feature), table_of(2, msgspec.structs.replace(feature, created=1))
        await router.write(Ingested([good], len(ENTITIES), []), b"", notes=[position(1)])
        with pytest.raises(Conflict):
            await router.write(Ingested([bad], len(ENTITIES), []), b"", notes=[position(2)])
        assert noted(storage) == 1


@pytest.fixture(params=SHARED_STORES)
def store(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    if request.param == "postgresql":
        yield {"STORAGE_TYPE": "postgresql", "STORAGE_URL": request.getfixturevalue("database")}
    else:
        server = request.getfixturevalue("valkey" if request.param == "redis" else "valkey_cluster")
        server.empty()
        yield {"STORAGE_TYPE": "redis", "STORAGE_URL": server.url}


def test_a_batch_that_is_refused_leaves_no_note_whatever_it_was_judged_by(store: dict[str, str]) -> None:
    with storage_over(store) as one, storage_over(store) as two:
        one.log.commit([Registered(CLICKS), Registered(OTHER)])
        two.registry.registered()
        judged = two.registry.versions_seen
        one.log.commit([Deleted(OTHER)])
        gone, stale, good = two.log.commit([batch(1, feature=OTHER), batch(2, judged=judged), batch(3)])
        assert isinstance(gone, Conflict) and isinstance(stale, Stale) and isinstance(good, Written)
        assert (noted(one), kept(one)) == (3, {3})
        for refused in (batch(4, feature=OTHER), batch(5, judged=judged), batch(6, key="key", feature=OTHER)):
            (entry,) = two.log.commit([refused])
            assert isinstance(entry, TimewellError)
            assert (noted(one), kept(one)) == (3, {3})
        assert one.log.answers(["key"], 0) == {}


def test_a_batch_whose_key_comes_again_brings_no_other_note(store: dict[str, str]) -> None:
    with storage_over(store) as one:
        one.log.commit([Registered(CLICKS), batch(1, key="key")])
        (again,) = one.log.commit([batch(2, key="key")])
        assert again.answer == b"said" and (noted(one), kept(one)) == (1, {1})


def test_a_note_with_a_batch_is_no_news_to_the_processes_that_watch(store: dict[str, str]) -> None:
    with storage_over(store) as one:
        one.log.commit([Registered(CLICKS)])
        before = one.registry.versions_now().notes
        one.log.commit([batch(1)])
        assert one.registry.versions_now().notes == before
        one.log.commit([Noted("check", "clicks", b"")])
        assert one.registry.versions_now().notes == before + 1


class Breaking:
    """Has the connection break at the visit of a number, before or after the server has done what it is asked."""

    def __init__(self, link: RedisLink, at: int, done: bool) -> None:
        self._ask, self._left, self._done = link.ask, at, done
        self.broke = False

    def __call__(self, commands: Sequence[Command], whole: bool = False, durable: bool = False) -> list[Any]:
        self._left -= len(commands) > 0
        if self._left != 0 or self.broke or not commands:
            return self._ask(commands, whole, durable)
        self.broke = True
        if self._done:
            self._ask(commands, whole, durable)
        raise StorageDown("injected")


@pytest.mark.parametrize("kind", ["redis", "cluster"])
@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("key", [None, "key"])
def test_a_commit_to_redis_that_breaks_off_anywhere_leaves_no_note_ahead_of_its_batch(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str, done: bool, key: str | None
) -> None:
    server = request.getfixturevalue("valkey" if kind == "redis" else "valkey_cluster")
    server.empty()
    storage, apart, seen = RedisStorage(server.url, 10.0), 0, set[tuple[bool, bool]]()
    storage.open()
    storage.log.commit([Registered(CLICKS)])
    for value in range(1, 12):
        own = None if key is None else f"{key} {value}"
        with monkeypatch.context() as patch:
            breaking = Breaking(storage._link, value, done)
            patch.setattr(storage._link, "ask", breaking)
            try:
                storage.log.commit([batch(value, own)])
            except StorageDown:
                assert breaking.broke
        has_note, has_batch = noted(storage) == value, value in kept(storage)
        assert has_batch or not has_note
        apart += has_note != has_batch
        seen.add((has_note, has_batch))
        storage.log.commit([batch(value, own)])  # whoever is not answered asks again
        assert (noted(storage), value in kept(storage)) == (value, True)
    assert {(False, False), (True, True)} <= seen
    assert (apart > 0) is (kind == "cluster")
    storage.close()


def test_a_commit_to_postgresql_that_breaks_off_leaves_neither(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = PostgresStorage(database, 10.0)
    storage.open()
    storage.log.commit([Registered(CLICKS), batch(1)])

    def broken(*_: object) -> None:
        raise StorageDown("injected")

    with monkeypatch.context() as patch:
        patch.setattr(storage._writers, "check", broken)  # the last there is before the end
        with pytest.raises(StorageDown):
            storage.log.commit([batch(2)])
    assert (noted(storage), kept(storage)) == (1, {1})
    storage.close()


def test_a_server_that_has_the_functions_of_an_earlier_version_learns_those_that_it_lacks(
    valkey: ValkeyServer,
) -> None:
    valkey.empty()
    store = {"STORAGE_TYPE": "redis", "STORAGE_URL": valkey.url}
    with storage_over(store) as before:
        before._link.load(library([name for name in NAMES if name not in ("put", "judged_put")]))
        before.log.commit([Registered(CLICKS), Written(1, [table_of(1)], None, b"")])
        with storage_over(store) as storage:
            storage.log.commit([batch(2)])
            before.log.commit([Written(3, [table_of(3)], None, b"")])
            assert (noted(storage), kept(storage)) == (2, {1, 2, 3})


_WRITE = """
import sys
from tests.test_committed_notes import EmbeddedStorage, Registered, CLICKS, batch, noted
storage = EmbeddedStorage(sys.argv[1])
storage.open()
storage.log.commit([Registered(CLICKS)])
value = noted(storage)
while True:
    value += 1
    storage.log.commit([batch(value)])
    print(value, flush=True)
"""


def test_a_process_killed_amid_commits_leaves_the_note_of_its_last_batch(tmp_path: Path) -> None:
    moments, acknowledged = random.Random(5), 0
    for _ in range(3):
        command = [sys.executable, "-c", _WRITE, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            for _ in range(moments.randint(1, 150)):
                acknowledged = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, process.stdout.read().split("\n")[:-1])])
        storage = EmbeddedStorage(str(tmp_path))
        storage.open()
        last = max(arrived for arrived, _ in storage.log.replay(0))
        assert noted(storage) == last >= acknowledged
        storage.close()
    assert acknowledged > 3
