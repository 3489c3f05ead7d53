"""The monitor counts each observation once, whatever fails, crashes, overflows or overlaps."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import checkpoint, mailbox
from actors.domain import Feature, FeatureChange
from actors.errors import NotFound, StorageDown, StoreCrashed
from actors.ingest.sent import Sent
from actors.messages import Apply, NewestTimes, Status, Vitals
from actors.monitoring import monitor
from actors.monitoring.monitor import FeatureMonitor, MonitorActor
from actors.router import Router
from actors.settings import Settings
from actors.stats import folding
from actors.stats.state import decode, encode
from actors.stats.summary import Summary, of_all, saved
from actors.stats.windows import FIVE_MINUTES, WHOLE, Merge, Window
from actors.storage.embedded.summaries import EmbeddedSummaries
from actors.storage.protocol import Log, SavedSummaries, SummaryKey
from actors.table.batch import Batch, Table
from actors.turns import at_once
from tests.actors.service import FEATURE, ONE, OTHER, SETTINGS, service, write
from tests.actors.test_statistics import Lasting
from tests.batches import a_table
from tests.faults import instead

PATIENCE_SECONDS = 20.0
MIDNIGHT = 1_762_473_600_000_000


class Watched(Lasting):
    """Outlives its router. Its calls for the monitor's sake can be made to fail, or to wait before or after."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        self.calls: list[str] = []
        self._gates: dict[str, threading.Event] = {}
        super().__init__(Interrupted(self._pass))
        instead(self.log, "trim", self._trim)
        instead(self.log, "replay", self._replay)

    @contextmanager
    def stalled(self, where: str) -> Iterator[None]:
        """A call waits "before save", "after save" and so on until the block is left."""
        self._gates[where] = threading.Event()
        try:
            yield
        finally:
            self.release(where)

    def release(self, where: str) -> None:
        """Let the call go on."""
        if where in self._gates:
            self._gates.pop(where).set()

    def _pass(self, where: str) -> None:
        self.calls.append(where)
        gate = self._gates.get(where)
        if gate is not None and not gate.wait(PATIENCE_SECONDS):
            raise AssertionError(f"{where} was stalled and never released")
        if self.failing.get(where):
            self.failing[where] -= 1
            raise StorageDown(f"{where} fails: injected")

    def _trim(self, sane: Callable[..., None], *about: Any) -> None:
        self._pass("before trim")
        sane(*about)

    def _replay(self, sane: Callable[..., Any], after: int) -> Any:
        self._pass("before replay")
        return sane(after)


class Interrupted(EmbeddedSummaries):
    """Summaries that say where they are."""

    def __init__(self, passing: Callable[[str], None]) -> None:
        super().__init__(":memory:")
        self._pass = passing

    @property
    def position(self) -> int:
        found = super().position
        self._pass("after monitored")
        return found

    def save(self, position: int, parts: Mapping[SummaryKey, bytes], merge: Merge) -> None:
        self._pass("before save")
        super().save(position, parts, merge)
        self._pass("after save")

    def coarsen(self, now: int, merge: Merge) -> None:
        self._pass("before coarsen")
        super().coarsen(now, merge)

    def totals(self) -> tuple[int, dict[SummaryKey, bytes]]:
        found = super().totals()
        self._pass("after totals")
        return found

    def read_whole(self, feature: Feature) -> SavedSummaries:
        found = super().read_whole(feature)
        self._pass("after read")
        return found


@pytest.fixture
def storage() -> Watched:
    return Watched()


async def check(timewell: Router, *values: float) -> None:
    """The whole stream, and it as a period, hold these values and no others."""
    feature = timewell.registry.resolve(FEATURE)
    for summary in (await timewell.statistics(feature), await timewell.statistics(feature, 0, 2**61)):
        moments = summary.numbers.moments
        assert summary.count == moments.count == len(values)
        if values:
            assert moments.mean * len(values) == pytest.approx(sum(values))
            assert (moments.min, moments.max) == (min(values), max(values))
        assert summary.distinct.estimate() == len(set(values))


