"""Checkpoints: move the journal's observations into the history files, then drop them from memory and journal.

1. flush    add sorted runs to the history, oldest arrivals first
2. save     save the monitor's state together with its position in the journal
3. tell     tell the stores that they may drop what retention does not keep in memory
4. trim     remove from the journal what both the history and the monitor have
5. tidy     remove rows of deleted features and erased entities from the files; compact small files
6. return   return to the operating system the memory that this needed

Each step is durable before the next begins, so a crash between any two repeats work and loses nothing. A step
that fails (a full disk, say) is retried later; until then the journal keeps everything and reads are served.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import trio

from actors.errors import TimewellError, Unavailable, shortage
from actors.journal import JournalActor
from actors.mailbox import Mailbox
from actors.memory import give_back
from actors.messages import Erase, Flushed, Saved, Snapshot
from actors.registry import FeatureRegistry
from actors.stats.summary import Summary, merge_states, saved
from actors.storage.entries import Erased, Removed
from actors.storage.protocol import OwnStorage, Storage, SummaryKey
from actors.timestamps import FOREVER, NEVER

log = logging.getLogger("timewell.checkpoint")
RETRY_SECONDS = 5.0
ERASURE_CHECKPOINTS = 3
"""Checkpoints that an erasure may take. One is enough unless the monitor lags behind the journal."""


class Checkpointer:
    """Runs a checkpoint every `seconds`, or when the journal asks for one.

    Over a shared store there are no files to fill: steps 2 and 4, and of step 5 the deletion.
    """

    def __init__(
        self,
        storage: Storage,
        journal: JournalActor,
        monitor: Mailbox | None,
        registry: FeatureRegistry,
        seconds: float,
        now: Callable[[], int],
        last_erasure: Callable[[str, str], bytes] | None = None,
    ) -> None:
        """`last_erasure`: see `SharedLog`; None if no other process erases."""
        self._last_erasure = last_erasure
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
        """Called with the duration of each "compaction", and of each "checkpoint" (without compaction) that moved
        observations."""

    async def run(self) -> None:
        """Checkpoint until cancelled."""
        while True:
            with trio.move_on_after(self._seconds):
                await self._journal.wants_checkpoint.wait()
            try:
                await self.checkpoint()
            except Exception as error:  # whatever it is: the journal still has everything, and a retry may succeed
                known = isinstance(error, TimewellError) or shortage(error) is not None
                words = "the checkpoint did not finish and will be tried again: %s"
                log.warning(words, error, exc_info=None if known else error)
                await trio.sleep(RETRY_SECONDS)

    async def checkpoint(self) -> None:
        """Run one checkpoint (see the module docstring). Raises StorageDown if a step fails."""
        async with self._one_at_a_time:
            await self._checkpoint()

    async def erase(
        self, entity_type: str, entity_id: str, first: Callable[[], Awaitable[None]]
    ) -> tuple[Erased, Removed]:
        """Erase an entity from journal, memory and history, and wait until it is gone from all of them.

        `first`: takes it out of the registry, before the files are rewritten without what was deleted. Raises
        StorageDown, or Unavailable if that takes too long; a later checkpoint will then finish it.
        """
        erasure = _Erasure(entity_type, entity_id)
        self._erasures.add(erasure)
        try:
            before = b""
            if self._last_erasure is not None:
                before = await trio.to_thread.run_sync(self._last_erasure, entity_type, entity_id)
            await first()
            erased: Erased = await self._journal.mailbox.ask(Erase(entity_type, entity_id, before))
            await self._finish(erasure, erased)
            return erased, erasure.removed
        finally:
            self._erasures.discard(erasure)

    async def _finish(self, erasure: _Erasure, erased: Erased) -> None:
        """Note which rows are gone: a shared store removes them in the commit itself."""
        for waiting in self._erasures:
            waiting.note_removed(erased)
        await trio.lowlevel.checkpoint()  # lets other erasures of the same commit note theirs

    async def _checkpoint(self) -> None:
        self._journal.wants_checkpoint = trio.Event()
        await self._trim(await self._save_monitor())

    async def _save_monitor(self) -> int:
        if self._monitor is None:
            return FOREVER
        position, parts = await self._monitor.ask(Snapshot())
        await trio.to_thread.run_sync(self._save, position, parts)
        with suppress(Unavailable):  # a monitor that is being rebuilt starts from the saved state anyway
            await self._monitor.ask(Saved(position))
        await trio.to_thread.run_sync(_let_go, parts)
        await trio.to_thread.run_sync(self._summaries.coarsen, self._now(), _merged)
        return int(position)

    def _save(self, position: int, parts: Mapping[SummaryKey, Summary]) -> None:
        self._summaries.save(position, _Saved(parts), merge_states)

    async def _trim(self, monitored: int) -> None:
        await trio.to_thread.run_sync(self._log.trim, monitored, self._now())
        await trio.to_thread.run_sync(self._history.forget, self._registry.known)


class FilingCheckpointer(Checkpointer):
    """Runs all six steps, for a storage that belongs to this process alone."""

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
        """The last arrival in the history, and whether the stores have yet to be told of it."""

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
        """Run checkpoints until the files hold nothing of the entity."""
        for _ in range(ERASURE_CHECKPOINTS):
            async with self._one_at_a_time:
                if not erasure.covers(erased):  # else a checkpoint that another erasure waited for has done it
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


class _Saved(Mapping[SummaryKey, bytes]):
    """Summaries in their saved form, each encoded when it is asked for, as all together may take gigabytes.

    For a worker thread: raises trio.Cancelled once the process stops. The transaction is then rolled back, and the
    journal still has everything.
    """

    def __init__(self, parts: Mapping[SummaryKey, Summary]) -> None:
        self._parts = parts

    def __getitem__(self, key: SummaryKey) -> bytes:
        trio.from_thread.check_cancelled()
        return saved(self._parts[key])

    def __iter__(self) -> Iterator[SummaryKey]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def _merged(states: Iterable[bytes]) -> bytes:
    """Like `merge_states`, for a worker thread: raises trio.Cancelled once the process stops."""
    trio.from_thread.check_cancelled()
    return merge_states(states)


def _let_go(parts: dict[SummaryKey, Summary]) -> None:
    """Free thousands of summaries one by one, in a worker thread: freeing all at once blocks the interpreter."""
    while parts:
        parts.popitem()


class _Erasure:
    """A pending erasure, and what was removed for it. Concurrent requests for one entity see the same."""

    def __init__(self, entity_type: str, entity_id: str) -> None:
        self._entity = entity_type, entity_id
        self._until = NEVER
        self._counts = Counter[str]()
        self.taken = Removed(0, 0)
        """What a shared store has removed."""

    def note(self, erased: Erased, counts: Mapping[str, int]) -> None:
        """Note that the history files are rid of an entity: `counts` rows by feature id."""
        if self._entity == erased[:2]:
            self._until = max(self._until, erased.arrived)
            self._counts.update(counts)

    def note_removed(self, erased: Erased) -> None:
        """Note what a shared store removed in the commit of an erasure, or of one that was concurrent with it."""
        if self._entity == erased[:2] and erased.removed is not None:
            self.taken = max(self.taken, erased.removed)

    def covers(self, erased: Erased) -> bool:
        """Whether the files are rid of everything that arrived before this erasure."""
        return erased.arrived <= self._until

    @property
    def removed(self) -> Removed:
        """How many observations of how many features were removed."""
        observations, features = self.taken
        return Removed(self._counts.total() + observations, len(self._counts) + features)
