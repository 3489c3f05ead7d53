"""RegistryActor: the only one to change the FeatureRegistry.

Readers use the FeatureRegistry directly, which is safe in one thread: the actor changes it without awaiting in
between, once the change is durable.
"""

from __future__ import annotations

from typing import Any, Protocol

from actors import declaring, kept_rows, together
from actors.clock import ArrivalClock
from actors.errors import RequestError, TimewellError, Unavailable
from actors.mailbox import Envelope, Mailbox, Message
from actors.messages import (
    ChangeRegistry,
    Declare,
    DeleteFeature,
    DeleteGroup,
    Discard,
    ForgetRows,
    Keep,
    Offer,
    Promote,
    PutGroup,
    Refresh,
    Register,
    RegisterTogether,
    Undeclare,
    Withdraw,
)
from actors.registry import FeatureRegistry
from actors.storage.entries import RegistryChange, Ungrouped
from actors.storage.protocol import Stale
from actors.turns import by_turns

_ATTEMPTS = 5


class Others(Protocol):
    """The processes that change the same registry in a shared store."""

    @property
    def version(self) -> int:
        """The version of the registry that this process last read or wrote."""

    async def take_over(self) -> bool:
        """Load the registry from the store if others have changed it; returns whether they had."""


class RegistryActor:
    """Makes one change at a time: validates it against the registry, has it journaled, then applies it."""

    def __init__(
        self, registry: FeatureRegistry, journal: Mailbox, clock: ArrivalClock, others: Others | None = None
    ) -> None:
        self.mailbox = Mailbox("registry")
        self._registry = registry
        self._journal = journal
        self._clock = clock
        self._others = others

    async def load(self) -> None:
        """Nothing to do: the registry holds durable changes only, and survives a crash of its actor."""

    async def run(self) -> None:
        """Handle messages until cancelled."""
        while True:
            batch = await self.mailbox.drain()
            self.mailbox.take(batch)
            for envelope in batch:
                await self._handle(envelope)

    async def _handle(self, envelope: Envelope[Any]) -> None:
        try:
            answer = await self._handled(envelope.message)
        except TimewellError as error:
            envelope.fail(error)
        else:
            envelope.answer(answer)

    async def _handled(self, message: Message[Any]) -> Any:
        if isinstance(message, Refresh):
            await self._overtaken()
            return None
        if isinstance(message, RegisterTogether | ForgetRows):
            await self._overtaken()  # that nothing changes is not judged by a commit
        for _ in range(_ATTEMPTS):
            try:
                change, answer = await self._judged(message)
            except RequestError:
                if await self._overtaken():
                    continue
                raise
            if change is None:
                return answer
            try:
                await self._journal.ask(ChangeRegistry(change))
            except Stale:
                await self._overtaken()
                continue
            self._registry.apply(change)
            if self._others is not None:
                self._registry.version = self._others.version
            return answer
        raise Unavailable("other processes keep changing the registry")

    async def _overtaken(self) -> bool:
        """Load the registry if other processes have changed it; returns whether they had."""
        return self._others is not None and await self._others.take_over()

    async def _judged(self, message: Message[Any]) -> tuple[RegistryChange | None, Any]:
        if isinstance(message, ForgetRows):
            about = message.entity_type, message.entity_id
            return await by_turns(kept_rows.forgetting(self._registry, *about, self._clock.tick())), None
        if not isinstance(message, RegisterTogether):
            return self._judge(message)
        outcomes = await by_turns(together.judging(self._registry, message.asked, self._clock.tick))
        return None if message.dry else together.change_of(outcomes), outcomes

    def _judge(self, message: Message[Any]) -> tuple[RegistryChange, Any]:
        now = self._clock.tick()
        match message:
            case Register(change):
                registered, new = self._registry.registration(change, now)
                return registered, (registered.feature, new)
            case Promote(id_):
                promoted = declaring.promotion(self._registry, id_, now)
                return promoted, promoted.feature
            case DeleteFeature(id_, force):
                return self._registry.deletion(id_, now, force), None
            case PutGroup(group):
                grouped, new = self._registry.grouping(group, now)
                return grouped, (grouped.group, new)
            case DeleteGroup(name):
                return Ungrouped(self._registry.group(name).name), None
        return self._judge_record(message, now)

    def _judge_record(self, message: Message[Any], now: int) -> tuple[RegistryChange, Any]:
        match message:
            case Declare(entity_type):
                declared, new = declaring.declaration(self._registry, entity_type, now)
                return declared, (declared.record, new)
            case Undeclare(name):
                return declaring.undeclaration(self._registry, name), None
            case Offer(service):
                offered, new = declaring.offer(self._registry, service, now)
                return offered, (offered.record, new)
            case Keep(training_set):
                kept = declaring.keeping(self._registry, training_set, now)
                return kept, kept.record
            case Discard(name):
                return declaring.discarding(self._registry, name), None
            case Withdraw(reference):
                return declaring.withdrawal(self._registry, reference), None
        raise TypeError(f"not for the registry: {message!r}")
