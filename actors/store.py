"""FeatureStore and StoreActor: one shard of the entities, in memory, rebuilt from storage when lost.

A FeatureStore answers messages synchronously from its partition. A StoreActor runs it: it drains its inbox,
handles all messages, frees memory between them, and after a crash reloads everything from storage.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import trio

from actors.domain import Feature
from actors.errors import RequestError, shortage
from actors.mailbox import Envelope, Handlers, Mailbox, Message, R
from actors.messages import (
    About,
    Aggregated,
    Agreement,
    Apply,
    Between,
    CountRows,
    EntitySlots,
    Flushed,
    Forget,
    Latest,
    Past,
    PastWindow,
    Purge,
    Scan,
    Scanned,
    Whereabouts,
)
from actors.rebuilding import rebuild, replayed
from actors.storage.protocol import Known, OwnHistory, OwnLog, Trimmed
from actors.table.batch import Batch, observations
from actors.table.columns import Indices
from actors.table.found import Found
from actors.table.grid import Cells, Grid, filled
from actors.table.latest import HalfGrown
from actors.table.partition import DiskRows, Partition
from actors.table.ranged import Bounds, Ranged, in_windows
from actors.table.rows import Rows
from actors.table.series import SLOTS_WORTH_COMPACTING, differences
from actors.timestamps import FOREVER
from actors.turns import Steps, at_once, by_turns
from actors.types.type import Nulls
from actors.types.values import empty

log = logging.getLogger("timewell.store")
EVICTION_SHARE = 20
"""After an eviction the budget is checked again when a twentieth of it has been added."""
USES_NOTED_FROM = 0.5
"""As long as less than this fraction of the budget is used, nothing will be evicted soon, and uses are not
recorded."""
EVICTED_ROWS_PER_TURN = 50_000
"""Rows that an eviction processes before other tasks run: some milliseconds."""
VALUES_PER_TURN = 1_500
"""For each this many values that are written, one step of tidying and eviction is done before the next write, so
that an eviction ends before a tenth of the budget has been added."""
LONGEST_TURN_SECONDS = 0.005
"""How long a store handles messages before other tasks run."""


class FeatureStore:
    """Answers messages from a partition. Not thread-safe."""

    def __init__(self, partition: Partition, budget: int) -> None:
        """`budget`: how many observations to keep in memory, besides those that the history does not have yet."""
        self.partition = partition
        self._chores: Iterator[None] = iter(())
        self._to_trim: Mapping[str, int] | None = None
        self._evicting: Iterator[int] | None = None
        self.taken = 0
        """How many values have been applied."""
        self.agreement: dict[str, tuple[int, int]] = {}
        """By feature id: values compared with a point-in-time read, and values that differed."""
        self._budget = budget
        self._look_at = budget
        self._at_most = partition.rows
        self._handlers = self._handling()

    def handle(self, message: Message[R]) -> R:
        """Answer a message."""
        if self._at_most > self._budget * USES_NOTED_FROM:
            self.partition.tick += 1
        return self._handlers.handle(message)

    def _handling(self) -> Handlers:
        handlers, partition = Handlers("a store"), self.partition
        handlers.on(Latest, self._latest)
        handlers.on(Past, self._past)
        handlers.on(PastWindow, self._past_window)
        handlers.on(Between, self._between)
        handlers.on(Scan, self._scan)
        handlers.on(Whereabouts, self._whereabouts)
        handlers.on(CountRows, lambda _: partition.rows)
        handlers.on(Agreement, lambda _: dict(self.agreement))
        handlers.on(Apply, lambda told: at_once(self.applying(told.batches)))
        handlers.on(Flushed, self._flushed)
        handlers.on(Forget, lambda told: partition.drop(told.feature.id))
        handlers.on(Purge, lambda told: partition.purge(*told.erased[:3]))
        return handlers

    def _flushed(self, message: Flushed) -> None:
        self.partition.flush(message.position)
        self._to_trim = message.kept_values
        self._look_at = self._budget

    def unprepared(self, message: Message[Any]) -> bool:
        """Whether `preparing` has to run before this message can be answered."""
        if isinstance(message, Latest):
            return any(self.partition.lacks(about.features) for about in message.asked)
        features = _features_of(message)
        return self.partition.lacks(features) or (_searches(message) and not self.partition.is_in_order(features))

    def preparing(self, message: Message[Any], most: int | None = None) -> Steps[None]:
        """Add the columns that a message needs, and sort the rows that it searches, in steps. The store may not be
        used otherwise in between. `most`: of how many features the rows are sorted, None for all."""
        features = _features_of(message)
        yield from self.partition.making_columns(features)
        if _searches(message):
            yield from self.partition.ordering(features, most)

    def applying(self, batches: Sequence[tuple[int, Batch]]) -> Steps[None]:
        """Apply batches, in steps. The store may not be used otherwise in between."""
        for arrived, batch in batches:
            yield from self.partition.applying(arrived, batch)
            count = observations(batch)
            self.taken += count
            self._at_most += count

    def keep_within_budget(self) -> bool:
        """Do one step of eviction if memory exceeds the budget; returns whether there is nothing more to evict."""
        if self._evicting is None:
            if self._at_most <= self._look_at:
                return True
            self._evicting = self.partition.evicting(self._budget)
        looked_at = 0
        for rows in self._evicting:
            looked_at += rows
            if looked_at >= EVICTED_ROWS_PER_TURN:
                return False
        self._evicting = None
        self._at_most = self.partition.rows
        self._look_at = max(self._budget, self._at_most + self._budget // EVICTION_SHARE)
        return True

    def housekeep(self) -> bool:
        """Do one step of the work to be done between messages. Returns whether there may be more."""
        for _ in self._chores:
            return True
        if self._to_trim is not None:  # trim for the last checkpoint, when trimming for an earlier one is done
            self._chores, self._to_trim = self.partition.trimming(self._to_trim), None
            return True
        return self.tidy()

    def tidy(self) -> bool:
        """Do one step of merging and evicting, of which writes cause more. Returns whether there may be more."""
        tidied = self.partition.tidy()
        return not self.keep_within_budget() or tidied

    # Reading

    # Rows read from disk before the last flush are discarded: memory may have dropped rows that they lack.

    def _fresh(self, disk: DiskRows | None) -> DiskRows | None:
        return disk if disk is not None and disk.position >= self.partition.flushed else None

    def _latest(self, message: Latest) -> list[Grid]:
        """The latest values of each feature; `cold` marks those that have to be read from disk."""
        return [self._latest_about(about, message) for about in message.asked]

    def _latest_about(self, about: About, message: Latest) -> Grid:
        slots = self.partition.slots(about.entity_type, about.entities)
        lacked = message.disk and any(feature.id in message.disk for feature in about.features)
        if lacked or not message.current:
            each = zip(about.features, about.visible_from, strict=True)
            return filled(about.features.kinds, [self._cells(about, message, slots, *one) for one in each])
        grid = self.partition.latest(about.features, slots, message.at, about.visible_from)
        if message.verify:
            self._verify(about, message.at, slots, grid)
        return grid

    def _verify(self, about: About, at: int, slots: Indices, grid: Grid) -> None:
        """Compare the served values with a point-in-time read of the history in memory, and log differences."""
        for member, served in grid.cells().items():
            feature = about.features[member]
            past = self.partition.as_of(feature, slots, at, about.visible_from[member], None)
            known = np.ones(len(slots), np.bool_)
            for cold in (served.cold, past.cold):
                known &= True if cold is None else ~cold
            differ = known & differences(served, past)
            compared, differed = self.agreement.get(feature.id, (0, 0))
            found = int(np.count_nonzero(differ))
            self.agreement[feature.id] = compared + int(np.count_nonzero(known)), differed + found
            if found:
                first = about.entities[int(np.argmax(differ))]
                log.error("%s of %r was not served as a point-in-time read has it", feature.id, first)

    def _cells(self, about: About, message: Latest, slots: Indices, feature: Feature, visible_from: int) -> Cells:
        disk = self._fresh(message.disk.get(feature.id))
        if disk is not None:
            return self._latest_with_disk(about, message, feature, visible_from, disk)
        return self.partition.as_of(feature, slots, message.at, visible_from, None)

    def _latest_with_disk(
        self, about: About, message: Latest, feature: Feature, visible_from: int, disk: DiskRows
    ) -> Cells:
        placed = self.partition.place(feature, disk)
        slots = self.partition.slots(about.entity_type, about.entities)
        if message.current and disk.whole:
            self.partition.install(feature, disk.entities, placed)
            self._at_most += placed.size
        # Uses the rows from disk even after installing them: retention keeps only the newest ones in memory, which
        # may all be in the future.
        cells = self.partition.as_of(feature, slots, message.at, visible_from, placed)
        return cells._replace(cold=_uncovered(cells.cold, about.entities, disk))

    def _whereabouts(self, message: Whereabouts | Past) -> EntitySlots:
        return EntitySlots(self.partition.epoch, self.partition.slots(message.entity_type, message.entities))

    def _past(self, message: Past) -> list[Cells]:
        places = message.places
        if places is None or places.epoch is not self.partition.epoch:
            places = self._whereabouts(message)
        slots, cells, index = places.slots, [], Found()
        for feature, visible_from in zip(message.features, message.visible_from, strict=True):
            disk = self._fresh(message.disk.get(feature.id))
            placed = self.partition.place(feature, disk) if disk is not None else None
            if placed is not None:
                slots = self.partition.slots(message.entity_type, message.entities)
            asked = feature, slots, message.owner, message.at, visible_from
            found = self.partition.past(*asked, placed, index)
            if found.cold is not None and disk is not None:
                covered = set(disk.entities)
                known = np.array([entity in covered for entity in message.entities], np.bool_)
                found = found._replace(cold=found.cold & ~known[message.owner])
            cells.append(found)
        return cells

    def _past_window(self, message: PastWindow) -> Aggregated | Ranged:
        disk = self._fresh(message.disk)
        placed = self.partition.place(message.feature, disk) if disk is not None else None
        slots = self.partition.slots(message.feature.entity, message.entities)
        first = np.full(len(slots), FOREVER, np.int64)
        np.minimum.at(first, message.owner, message.start)
        series = self.partition.series(message.feature)
        cold = _uncovered(series.cold_before(slots, first + 1), message.entities, disk)
        if cold is not None and cold.any():
            none = np.zeros(0, np.bool_)
            where = np.flatnonzero(cold).tolist()
            return Aggregated(empty(message.feature, 0), none, message.feature.value_type, where)
        bounds = Bounds(slots[message.owner], message.start + 1, message.at)
        return _soon(Ranged(series.parts(len(bounds.slots), placed), bounds, message))

    def _between(self, message: Between) -> Aggregated | Ranged:
        disk = self._fresh(message.disk)
        placed = self.partition.place(message.feature, disk) if disk is not None else None
        slots = self.partition.slots(message.feature.entity, message.entities)
        start = max(message.start, message.visible_from)
        cold = self._cold(message.feature, message.entities, slots, start, disk)
        if cold:
            return Aggregated(empty(message.feature, 0), np.zeros(0, np.bool_), message.feature.value_type, cold)
        parts = self.partition.series(message.feature).parts(len(slots), placed)
        bounds = in_windows(slots, message.start, message.end, message.window, message.windows)
        return _soon(Ranged(parts, bounds._replace(start=np.maximum(bounds.start, start)), message))

    def _cold(
        self, feature: Feature, entities: Sequence[str], slots: Indices, start: int, disk: DiskRows | None
    ) -> Sequence[int]:
        cold = _uncovered(self.partition.series(feature).cold_before(slots, start), entities, disk)
        return [] if cold is None else np.flatnonzero(cold).tolist()

    def _scan(self, message: Scan) -> Scanned:
        disk = self._fresh(message.disk)
        placed: Rows | None = self.partition.place(message.feature, disk) if disk is not None else None
        slots = self.partition.slots(message.feature.entity, [message.entity])
        cold = self._cold(message.feature, [message.entity], slots, message.start, disk)
        if cold:
            none = np.zeros(0, np.int64)
            return Scanned(none, none, none.astype(np.bool_), more=False, cold=True)
        most = -message.limit - 1 if message.descending else message.limit + 1
        found = self.partition.between(message.feature, slots, message.start, message.end, placed, most)
        order = np.arange(len(found.times))[:: -1 if message.descending else 1]
        page, more = order[: message.limit], len(order) > message.limit
        return Scanned(found.times[page], found.values[page], found.nulls[page], more)


def _soon(asked: Ranged) -> Aggregated | Ranged:
    """The aggregates if there are few rows, otherwise the Ranged that computes them in a worker thread."""
    return Aggregated(*at_once(asked.answering())) if asked.few else asked


def _uncovered(cold: Nulls | None, entities: Sequence[str], disk: DiskRows | None) -> Nulls | None:
    """What is still cold when rows from disk are used."""
    if cold is None or disk is None or not cold.any():
        return cold
    covered = set(disk.entities)
    return cold & np.array([entity not in covered for entity in entities], np.bool_)


class _Due:
    """A message to be handled. `passes`: how often a part of its preparation was done."""

    __slots__ = ("envelope", "passes")

    def __init__(self, envelope: Envelope[Any]) -> None:
        self.envelope = envelope
        self.passes = 0


class StoreActor:
    """Runs the FeatureStore of one shard."""

    def __init__(
        self,
        shard: int,
        shards: int,
        budget: int,
        log: OwnLog,
        history: OwnHistory,
        known: Known,
        partition: Partition | None = None,
    ) -> None:
        """`known`: returns the registered features; called at every rebuild. `partition`: an initial state."""
        self.mailbox = Mailbox(f"store {shard}")
        self._shard = shard
        self._shards = shards
        self._budget = budget
        self._log = log
        self._history = history
        self._known = known
        self._prepared = partition
        self._owed = 0
        """How many steps of tidying have to be done before the next batches are applied."""
        self.store: FeatureStore

    async def load(self) -> None:
        """Rebuild the partition from storage, unless an initial one was given."""
        partition, self._prepared = self._prepared, None
        if partition is None:
            wanted, budget = [self._shard], self._budget * self._shards
            rebuilt = await trio.to_thread.run_sync(
                rebuild, self._log, self._history, self._known, self._shards, wanted, budget
            )
            partition = rebuilt[self._shard]
        self.store = FeatureStore(partition, self._budget)

    async def run(self) -> None:
        """Handle messages until cancelled, with steps of housekeeping in between."""
        waiting = deque[_Due]()
        while True:
            await self._take_in(waiting, await self._next())
            until = trio.current_time() + LONGEST_TURN_SECONDS
            while waiting:
                due = waiting.popleft()
                if isinstance(due.envelope.message, Apply) and due.envelope.reply is None:
                    await self._apply(due.envelope.message)
                elif not await self._answer_by_turns(due):
                    # Much is to be sorted for it. What has come meanwhile need not wait for all of that.
                    await self._take_in(waiting, self.mailbox.drain_now(), due)
                if trio.current_time() > until:
                    await trio.lowlevel.checkpoint()
                    until = trio.current_time() + LONGEST_TURN_SECONDS

    async def _take_in(self, waiting: deque[_Due], fresh: list[Envelope[Any]], last: _Due | None = None) -> None:
        """Queue the messages that have come, and `last` behind them."""
        waiting.extend(map(_Due, fresh))
        if last is not None:
            waiting.append(last)
        self.mailbox.take([due.envelope for due in waiting])
        if self.mailbox.missed:
            await self._catch_up()

    async def _apply(self, message: Apply) -> None:
        """Apply batches, after the steps of tidying that earlier batches owe."""
        while self._owed > 0 and self.store.tidy():
            self._owed -= 1
            await trio.lowlevel.checkpoint()
        taken = self.store.taken
        await by_turns(self.store.applying(message.batches))
        self._owed = 1 + (self.store.taken - taken) // VALUES_PER_TURN

    async def _next(self) -> list[Envelope[Any]]:
        while self.store.housekeep():
            self._owed -= 1
            await self.mailbox.rest()
            if waiting := self.mailbox.drain_now():
                return waiting
        return await self.mailbox.drain(None if self.mailbox.missed else self._answer_now)

    def _answer_now(self, envelope: Envelope[Any]) -> None:
        """Answer in the caller's task. Raises RuntimeError if that takes long: the caller then sends a message."""
        if self.store.unprepared(envelope.message):
            raise RuntimeError("what is asked for has to be prepared in steps")
        self._answer(envelope)

    async def _answer_by_turns(self, due: _Due) -> bool:
        """Answer a message, or do a part of what has to be done before; returns whether it is answered."""
        message = due.envelope.message
        if self.store.unprepared(message):
            # Writes may undo what has been sorted; in the end all is sorted at once.
            most = 1 if due.passes < len(_features_of(message)) else None
            due.passes += 1
            try:
                await by_turns(self.store.preparing(message, most))
            except MemoryError as error:
                self._refuse(due.envelope, error)
                return True
            if most is not None and self.store.unprepared(message):
                return False
        self._answer(due.envelope)
        return True

    def _answer(self, envelope: Envelope[Any]) -> None:
        try:
            answer = self.store.handle(envelope.message)
        except RequestError as error:
            if envelope.reply is None:
                raise
            envelope.fail(error)
        except MemoryError as error:
            self._refuse(envelope, error)
        else:
            envelope.answer(answer)

    def _refuse(self, envelope: Envelope[Any], error: MemoryError) -> None:
        """Refuse a message for want of memory. Raises `error` if the store may be inconsistent, to be rebuilt."""
        refusal = shortage(error)
        half_done = isinstance(error, HalfGrown) or _takes_in(envelope.message)
        if envelope.reply is None or refusal is None or half_done:
            raise error
        envelope.fail(refusal)

    async def _catch_up(self) -> None:
        """Apply the batches that were dropped from the full inbox."""
        self.mailbox.missed = False
        after = self.store.partition.position
        try:
            batches = await trio.to_thread.run_sync(replayed, self._log, self._shards, self._shard, after)
        except Trimmed:  # after a checkpoint only the history has what was missed
            await self.load()
            return
        self.store.handle(Apply(batches))
        for erased in await trio.to_thread.run_sync(self._log.erased):
            self.store.handle(Purge(erased))


def _features_of(message: Message[Any]) -> Sequence[Feature]:
    """The features that a query is about."""
    match message:
        case Latest():
            return [feature for about in message.asked for feature in about.features]
        case Past():
            return message.features
        case PastWindow() | Between() | Scan():
            return [message.feature]
        case _:
            return ()


def _searches(message: Message[Any]) -> bool:
    """Whether a query searches sorted rows, which it would otherwise sort first."""
    match message:
        case Past():
            return True
        case PastWindow() | Between():
            return len(message.entities) >= SLOTS_WORTH_COMPACTING
        case _:
            return False


def _takes_in(message: Message[Any]) -> bool:
    """Whether a query loads rows from disk back into memory."""
    return isinstance(message, Latest) and message.current and len(message.disk) > 0
