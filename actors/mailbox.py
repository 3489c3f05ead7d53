"""How actors are asked: typed messages, a bounded inbox and one-shot replies.

`ask` waits at most INBOX_WAIT_SECONDS for a place in the inbox, and then for the answer; `tell` waits for a place
only. An actor drains its inbox, handles all messages and answers them. When it crashes, `refuse` answers every
call that it had taken or that was waiting, and rejects new ones until the actor is rebuilt, so no caller waits
forever.

Built on trio's memory channels. This file could go if trio offered one-shot replies, a send with a timeout, and
receiving everything that waits in one call.
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
"""How long background work waits for other tasks to become idle. If they never do, it still gets a tenth of the
time."""
MANY_MESSAGES = 16
"""With so many messages in its inbox, an actor does its background work without waiting for idle time."""


R = TypeVar("R")
"""The type of the answer to a message."""


class Message(msgspec.Struct, Generic[R], frozen=True):
    """A request to an actor, whose answer is an R. The answer to a `Message[None]` says only that it is done."""


class Reply(Generic[R]):
    """A future for one answer, which nobody reads if the caller was cancelled."""

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
        """Set the answer; only the first call counts."""
        if not self.done:
            self._value = value
            self._answered.set()

    def fail(self, error: TimewellError) -> None:
        """Set an error as the answer; only the first call counts."""
        if not self.done:
            self._error = error
            self._answered.set()

    async def wait(self) -> R:
        """Wait for the answer and return it, or raise the error. Does not yield to the event loop if it is set."""
        if not self.done:
            await self._answered.wait()
        if self._error is not None:
            # A new exception for each caller: a shared one's traceback would grow with every raise.
            raise type(self._error)(self._error.detail, self._error.faults)
        return self._value


class Envelope(Generic[R]):
    """A message together with the reply for its answer, if one is wanted."""

    __slots__ = ("message", "reply")

    def __init__(self, message: Message[R], reply: Reply[R] | None) -> None:
        self.message = message
        self.reply = reply

    def answer(self, value: R) -> None:
        """Answer the caller, if there is one."""
        if self.reply is not None:
            self.reply.answer(value)

    def fail(self, error: TimewellError) -> None:
        """Answer the caller, if there is one, with an error."""
        if self.reply is not None:
            self.reply.fail(error)


class Handlers:
    """Maps each type of message to the function of an actor that answers it."""

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self._by_kind: dict[type[Message[Any]], Callable[[Any], Any]] = {}

    def on(self, kind: type[Message[R]], handle: Callable[[Any], R]) -> None:
        """Have `handle` answer all messages of the type `kind`."""
        self._by_kind[kind] = handle

    def handle(self, message: Message[R]) -> R:
        """Answer a message. Raises TypeError if no function is registered for its type."""
        found = self._by_kind.get(type(message))
        if found is None:
            raise TypeError(f"not for {self._whose}: {message!r}")
        answer: R = found(message)
        return answer


class Tasks:
    """Like `Handlers`, for async functions."""

    def __init__(self, whose: str) -> None:
        self._handlers = Handlers(whose)

    def on(self, kind: type[Message[R]], handle: Callable[[Any], Awaitable[R]]) -> None:
        """Have `handle` answer all messages of the type `kind`."""
        self._handlers.on(kind, handle)  # type: ignore[arg-type]  # what it returns is awaited below

    async def handle(self, message: Message[R]) -> R:
        """Answer a message. Raises TypeError if no function is registered for its type."""
        answer: Any = self._handlers.handle(message)
        answered: R = await answer
        return answered


class Mailbox:
    """The inbox of one actor."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.missed = False
        """Whether a message was lost to a full inbox since the actor last reset this."""
        self._send, self._receive = trio.open_memory_channel[Envelope[Any]](INBOX_MESSAGES)
        self._taken: list[Envelope[Any]] = []
        self._meanwhile: Callable[[Envelope[Any]], None] | None = None
        """Handles a message out of turn; set only while the actor waits and its inbox is empty."""
        self._refusal: TimewellError | None = None
        self._resting: trio.CancelScope | None = None
        self.asked = False
        """Whether a call in the inbox has not been taken yet."""

    async def ask(self, message: Message[R]) -> R:
        """Send a message and wait for the answer. Raises Overloaded if the inbox stays full."""
        return await (await self.send(message)).wait()

    async def send(self, message: Message[R]) -> Reply[R]:
        """Send a message; the reply can be awaited later, so that several actors work on a query at once."""
        if self._refusal is not None:
            raise type(self._refusal)(self._refusal.detail)
        reply: Reply[R] = Reply()
        await self._put(Envelope(message, reply))
        return reply

    def turn(self, message: Message[R]) -> Reply[R] | None:
        """Have an idle actor handle a read in the caller's task, which saves two task switches; None if it cannot.

        No message is overtaken: this works only while the inbox is empty and the actor is not working. If handling
        raises, None is returned as well: the caller then sends the message, which fails the actor in its own task.
        """
        if self._meanwhile is None or self._refusal is not None:
            return None
        reply: Reply[R] = Reply()
        try:
            self._meanwhile(Envelope(message, reply))
        except Exception:
            return None
        return reply

    async def tell(self, message: Message[None]) -> None:
        """Send a message without an answer, waiting for a place as long as it takes: back pressure between actors.

        An actor that is being rebuilt blocks nobody; if its inbox is full, `missed` is set.
        """
        if self._refusal is None:
            self._wake()
            await self._send.send(Envelope(message, None))
        else:
            self.post(message)

    def post(self, message: Message[None]) -> None:
        """Send without waiting; if the inbox is full, set `missed` instead."""
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

    # For the actor

    async def drain(self, meanwhile: Callable[[Envelope[Any]], None] | None = None) -> list[Envelope[Any]]:
        """Wait for a message and take all that are there. Until then `meanwhile` handles calls of `turn`."""
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
        """Wait until all other tasks are blocked or a message comes, at most REST_SECONDS.

        To be called before each stretch of background work. A read passes through the event loop three times, so
        background work that merely took its turns would delay it three times.
        """
        with trio.move_on_after(REST_SECONDS) as self._resting:
            await wait_all_tasks_blocked()
        self._resting = None

    @property
    def hurried(self) -> bool:
        """Whether background work should not rest: messages pile up, or a call waits."""
        return self.asked or self.depth() >= MANY_MESSAGES

    def take(self, envelopes: list[Envelope[Any]]) -> None:
        """Note the envelopes being handled, so that `refuse` can answer them after a crash."""
        self._taken = envelopes

    def refuse(self, error: TimewellError) -> None:
        """Answer all calls, taken or waiting, with the error, and reject new ones. Messages of `tell` are kept."""
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
        """Accept calls again."""
        self._refusal = None

    @property
    def refusing(self) -> bool:
        """Whether calls are rejected."""
        return self._refusal is not None

    def depth(self) -> int:
        """How many messages wait in the inbox."""
        return self._receive.statistics().current_buffer_used
