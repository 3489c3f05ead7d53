"""How actors are asked: messages that know their answers, a bounded inbox, one-shot replies, nobody left waiting.

`ask` waits for a place in the inbox, at most INBOX_WAIT_SECONDS, and then for the answer; `tell` only for a
place. An actor drains its inbox, handles all, answers all. When it crashes, `refuse` answers every call
that it had taken or that was waiting, and turns new ones away until it is rebuilt.

It stands on trio's memory channels. For it to go, trio would have to have what it adds: one-shot replies, a send
that gives up on a full channel, taking all that waits at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec
import trio
from trio.testing import wait_all_tasks_blocked

from actors.errors import Overloaded, TimewellError
from actors.settings import INBOX_MESSAGES, INBOX_WAIT_SECONDS

REST_SECONDS = 0.005
"""Work for which nobody waits gives way so long. Where the others never rest it has a tenth of the time."""
MANY_MESSAGES = 16


R = TypeVar("R")
"""What a message is answered with."""


class Message(msgspec.Struct, Generic[R], frozen=True):
    """What may be asked. `Message[None]`: there is nothing to say but that it is done."""


class Reply(Generic[R]):
    """A place for one answer. An asker that has gone away leaves it unread."""

    __slots__ = ("_answered", "_error", "_value")

    def __init__(self) -> None:
        self._answered = trio.Event()
        self._value: R
        self._error: TimewellError | None = None

    @property
    def done(self) -> bool:
        """Whether it has been answered."""
        return self._answered.is_set()

    def answer(self, value: R) -> None:
        """Give the answer; only the first counts."""
        if not self.done:
            self._value = value
            self._answered.set()

    def fail(self, error: TimewellError) -> None:
        """Give an error for an answer; only the first counts."""
        if not self.done:
            self._error = error
            self._answered.set()

    async def wait(self) -> R:
        """The answer, or the error raised. Goes on at once where it is there."""
        if not self.done:
            await self._answered.wait()
        if self._error is not None:
            # A fresh one for each asker: a shared traceback would grow with every raise.
            raise type(self._error)(self._error.detail, self._error.faults)
        return self._value


class Envelope(Generic[R]):
    """A message with the reply that it wants, or none."""

    __slots__ = ("message", "reply")

    def __init__(self, message: Message[R], reply: Reply[R] | None) -> None:
        self.message = message
        self.reply = reply

    def answer(self, value: R) -> None:
        """Give the answer to whoever waits for it."""
        if self.reply is not None:
            self.reply.answer(value)

    def fail(self, error: TimewellError) -> None:
        """Give an error for an answer to whoever waits for one."""
        if self.reply is not None:
            self.reply.fail(error)


class Handlers:
    """Which function of an actor answers which kind of message."""

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self._by_kind: dict[type[Message[Any]], Callable[[Any], Any]] = {}

    def on(self, kind: type[Message[R]], handle: Callable[[Any], R]) -> None:
        """Have the messages of a kind answered by a function."""
        self._by_kind[kind] = handle

    def handle(self, message: Message[R]) -> R:
        """The answer. Raises TypeError where there is none."""
        found = self._by_kind.get(type(message))
        if found is None:
            raise TypeError(f"not for {self._whose}: {message!r}")
        answer: R = found(message)
        return answer


class Tasks:
    """The same of async functions."""

    def __init__(self, whose: str) -> None:
        self._handlers = Handlers(whose)

    def on(self, kind: type[Message[R]], handle: Callable[[Any], Awaitable[R]]) -> None:
        """Have the messages of a kind answered by a function."""
        self._handlers.on(kind, handle)  # type: ignore[arg-type]  # which is told what it is to await below

    async def handle(self, message: Message[R]) -> R:
        """The answer. Raises TypeError where there is none."""
        answer: Any = self._handlers.handle(message)
        answered: R = await answer
        return answered


class Mailbox:
    """The inbox of one actor."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.missed = False
        """Whether a `post` found no place since the actor last looked."""
        self._send, self._receive = trio.open_memory_channel[Envelope[Any]](INBOX_MESSAGES)
        self._taken: list[Envelope[Any]] = []
        self._meanwhile: Callable[[Envelope[Any]], None] | None = None
        """How to handle a message while the actor waits and nothing has been sent to it since."""
        self._refusal: TimewellError | None = None
        self._resting: trio.CancelScope | None = None
        self.asked = False
        """Whether somebody waits for an answer to what has not been taken yet."""

    async def ask(self, message: Message[R]) -> R:
        """Send and wait for the answer. Raises Overloaded where the inbox stays full."""
        return await (await self.send(message)).wait()

    async def send(self, message: Message[R]) -> Reply[R]:
        """Send; the reply can be waited for later, so that several actors work on one question."""
        if self._refusal is not None:
            raise type(self._refusal)(self._refusal.detail)
        reply = Reply[R]()
        await self._put(Envelope(message, reply))
        return reply

    def turn(self, message: Message[R]) -> Reply[R] | None:
        """Have a waiting actor handle a read here and now, which spares two switches of task; None if it cannot.

        Nothing is overtaken: it can only while its inbox is empty and it is not at work. Where handling fails, the
        message is to be sent, and fails the actor in its own task.
        """
        if self._meanwhile is None or self._refusal is not None:
            return None
        reply = Reply[R]()
        try:
            self._meanwhile(Envelope(message, reply))
        except Exception:
            return None
        return reply

    async def tell(self, message: Message[None]) -> None:
        """Send without an answer, waiting for a place as long as it takes: back pressure between actors.

        An actor that is being rebuilt holds nobody up: it will find that it missed something.
        """
        if self._refusal is None:
            self._wake()
            await self._send.send(Envelope(message, None))
        else:
            self.post(message)

    def post(self, message: Message[None]) -> None:
        """Send if there is a place at once; otherwise the actor will find that it missed something."""
        self._wake()
        try:
            self._send.send_nowait(Envelope(message, None))
        except trio.WouldBlock:
            self.missed = True

    def _wake(self) -> None:
        self._meanwhile = None
        if self._resting is not None:
            self._resting.cancel()

    async def _put(self, envelope: Envelope[Any]) -> None:
        self._wake()
        self.asked = True
        try:
            self._send.send_nowait(envelope)
        except trio.WouldBlock:
            with trio.move_on_after(INBOX_WAIT_SECONDS) as patience:
                await self._send.send(envelope)
            if patience.cancelled_caught:
                raise Overloaded(f"the {self.name} is busy: its inbox stayed full") from None

    # The actor's side

    async def drain(self, meanwhile: Callable[[Envelope[Any]], None] | None = None) -> list[Envelope[Any]]:
        """Wait for a message and take all that are there. `meanwhile` handles turns until the first is sent."""
        self._meanwhile = meanwhile if self.depth() == 0 else None
        try:
            first = await self._receive.receive()
        finally:
            self._meanwhile = None
        return [first, *self.drain_now()]

    def drain_now(self) -> list[Envelope[Any]]:
        """Take all messages that are there."""
        self.asked, taken = False, list[Envelope[Any]]()
        while True:
            try:
                taken.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                return taken

    async def rest(self) -> None:
        """Let all others run until they wait for something or a message comes, but not for long.

        To be done before a stretch of work for which nobody waits. A read passes through the event loop three
        times, so that work which merely took its turns would hold it up three times over.
        """
        with trio.move_on_after(REST_SECONDS) as self._resting:
            await wait_all_tasks_blocked()
        self._resting = None

    @property
    def hurried(self) -> bool:
        """Whether the actor had better get on: messages pile up, or somebody waits for an answer."""
        return self.asked or self.depth() >= MANY_MESSAGES

    def take(self, envelopes: list[Envelope[Any]]) -> None:
        """Note what is being handled, so that a crash can answer it."""
        self._taken = envelopes

    def refuse(self, error: TimewellError) -> None:
        """Answer what is taken or waiting with the error, and turn new calls away. Tells are kept."""
        self._refusal = error
        for envelope in self._taken:
            envelope.fail(error)
        self._taken = []
        for envelope in self.drain_now():
            if envelope.reply is not None:
                envelope.reply.fail(error)
            else:
                self.post(envelope.message)

    def accept(self) -> None:
        """Take calls again."""
        self._refusal = None

    @property
    def refusing(self) -> bool:
        """Whether calls are turned away."""
        return self._refusal is not None

    def depth(self) -> int:
        """How many messages wait."""
        return self._receive.statistics().current_buffer_used