async def until(happened: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not happened():
            await wait_all_tasks_blocked(0.001)  # what gives way to others gets on


# Saving


async def test_a_save_that_fails_loses_nothing_and_doubles_nothing(storage: Watched) -> None:
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0, 2.0)
        storage.failing["before save"] = 1
        with pytest.raises(StorageDown):
            await timewell.checkpointer.checkpoint()
        await check(timewell, 1.0, 2.0)
        await write(timewell, OTHER, 4.0)
        await check(timewell, 1.0, 2.0, 4.0)
        await timewell.checkpointer.checkpoint()
        await check(timewell, 1.0, 2.0, 4.0)
    async with service(storage) as timewell:
        await check(timewell, 1.0, 2.0, 4.0)


async def test_saves_that_fail_again_and_again_with_writes_between_them_add_up(storage: Watched) -> None:
    written: list[float] = []
    async with service(storage) as timewell:
        for number in range(8):
            storage.failing["before save"] = number % 3
            await write(timewell, ONE, float(number))
            written.append(float(number))
            for _ in range(number % 3):
                with pytest.raises(StorageDown):
                    await timewell.checkpointer.checkpoint()
                await check(timewell, *written)
            await timewell.checkpointer.checkpoint()
            await check(timewell, *written)


async def test_a_restart_after_a_save_that_failed_reads_the_journal_again(storage: Watched) -> None:
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        await timewell.checkpointer.checkpoint()
        await write(timewell, ONE, 2.0)
        storage.failing["before save"] = 1
        with pytest.raises(StorageDown):
            await timewell.checkpointer.checkpoint()
    async with service(storage) as timewell:
        await check(timewell, 1.0, 2.0)
        await timewell.checkpointer.checkpoint()
        await check(timewell, 1.0, 2.0)


async def test_a_save_that_is_cancelled_ends_before_all_is_encoded_and_the_journal_has_it_still(
    storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Summary] = []

    def encode_then_cancel(part: Summary) -> bytes:
        encoded.append(part)
        if len(encoded) == 5:
            trio.from_thread.run_sync(scope.cancel)
        return saved(part)

    async with service(storage) as timewell:
        days = [f"2024-01-{number + 1:02}T00:00:00Z" for number in range(20)]
        sent = Sent([FEATURE] * 20, [ONE] * 20, [float(number) for number in range(20)], days, [None] * 20)
        await timewell.write(timewell.judge.at_once(sent), b"done", None)
        with monkeypatch.context() as patched, trio.CancelScope() as scope:
            patched.setattr(checkpoint, "saved", encode_then_cancel)
            await timewell.checkpointer.checkpoint()
        assert scope.cancelled_caught
        assert len(encoded) == 5
        await check(timewell, *map(float, range(20)))
    async with service(storage) as timewell:
        await check(timewell, *map(float, range(20)))
        await timewell.checkpointer.checkpoint()
        await check(timewell, *map(float, range(20)))


@pytest.mark.parametrize("where", ["after save", "before coarsen", "before trim"])
async def test_a_checkpoint_that_fails_after_the_save_doubles_nothing(storage: Watched, where: str) -> None:
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0, 2.0)
        storage.failing[where] = 1
        with pytest.raises(StorageDown):
            await timewell.checkpointer.checkpoint()
        await check(timewell, 1.0, 2.0)
        await write(timewell, OTHER, 4.0)
        await check(timewell, 1.0, 2.0, 4.0)
        await timewell.checkpointer.checkpoint()
        await check(timewell, 1.0, 2.0, 4.0)
    async with service(storage) as timewell:
        await check(timewell, 1.0, 2.0, 4.0)


@pytest.mark.parametrize("where", ["before save", "after save"])
async def test_a_restart_wherever_a_save_was_counts_once(storage: Watched, where: str) -> None:
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        storage.failing[where] = 1
        with pytest.raises(StorageDown):
            await timewell.checkpointer.checkpoint()
        await write(timewell, ONE, 2.0)
    async with service(storage) as timewell:
        await check(timewell, 1.0, 2.0)
        await timewell.checkpointer.checkpoint()
        await write(timewell, ONE, 3.0)
        await check(timewell, 1.0, 2.0, 3.0)


