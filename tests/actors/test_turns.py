"""Long work in steps: all of them are taken, and those that can wait give way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from actors import turns
from actors.mailbox import Mailbox
from actors.turns import Steps, aside, at_once, behind, by_turns

Taking = Callable[[Steps[int]], Awaitable[int]]


def counting(steps: int, seen: list[str], word: str = "work") -> Steps[int]:
    for _ in range(steps):
        seen.append(word)
        yield
    return steps


async def resting(steps: Steps[int]) -> int:
    return await behind(steps, Mailbox("worker").rest)


@pytest.mark.parametrize("taking", [by_turns, resting])
async def test_every_step_is_taken_and_what_comes_of_them_is_returned(taking: Taking) -> None:
    seen: list[str] = []
    assert await taking(counting(5, seen)) == at_once(counting(5, []))
    assert seen == ["work"] * 5


async def test_work_that_can_wait_begins_once_the_others_have_nothing_to_do() -> None:
    seen: list[str] = []

    async def other() -> None:
        for _ in range(20):
            await trio.lowlevel.checkpoint()
            seen.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(resting, counting(3, seen))
        nursery.start_soon(other)
    assert seen == ["other"] * 20 + ["work"] * 3


async def test_work_that_can_wait_is_done_though_the_others_never_rest() -> None:
    async def other() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await resting(counting(3, [])) == 3
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("taking", [by_turns, resting])
async def test_steps_that_are_given_up_are_closed(taking: Taking) -> None:
    closed = False

    def endless() -> Steps[int]:
        nonlocal closed
        try:
            while True:
                yield
        finally:
            closed = True

    with trio.move_on_after(0.01):
        await taking(endless())
    assert closed


async def test_work_in_threads_lets_others_have_their_turn_at_every_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "VISIT_SECONDS", 0.0)
    seen, limiter = list[str](), trio.CapacityLimiter(1)
    async with trio.open_nursery() as nursery:
        for asker in ("one", "other"):
            nursery.start_soon(aside, counting(3, seen, asker), limiter)
    assert seen in (["one", "other"] * 3, ["other", "one"] * 3)


async def test_work_in_threads_ends_with_the_step_under_way_when_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "VISIT_SECONDS", 0.0)
    seen = list[str]()
    with trio.CancelScope() as scope:

        def until_told() -> Steps[None]:
            while True:
                seen.append("work")
                if len(seen) == 3:
                    trio.from_thread.run_sync(scope.cancel)
                yield

        await aside(until_told(), trio.CapacityLimiter(1))
    assert seen == ["work"] * 3
