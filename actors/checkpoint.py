"""Checkpoints: the journal's observations move into the history files, and memory and journal let them go.

1. flush    sorted runs are added to the history, oldest arrivals first
2. save     the monitor's state with its position
3. tell     the stores may now drop what retention does not keep ready
4. trim     the journal forgets what both the history and the monitor have
5. tidy     rows of deleted features and erased entities leave the files, small files are merged
6. return   the system has back the memory that all this needed for a moment

Each step is durable before the next, so a crash between any two repeats work and loses nothing. A step that
fails (a full disk) is tried again later; until then the journal keeps everything and reads go on.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import trio

from actors.errors import TimewellError, Unavailable, shortage
from actors.journal import JournalActor
from actors.mailbox import Mailbox
from actors.memory import give_back
from actors.messages import Erase, Flushed, Saved, Snapshot
from actors.registry import FeatureRegistry
from actors.stats.summary import Summary, merge_states, saved
from actors.storage.protocol import Erased, OwnStorage, Removed, Storage, SummaryKey
from actors.timestamps import FOREVER, NEVER

log = logging.getLogger("timewell.checkpoint")
RETRY_SECONDS = 5.0
ERASURE_CHECKPOINTS = 3
"""One is enough unless the monitor lags behind the journal."""


class Checkpointer:
    """Runs a checkpoint every so many seconds, or when the journal asks for one.

    Over a shared store there are no files to be filled: steps 2 and 4, and of step 5 what is deleted.
    """

    def __init__(
        self,
        storage: Storage,
        journal: JournalActor,
        monitor: Mailbox | None,
        registry: FeatureRegistry,
        seconds: float,
        now: Callable[[], int],
    ) -> None:
        self._log = storage.log
        self._history = storage.history
        self._summaries = storage.summaries
        self._journal = journal
        self._monitor = monitor
        self._registry = registry
        self._seconds = seconds
        self._now = now
        self._one_at_a_time = trio.Lock()
        self._erasures: set[_Erasure] = set()
        self.took: Callable[[str, float], None] = lambda what, seconds: None
        """Hears how long a "checkpoint" that moved something took, compaction left out, and each "compaction"."""

    async def run(self) -> None:
        """Checkpoint until cancelled."""
        while True:
            with trio.move_on_after(self._seconds):
                await self._journal.wants_checkpoint.wait()
            try:
                await self.checkpoint()
            except Exception as error:  # whatever it is, the journal has everything, and trying again may help
                known = isinstance(error, TimewellError) or shortage(error) is not None
                words = "the checkpoint did not finish and will be tried again: %s"
                log.warning(words, error, exc_info=None if known else error)
                await trio.sleep(RETRY_SECONDS)

    async def checkpoint(self) -> None:
        """One checkpoint, as the module says. Raises StorageDown where a step fails."""
        async with self._one_at_a_time:
            await self._checkpoint()

    async def erase(self, entity_type: str, entity_id: str) -> tuple[Erased, Removed]:
        """Erase an entity, until nothing more of it is anywhere.

        Raises StorageDown, or Unavailable where that takes too long; it will then be done by a later checkpoint.
        """
        erasure = _Erasure(entity_type, entity_id)
        self._erasures.add(erasure)
        try:
            erased: Erased = await self._journal.mailbox.ask(Erase(entity_type, entity_id))
            await self._finish(erasure, erased)
            return erased, erasure.removed
        finally:
            self._erasures.discard(erasure)

    async def _finish(self, erasure: _Erasure, erased: Erased) -> None:
        """Know what is gone: its rows went within the commit."""
        for one in self._erasures:
            one.note_removed(erased)
        await trio.lowlevel.checkpoint()  # those of the same commit note theirs

    async def _checkpoint(self) -> None:
        self._journal.wants_checkpoint = trio.Event()
        await self._trim(await self._save_monitor())

    async def _save_monitor(self) -> int:
        if self._monitor is None:
            return FOREVER
        position, parts = await self._monitor.ask(Snapshot())
        await trio.to_thread.run_sync(self._save, position, parts)
        with suppress(Unavailable):  # one that is being rebuilt goes by what is saved
            await self._monitor.ask(Saved(position))
        await trio.to_thread.run_sync(_let_go, parts)
        await trio.to_thread.run_sync(self._summaries.coarsen, self._now(), merge_states)
        return int(position)

    def _save(self, position: int, parts: Mapping[SummaryKey, Summary]) -> None:
        self._summaries.save(position, {key: saved(part) for key, part in parts.items()}, merge_states)

    async def _trim(self, monitored: int) -> None:
        await trio.to_thread.run_sync(self._log.trim, monitored, self._now())
        await trio.to_thread.run_sync(self._history.forget, self._registry.known)


class FilingCheckpointer(Checkpointer):
    """All steps, for a storage of one's own."""

    def __init__(
        self,
        storage: OwnStorage,
        journal: JournalActor,
        stores: Sequence[Mailbox],
        monitor: Mailbox | None,
        registry: FeatureRegistry,
        seconds: float,
        now: Callable[[], int],
    ) -> None:
        super().__init__(storage, journal, monitor, registry, seconds, now)
        self._files = storage.history
        self._stores = stores
        self._position, self._untold = 0, False
        """What the history reaches, and whether the stores have still to be told."""

    async def _checkpoint(self) -> None:
        self._journal.wants_checkpoint = trio.Event()
        began = time.perf_counter()
        moved = await self._flush()
        monitored = await self._save_monitor()
        if self._untold:
            await self._tell()
        await self._trim(monitored)
        await self._erase()
        if moved:
            self.took("checkpoint", time.perf_counter() - began)
        began = time.perf_counter()
        await trio.to_thread.run_sync(self._files.compact, self._registry.known, self._now())
        self.took("compaction", time.perf_counter() - began)
        if moved:
            await trio.to_thread.run_sync(give_back)

    async def _finish(self, erasure: _Erasure, erased: Erased) -> None:
        """Checkpoint until the files have nothing more of the entity."""
        for _ in range(ERASURE_CHECKPOINTS):
            async with self._one_at_a_time:
                if not erasure.covers(erased):  # by the checkpoint that another one waited for
                    await self._checkpoint()
            if erasure.covers(erased):
                return
        raise Unavailable("the entity is hidden, but not yet gone from the files: ask again")

    async def _flush(self) -> int:
        moved = 0
        while True:
            flush = await trio.to_thread.run_sync(self._files.flush, self._registry.known, self._now())
            if flush.observations == 0:
                return moved
            moved += flush.observations
            self._position, self._untold = flush.position, True
            self._journal.flushed(flush.observations)
            log.debug("flushed %d observations", flush.observations)

    async def _tell(self) -> None:
        kept_values = {feature.id: feature.kept_values for feature in self._registry.features.values()}
        for store in self._stores:
            await store.tell(Flushed(self._position, kept_values))
        self._untold = False

    async def _erase(self) -> None:
        for erased, counts in (await trio.to_thread.run_sync(self._files.erase)).items():
            log.info("an entity of %r was erased: %d observations", erased.entity_type, sum(counts.values()))
            for erasure in self._erasures:
                erasure.note(erased, counts)


def _let_go(parts: dict[SummaryKey, Summary]) -> None:
    """Thousands of them are freed one by one in a worker thread, so that nobody waits for all."""
    while parts:
        parts.popitem()


class _Erasure:
    """What left the files of an entity since somebody asked for it. Several who ask at once are told the same."""

    def __init__(self, entity_type: str, entity_id: str) -> None:
        self._entity = entity_type, entity_id
        self._until = NEVER
        self._counts = Counter[str]()
        self._taken: list[Removed] = []

    def note(self, erased: Erased, counts: Mapping[str, int]) -> None:
        """An erasure is done with."""
        if self._entity == erased[:2]:
            self._until = max(self._until, erased.arrived)
            self._counts.update(counts)

    def note_removed(self, erased: Erased) -> None:
        """A shared store has taken away what it had by then."""
        if self._entity == erased[:2] and erased.removed is not None:
            self._taken.append(erased.removed)

    def covers(self, erased: Erased) -> bool:
        """Whether this one is."""
        return erased.arrived <= self._until

    @property
    def removed(self) -> Removed:
        """What went."""
        taken = sum(one.observations for one in self._taken)
        features = max((one.features for one in self._taken), default=0)
        return Removed(self._counts.total() + taken, len(self._counts) + features)