@pytest.mark.parametrize("where", ["before save", "after save", "before coarsen", "before trim"])
async def test_reads_and_writes_during_a_save_are_exact(storage: Watched, where: str) -> None:
    async with service(storage) as timewell, trio.open_nursery() as nursery:
        await write(timewell, ONE, 1.0)
        await timewell.checkpointer.checkpoint()
        await write(timewell, ONE, 2.0)
        reached = len(storage.calls)
        with storage.stalled(where):
            nursery.start_soon(timewell.checkpointer.checkpoint)
            await until(lambda: where in storage.calls[reached:])
            await check(timewell, 1.0, 2.0)
            await write(timewell, OTHER, 4.0)
            await check(timewell, 1.0, 2.0, 4.0)
        await wait_all_tasks_blocked()
        await check(timewell, 1.0, 2.0, 4.0)
        await timewell.checkpointer.checkpoint()
        await check(timewell, 1.0, 2.0, 4.0)


async def test_a_question_that_a_whole_checkpoint_overtakes_is_asked_again(storage: Watched) -> None:
    found: list[Summary] = []
    async with service(storage) as timewell, trio.open_nursery() as nursery:
        await write(timewell, ONE, 1.0)
        feature = timewell.registry.resolve(FEATURE)

        async def ask() -> None:
            found.append(await timewell.statistics(feature))

        with storage.stalled("after read"):
            nursery.start_soon(ask)
            await until(lambda: "after read" in storage.calls)
            await timewell.checkpointer.checkpoint()
            await write(timewell, ONE, 2.0)
        await until(lambda: bool(found))
        assert found[0].count == 2
        assert storage.calls.count("after read") == 2


async def test_the_checkpoints_of_the_clock_save_and_try_again_where_they_fail(
    storage: Watched, mock_clock: MockClock
) -> None:
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        storage.failing["before save"] = 1
        mock_clock.jump(SETTINGS.checkpoint_seconds)
        await until(lambda: "before save" in storage.calls)
        await wait_all_tasks_blocked(0.01)
        assert storage.summaries.position == 0
        await check(timewell, 1.0)
        mock_clock.jump(checkpoint.RETRY_SECONDS)
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(SETTINGS.checkpoint_seconds)
        await until(lambda: storage.summaries.position > 0)
        await check(timewell, 1.0)


async def test_a_checkpoint_with_nothing_new_saves_nothing_twice(storage: Watched) -> None:
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        for _ in range(3):
            await timewell.checkpointer.checkpoint()
        await check(timewell, 1.0)
        saved = storage.summaries.read_whole(timewell.registry.resolve(FEATURE)).states
        assert decode(saved[WHOLE], Summary).count == 1


# Crashes


