"""A storage on this machine: SQLite journal and sorted runs, in a directory or in memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc

from actors import timestamps
from actors.amount import Amount, bytes_of
from actors.domain import Feature
from actors.errors import Damaged, StartupError, StorageDown, Unavailable
from actors.settings import (
    FLUSH_BYTES,
    FLUSH_VALUES,
    IDEMPOTENCY_HOURS,
    MAX_ROWS_FROM_DISK,
    MAX_RUN_BYTES,
    MAX_RUN_ROWS,
    READ_BYTES,
    RUNS_BEFORE_COMPACTION,
    VACUUM_HOURS,
)
from actors.stats.summary import Accepted
from actors.stats.windows import Merge
from actors.storage.carrying import by_arrival, whole
from actors.storage.embedded import forgetting, history
from actors.storage.embedded.damages import Damages, gone_back
from actors.storage.embedded.doubt import all_files
from actors.storage.embedded.erasure import Erasures
from actors.storage.embedded.history import Keep
from actors.storage.embedded.journal_file import Journal
from actors.storage.embedded.run_files import Change
from actors.storage.embedded.runs import DeltaRuns, MemoryRuns, Run, Runs, worth_merging
from actors.storage.embedded.summaries import Monitored
from actors.storage.protocol import (
    Entry,
    Erased,
    Flush,
    HistoryPlan,
    Known,
    LoadedRows,
    Lot,
    Noted,
    Recovered,
    SavedSummaries,
    SummaryKey,
)
from actors.table.columns import Block
from actors.table.partition import DiskRows
from actors.table.rows import Rows, concatenate, order
from actors.timestamps import FOREVER, NEVER, SECOND

log = logging.getLogger("timewell.storage")


@contextmanager
def _history(doing: str) -> Iterator[None]:
    """What the file system and Arrow raise is StorageDown, but for a want of memory."""
    try:
        yield
    except MemoryError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise StorageDown(f"the history cannot be {doing}: {error}") from error


class LocalStorage:
    """Journal and history together; see `Storage` for what the methods promise.

    Locks: the journal has its own. `_runs_lock` admits one change of the runs at a time and keeps a journal
    batch from being trimmed while a rebuild is between the history and the journal.
    """

    def __init__(self, journal: Journal, runs: Runs, monitored: Monitored, most_bytes: int) -> None:
        """`most_bytes`: what one question may bring."""
        self._most_bytes = most_bytes
        self._journal = journal
        self._runs = runs
        self._runs_lock = threading.RLock()
        self._position = 0
        self._monitored = monitored
        self._erasures = Erasures()
        self._damages = Damages(journal, monitored)
        self._erasures_lock = threading.Lock()

    def there(self) -> bool:
        """As far as this process has kept something."""
        return True

    def open(self) -> Recovered:
        """Open the journal and the summaries, then the history at the version that the journal knows."""
        self._journal.open()
        self._monitored.open()
        self._monitored.reaching(self._journal.counted)
        if isinstance(self._runs, DeltaRuns):
            if (lost := gone_back(self._journal, self._runs)) is not None:
                raise StartupError(lost) from Damaged(lost)
            version, metadata = self._journal.meta("history_version", -1), self._journal.meta("history_metadata")
            looked_up = self._runs.open(version, metadata, all_files(self._journal, self._runs.directory))
            if looked_up is not None:
                self._journal.set_history(self._journal.position, looked_up)
            if not self._runs.has_log():
                forgetting.write_log_anew(self._journal, self._runs)
        self._position = self._journal.position
        self._damages.look()
        recovered = self._journal.recover()
        self._note_erasures()
        # Later than what the monitor has passed as well, or it would pass over what comes next.
        last = max(recovered.last_arrived, self._monitored.position)
        return recovered._replace(last_arrived=last, unflushed=self._journal.count(self._position))

    def damaged(self) -> list[str]:
        """From the journal, the monitor's database, and what was found in the history since the start."""
        return self._damages.words()

    def uncounted(self) -> Mapping[str, str]:
        """Where batches are lost that the statistics have not, or the statistics themselves are."""
        return self._damages.uncounted()

    def close(self) -> None:
        """Close the databases."""
        self._journal.close()
        self._monitored.close()

    @property
    def shared(self) -> None:
        """It is one process's own."""
        return None

    def commit(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """One transaction, one fsync."""
        self._journal.commit(entries)
        if any(isinstance(entry, Erased) for entry in entries):
            self._note_erasures()
        return entries

    def _note_erasures(self) -> None:
        with self._erasures_lock:  # a commit and a checkpoint may both be here: the later look is to count
            self._erasures = Erasures(self._journal.erased())

    def answers(self, keys: Sequence[str], given_after: int) -> Mapping[str, bytes]:
        """From the journal."""
        return self._journal.answers(keys, given_after)

    def replay(self, after: int) -> Iterator[tuple[int, list[Block]]]:
        """From the journal."""
        for arrived, blocks in self._journal.replay(after):
            erasures = self._erasures
            yield arrived, erasures.without(arrived, blocks) if erasures else blocks

    def trimmed(self) -> int:
        """From the journal."""
        return int(self._journal.meta("trimmed", 0))

    # From the journal into the history

    @_history("written")
    def flush(self, known: Known, now: int) -> Flush:
        """One run of about at most FLUSH_VALUES observations."""
        with self._runs_lock:
            try:
                batches, count = self._next_batches()
            except Damaged:
                self._damages.look()
                batches, count = self._next_batches()
            if not batches:
                return Flush(self._position, 0)
            position, features = batches[-1][0], known()
            table = history.to_table(batches, features)
            live = history.live_rows(features, now)
            table = pa.Table.from_batches([history.only(one, live) for one in table.to_batches()], history.SCHEMA)
            self._note(position, self._runs.append(position, table) if table.num_rows else None)
            return Flush(position, count)

    def _note(self, position: int, change: Change | None) -> None:
        """The history reaches a position, with a change where there is one."""
        version = int(self._journal.meta("history_version", -1))
        self._journal.set_history(position, change or Change(version))
        if change is not None:
            self._runs.adopt(change)
        self._position = position

    def _next_batches(self) -> tuple[list[tuple[int, list[Block]]], int]:
        batches, count, size = [], 0, 0
        for arrived, blocks in self._journal.replay(self._position):
            batches.append((arrived, blocks))
            count += sum(len(block.entities) for block in blocks)
            size += sum(bytes_of(block.values) for block in blocks)
            if count >= FLUSH_VALUES or size >= FLUSH_BYTES:
                break
        return batches, count

    def trim(self, monitored: int, now: int) -> None:
        """Delete what the history and the monitor both have."""
        with self._runs_lock:
            until, answers_until = min(self._position, monitored), now - IDEMPOTENCY_HOURS * 3_600 * SECOND
            self._journal.trim(until, answers_until, now, monitored)

    @_history("written")
    def forget(self, known: Known) -> None:
        """Rewrite the runs that hold rows of deleted features."""
        with self._runs_lock:
            gone = self._journal.forgotten()
            if not gone:
                return
            features = known()
            for feature in gone:
                self._monitored.forget(feature.id, features.get(feature.id))
            mine = pc.field("feature").isin(pa.array([feature.id for feature in gone], pa.string()))
            ids = {feature.id for feature in gone}
            keep = history.rows_of_others(gone, features)
            if self._remove_all_but(keep, mine, lambda run: not ids.isdisjoint(run.features)):
                self._journal.forgot(gone)

    def erased(self) -> Sequence[Erased]:
        """From the journal."""
        return self._journal.erased()

    @_history("written")
    def erase(self) -> Mapping[Erased, Mapping[str, int]]:
        """Rewrite the runs that hold rows of erased entities."""
        with self._runs_lock:
            ready = [one for one in self._journal.erased() if not self._journal.holds(one.arrived)]
            if not ready:
                return {}
            erasures = Erasures(ready)
            types = {one.entity_type for one in ready}
            removed = erasures.counted(self._runs.runs(), ready)
            keep, others = erasures.kept, erasures.somebody()
            if not self._remove_all_but(keep, others, lambda run: not types.isdisjoint(run.entity_types)):
                return {}
            self._journal.erasing_done(ready)
            self._note_erasures()
            return removed

    def _remove_all_but(self, keep: Keep, others: pc.Expression, concerned: Callable[[Run], bool]) -> bool:
        """Rewrite the runs that hold other rows, and delete the files that these were in.

        A run that is damaged stays as it is: it would be written anew without what cannot be read, and look sound.
        Returns whether there was none.
        """
        sound = True
        for run in filter(concerned, self._runs.runs()):
            try:
                if any(not keep(batch).all() for batch in run.scan(history.KEYS.names, others)):
                    self._replace([run], run.table(keep))
            except Damaged as error:
                self._damages.note(run, error.detail)
                sound = False
        self._vacuum(0)
        return sound

    @_history("written")
    def compact(self, known: Known, now: int) -> None:
        """Merge the newest runs as far back as they are small beside what is merged already."""
        with self._runs_lock:
            newer = self._damages.newer(self._runs.runs())
            chosen = worth_merging(newer, RUNS_BEFORE_COMPACTION, MAX_RUN_ROWS, MAX_RUN_BYTES)
            if len(chosen) < 2:
                return
            keep, tables = history.live_rows(known(), now), []
            for run in chosen:
                try:
                    tables.append(run.table(keep))
                except Damaged as error:  # what is merged with it would look sound; next time it is passed over
                    self._damages.note(run, error.detail)
                    return
            self._replace(chosen, history.merge_tables(tables))
            # Files are dated by the wall clock: as far as that may be ahead, they stay longer.
            ahead = max(0, timestamps.now() - now) / (3_600 * SECOND)
            self._vacuum(VACUUM_HOURS + round(ahead))

    def _replace(self, runs: Sequence[Run], table: pa.Table) -> None:
        self._note(self._position, self._runs.replace(runs[0].position, runs[-1].position, table))

    def _vacuum(self, hours: int) -> None:
        self._note(self._position, self._runs.vacuum(hours))

    # Out of the history

    @_history("read")
    def plan(self, budget: int) -> HistoryPlan:
        """The newest runs that fit into the budget and are sound."""
        with self._runs_lock:
            runs = self._runs.runs()
            chosen: list[Run] = []
            left: list[Run] = []
            while runs and sum(run.rows for run in chosen) + runs[-1].rows <= budget:
                run = runs.pop()
                (chosen if self._damages.is_sound(run) else left).insert(0, run)
            floor = max((run.greatest + 1 for run in [*runs, *left]), default=NEVER)
            return HistoryPlan(self._position, floor, chosen, self._damages.floors())

    def load(self, plan: HistoryPlan, features: Mapping[str, Feature]) -> Iterator[LoadedRows]:
        """The planned runs, oldest first."""
        for run in plan.runs:
            for batch in run.scan(history.SCHEMA.names, None):
                yield from history.loaded(self._not_erased(batch), features)

    def _not_erased(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return history.only(batch, self._erasures.kept) if self._erasures else batch

    @_history("read")
    def read(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> DiskRows:
        """Filtered by the statistics of files and row groups, then by row."""
        self._damages.need_nothing_lost(feature, start, end)
        keep = history.pairs_filter(feature, entities, start, end)
        for _ in range(3):
            position, runs = self._position, self._runs.runs()
            try:
                tables = self._scan(runs, feature, keep, start, end, self._amount(feature))
            except FileNotFoundError:
                continue  # a compaction replaced the run meanwhile
            return DiskRows(position, entities, history.to_rows(feature, entities, tables))
        raise Unavailable("the history files changed while they were read")

    def _amount(self, feature: Feature) -> Amount:
        return Amount(feature.id, MAX_ROWS_FROM_DISK, self._most_bytes)

    def _scan(
        self, runs: Sequence[Run], feature: Feature, keep: pc.Expression, start: int, end: int, amount: Amount
    ) -> list[pa.Table]:
        tables = []
        for run in runs:
            for found in self._damages.told_of(run, feature, start, end, history.columns_read(feature), keep):
                batch = self._erasures.only(feature.id, found)
                amount.add(batch.num_rows, batch[feature.value_type].nbytes)
                if batch.num_rows:
                    tables.append(pa.Table.from_batches([batch]))
        return tables

    @_history("read")
    def versions(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> Rows:
        """Out of the runs, then out of what the journal has beyond them."""
        places, amount = {entity: place for place, entity in enumerate(entities)}, self._amount(feature)
        self._damages.need_nothing_lost(feature, start, end)
        with self._runs_lock:
            keep = history.pairs_filter(feature, entities, start, end)
            tables = self._scan(self._runs.runs(), feature, keep, start, end, amount)
            parts = [history.to_rows(feature, entities, tables)]
            for arrived, blocks in self.replay(self._position):
                own = [
                    block for block in blocks if (block.feature, block.created) == (feature.id, feature.created)
                ]
                for block in own:
                    parts.append(history.placed(block, arrived, places, start, end))
                    amount.add_rows(parts[-1])
        rows = concatenate(parts)
        return rows.take(order(rows.slots, rows.times))

    def observations(self, feature: Feature, start: int, end: int) -> Iterator[Accepted]:
        """Out of the runs, then out of what the journal has beyond them.

        All that is to be had is in hand before the first is given out: whoever asks may stop half way, and what is
        left of this generator then ends in whatever thread, which could not give back a lock.
        """
        tables, waiting = self._accepted(feature, start, end)
        for part in tables:
            rows = history.to_rows(feature, None, [part])
            yield Accepted(rows.times, rows.arrived, rows.values, rows.nulls)
        yield from waiting

    @_history("read")
    def _accepted(self, feature: Feature, start: int, end: int) -> tuple[list[pa.Table], list[Accepted]]:
        keep, waiting, amount = history.period_filter(feature, start, end), [], self._amount(feature)
        self._damages.need_nothing_lost(feature, start, end)
        with self._runs_lock:  # no checkpoint comes between the two, and no file goes
            tables = self._scan(self._runs.runs(), feature, keep, start, end, amount)
            for arrived, blocks in self.replay(self._position):
                for block in blocks:
                    if (block.feature, block.created) == (feature.id, feature.created):
                        inside = (block.times >= start) & (block.times <= end)
                        if inside.any():
                            waiting.append(history.accepted(block, arrived, inside))
                            amount.add(len(waiting[-1].times), bytes_of(waiting[-1].values))
        return tables, waiting

    # The monitor's

    def save_summaries(self, position: int, parts: Mapping[SummaryKey, bytes], merge: Merge) -> None:
        """In one transaction with their position."""
        self._monitored.save(position, parts, merge)

    def read_summaries(self, feature: Feature, start: int, end: int) -> SavedSummaries:
        """From the monitor's database."""
        self._damages.need_all_counted(feature, start, end)
        return self._monitored.read(feature, start, end)

    def read_whole(self, feature: Feature) -> SavedSummaries:
        """From the monitor's database."""
        self._damages.need_all_counted(feature, NEVER, FOREVER)
        return self._monitored.read_whole(feature)

    def whole_summaries(self) -> tuple[int, Mapping[SummaryKey, bytes]]:
        """From the monitor's database."""
        return self._monitored.totals()

    def coarsen_summaries(self, now: int, merge: Merge) -> None:
        """In the monitor's database."""
        self._monitored.coarsen(now, merge)

    def monitored(self) -> int:
        """From beside the summaries."""
        return self._monitored.position

    def notes(self, kind: str) -> Mapping[str, bytes]:
        """From the journal's database."""
        return self._journal.notes(kind)

    # Moving house

    @_history("read")
    def held(self, after: int) -> int:
        """In the runs that reach beyond, and in the journal."""
        runs = sum(run.rows for run in self._runs.runs() if run.position > after)
        return runs + self._journal.count(max(after, self._position))

    def carried(self, features: Mapping[str, Feature], after: int) -> Iterator[Lot]:
        """Run by run; what the journal has beyond them is moved there first. Raises Damaged where some is lost."""
        for feature in features.values():
            self._damages.need_nothing_lost(feature, NEVER, FOREVER)
        while self.flush(lambda: features, NEVER).observations:
            pass
        for run in self._runs.runs():
            if run.position > after:
                batches = map(self._not_erased, run.scan(history.SCHEMA.names, None))
                loaded = (part for batch in batches for part in history.loaded(batch, features))
                parts = (history.later(part, after) for part in loaded)
                yield Lot(run.position, whole(part for part in parts if len(part.arrived)))

    def carry(self, lot: Lot, note: Noted) -> None:
        """Through the journal, a batch for each arrival."""
        self.commit([*by_arrival(lot.parts), note])

    def all_summaries(self) -> Iterator[tuple[SummaryKey, bytes]]:
        """From the monitor's database."""
        return self._monitored.all()


class MemoryStorage(LocalStorage):
    """The same without a directory: nothing survives the process."""

    def __init__(self, most_bytes: int = READ_BYTES) -> None:
        super().__init__(Journal(":memory:"), MemoryRuns(), Monitored(":memory:"), most_bytes)
