"""Nobody is left waiting: full inboxes, departed askers, crashed actors."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import mailbox as module
from actors.errors import Overloaded, StoreCrashed
from actors.mailbox import Envelope, Mailbox, Reply
from actors.settings import INBOX_WAIT_SECONDS


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    """An inbox for two messages."""
    monkeypatch.setattr(module, "INBOX_MESSAGES", 2)
    return Mailbox("store")


async def test_an_asker_of_a_full_inbox_is_told_to_come_back(
    small: Mailbox, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    for _ in range(2):
        nursery.start_soon(small.ask, "question")
    await wait_all_tasks_blocked()
    refused: list[Overloaded] = []

    async def third() -> None:
        try:
            await small.ask("question")
        except Overloaded as error:
            refused.append(error)

    nursery.start_soon(third)
    await wait_all_tasks_blocked()
    assert not refused
    mock_clock.jump(INBOX_WAIT_SECONDS)
    await wait_all_tasks_blocked()
    assert "store" in refused[0].detail and refused[0].retry_after_seconds > 0
    nursery.cancel_scope.cancel()


async def test_an_asker_gets_the_place_that_comes_free_in_time(small: Mailbox, nursery: trio.Nursery) -> None:
    answers: list[str] = []

    async def ask(number: int) -> None:
        answers.append(await small.ask(number))

    for number in range(5):
        nursery.start_soon(ask, number)
    await wait_all_tasks_blocked()
    while len(answers) < 5:
        for envelope in await small.drain():
            assert envelope.reply is not None
            envelope.reply.answer(f"answer {envelope.message}")
        await wait_all_tasks_blocked()
    assert sorted(answers) == [f"answer {number}" for number in range(5)]


async def test_a_cancelled_asker_does_not_disturb_the_actor(small: Mailbox, nursery: trio.Nursery) -> None:
    with trio.CancelScope() as scope:
        nursery.start_soon(_cancel_when_blocked, scope)
        await small.ask("question")
    (envelope,) = await small.drain()
    assert envelope.reply is not None
    envelope.reply.answer("too late")
    nursery.start_soon(small.ask, "next")
    await wait_all_tasks_blocked()
    assert [envelope.message for envelope in small.drain_now()] == ["next"]
    nursery.cancel_scope.cancel()


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_refusing_answers_the_taken_the_waiting_and_the_new(nursery: trio.Nursery) -> None:
    inbox = Mailbox("store")
    errors: list[StoreCrashed] = []

    async def ask() -> None:
        try:
            await inbox.ask("question")
        except StoreCrashed as error:
            errors.append(error)

    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    inbox.take(await inbox.drain())
    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    inbox.refuse(StoreCrashed("gone"))
    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    assert [error.detail for error in errors] == ["gone"] * 3
    inbox.accept()
    nursery.start_soon(inbox.ask, "question")
    await wait_all_tasks_blocked()
    assert len(inbox.drain_now()) == 1
    nursery.cancel_scope.cancel()


async def test_refusing_keeps_what_was_told(nursery: trio.Nursery) -> None:
    inbox = Mailbox("store")
    await inbox.tell("batch 1")
    inbox.refuse(StoreCrashed("gone"))
    await inbox.tell("batch 2")
    assert [envelope.message for envelope in inbox.drain_now()] == ["batch 1", "batch 2"]
    assert not inbox.missed


async def test_a_post_without_a_place_is_missed_and_noticed(small: Mailbox) -> None:
    for number in range(3):
        small.post(number)
    assert small.missed
    assert [envelope.message for envelope in small.drain_now()] == [0, 1]


async def test_only_the_first_answer_counts() -> None:
    reply = Reply()
    reply.answer(1)
    reply.fail(StoreCrashed("late"))
    reply.answer(2)
    assert await reply.wait() == 1


# Turns


async def drained(inbox: Mailbox, handled: list[object], fails: bool = False) -> None:
    """An actor that answers what it is asked with the message itself."""

    def handle(envelope: Envelope) -> None:
        if fails:
            raise ValueError("injected")
        handled.append(envelope.message)
        if envelope.reply is not None:
            envelope.reply.answer(envelope.message)

    for envelope in await inbox.drain(handle):
        handle(envelope)


async def test_a_waiting_actor_answers_a_turn_at_once(small: Mailbox, nursery: trio.Nursery) -> None:
    handled: list[object] = []
    nursery.start_soon(drained, small, handled)
    assert small.turn("early") is None
    await wait_all_tasks_blocked()
    reply = small.turn("one")
    assert reply is not None
    assert reply.done
    assert await reply.wait() == "one"
    assert small.depth() == 0
    nursery.cancel_scope.cancel()


async def test_a_turn_never_overtakes_what_was_sent(small: Mailbox, nursery: trio.Nursery) -> None:
    handled: list[object] = []
    nursery.start_soon(drained, small, handled)
    await wait_all_tasks_blocked()
    small.post("sent")  # the actor has it, and has not run yet
    assert small.turn("late") is None
    await wait_all_tasks_blocked()
    assert handled == ["sent"]
    assert small.turn("at work no more, and not waiting either") is None


async def test_no_turn_is_taken_while_messages_wait(small: Mailbox, nursery: trio.Nursery) -> None:
    handled: list[object] = []
    small.post("sent before")
    turns: list[Reply | None] = []

    async def ask() -> None:
        turns.append(small.turn("late"))

    nursery.start_soon(drained, small, handled)
    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    assert turns == [None]
    assert handled == ["sent before"]


async def test_a_turn_that_fails_is_to_be_sent_instead(small: Mailbox, nursery: trio.Nursery) -> None:
    nursery.start_soon(drained, small, [], True)
    await wait_all_tasks_blocked()
    assert small.turn("question") is None
    nursery.cancel_scope.cancel()


async def test_an_actor_that_is_rebuilt_takes_no_turns(small: Mailbox, nursery: trio.Nursery) -> None:
    nursery.start_soon(drained, small, [])
    await wait_all_tasks_blocked()
    small.refuse(StoreCrashed("gone"))
    assert small.turn("question") is None
    nursery.cancel_scope.cancel()


async def test_a_message_ends_the_rest_of_an_actor_though_others_do_not_rest() -> None:
    inbox, rested = Mailbox("worker"), trio.Event()

    async def restless() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    async def actor() -> None:
        with trio.fail_after(1):
            while not inbox.depth():
                await inbox.rest()
        rested.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(restless)
        nursery.start_soon(actor)
        await trio.lowlevel.checkpoint()
        inbox.post("news")
        await rested.wait()
        nursery.cancel_scope.cancel()


async def test_an_actor_is_hurried_while_somebody_waits_for_an_answer_or_messages_pile_up() -> None:
    inbox, seen = Mailbox("worker"), []
    seen.append(inbox.hurried)
    await inbox.send("question")
    seen.append(inbox.hurried)
    await inbox.drain()
    seen.append(inbox.hurried)
    for _ in range(module.MANY_MESSAGES):
        inbox.post("news")
    seen.append(inbox.hurried)
    assert seen == [False, True, False, True]
