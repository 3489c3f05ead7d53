"""What shares a commit: a repeat of a key has the outcome of the first, a write that of the change before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.errors import Conflict, StorageDown, TimewellError
from actors.router import Router
from actors.storage.entries import Deleted, Entry, Written
from tests.actors.service import FEATURE, ONE, OTHER, read, service, write
from tests.faults import Commit, FaultyStorage


class Refusing(FaultyStorage):
    """Refuses some entries alone, as a shared store may, or with them all of their commit."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: Callable[[Entry], bool] = lambda entry: False
        self.whole_commits = False

    def commit(self, sane: Commit, entries: Sequence[Entry]) -> Sequence[Any]:
        self._pass("commit")
        refused = list(map(self.refuses, entries))
        if any(refused) and self.whole_commits:
            raise StorageDown("no room: injected")
        taken = iter(super().commit(sane, [one for one, no in zip(entries, refused, strict=True) if not no]))
        return [Conflict("refused: injected") if no else next(taken) for no in refused]


async def in_one_commit(timewell: Router, storage: FaultyStorage, *calls: Callable[[], Any]) -> list[Any]:
    """The outcomes of calls that wait together while another commit is under way."""
    outcomes: list[Any] = [None] * len(calls)

    async def noted(place: int, call: Callable[[], Any]) -> None:
        try:
            outcomes[place] = await call()
        except TimewellError as error:
            outcomes[place] = type(error)

    async with trio.open_nursery() as nursery:
        with storage.stalled("commit"):
            nursery.start_soon(write, timewell, OTHER, 0.0)
            await wait_all_tasks_blocked()
            for place, call in enumerate(calls):
                nursery.start_soon(noted, place, call)
                await wait_all_tasks_blocked()
    return outcomes


@pytest.mark.parametrize("whole_commits", [True, False])
async def test_a_repeat_of_a_key_in_one_commit_is_refused_as_the_first_is(whole_commits: bool) -> None:
    storage = Refusing()
    async with service(storage) as timewell:
        storage.refuses, storage.whole_commits = _has_a_key, whole_commits
        keyed = [lambda value=value: write(timewell, ONE, value, key="k") for value in (1.0, 2.0)]
        told = StorageDown if whole_commits else Conflict
        assert await in_one_commit(timewell, storage, *keyed) == [told, told]
        assert await read(timewell, ONE) == [None]
        storage.refuses = lambda entry: False
        assert await write(timewell, ONE, 3.0, key="k") == b"done"
        assert await read(timewell, ONE) == [3.0]


def _has_a_key(entry: Entry) -> bool:
    return isinstance(entry, Written) and entry.key is not None


async def test_a_repeat_of_a_key_in_one_commit_is_answered_what_the_storage_knows_of_the_first() -> None:
    class Known(FaultyStorage):
        def commit(self, sane: Commit, entries: Sequence[Entry]) -> Sequence[Entry]:
            recorded = super().commit(sane, [one for one in entries if not _has_a_key(one)])
            return recorded or [Written(0, (), "k", b"before") for _ in entries]

    storage = Known()
    async with service(storage) as timewell:
        keyed = [lambda value=value: write(timewell, ONE, value, key="k") for value in (1.0, 2.0)]
        assert await in_one_commit(timewell, storage, *keyed) == [b"before", b"before"]


async def test_a_write_behind_a_deletion_that_is_refused_is_taken() -> None:
    storage = Refusing()
    async with service(storage) as timewell:
        storage.refuses = lambda entry: isinstance(entry, Deleted)
        calls = (lambda: timewell.delete_feature(FEATURE)), (lambda: write(timewell, ONE, 1.0))
        assert await in_one_commit(timewell, storage, *calls) == [Conflict, b"done"]
        assert await read(timewell, ONE) == [1.0]
