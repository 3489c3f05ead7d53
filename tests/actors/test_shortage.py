"""A want of memory, descriptors or threads refuses one request; work in the background is tried again."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import checkpoint, store
from actors.domain import FeatureChange
from actors.errors import Overloaded, StorageDown, StoreCrashed, Unavailable
from actors.journal import JournalActor
from actors.messages import Latest
from actors.monitoring import webhook
from actors.settings import CRASHES_ALLOWED
from actors.storage.entries import Entry
from actors.table import layers, series
from actors.table import rows as rows_module
from actors.table.index import Index
from actors.table.pieces import Pieces
from actors.table.rows import Rows
from actors.table.series import Series
from actors.timestamps import FOREVER
from tests.actors.service import ONE, OTHER, SETTINGS, read, service, write
from tests.actors.test_actors import until_ready
from tests.faults import Commit, FaultyStorage
from web.errors import answer_to

OFTEN = CRASHES_ALLOWED + 2


def failing(monkeypatch: pytest.MonkeyPatch, method: str) -> list[bool]:
    """Reads (`handle`, `preparing`) or writes (`applying`) fail for want of memory while the list is not empty."""
    armed = [True]
    sane = getattr(store.FeatureStore, method)

    def lacking(self: store.FeatureStore, about: Any, *rest: Any) -> Any:
        if armed and about:
            raise MemoryError
        return sane(self, about, *rest)

    monkeypatch.setattr(store.FeatureStore, method, lacking)
    return armed


@pytest.mark.parametrize("method", ["handle", "preparing"])
async def test_reads_that_lack_memory_are_refused_one_by_one_and_crash_nothing(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    async with service(FaultyStorage()) as timewell:
        await write(timewell, ONE, 1.0)
        if method == "preparing":
            monkeypatch.setattr(store.FeatureStore, "unprepared", lambda _, message: isinstance(message, Latest))
        armed = failing(monkeypatch, method)
        for _ in range(OFTEN):
            with pytest.raises(Overloaded, match="memory"):
                await read(timewell, ONE)
            assert timewell.unready() == []
        armed.clear()
        assert await read(timewell, ONE) == [1.0]


async def test_a_store_that_lacks_memory_for_what_is_durable_is_rebuilt_and_no_number_of_times_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with service(FaultyStorage()) as timewell:
        armed = failing(monkeypatch, "applying")
        for number in range(OFTEN):
            armed[:] = [True]
            await write(timewell, ONE, float(number))
            with suppress(StoreCrashed):  # unless it has been rebuilt already
                await read(timewell, ONE)
            armed.clear()
            await until_ready(timewell)
            assert await read(timewell, ONE) == [float(number)]


async def test_a_commit_that_lacks_memory_is_refused_and_the_next_is_made() -> None:
    class Short(FaultyStorage):
        lacks = False

        def commit(self, sane: Commit, entries: Sequence[Entry]) -> Sequence[Entry]:
            if self.lacks:
                raise MemoryError
            return super().commit(sane, entries)

    storage = Short()
    async with service(storage) as timewell:
        storage.lacks = True
        for _ in range(OFTEN):
            with pytest.raises(StorageDown, match="memory"):
                await write(timewell, ONE, 1.0)
            assert timewell.unready() == []
        storage.lacks = False
        await write(timewell, ONE, 2.0)
        assert await read(timewell, ONE) == [2.0]


async def test_what_is_durable_and_lacks_memory_on_its_way_to_the_stores_is_acknowledged_and_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sane, armed = JournalActor._apply, [True]

    async def apply(self: JournalActor, batches: Any) -> None:
        if batches and armed:
            armed.clear()
            raise MemoryError
        await sane(self, batches)

    async with service(FaultyStorage()) as timewell:
        monkeypatch.setattr(JournalActor, "_apply", apply)
        assert await write(timewell, ONE, 1.0) == b"done"
        assert await read(timewell, ONE) == [1.0]
        await write(timewell, OTHER, 2.0)
        assert await read(timewell, ONE, OTHER) == [1.0, 2.0]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OSError(errno.EMFILE, "too many open files"), RuntimeError("can't start new thread")],
    ids=repr,
)
def test_a_want_of_something_is_answered_with_503_and_when_to_come_back(error: Exception) -> None:
    answer = answer_to(error)
    assert answer.status == 503
    assert answer.retry_after == Overloaded.retry_after_seconds


@pytest.mark.parametrize(
    "error", [OSError(errno.EROFS, "read-only"), RuntimeError("unforeseen"), MemoryError()], ids=repr
)
async def test_a_checkpoint_that_fails_in_whatever_way_is_tried_again(
    error: Exception, mock_clock: MockClock
) -> None:
    class Failing(FaultyStorage):
        tried = 0

        def flush(self, sane: Any, *about: Any) -> Any:
            self.tried += 1
            if self.tried <= OFTEN:
                raise error
            return super().flush(sane, *about)

    storage = Failing()
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        while storage.history.position == 0:
            mock_clock.jump(SETTINGS.checkpoint_seconds + checkpoint.RETRY_SECONDS)
            await wait_all_tasks_blocked(0.01)
        assert await read(timewell, ONE) == [1.0]


def rows(slots: Sequence[int], time: int) -> Rows:
    count = len(slots)
    times = np.full(count, time, np.int64)
    return Rows(Index(np.array(slots, np.int32), times, times), times * 1.0, np.zeros(count, np.bool_))


def test_a_series_that_lacks_memory_to_sort_or_to_merge_its_rows_loses_none_and_has_none_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Series(np.dtype(np.float64))
    one.make_room(4)
    left = [0]

    def merge(runs: Sequence[Rows]) -> Rows:
        left[0] -= 1
        if left[0] == 0:
            raise MemoryError
        return rows_module.merge(runs)

    for module in (series, layers):
        monkeypatch.setattr(module, "merge", merge)
    for time in range(1, 2 * layers.FAN + 1):
        one.append(rows([1, 2], time))
        for which in (1, 2):  # to sort what has come, and to merge it with what there is
            left[0] = which
            try:
                one.as_of(np.array([1]), FOREVER)
            except MemoryError:
                assert one.rows == 2 * time
            left[0] = 0
        assert one.as_of(np.array([1, 2, 3]), FOREVER).times.tolist()[:2] == [time, time]
    assert one.rows == 4 * layers.FAN


async def test_a_store_whose_tables_lack_memory_to_grow_is_rebuilt_and_does_not_use_them_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    sane, armed = Pieces.grow, [False]

    def grow(self: Pieces, rows: int) -> None:
        if any(armed):
            armed.clear()
            raise OSError(errno.ENOMEM, "cannot allocate memory")
        sane(self, rows)

    monkeypatch.setattr(Pieces, "grow", grow)
    async with service(FaultyStorage()) as timewell:
        for number in range(OFTEN):
            armed[:] = [True]
            feature = FeatureChange(entity="user", name=f"more{number}", value_type="number")
            registered, _ = await timewell.register(feature)
            await write(timewell, ONE, float(number), feature=registered.id)  # which needs a column more
            with suppress(StoreCrashed):
                await read(timewell, ONE, feature=registered.id)
            await until_ready(timewell)
            assert await read(timewell, ONE, feature=registered.id) == [float(number)]


async def test_a_webhook_that_lacks_a_descriptor_delivers_later(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    import httpx

    delivered, wants = trio.Event(), [2]

    class Client:
        def __init__(self, **_: Any) -> None:
            self._lack()

        def _lack(self) -> None:
            wants[0] -= 1
            if wants[0] >= 0:
                raise OSError(errno.EMFILE, "too many open files")

        async def __aenter__(self) -> Client:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def post(self, *_: Any, **__: Any) -> httpx.Response:
            self._lack()
            delivered.set()
            return httpx.Response(200)

    monkeypatch.setattr(httpx, "AsyncClient", Client)
    hook = webhook.Webhook("http://localhost/hook", "")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hook.run)
        await trio.sleep(2 * webhook.FIRST_RETRY_SECONDS + 0.5)
        wants[0] = 1
        hook.post({"id": "1"})
        await delivered.wait()
        nursery.cancel_scope.cancel()


async def test_a_store_that_cannot_be_rebuilt_because_its_storage_is_away_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    storage = FaultyStorage()
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        armed = failing(monkeypatch, "applying")
        storage.failing.add("plan")
        await write(timewell, ONE, 2.0)
        with pytest.raises(Unavailable):
            await read(timewell, ONE)
        armed.clear()
        await trio.sleep(OFTEN * 2)
        storage.failing.clear()
        await until_ready(timewell)
        assert await read(timewell, ONE) == [2.0]
