"""Group commit, crashes and rebuilding, overload, shutdown: with faults injected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import checkpoint, mailbox, router, store
from actors.domain import Feature, FeatureChange
from actors.errors import Conflict, NotFound, Overloaded, StorageDown, StoreCrashed
from actors.messages import Apply, Latest
from actors.monitoring import monitor
from actors.router import Router
from actors.settings import CRASHES_ALLOWED
from actors.storage.entries import Written
from actors.table import series
from actors.table.ids import numbered
from actors.table.partition import Partition
from actors.timestamps import FOREVER
from actors.training import Spine, Wanted
from actors.turns import Steps
from tests.actors.service import FEATURE, ONE, OTHER, SETTINGS, read, service, write
from tests.batches import a_table
from tests.faults import FaultyStorage


@pytest.fixture
def storage() -> FaultyStorage:
    return FaultyStorage()


# Turns


async def test_a_read_waits_for_the_sorting_of_one_feature_and_not_of_all_that_another_asks_for(
    monkeypatch: pytest.MonkeyPatch, storage: FaultyStorage
) -> None:
    monkeypatch.setattr(series, "ROWS_A_STEP", 0)  # a single row is much
    done, begun, sane = list[str](), trio.Event(), Partition.ordering

    def ordering(self: Partition, *asked: Any) -> Steps[None]:
        begun.set()
        yield from sane(self, *asked)

    monkeypatch.setattr(Partition, "ordering", ordering)
    async with service(storage) as timewell:
        features = [await registered(timewell, f"f{number}") for number in range(8)]
        for feature in features:
            await write(timewell, ONE, 1.0, feature=feature.id)

        async def train() -> None:
            spine = Spine([numbered([ONE])], np.full(1, FOREVER))
            columns = await timewell.fill(spine, [Wanted(feature.name, feature) for feature in features])
            assert [column.values.tolist() for column in columns] == [[1.0]] * len(features)
            done.append("training set")

        async def serve() -> None:
            assert await read(timewell, ONE, feature=features[-1].id) == [1.0]
            done.append("latest value")

        async def add() -> None:
            for feature in features:  # which is then to be sorted again
                await write(timewell, OTHER, 2.0, feature=feature.id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(train)
            await begun.wait()
            nursery.start_soon(serve)
            nursery.start_soon(add)
        assert done == ["latest value", "training set"]


async def registered(timewell: Router, name: str) -> Feature:
    feature, _ = await timewell.register(FeatureChange(entity="user", name=name, value_type="number"))
    return feature


# Group commit


async def test_writes_that_wait_during_a_commit_share_the_next_one(storage: FaultyStorage) -> None:
    async with service(storage) as timewell:
        before = len(storage.commits)
        async with trio.open_nursery() as nursery:
            with storage.stalled("commit"):
                nursery.start_soon(write, timewell, ONE, 0.0)
                await wait_all_tasks_blocked()
                for number in range(1, 11):
                    nursery.start_soon(write, timewell, ONE, float(number))
                await wait_all_tasks_blocked()
        assert storage.commits[before:] == [1, 10]


async def test_a_read_does_not_wait_for_a_commit(storage: FaultyStorage) -> None:
    async with service(storage) as timewell, trio.open_nursery() as nursery:
        await write(timewell, ONE, 1.0)
        with storage.stalled("commit"):
            nursery.start_soon(write, timewell, ONE, 2.0)
            await wait_all_tasks_blocked()
            assert await read(timewell, ONE) == [1.0]


async def test_a_failed_commit_is_answered_and_shows_nothing_and_the_next_succeeds(storage: FaultyStorage) -> None:
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        storage.failing.add("commit")
        with pytest.raises(StorageDown):
            await write(timewell, ONE, 2.0)
        assert await read(timewell, ONE) == [1.0]
        storage.failing.clear()
        await write(timewell, ONE, 3.0)
        assert await read(timewell, ONE) == [3.0]


async def test_a_failed_registration_registers_nothing(storage: FaultyStorage) -> None:
    async with service(storage) as timewell:
        storage.failing.add("commit")
        with pytest.raises(StorageDown):
            await timewell.register(FeatureChange(entity="user", name="late", value_type="number"))
        with pytest.raises(NotFound):
            timewell.registry.resolve("user.late.v1")
        storage.failing.clear()
        _, new = await timewell.register(FeatureChange(entity="user", name="late", value_type="number"))
        assert new


async def test_two_writes_with_one_key_in_one_commit_write_once(storage: FaultyStorage) -> None:
    answers: list[bytes] = []
    async with service(storage) as timewell:

        async def keyed(value: float) -> None:
            answers.append(await write(timewell, ONE, value, key="k"))

        async with trio.open_nursery() as nursery:
            with storage.stalled("commit"):
                nursery.start_soon(write, timewell, OTHER, 0.0)
                await wait_all_tasks_blocked()
                nursery.start_soon(keyed, 1.0)
                await wait_all_tasks_blocked()
                nursery.start_soon(keyed, 2.0)
                await wait_all_tasks_blocked()
        assert answers == [b"done", b"done"]
        assert await read(timewell, ONE) == [1.0]


async def test_a_write_overtaken_by_the_deletion_of_its_feature_is_refused(storage: FaultyStorage) -> None:
    refused: list[Conflict] = []
    async with service(storage) as timewell:

        async def late_write() -> None:
            try:
                await write(timewell, ONE, 2.0)
            except Conflict as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            with storage.stalled("commit"):
                nursery.start_soon(write, timewell, ONE, 1.0)
                await wait_all_tasks_blocked()
                nursery.start_soon(timewell.delete_feature, FEATURE)
                await wait_all_tasks_blocked()
                nursery.start_soon(late_write)
                await wait_all_tasks_blocked()
        assert FEATURE in refused[0].detail


# Overload


async def test_too_many_values_on_their_way_are_refused_and_the_rest_written(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router, "PENDING_VALUES", 3)
    async with service(storage) as timewell:
        async with trio.open_nursery() as nursery:
            with storage.stalled("commit"):
                nursery.start_soon(write, timewell, ONE, 1.0, 2.0, 3.0)
                await wait_all_tasks_blocked()
                with pytest.raises(Overloaded):
                    await write(timewell, OTHER, 4.0)
        assert await read(timewell, ONE, OTHER) == [3.0, None]
        await write(timewell, OTHER, 4.0)


async def test_a_journal_that_the_history_cannot_follow_refuses_writes(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.journal.UNFLUSHED_VALUES", 2)
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0, 2.0, 3.0)
        with pytest.raises(Overloaded):
            await write(timewell, ONE, 4.0)
        await timewell.checkpointer.checkpoint()
        await write(timewell, ONE, 4.0)
        assert await read(timewell, ONE) == [4.0]


# Crashes


def poison(monkeypatch: pytest.MonkeyPatch, entity: str) -> list[bool]:
    """Reads of an entity crash its store for as long as the list is not empty."""
    armed = [True]
    sane = store.FeatureStore.handle

    def handle(self: store.FeatureStore, message: Any) -> Any:
        if armed and isinstance(message, Latest) and any(entity in about.entities for about in message.asked):
            raise RuntimeError("injected")
        return sane(self, message)

    monkeypatch.setattr(store.FeatureStore, "handle", handle)
    return armed


async def test_a_crashed_store_answers_its_open_calls_rebuilds_itself_and_the_others_never_notice(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(storage) as timewell, trio.open_nursery() as nursery:
        await write(timewell, ONE, 1.0)
        await write(timewell, OTHER, 2.0)
        armed = poison(monkeypatch, ONE)
        with storage.stalled("plan"):
            with pytest.raises(StoreCrashed):
                await read(timewell, ONE)
            armed.clear()
            assert timewell.unready() == ["store 0"]
            with pytest.raises(StoreCrashed):
                await read(timewell, ONE)
            assert await read(timewell, OTHER) == [2.0]
            await write(timewell, ONE, 3.0)
            await write(timewell, OTHER, 4.0)
            assert await read(timewell, OTHER) == [4.0]
        await until_ready(timewell)
        assert await read(timewell, ONE, OTHER) == [3.0, 4.0]
        nursery.cancel_scope.cancel()


async def until_ready(timewell: Router) -> None:
    with trio.fail_after(20):
        while timewell.unready():
            await trio.lowlevel.checkpoint()


async def test_a_store_under_rebuilding_whose_inbox_overflows_reads_the_journal(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "INBOX_MESSAGES", 4)
    async with service(storage) as timewell:
        armed = poison(monkeypatch, ONE)
        with storage.stalled("plan"):
            with pytest.raises(StoreCrashed):
                await read(timewell, ONE)
            armed.clear()
            for number in range(20):
                await write(timewell, ONE, float(number))
        await until_ready(timewell)
        assert await read(timewell, ONE) == [19.0]


async def test_a_store_rebuilt_from_history_and_journal_has_everything(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        await timewell.checkpointer.checkpoint()
        await write(timewell, OTHER, 2.0)
        armed = poison(monkeypatch, ONE)
        with pytest.raises(StoreCrashed):
            await read(timewell, ONE)
        armed.clear()
        await until_ready(timewell)
        assert await read(timewell, ONE, OTHER) == [1.0, 2.0]


async def test_an_actor_that_crashes_again_and_again_takes_the_process_down(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, ONE)
    with pytest.raises(RuntimeError, match="store 0 crashed"):
        async with service(storage) as timewell:
            for _ in range(CRASHES_ALLOWED + 1):
                with pytest.raises(StoreCrashed):
                    await read(timewell, ONE)
                await until_ready(timewell)
            await trio.sleep_forever()


async def test_a_journal_that_crashes_between_commit_and_handing_on_loses_nothing(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.journal import JournalActor

    sane = JournalActor._pass_on
    armed = [True]

    async def pass_on(self: JournalActor, entries: Any) -> None:
        if armed:
            armed.clear()
            raise RuntimeError("injected")
        await sane(self, entries)

    async with service(storage) as timewell:
        monkeypatch.setattr(JournalActor, "_pass_on", pass_on)
        with pytest.raises(StoreCrashed):
            await write(timewell, ONE, 1.0)
        await until_ready(timewell)
        await write(timewell, OTHER, 2.0)
        assert await read(timewell, ONE, OTHER) == [1.0, 2.0]


async def crash(timewell: Router, monkeypatch: pytest.MonkeyPatch, entity: str) -> None:
    armed = poison(monkeypatch, entity)
    with pytest.raises(StoreCrashed):
        await read(timewell, entity)
    armed.clear()


async def register_and_write(timewell: Router, name: str) -> str:
    """A new feature with one value; its id."""
    registered, _ = await timewell.register(FeatureChange(entity="user", name=name, value_type="number"))
    await write(timewell, ONE, 7.0, feature=registered.id)
    return registered.id


async def test_what_is_registered_and_written_while_a_checkpoint_begins_gets_into_the_history(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(storage) as timewell, trio.open_nursery() as nursery:
        with storage.stalled("flush"):
            nursery.start_soon(timewell.checkpointer.checkpoint)
            await wait_all_tasks_blocked()
            late = await register_and_write(timewell, "late")
        await timewell.checkpointer.checkpoint()
        await crash(timewell, monkeypatch, ONE)
        await until_ready(timewell)
        assert await read(timewell, ONE, feature=late) == [7.0]


async def test_what_is_registered_and_written_while_a_store_begins_to_rebuild_itself_is_in_it(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(storage) as timewell:
        with storage.stalled("plan"):
            await crash(timewell, monkeypatch, ONE)
            late = await register_and_write(timewell, "late")
            await timewell.checkpointer.checkpoint()
        await until_ready(timewell)
        assert await read(timewell, ONE, feature=late) == [7.0]


async def test_a_store_that_missed_what_the_journal_no_longer_has_reads_the_history(
    storage: FaultyStorage,
) -> None:
    async with service(storage) as timewell:
        feature, at = timewell.registry.resolve(FEATURE), timewell.now()
        one = a_table(FEATURE, feature.created, [ONE], np.array([at]), np.array([5.0]), np.zeros(1, bool))
        storage.log.commit([Written(at, [one], None, b"")])
        storage.history.flush({FEATURE: feature}.copy, at)
        storage.log.trim(FOREVER, at)
        owner = timewell._mailboxes["store 0"]
        owner.missed = True
        await owner.ask(Apply([]))
        assert await read(timewell, ONE) == [5.0]
        assert timewell.unready() == []


# The monitor


async def test_a_monitor_that_lags_catches_up_from_the_journal(
    storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "INBOX_MESSAGES", 2)
    seen: list[int] = []
    sane = monitor.MonitorActor._answer

    async def answer(self: monitor.MonitorActor, envelope: Any) -> None:
        seen.append(isinstance(envelope.message, Apply))
        await sane(self, envelope)

    monkeypatch.setattr(monitor.MonitorActor, "_answer", answer)
    async with service(storage) as timewell:
        held = timewell._mailboxes["monitor"]
        feature = timewell.registry.resolve(FEATURE)
        for _ in range(5):
            held.post(Apply([]))
        assert held.missed
        for number in range(30):
            await write(timewell, ONE, float(number))
        found = (await timewell.statistics(feature)).numbers.moments
        assert (found.count, found.mean, found.min, found.max) == (30, 14.5, 0.0, 29.0)


async def test_statistics_count_each_observation_once_over_checkpoints_and_restarts() -> None:
    storage = FaultyStorage()
    storage.close = lambda: None  # type: ignore[method-assign]
    for round_ in range(3):
        async with service(storage) as timewell:
            storage.open = storage.log.recover  # type: ignore[method-assign]
            await write(timewell, ONE, 1.0, 2.0)
            if round_ == 1:
                await timewell.checkpointer.checkpoint()
            await write(timewell, OTHER, 3.0)
            figures = await timewell.statistics(timewell.registry.resolve(FEATURE))
            assert figures.count == 3 * (round_ + 1)
            assert figures.distinct.estimate() == 3


# Checkpoints


async def test_a_checkpoint_that_fails_is_tried_again_and_writes_go_on(
    storage: FaultyStorage, mock_clock: MockClock
) -> None:
    async with service(storage) as timewell:
        storage.failing.add("flush")
        await write(timewell, ONE, 1.0)
        mock_clock.jump(SETTINGS.checkpoint_seconds)
        await wait_all_tasks_blocked(0.01)
        await write(timewell, ONE, 2.0)
        assert storage.history.position == 0
        storage.failing.clear()
        mock_clock.jump(checkpoint.RETRY_SECONDS)
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(SETTINGS.checkpoint_seconds)
        while storage.history.position == 0:
            await wait_all_tasks_blocked(0.01)
        assert await read(timewell, ONE) == [2.0]


# Shutdown


async def test_leaving_commits_and_answers_what_was_sent(storage: FaultyStorage) -> None:
    answers: list[bytes] = []
    async with trio.open_nursery() as outside:
        async with service(storage) as timewell:

            async def late_write() -> None:
                answers.append(await write(timewell, ONE, 1.0))

            with storage.stalled("commit"):
                outside.start_soon(write, timewell, OTHER, 0.0)
                await wait_all_tasks_blocked()
                outside.start_soon(late_write)
                await wait_all_tasks_blocked()
    assert answers == [b"done"]
