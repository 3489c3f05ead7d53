"""Large answers are put together in a few worker threads, and their bytes count once."""

from __future__ import annotations

import threading

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.errors import Overloaded
from actors.settings import ANSWERS_MADE_AT_ONCE, FEW_VALUES
from tests.web.two_lanes import settled
from web.answers.worker import Room, in_worker
from web.hypercorn import untaken
from web.hypercorn.untaken import Untaken


async def test_only_a_few_answers_are_put_together_at_once(nursery: trio.Nursery) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def work() -> None:
        begun.release()
        go_on.wait(30)

    async def ask() -> None:
        await in_worker(work)

    try:
        for _ in range(3 * ANSWERS_MADE_AT_ONCE):
            nursery.start_soon(ask)
        for _ in range(ANSWERS_MADE_AT_ONCE):
            assert await trio.to_thread.run_sync(begun.acquire, True, 30)
        await wait_all_tasks_blocked()
        assert not begun.acquire(blocking=False)
    finally:
        go_on.set()


async def test_who_is_given_up_makes_room_at_once_and_no_other_goes_for_it(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untaken, "ANSWER_BYTES_UNTAKEN", 100)
    waiting, kept = Untaken(60), list[int]()

    async def taker(number: int) -> None:
        try:
            with waiting.taking(40):
                await trio.sleep_forever()
        except trio.BrokenResourceError:
            kept.remove(number)

    for number in range(2):
        kept.append(number)
        nursery.start_soon(taker, number)
        await settled()
    with waiting.taking(40) as slow:
        for _ in range(5):
            slow.took(1)  # the first has been told to go, and has not gone yet
        await settled()
        assert kept == [1]
        assert waiting.total == 75
    nursery.cancel_scope.cancel()


async def test_large_answers_wait_for_room_and_small_ones_for_none(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    place, held, end = Room(10 * FEW_VALUES), list[int](), trio.Event()

    async def hold(number: int, values: int) -> None:
        async with place.of(values):
            held.append(number)
            await end.wait()

    for number, values in enumerate([6, 100, 3]):  # the second is as large as all, the third behind it
        nursery.start_soon(hold, number, values * FEW_VALUES)
        await wait_all_tasks_blocked()
    nursery.start_soon(hold, 3, FEW_VALUES)
    await wait_all_tasks_blocked()
    assert held == [0, 3]
    end.set()
    await wait_all_tasks_blocked()
    assert held == [0, 3, 1, 2]


async def test_a_large_answer_for_which_there_is_no_room_for_long_is_refused_and_takes_none(
    autojump_clock: MockClock,
) -> None:
    place = Room(10 * FEW_VALUES)
    async with place.of(10 * FEW_VALUES):
        with pytest.raises(Overloaded):
            async with place.of(2 * FEW_VALUES):
                pytest.fail("there was none")
    async with place.of(10 * FEW_VALUES):
        pass
