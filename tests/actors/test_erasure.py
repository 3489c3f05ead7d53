"""Erasing an entity when things go wrong: files that cannot be written, reads under way, missed messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.errors import StorageDown
from actors.messages import Apply, Erase
from actors.storage.embedded.local import MemoryStorage
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.storage.entries import Erased, Removed
from actors.storage.protocol import Flush
from actors.table.partition import DiskRows
from actors.table.sharding import shard_of
from tests.actors.service import ONE, OTHER, SETTINGS, SHARDS, read, service, write
from tests.faults import instead

PATIENCE_SECONDS = 20.0


def stuck(directory: str) -> EmbeddedStorage:
    """A storage whose history cannot be written."""

    def flush(*_: Any) -> Flush:
        raise StorageDown("no room: injected")

    storage = EmbeddedStorage(directory)
    instead(storage.history, "flush", flush)
    return storage


async def test_an_erasure_that_cannot_be_finished_hides_the_entity_and_is_finished_later(tmp_path: Path) -> None:
    directory = str(tmp_path / "data")
    async with service(stuck(directory)) as timewell:
        await write(timewell, ONE, 1.0, 2.0)
        await write(timewell, OTHER, 3.0)
        with pytest.raises(StorageDown):
            await timewell.erase("user", ONE)
        assert await read(timewell, ONE, OTHER) == [None, 3.0]
        await write(timewell, ONE, 4.0)
        assert await read(timewell, ONE) == [4.0]
    storage = EmbeddedStorage(directory)
    async with service(storage) as timewell:
        assert await read(timewell, ONE, OTHER) == [4.0, 3.0]
        assert len(storage.log.erased()) == 1
        await timewell.checkpointer.checkpoint()
        assert storage.log.erased() == []
        assert await read(timewell, ONE, OTHER) == [4.0, 3.0]
        assert (await timewell.erase("user", ONE))[1] == Removed(1, 1)


class Slow(MemoryStorage):
    """A read of the disk waits, with its rows in hand, until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reading, self.go = Event(), Event()
        instead(self.history, "read", self._read)

    def _read(self, sane: Callable[..., DiskRows], *question: Any) -> DiskRows:
        rows = sane(*question)
        self.reading.set()
        assert self.go.wait(PATIENCE_SECONDS)
        return rows


async def test_a_read_of_the_disk_that_was_under_way_does_not_bring_an_entity_back() -> None:
    storage = Slow()
    another = next(f"v{n}" for n in range(100) if shard_of("user", f"v{n}", SHARDS) == 0)
    async with service(storage, msgspec.structs.replace(SETTINGS, cache_size=8)) as timewell:
        await write(timewell, ONE, 1.0)
        await timewell.checkpointer.checkpoint()
        for value in range(5):  # which push ONE out of memory, though it would fit again
            await write(timewell, another, float(value))
        await timewell.checkpointer.checkpoint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, timewell, ONE)
            assert await trio.to_thread.run_sync(storage.reading.wait, PATIENCE_SECONDS)
            await timewell.serving.stores[0].ask(Apply([]))
            await timewell._mailboxes["journal"].ask(Erase("user", ONE))
            storage.go.set()
        assert await read(timewell, ONE) == [None]
        await timewell.checkpointer.checkpoint()
        assert await read(timewell, ONE, another) == [None, 4.0]


async def test_a_store_that_missed_an_erasure_finds_it_in_the_storage() -> None:
    storage = MemoryStorage()
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        assert await read(timewell, ONE) == [1.0]
        storage.log.commit([Erased("user", ONE, timewell.now())])
        store = timewell.serving.stores[0]
        store.missed = True
        await store.ask(Apply([]))
        assert await read(timewell, ONE) == [None]


class Gated(EmbeddedStorage):
    """Writing files anew waits, once it has begun, until `go` is set."""

    def __init__(self, directory: str, at: str) -> None:
        super().__init__(directory)
        self.begun, self.go = Event(), Event()

        def waiting(sane: Callable[..., Any], *arguments: Any) -> Any:
            self.begun.set()
            assert self.go.wait(PATIENCE_SECONDS)
            return sane(*arguments)

        instead(self.history, at, waiting)


@pytest.mark.parametrize("at", ["flush", "_remove_all_but"])
async def test_erasures_of_one_entity_at_once_are_told_the_same_and_none_before_the_files_are_clean(
    tmp_path: Path, at: str
) -> None:
    storage = Gated(str(tmp_path / "data"), at)
    told: list[Removed] = []
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0, 2.0, 3.0)

        async def erase() -> None:
            _, removed = await timewell.erase("user", ONE)
            assert storage._runs.runs() == []
            told.append(removed)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(erase)
            assert await trio.to_thread.run_sync(storage.begun.wait, PATIENCE_SECONDS)
            nursery.start_soon(erase)
            nursery.start_soon(erase)
            await wait_all_tasks_blocked()
            assert told == []
            storage.go.set()
        assert told == [Removed(3, 1)] * 3
        assert (await timewell.erase("user", ONE))[1] == Removed(0, 0)
