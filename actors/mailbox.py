"""How actors are asked: a bounded inbox, one-shot replies, and nobody left waiting.

`ask` waits for a place in the inbox, at most INBOX_WAIT_SECONDS, and then for the answer; `tell` only for a
place. An actor drains its inbox, handles all, answers all. When it crashes, `fail_open` answers every call
that it had taken or that was waiting, and `refuse` turns new ones away until it is rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from actors.errors import Overloaded, TimewellError
from actors.settings import INBOX_MESSAGES, INBOX_WAIT_SECONDS

REST_SECONDS = 0.005
"""Work for which nobody waits gives way so long. Where the others never rest it has a tenth of the time."""
MANY_MESSAGES = 16


class Reply:
    """A place for one answer. An asker that has gone away leaves it unread."""

    __slots__ = ("_answered", "_error", "_value")

    def __init__(self) -> None:
        self._answered = trio.Event()
        self._value: Any = None
        self._error: TimewellError | None = None

    @property
    def done(self) -> bool:
        """Whether it has been answered."""
        return self._answered.is_set()

    def answer(self, value: Any) -> None:
        """Give the answer; only the first counts."""
        if not self.done:
            self._value = value
            self._answered.set()

    def fail(self, error: TimewellError) -> None:
        """Give an error for an answer; only the first counts."""
        if not self.done:
            self._error = error
            self._answered.set()

    async def wait(self) -> Any:
        """The answer, or the error raised. Goes on at once where it is there."""
        if not self.done:
            await self._answered.wait()
        if self._error is not None:
            # A fresh one for each asker: a shared traceback would grow with every raise.
            raise type(self._error)(self._error.detail, self._error.faults)
        return self._value


class Envelope:
    """A message with the reply that it wants, or none."""

    __slots__ = ("message", "reply")

    def __init__(self, message: Any, reply: Reply | None) -> None:
        self.message = message
        self.reply = reply


class Mailbox:
    """The inbox of one actor."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.missed = False
        """Whether a `post` found no place since the actor last looked."""
        self._send, self._receive = trio.open_memory_channel[Envelope](INBOX_MESSAGES)
        self._taken: list[Envelope] = []
        self._meanwhile: Callable[[Envelope], None] | None = None
        """How to handle a message while the actor waits and nothing has been sent to it since."""
        self._refusal: TimewellError | None = None
        self._resting: trio.CancelScope | None = None
        self.asked = False
        """Whether somebody waits for an answer to what has not been taken yet."""

    async def ask(self, message: Any) -> Any:
        """Send and wait for the answer. Raises Overloaded where the inbox stays full."""
        return await (await self.send(message)).wait()

    async def send(self, message: Any) -> Reply:
        """Send; the reply can be waited for later, so that several actors work on one question."""
        if self._refusal is not None:
            raise type(self._refusal)(self._refusal.detail)
        reply = Reply()
        await self._put(Envelope(message, reply))
        return reply

    def turn(self, message: Any) -> Reply | None:
        """Have a waiting actor handle a read here and now, which spares two switches of task; None if it cannot.

        Nothing is overtaken: it can only while its inbox is empty and it is not at work. Where handling fails, the
        message is to be sent, and fails the actor in its own task.
        """
        if self._meanwhile is None or self._refusal is not None:
            return None
        reply = Reply()
        try:
            self._meanwhile(Envelope(message, reply))
        except Exception:
            return None
        return reply

    async def tell(self, message: Any) -> None:
        """Send without an answer, waiting for a place as long as it takes: back pressure between actors.

        An actor that is being rebuilt holds nobody up: it will find that it missed something.
        """
        if self._refusal is None:
            self._wake()
            await self._send.send(Envelope(message, None))
        else:
            self.post(message)

    def post(self, message: Any) -> None:
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

    async def _put(self, envelope: Envelope) -> None:
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

    async def drain(self, meanwhile: Callable[[Envelope], None] | None = None) -> list[Envelope]:
        """Wait for a message and take all that are there. `meanwhile` handles turns until the first is sent."""
        self._meanwhile = meanwhile if self.depth() == 0 else None
        try:
            first = await self._receive.receive()
        finally:
            self._meanwhile = None
        return [first, *self.drain_now()]

    def drain_now(self) -> list[Envelope]:
        """Take all messages that are there."""
        self.asked, taken = False, []
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

    def take(self, envelopes: list[Envelope]) -> None:
        """Note what is being handled, so that a crash can answer it."""
        self._taken = envelopes

    def refuse(self, error: TimewellError) -> None:
        """Answer what is taken or waiting with the error, and turn new calls away. Tells are kept."""
        self._refusal = error
        for envelope in self._taken:
            if envelope.reply is not None:
                envelope.reply.fail(error)
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
