"""Nobody is left waiting: full inboxes, departed askers, crashed actors."""

from __future__ import annotations

from typing import Any, get_origin

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import mailbox as module
from actors import messages
from actors.errors import Overloaded, StoreCrashed
from actors.mailbox import Envelope, Handlers, Mailbox, Message, Reply, Tasks
from actors.settings import INBOX_WAIT_SECONDS


class Word(Message[Any], frozen=True):
    """A message that has nothing but a word."""

    text: Any


def word(envelope: Envelope[Any]) -> Any:
    assert isinstance(envelope.message, Word)
    return envelope.message.text


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    """An inbox for two messages."""
    monkeypatch.setattr(module, "INBOX_MESSAGES", 2)
    return Mailbox("store")


async def test_an_asker_of_a_full_inbox_is_told_to_come_back(
    small: Mailbox, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    for _ in range(2):
        nursery.start_soon(small.ask, Word("question"))
    await wait_all_tasks_blocked()
    refused: list[Overloaded] = []

    async def third() -> None:
        try:
            await small.ask(Word("question"))
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
        answers.append(await small.ask(Word(number)))

    for number in range(5):
        nursery.start_soon(ask, number)
    await wait_all_tasks_blocked()
    while len(answers) < 5:
        for envelope in await small.drain():
            assert envelope.reply is not None
            envelope.answer(f"answer {word(envelope)}")
        await wait_all_tasks_blocked()
    assert sorted(answers) == [f"answer {number}" for number in range(5)]


async def test_a_cancelled_asker_does_not_disturb_the_actor(small: Mailbox, nursery: trio.Nursery) -> None:
    with trio.CancelScope() as scope:
        nursery.start_soon(_cancel_when_blocked, scope)
        await small.ask(Word("question"))
    (envelope,) = await small.drain()
    assert envelope.reply is not None
    envelope.reply.answer("too late")
    nursery.start_soon(small.ask, Word("next"))
    await wait_all_tasks_blocked()
    assert [word(envelope) for envelope in small.drain_now()] == ["next"]
    nursery.cancel_scope.cancel()


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_refusing_answers_the_taken_the_waiting_and_the_new(nursery: trio.Nursery) -> None:
    inbox = Mailbox("store")
    errors: list[StoreCrashed] = []

    async def ask() -> None:
        try:
            await inbox.ask(Word("question"))
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
    nursery.start_soon(inbox.ask, Word("question"))
    await wait_all_tasks_blocked()
    assert len(inbox.drain_now()) == 1
    nursery.cancel_scope.cancel()


async def test_refusing_keeps_what_was_told(nursery: trio.Nursery) -> None:
    inbox = Mailbox("store")
    await inbox.tell(Word("batch 1"))
    inbox.refuse(StoreCrashed("gone"))
    await inbox.tell(Word("batch 2"))
    assert [word(envelope) for envelope in inbox.drain_now()] == ["batch 1", "batch 2"]
    assert not inbox.missed


async def test_a_post_without_a_place_is_missed_and_noticed(small: Mailbox) -> None:
    for number in range(3):
        small.post(Word(number))
    assert small.missed
    assert [word(envelope) for envelope in small.drain_now()] == [0, 1]


async def test_only_the_first_answer_counts() -> None:
    reply = Reply[int]()
    reply.answer(1)
    reply.fail(StoreCrashed("late"))
    reply.answer(2)
    assert await reply.wait() == 1


# Turns


async def drained(inbox: Mailbox, handled: list[object], fails: bool = False) -> None:
    """An actor that answers what it is asked with the message itself."""

    def handle(envelope: Envelope[Any]) -> None:
        if fails:
            raise ValueError("injected")
        handled.append(word(envelope))
        envelope.answer(word(envelope))

    for envelope in await inbox.drain(handle):
        handle(envelope)


async def test_a_waiting_actor_answers_a_turn_at_once(small: Mailbox, nursery: trio.Nursery) -> None:
    handled: list[object] = []
    nursery.start_soon(drained, small, handled)
    assert small.turn(Word("early")) is None
    await wait_all_tasks_blocked()
    reply = small.turn(Word("one"))
    assert reply is not None
    assert reply.done
    assert await reply.wait() == "one"
    assert small.depth() == 0
    nursery.cancel_scope.cancel()


async def test_a_turn_never_overtakes_what_was_sent(small: Mailbox, nursery: trio.Nursery) -> None:
    handled: list[object] = []
    nursery.start_soon(drained, small, handled)
    await wait_all_tasks_blocked()
    small.post(Word("sent"))  # the actor has it, and has not run yet
    assert small.turn(Word("late")) is None
    await wait_all_tasks_blocked()
    assert handled == ["sent"]
    assert small.turn(Word("at work no more, and not waiting either")) is None


async def test_no_turn_is_taken_while_messages_wait(small: Mailbox, nursery: trio.Nursery) -> None:
    handled: list[object] = []
    small.post(Word("sent before"))
    turns: list[Reply[Any] | None] = []

    async def ask() -> None:
        turns.append(small.turn(Word("late")))

    nursery.start_soon(drained, small, handled)
    nursery.start_soon(ask)
    await wait_all_tasks_blocked()
    assert turns == [None]
    assert handled == ["sent before"]


async def test_a_turn_that_fails_is_to_be_sent_instead(small: Mailbox, nursery: trio.Nursery) -> None:
    nursery.start_soon(drained, small, [], True)
    await wait_all_tasks_blocked()
    assert small.turn(Word("question")) is None
    nursery.cancel_scope.cancel()


async def test_an_actor_that_is_rebuilt_takes_no_turns(small: Mailbox, nursery: trio.Nursery) -> None:
    nursery.start_soon(drained, small, [])
    await wait_all_tasks_blocked()
    small.refuse(StoreCrashed("gone"))
    assert small.turn(Word("question")) is None
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
        inbox.post(Word("news"))
        await rested.wait()
        nursery.cancel_scope.cancel()


async def test_an_actor_is_hurried_while_somebody_waits_for_an_answer_or_messages_pile_up() -> None:
    inbox, seen = Mailbox("worker"), []
    seen.append(inbox.hurried)
    await inbox.send(Word("question"))
    seen.append(inbox.hurried)
    await inbox.drain()
    seen.append(inbox.hurried)
    for _ in range(module.MANY_MESSAGES):
        inbox.post(Word("news"))
    seen.append(inbox.hurried)
    assert seen == [False, True, False, True]


# Who answers what


class Sum(Message[int], frozen=True):
    numbers: list[int]


async def test_a_message_is_answered_by_the_function_for_its_kind_and_no_other() -> None:
    handlers = Handlers("a test")
    handlers.on(Sum, lambda asked: sum(asked.numbers))
    assert handlers.handle(Sum([1, 2])) == 3
    with pytest.raises(TypeError, match="not for a test: Word"):
        handlers.handle(Word("a"))

    async def summed(asked: Sum) -> int:
        return sum(asked.numbers)

    tasks = Tasks("a test")
    tasks.on(Sum, summed)
    assert await tasks.handle(Sum([3])) == 3
    with pytest.raises(TypeError, match="not for a test: Word"):
        await tasks.handle(Word("a"))


def test_every_message_says_what_it_is_answered_with() -> None:
    kinds = [kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, Message)]
    asked = [kind for kind in kinds if kind is not Message]
    assert len(asked) > 20
    for kind in asked:
        (base,) = kind.__orig_bases__  # type: ignore[attr-defined]
        assert get_origin(base) is Message, kind