def poison(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Asked how it is, the monitor crashes, for as long as the list is not empty."""
    armed = [True]
    sane = MonitorActor._answer

    async def answer(self: MonitorActor, envelope: Any) -> None:
        if armed and isinstance(envelope.message, Status):
            raise RuntimeError("injected")
        await sane(self, envelope)

    monkeypatch.setattr(MonitorActor, "_answer", answer)
    return armed


async def crash(timewell: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crash the monitor and wait until it is back."""
    armed = poison(monkeypatch)
    with pytest.raises(StoreCrashed):
        await timewell.monitoring.watch.status()
    armed.clear()
    await until(lambda: timewell.unready() == [])


@pytest.mark.parametrize("saved", [False, True])
async def test_a_monitor_that_crashes_counts_once_all_the_same(
    storage: Watched, monkeypatch: pytest.MonkeyPatch, saved: bool
) -> None:
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        if saved:
            await timewell.checkpointer.checkpoint()
        await write(timewell, ONE, 2.0)
        await crash(timewell, monkeypatch)
        await check(timewell, 1.0, 2.0)
        await write(timewell, OTHER, 4.0)
        await timewell.checkpointer.checkpoint()
        await check(timewell, 1.0, 2.0, 4.0)


async def test_writes_go_on_while_the_monitor_is_rebuilt(
    storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        armed = poison(monkeypatch)
        with pytest.raises(StoreCrashed):
            await timewell.monitoring.watch.status()
        armed.clear()
        await write(timewell, ONE, 2.0)
        await until(lambda: timewell.unready() == [])
        await check(timewell, 1.0, 2.0)


@pytest.mark.parametrize("where", ["before save", "after save"])
async def test_a_monitor_that_crashes_during_a_save_counts_once(
    storage: Watched, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async with service(storage) as timewell, trio.open_nursery() as nursery:
        await write(timewell, ONE, 1.0)
        with storage.stalled(where):
            nursery.start_soon(timewell.checkpointer.checkpoint)
            await until(lambda: where in storage.calls)
            await crash(timewell, monkeypatch)
            await check(timewell, 1.0)
        await until(lambda: "before trim" in storage.calls)
        await wait_all_tasks_blocked()
        await check(timewell, 1.0)
        await write(timewell, ONE, 2.0)
        await timewell.checkpointer.checkpoint()
        await check(timewell, 1.0, 2.0)
    async with service(storage) as timewell:
        await check(timewell, 1.0, 2.0)


async def test_a_save_and_a_trim_while_a_monitor_is_rebuilt_leave_no_gap(
    storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    async with service(storage) as timewell, trio.open_nursery() as nursery:
        await write(timewell, ONE, 1.0)
        feature = timewell.registry.resolve(FEATURE)

        async def ask() -> None:
            counts.append((await timewell.statistics(feature)).count)

        armed, reached = poison(monkeypatch), len(storage.calls)
        with storage.stalled("before save"), storage.stalled("after read"), storage.stalled("after totals"):
            nursery.start_soon(timewell.checkpointer.checkpoint)
            await until(lambda: "before save" in storage.calls)
            nursery.start_soon(ask)  # reads what is saved, which is nothing yet
            await until(lambda: "after read" in storage.calls)
            with pytest.raises(StoreCrashed):
                await timewell.monitoring.watch.status()
            armed.clear()
            await until(lambda: "after totals" in storage.calls[reached:])  # nothing is saved yet
            storage.release("before save")
            await until(lambda: storage.log.trimmed() > 0)
            storage.release("after totals")
            await until(lambda: timewell.unready() == [])
            (vitals,) = await timewell.monitoring.watch.vitals([feature])
            assert vitals.count == 1
            storage.release("after read")
        await until(lambda: bool(counts))
        assert counts == [1]
        await check(timewell, 1.0)


async def test_a_journal_that_cannot_be_read_while_a_monitor_goes_by_what_is_saved_leaves_no_gap(
    storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(storage) as timewell, trio.open_nursery() as nursery:
        await write(timewell, ONE, 1.0)
        with storage.stalled("before save"):
            nursery.start_soon(timewell.checkpointer.checkpoint)
            await until(lambda: "before save" in storage.calls)
            await crash(timewell, monkeypatch)
            await write(timewell, ONE, 2.0)
            storage.failing["before replay"] = 1
        await until(lambda: not storage.failing["before replay"])
        await write(timewell, OTHER, 4.0)
        await check(timewell, 1.0, 2.0, 4.0)
        await timewell.checkpointer.checkpoint()
        await check(timewell, 1.0, 2.0, 4.0)


async def test_vitals_read_while_a_save_lands_count_once(
    storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(storage) as timewell, trio.open_nursery() as nursery:
        await write(timewell, ONE, 1.0, 2.0)
        armed, reached = poison(monkeypatch), len(storage.calls)
        with storage.stalled("before save"):
            nursery.start_soon(timewell.checkpointer.checkpoint)
            await until(lambda: "before save" in storage.calls)
            with storage.stalled("after monitored"):
                with pytest.raises(StoreCrashed):
                    await timewell.monitoring.watch.status()
                armed.clear()
                await until(lambda: "after monitored" in storage.calls[reached:])
                with storage.stalled("before coarsen"):
                    storage.release("before save")
                    await until(lambda: "before coarsen" in storage.calls)
                    storage.release("after monitored")
                    await until(lambda: timewell.unready() == [])
        await until(lambda: "before trim" in storage.calls)
        feature = timewell.registry.resolve(FEATURE)
        (vitals,) = await timewell._mailboxes["monitor"].ask(NewestTimes([feature]))
        assert vitals.count == 2
        await check(timewell, 1.0, 2.0)


# Too many windows


async def write_a_day_each(timewell: Router, numbers: Sequence[float]) -> None:
    days = [f"2024-{1 + int(number) // 28:02}-{1 + int(number) % 28:02}T00:00:00Z" for number in numbers]
    count = len(numbers)
    sent = Sent([FEATURE] * count, [ONE] * count, numbers, days, [None] * count)
    await timewell.write(timewell.judge.at_once(sent), b"done", None)


async def test_what_finds_no_room_in_memory_is_left_in_the_journal_until_a_save_and_counts_once(
    storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "MOST_UNSAVED_WINDOWS", 8)
    monkeypatch.setattr(monitor, "PENDING_OF_A_FEATURE", 1)
    monkeypatch.setattr(monitor, "CATCH_UP_BATCHES", 1)
    most, count = [0], FeatureMonitor._count_windows

    def count_and_note(one: FeatureMonitor) -> None:
        count(one)
        most.append(one.windows)

    monkeypatch.setattr(FeatureMonitor, "_count_windows", count_and_note)
    values = [float(number) for number in range(60)]
    async with service(storage) as timewell:
        feature = timewell.registry.resolve(FEATURE)
        with storage.stalled("before save"):
            for start in range(0, 40, 2):
                await write_a_day_each(timewell, values[start : start + 2])
            await timewell.monitoring.watch.status()  # once all that was written has been taken or left
            (vitals,) = await timewell.monitoring.watch.vitals([feature])
            assert 8 <= vitals.count < 40
        await until_counted(timewell, 40)
        await check(timewell, *values[:40])
    storage.failing["before save"] = 1
    async with service(storage) as timewell:
        for start in range(40, 60, 2):
            await write_a_day_each(timewell, values[start : start + 2])
        await until_counted(timewell, 60)
        await check(timewell, *values)
    assert max(most) <= 8 + 2 + 1


async def until_counted(timewell: Router, count: int) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while (await timewell.statistics(timewell.registry.resolve(FEATURE))).count < count:
            await wait_all_tasks_blocked(0.001)


# The inbox


@pytest.mark.parametrize("limit", ["CATCH_UP_BATCHES", "CATCH_UP_ROWS"])
async def test_a_full_inbox_makes_the_monitor_read_the_journal(
    storage: Watched, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(mailbox, "INBOX_MESSAGES", 2)
    monkeypatch.setattr(monitor, limit, 3)
    async with service(storage) as timewell:
        inbox = timewell._mailboxes["monitor"]
        with hold(monkeypatch):
            inbox.post(Apply([]))
            await wait_all_tasks_blocked()
            for number in range(20):
                await write(timewell, ONE, float(number))
            assert (inbox.missed, inbox.depth()) == (True, 2)
        await check(timewell, *map(float, range(20)))
        assert not inbox.missed
        await write(timewell, ONE, 20.0)
        await timewell.checkpointer.checkpoint()
        await check(timewell, *map(float, range(21)))


@pytest.mark.parametrize("limit", ["CATCH_UP_BATCHES", "CATCH_UP_ROWS"])
async def test_the_journal_is_read_in_portions_that_do_not_hold_the_entities(
    storage: Watched, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(monitor, limit, 4)
    portions: list[list[tuple[int, Batch]]] = []
    sane = monitor._next_batches

    def some(log: Log, after: int) -> list[tuple[int, Batch]]:
        portions.append(sane(log, after))
        return portions[-1]

    async with service(storage) as timewell:
        for number in range(10):
            await write(timewell, ONE, float(number))
        await timewell.monitoring.watch.status()  # by then it has read what it missed at the start
        monkeypatch.setattr(monitor, "_next_batches", some)
        await crash(timewell, monkeypatch)
        await check(timewell, *map(float, range(10)))
    assert [len(portion) for portion in portions] == [4, 4, 2, 0]
    assert all(list(table.entities) == [] for portion in portions for _, batch in portion for table in batch)


async def test_what_has_been_taken_in_is_not_kept_by_the_message_that_brought_it(
    storage: Watched,
) -> None:
    async with service(storage) as timewell:
        sent = table_of(1, 2, feature=FEATURE, created=timewell.registry.resolve(FEATURE).created)
        kept, inbox = weakref.ref(sent.times), timewell._mailboxes["monitor"]
        inbox.post(Apply([(2**60, [sent])]))
        del sent
        await until(lambda: inbox.depth() == 0)
        await wait_all_tasks_blocked(0.001)
        assert kept() is None


@contextmanager
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The monitor handles no message until the block is left."""
    sane, free = MonitorActor._answer, trio.Event()

    async def answer(self: MonitorActor, envelope: Any) -> None:
        await free.wait()
        await sane(self, envelope)

    with monkeypatch.context() as patch:
        patch.setattr(MonitorActor, "_answer", answer)
        yield
    free.set()


async def test_a_monitor_that_lags_is_waited_for_by_a_question_but_not_by_a_write(
    storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Summary] = []
    async with service(storage) as timewell, trio.open_nursery() as nursery:
        feature = timewell.registry.resolve(FEATURE)

        async def ask() -> None:
            found.append(await timewell.statistics(feature))

        with hold(monkeypatch):
            for number in range(5):
                await write(timewell, ONE, float(number))
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            assert found == []
        await until(lambda: bool(found))
        assert found[0].count == 5


async def test_a_deletion_that_found_no_place_is_noticed_all_the_same(
    storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "INBOX_MESSAGES", 2)
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        with hold(monkeypatch):
            for _ in range(3):
                await write(timewell, ONE, 2.0)
            await timewell.delete_feature(FEATURE)
            await timewell.register(FeatureChange(entity="user", name="clicks", value_type="number"))
            for number in range(5):
                await write(timewell, ONE, float(number))
        await check(timewell, *map(float, range(5)))
        await timewell.checkpointer.checkpoint()
        await check(timewell, *map(float, range(5)))


# Folding


@pytest.mark.parametrize("step", [1, 3, 1_000])
async def test_folding_in_steps_counts_what_comes_and_is_asked_in_between(
    storage: Watched, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(folding, "ROWS_PER_STEP", step)
    monkeypatch.setattr(monitor, "PENDING_OF_A_FEATURE", 7)
    written: list[float] = []
    async with service(storage) as timewell:
        feature = timewell.registry.resolve(FEATURE)

        async def writer(base: int) -> None:
            for number in range(10):
                values = [float(base + number), float(base - number), 0.5]
                await write(timewell, ONE, *values)
                written.extend(values)

        async def reader() -> None:
            for _ in range(15):
                answered = len(written)
                assert (await timewell.statistics(feature)).count >= answered

        async with trio.open_nursery() as nursery:
            for base in (100, 200, 300):
                nursery.start_soon(writer, base)
                nursery.start_soon(reader)
            nursery.start_soon(timewell.checkpointer.checkpoint)
        await check(timewell, *written)
        await timewell.checkpointer.checkpoint()
        await check(timewell, *written)


async def test_what_waits_is_folded_where_it_grows_long(storage: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "PENDING_OF_A_FEATURE", 10)
    async with service(storage) as timewell:
        for waiting in (4, 8, 0, 4):
            await write(timewell, ONE, 1.0, 2.0, 3.0, 4.0)
            status = await timewell.monitoring.watch.status()
            assert (status.rows, status.inbox, status.position) == (waiting, 0, timewell.committed())


async def test_what_waits_of_all_features_is_folded_where_it_grows_long(
    storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "PENDING_BYTES", 5 * 25)
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0, 2.0, 3.0, 4.0)
        await write(timewell, ONE, 5.0)
        assert (await timewell.monitoring.watch.status()).rows == 0
        await check(timewell, 1.0, 2.0, 3.0, 4.0, 5.0)


# The FeatureMonitor alone


def test_vectors_wait_by_the_room_that_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "PENDING_BYTES", 10_000)
    known, waited = FeatureMonitor(), []
    for arrived in range(1, 8):
        vectors = np.ones((2, 768), np.float32)
        table = table_of(arrived, arrived)
        known.apply(arrived, [table.only([table.columns[0]._replace(values=vectors)])])
        waited.append(known.rows)
        exhaust(known.overdue())
    assert waited == [2, 4, 2, 4, 2, 4, 2]
    assert folded(known, 0) == {WHOLE: 14, Window(FIVE_MINUTES, 0): 14}


@pytest.mark.parametrize("limit", ["PENDING_OF_A_FEATURE", "ASIDE_BYTES"])
def test_what_is_put_aside_is_counted_by_window_where_it_grows_long(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(monitor, "PENDING_BYTES", 0)
    monkeypatch.setattr(monitor, limit, 150 if limit == "PENDING_OF_A_FEATURE" else 150 * 25)
    known, aside = FeatureMonitor(), []
    for arrived in range(1, 6):
        known.apply(arrived, [table_of(*range(arrived, arrived + 60))])
        exhaust(known.overdue())
        aside.append(known.aside)
    assert aside == [60 * 25, 120 * 25, 0, 60 * 25, 120 * 25]
    assert folded(known, 0) == {WHOLE: 300, Window(FIVE_MINUTES, 0): 300}


def exhaust(steps: Iterator[None]) -> None:
    """Take all the steps."""
    for _ in steps:
        pass


def table_of(*times: int, created: int = 7, feature: str = "user.x.v1") -> Table:
    count = len(times)
    return a_table(feature, created, ["u"] * count, np.array(times), np.arange(count) + 0.5, np.zeros(count, bool))


def feature_of(created: int = 7) -> Feature:
    return Feature(
        id="user.x.v1",
        entity="user",
        name="x",
        version=1,
        value_type="number",
        created=created,
        updated=created,
    )


def folded(known: FeatureMonitor, position: int, created: int = 7) -> dict[Window, int] | None:
    """How much came after a position, by window."""
    exhaust(known.folding())
    fresh = at_once(known.fresh(feature_of(created), position))
    return fresh and {window: count_of(decode(state, Summary)) for window, state in fresh.states.items()}


def test_thousands_of_windows_are_told_of_in_steps_and_the_whole_stream_alone_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor, "SUMMARIES_TOLD_PER_STEP", 2)
    known, one = FeatureMonitor(), feature_of()
    known.apply(1, [table_of(*(number * FIVE_MINUTES for number in range(9)))])
    exhaust(known.folding())
    taken = sum(1 for _ in known.fresh(one, 0))
    assert taken == 5  # of the whole stream and nine windows
    whole = at_once(known.fresh(one, 0, whole=True))
    assert whole is not None
    assert {window: count_of(decode(state, Summary)) for window, state in whole.states.items()} == {WHOLE: 9}


def count_of(part: Summary) -> int:
    summary = of_all(part.created)
    summary.merge(part)
    return summary.count


def test_a_batch_that_comes_twice_or_late_is_passed_over() -> None:
    known = FeatureMonitor(position=10)
    for arrived in (9, 10, 11, 11, 12, 11):
        known.apply(arrived, [table_of(1, 2)])
    assert known.position == 12
    assert folded(known, 10) == {WHOLE: 4, Window(FIVE_MINUTES, 0): 4}


def test_what_left_counts_until_it_is_known_to_have_arrived_and_then_no_more() -> None:
    known = FeatureMonitor()
    known.apply(5, [table_of(1, 2)])
    assert folded(known, 0) == {WHOLE: 2, Window(FIVE_MINUTES, 0): 2}
    position, parts = known.leave()
    assert (position, {key.width: count_of(part) for key, part in parts.items()}) == (5, {0: 2, FIVE_MINUTES: 2})
    known.apply(6, [table_of(3)])
    assert folded(known, 0) == {WHOLE: 3, Window(FIVE_MINUTES, 0): 3}
    assert folded(known, 5) == {WHOLE: 1, Window(FIVE_MINUTES, 0): 1}
    known.left(5)
    assert folded(known, 0) is None
    assert folded(known, 5) == {WHOLE: 1, Window(FIVE_MINUTES, 0): 1}


def test_an_acknowledgement_of_an_older_save_is_no_acknowledgement_of_a_newer_one() -> None:
    known = FeatureMonitor()
    known.apply(5, [table_of(1)])
    folded(known, 0)
    known.leave()
    known.apply(6, [table_of(2)])
    folded(known, 0)
    position, parts = known.leave()
    assert (position, parts[SummaryKey("user.x.v1", 7, *WHOLE)].count) == (6, 2)
    known.left(5)
    assert folded(known, 0) == {WHOLE: 2, Window(FIVE_MINUTES, 0): 2}


def test_a_feature_registered_again_takes_the_place_of_the_old_one_and_late_batches_of_that_are_not_its_own() -> (
    None
):
    known = FeatureMonitor()
    known.apply(5, [table_of(1, 2)])
    known.apply(6, [table_of(3, created=8)])
    known.apply(7, [table_of(4)])
    assert known.rows == 1
    assert folded(known, 0, created=8) == {WHOLE: 1, Window(FIVE_MINUTES, 0): 1}
    assert folded(known, 0, created=7) == {}
    assert known.vitals(feature_of(7)) == Vitals()
    assert known.vitals(feature_of(8)) == Vitals(1, 3, 6)
    known.forget(feature_of(7))
    assert known.vitals(feature_of(8)).count == 1
    known.forget(feature_of(8))
    assert (known.rows, folded(known, 0, created=8), known.leave()) == (0, {}, (7, {}))


def test_only_registered_features_are_kept() -> None:
    known = FeatureMonitor()
    known.apply(5, [table_of(1), table_of(1, 2, feature="user.y.v1")])
    folded(known, 0)
    known.apply(6, [table_of(1), table_of(1, 2, feature="user.y.v1")])
    known.keep_only({"user.x.v1": feature_of(7), "user.y.v1": feature_of(9)})
    assert known.rows == 1
    assert folded(known, 0) == {WHOLE: 2, Window(FIVE_MINUTES, 0): 2}
    assert {key.feature for key in known.leave()[1]} == {"user.x.v1"}


def test_vitals_tell_the_newest_that_was_due_and_the_last_arrival() -> None:
    known = FeatureMonitor()
    known.apply(100, [table_of(50, 70, 101)])
    known.apply(200, [table_of(60)])
    assert known.vitals(feature_of()) == Vitals(4, 70, 200)
    known.apply(300, [table_of(400)])
    assert known.vitals(feature_of()) == Vitals(5, 70, 300)


async def test_vitals_are_the_same_after_a_restart(storage: Watched) -> None:
    seen: list[Vitals] = []
    for _ in range(2):
        async with service(storage) as timewell:
            if not seen:
                await write(timewell, ONE, 1.0, 2.0)
                await timewell.checkpointer.checkpoint()
                await write(timewell, ONE, 3.0)
            feature = timewell.registry.resolve(FEATURE)
            vitals = await timewell._mailboxes["monitor"].ask(NewestTimes([feature]))
            seen += vitals
    assert seen[0] == seen[1]
    assert seen[0].count == 3


# Without


OFF = Settings(storage_type="memory", checkpoint_seconds=1e6, enable_monitoring=False)


async def test_without_monitoring_writes_go_on_and_statistics_are_not_found(storage: Watched) -> None:
    async with service(storage, OFF) as timewell:
        await write(timewell, ONE, 1.0)
        await timewell.checkpointer.checkpoint()
        feature = timewell.registry.resolve(FEATURE)
        for bounds in ((), (0, 1)):
            with pytest.raises(NotFound, match="monitoring is off"):
                await timewell.statistics(feature, *bounds)
        assert "before save" not in storage.calls


async def test_monitoring_that_was_off_for_a_time_goes_on_with_what_the_journal_still_has(
    storage: Watched,
) -> None:
    async with service(storage) as timewell:
        await write(timewell, ONE, 1.0)
        await timewell.checkpointer.checkpoint()
        await write(timewell, ONE, 2.0)
    async with service(storage, OFF) as timewell:
        await write(timewell, ONE, 3.0)
    async with service(storage) as timewell:
        await check(timewell, 1.0, 2.0, 3.0)
    async with service(storage, OFF) as timewell:
        await timewell.checkpointer.checkpoint()
        await write(timewell, ONE, 4.0)
    async with service(storage) as timewell:
        await check(timewell, 1.0, 4.0)
        await timewell.checkpointer.checkpoint()
        await write(timewell, ONE, 5.0)
        await check(timewell, 1.0, 4.0, 5.0)
    async with service(storage) as timewell:
        await check(timewell, 1.0, 4.0, 5.0)


def test_the_monitor_starts_from_totals_without_counting_them_again() -> None:
    known = FeatureMonitor()
    known.apply(MIDNIGHT, [table_of(MIDNIGHT - 1, MIDNIGHT)])
    folded(known, 0)
    position, parts = known.leave()
    totals = {key: encode(part) for key, part in parts.items() if key.width == 0}
    again = FeatureMonitor(position, totals)
    assert again.vitals(feature_of()) == Vitals(2, MIDNIGHT, MIDNIGHT)
    assert folded(again, position) == {}
    assert again.leave() == (position, {})
