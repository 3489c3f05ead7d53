"""JournalActor: puts everything that is accepted into a total order. Durable first, then visible, then answered.

Group commit: the actor takes all waiting messages, commits them together in a worker thread, passes the batches to
the stores and the monitor in commit order, and answers. Messages that arrive during a commit form the next group:
the slower the disk, the larger the group.

Over a shared store there are no stores to pass batches to, as reads ask the shared store.

A store's inbox is first in, first out, and a batch is in it before the write is answered, so a read sent after the
answer sees the write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import trio

from actors.clock import ArrivalClock
from actors.domain import Feature
from actors.errors import Conflict, Overloaded, StorageDown, TimewellError
from actors.mailbox import Envelope, Mailbox, Message
from actors.messages import Apply, ChangeRegistry, Erase, Forget, Purge, Write
from actors.repeats import Repeated
from actors.settings import GROUP_COMMIT_VALUES, IDEMPOTENCY_HOURS, UNFLUSHED_VALUES
from actors.storage.entries import Deleted, Entry, Erased, Registered, Together, Written
from actors.storage.protocol import Log
from actors.table.batch import Batch, Table, columns_of
from actors.table.sharding import shard_of, splitting
from actors.timestamps import SECOND
from actors.turns import by_turns


class _Accepted(NamedTuple):
    """An entry to commit, and the envelopes it answers: the one that it came in, and those that repeat its key."""

    askers: list[Envelope[Any]]
    entry: Entry


class JournalActor:
    """Commits entries. See the module docstring. `unflushed`: observations that the history does not have yet;
    `values_written`: those committed since the start.
    """

    def __init__(
        self,
        log: Log,
        clock: ArrivalClock,
        features: Mapping[str, Feature],
        unflushed: int,
        checkpoint_values: int,
    ) -> None:
        """`checkpoint_values`: sets `wants_checkpoint` when this many observations are unflushed."""
        self.mailbox = Mailbox("journal")
        self.unflushed = unflushed
        self.values_written = 0
        self.newest = 0
        """The arrival of the newest batch committed since the start."""
        self.wants_checkpoint = trio.Event()
        self.stores: Sequence[Mailbox] = ()
        self.monitor: Mailbox | None = None
        self._log = log
        self._clock = clock
        self._features = features
        self._checkpoint_values = checkpoint_values
        self._created: dict[str, int] = {}

    async def load(self) -> None:
        """Start again from the registry, whose features are durable.

        There may have been a crash between a commit and passing it on, so stores and monitor have to read the
        journal.
        """
        self.note_registry()
        self._ask_for_checkpoint()
        for mailbox in (*self.stores, *([self.monitor] if self.monitor else [])):
            mailbox.missed = True
            mailbox.post(Apply([]))

    def note_registry(self) -> None:
        """Validate writes against the registry as it is now, as another process has changed it."""
        self._created = {feature.id: feature.created for feature in self._features.values()}

    async def run(self) -> None:
        """Commit until cancelled."""
        while True:
            waiting = await self.mailbox.drain()
            self.mailbox.take(waiting)
            for group in _groups(waiting):
                await self._commit(group)

    async def _commit(self, group: Sequence[Envelope[Any]]) -> None:
        """Commit a group in one transaction."""
        try:
            accepted = self._accept(group, await self._answered_before(group))
            recorded: Sequence[Entry | TimewellError] = []
            if accepted:
                entries = [one.entry for one in accepted]
                recorded = await trio.to_thread.run_sync(self._log.commit, entries)
        except (StorageDown, MemoryError) as error:
            await self.load()
            for envelope in group:
                envelope.fail(
                    error
                    if isinstance(error, StorageDown)
                    else StorageDown("there is not enough memory for this commit"),
                )
            return
        durable = [entry for entry in recorded if not isinstance(entry, TimewellError)]
        written = [entry for entry in durable if isinstance(entry, Written)]
        observations = sum(entry.observations for entry in written)
        self.values_written += observations
        if self.stores:
            self.unflushed += observations
        self.newest = max([self.newest, *(entry.arrived for entry in written)])
        self._clock.start_after(self.newest)  # a shared store may assign later arrivals
        for change in durable:
            self._note(change)
        try:
            await self._pass_on(durable)
        except MemoryError:
            await self.load()  # has stores and monitor read the journal before they answer anything else
        for (askers, _), entry in zip(accepted, recorded, strict=True):
            for envelope in askers:
                if isinstance(entry, TimewellError):
                    envelope.fail(entry)
                else:
                    envelope.answer(_answer_to(entry))

    async def _answered_before(self, group: Sequence[Envelope[Any]]) -> dict[str, bytes]:
        keys = [key for envelope in group if (key := _key(envelope)) is not None]
        if not keys:
            return {}
        since = self._clock.steady() - IDEMPOTENCY_HOURS * 3_600 * SECOND
        return dict(await trio.to_thread.run_sync(self._log.answers, keys, since))

    def _accept(self, group: Sequence[Envelope[Any]], answered: Mapping[str, bytes]) -> list[_Accepted]:
        """The entries to commit. Messages that need none, as they are repeats or refused, are answered here."""
        accepted: list[_Accepted] = []
        first: dict[str, _Accepted] = {}
        for envelope in group:
            key = _key(envelope)
            if key is not None and key in answered:
                envelope.answer(Repeated(answered[key]))
            elif key is not None and key in first:
                first[key].askers.append(envelope)
            else:
                try:
                    accepted.append(_Accepted([envelope], self._entry(envelope.message)))
                except TimewellError as error:
                    envelope.fail(error)
                    continue
                if key is not None:
                    first[key] = accepted[-1]
        return accepted

    def _entry(self, message: Message[Any]) -> Entry:
        if isinstance(message, ChangeRegistry):
            return message.change
        if isinstance(message, Erase):
            return Erased(message.entity_type, message.entity_id, self._clock.tick(), before=message.before)
        if not isinstance(message, Write):
            raise TypeError(f"not for the journal: {message!r}")
        if self.unflushed > UNFLUSHED_VALUES:
            raise Overloaded("the history files cannot keep up with the journal")
        for column in columns_of(message.batch):
            if self._created.get(column.feature) != column.created:
                raise Conflict(f"feature {column.feature!r} was deleted while it was written")
        return Written(
            self._clock.tick(),
            message.batch,
            message.key,
            message.answer,
            message.judged,
            notes=message.notes,
        )

    def _note(self, change: Entry) -> None:
        """Note a change of the registry, which later writes are validated against."""
        if isinstance(change, Registered):
            self._created[change.feature.id] = change.feature.created
        elif isinstance(change, Deleted):
            self._created.pop(change.feature.id, None)
        elif isinstance(change, Together):
            for one in change.changes:
                self._note(one)

    async def _pass_on(self, entries: Sequence[Entry]) -> None:
        """Pass durable entries to the stores and the monitor, in commit order."""
        batches: list[tuple[int, Batch]] = []
        for entry in entries:
            if isinstance(entry, Written):
                batches.append((entry.arrived, entry.batch))
            elif isinstance(entry, Deleted):
                await self._apply(batches)
                batches = []
                for store in self.stores:
                    await store.tell(Forget(entry.feature))
                if self.monitor is not None:
                    self.monitor.post(Forget(entry.feature))
            elif isinstance(entry, Erased):
                await self._apply(batches)
                batches = []
                if self.stores:
                    owner = shard_of(entry.entity_type, entry.entity_id, len(self.stores))
                    await self.stores[owner].tell(Purge(entry))
        await self._apply(batches)
        self._ask_for_checkpoint()

    async def _apply(self, batches: Sequence[tuple[int, Batch]]) -> None:
        if not batches:
            return
        parts: dict[int, list[tuple[int, list[Table]]]] = {}
        for arrived, batch in batches if self.stores else ():
            for shard, tables in (await by_turns(splitting(batch, len(self.stores)))).items():
                parts.setdefault(shard, []).append((arrived, tables))
        for shard, of_shard in parts.items():
            await self.stores[shard].tell(Apply(of_shard))
        if self.monitor is not None:
            self.monitor.post(Apply(batches))

    # Checkpoints

    def flushed(self, observations: int) -> None:
        """Note that this many observations have reached the history."""
        self.unflushed -= observations

    def _ask_for_checkpoint(self) -> None:
        if self.unflushed >= self._checkpoint_values:
            self.wants_checkpoint.set()


def _groups(waiting: Sequence[Envelope[Any]]) -> list[list[Envelope[Any]]]:
    """Split waiting messages into groups of consecutive ones, of up to GROUP_COMMIT_VALUES observations.

    A message that adds or deletes a feature ends its group: later ones are validated once that is durable.
    """
    groups: list[list[Envelope[Any]]] = [[]]
    values, ended = 0, False
    for envelope in waiting:
        count = envelope.message.count if isinstance(envelope.message, Write) else 0
        if groups[-1] and (ended or values + count > GROUP_COMMIT_VALUES):
            groups.append([])
            values = 0
        groups[-1].append(envelope)
        values += count
        ended = _changes_features(envelope.message)
    return groups


def _changes_features(message: Message[Any]) -> bool:
    return isinstance(message, ChangeRegistry) and isinstance(message.change, Registered | Deleted | Together)


def _key(envelope: Envelope[Any]) -> str | None:
    return envelope.message.key if isinstance(envelope.message, Write) else None


def _answer_to(entry: Entry) -> bytes | Erased | None:
    """The answer to a message whose entry is durable."""
    if isinstance(entry, Written):
        return Repeated(entry.answer) if entry.repeated else entry.answer
    return entry if isinstance(entry, Erased) else None
