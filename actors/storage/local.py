"""A storage on this machine: SQLite journal and sorted runs, in a directory or in memory."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors import timestamps
from actors.columns import Block
from actors.domain import Feature
from actors.errors import StartupError, StorageDown, TooLarge, Unavailable
from actors.partition import DiskRows
from actors.rows import Rows, concatenate, order
from actors.settings import (
    FLUSH_VALUES,
    IDEMPOTENCY_HOURS,
    MAX_ROWS_FROM_DISK,
    MAX_RUN_ROWS,
    RUNS_BEFORE_COMPACTION,
    VACUUM_HOURS,
)
from actors.stats.summary import Accepted
from actors.stats.windows import Merge
from actors.storage import history
from actors.storage.carrying import by_arrival, whole
from actors.storage.erasure import Erasures
from actors.storage.history import Keep
from actors.storage.journal import Journal
from actors.storage.monitored import Monitored
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
from actors.storage.run_files import Change
from actors.storage.runs import DeltaRuns, MemoryRuns, Run, Runs
from actors.timestamps import NEVER, SECOND
from actors.values import Nulls


class LocalStorage:
    """Journal and history together; see `Storage` for what the methods promise.

    Locks: the journal has its own. `_runs_lock` admits one change of the runs at a time and keeps a journal
    batch from being trimmed while a rebuild is between the history and the journal.
    """

    def __init__(self, journal: Journal, runs: Runs, monitored: Monitored) -> None:
        self._journal = journal
        self._runs = runs
        self._runs_lock = threading.RLock()
        self._position = 0
        self._monitored = monitored
        self._erasures = Erasures()
        self._erasures_lock = threading.Lock()

    def open(self) -> Recovered:
        """Open the journal and the summaries, then the history at the version that the journal knows."""
        self._journal.open()
        self._monitored.open()
        if isinstance(self._runs, DeltaRuns):
            version, metadata = self._journal.meta("history_version", -1), self._journal.meta("history_metadata")
            looked_up = self._runs.open(version, metadata, self._journal.files())
            if looked_up is not None:
                self._journal.set_history(self._journal.position, looked_up)
        self._position = self._journal.position
        recovered = self._journal.recover()
        self._note_erasures()
        # Later than what the monitor has passed as well, or it would pass over what comes next.
        last = max(recovered.last_arrived, self._monitored.position)
        return recovered._replace(last_arrived=last, unflushed=self._journal.count(self._position))

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

    def flush(self, known: Known, now: int) -> Flush:
        """One run of at most FLUSH_VALUES observations."""
        with self._runs_lock:
            batches, count = self._next_batches()
            if not batches:
                return Flush(self._position, 0)
            position, features = batches[-1][0], known()
            table = history.to_table(batches, features)
            live = history.live_rows(features, now)
            table = pa.Table.from_batches([history.only(one, live) for one in table.to_batches()], history.SCHEMA)
            try:
                change = self._runs.append(position, table) if table.num_rows else None
            except Exception as error:  # the library raises many kinds
                raise StorageDown(f"the history cannot be written: {error}") from error
            self._note(position, change)
            return Flush(position, count)

    def _note(self, position: int, change: Change | None) -> None:
        """The history reaches a position, with a change where there is one."""
        version = int(self._journal.meta("history_version", -1))
        self._journal.set_history(position, change or Change(version))
        if change is not None:
            self._runs.adopt(change)
        self._position = position

    def _next_batches(self) -> tuple[list[tuple[int, list[Block]]], int]:
        batches, count = [], 0
        for arrived, blocks in self._journal.replay(self._position):
            batches.append((arrived, blocks))
            count += sum(len(block.entities) for block in blocks)
            if count >= FLUSH_VALUES:
                break
        return batches, count

    def trim(self, monitored: int, now: int) -> None:
        """Delete what the history and the monitor both have."""
        with self._runs_lock:
            self._journal.trim(min(self._position, monitored), now - IDEMPOTENCY_HOURS * 3_600 * SECOND)

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
            self._remove_all_but(history.rows_of_others(gone, features), mine)
            self._journal.forgot(gone)

    def erased(self) -> Sequence[Erased]:
        """From the journal."""
        return self._journal.erased()

    def erase(self) -> Mapping[Erased, Mapping[str, int]]:
        """Rewrite the runs that hold rows of erased entities."""
        with self._runs_lock:
            ready = [one for one in self._journal.erased() if not self._journal.holds(one.arrived)]
            if not ready:
                return {}
            erasures = Erasures(ready)
            removed = self._removed(erasures, ready)
            self._remove_all_but(erasures.kept, erasures.somebody())
            self._journal.erasing_done(ready)
            self._note_erasures()
            return removed

    def _remove_all_but(self, keep: Keep, others: pc.Expression) -> None:
        """Rewrite the runs that hold other rows, and delete the files that these were in."""
        for run in self._runs.runs():
            if any(not keep(batch).all() for batch in run.scan(history.KEYS.names, others)):
                self._replace([run], run.table(keep))
        self._vacuum(0)

    def _removed(self, erasures: Erasures, ready: Sequence[Erased]) -> Mapping[Erased, Mapping[str, int]]:
        """How many rows of each feature are to go."""
        counts: dict[tuple[str, str], Counter[str]] = {one[:2]: Counter() for one in ready}
        for run in self._runs.runs():
            for batch in run.scan(history.KEYS.names, erasures.somebody()):
                gone = history.only(batch, lambda batch: ~erasures.kept(batch))
                for feature, own in history.stretches(gone):
                    for id_, count in Counter(gone["entity_id"][own].to_pylist()).items():
                        counts[feature.partition(".")[0], id_][feature] += count
        return {one: counts[one[:2]] for one in ready}

    def compact(self, known: Known, now: int) -> None:
        """Merge the newest runs as far back as they are small beside what is merged already."""
        with self._runs_lock:
            chosen = _worth_merging(self._runs.runs())
            if len(chosen) < 2:
                return
            keep = history.live_rows(known(), now)
            self._replace(chosen, history.merge_tables([run.table(keep) for run in chosen]))
            # The library goes by the wall clock: as far as that may be ahead, files stay longer.
            ahead = max(0, timestamps.now() - now) / (3_600 * SECOND)
            self._vacuum(VACUUM_HOURS + round(ahead))

    def _replace(self, runs: Sequence[Run], table: pa.Table) -> None:
        try:
            change = self._runs.replace(runs[0].position, runs[-1].position, table)
        except Exception as error:  # the library raises many kinds
            raise StorageDown(f"the history cannot be written: {error}") from error
        self._note(self._position, change)

    def _vacuum(self, hours: int) -> None:
        self._note(self._position, self._runs.vacuum(hours))

    # Out of the history

    def plan(self, budget: int) -> HistoryPlan:
        """The newest runs that fit into the budget."""
        with self._runs_lock:
            runs = self._runs.runs()
            chosen: list[Run] = []
            while runs and sum(run.rows for run in chosen) + runs[-1].rows <= budget:
                chosen.insert(0, runs.pop())
            floor = max((run.greatest + 1 for run in runs), default=NEVER)
            return HistoryPlan(self._position, floor, chosen)

    def load(self, plan: HistoryPlan, features: Mapping[str, Feature]) -> Iterator[LoadedRows]:
        """The planned runs, oldest first."""
        for run in plan.runs:
            for batch in run.scan(history.SCHEMA.names, None):
                yield from history.loaded(self._not_erased(batch), features)

    def _not_erased(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return history.only(batch, self._erasures.kept) if self._erasures else batch

    def read(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> DiskRows:
        """Filtered by the statistics of files and row groups, then by row."""
        keep = history.pairs_filter(feature, entities, start, end)
        for _ in range(3):
            position, runs = self._position, self._runs.runs()
            try:
                tables = self._scan(runs, feature, keep)
            except FileNotFoundError:
                continue  # a compaction replaced the run meanwhile
            return DiskRows(position, entities, history.to_rows(feature, entities, tables))
        raise Unavailable("the history files changed while they were read")

    def _scan(self, runs: Sequence[Run], feature: Feature, keep: pc.Expression) -> list[pa.Table]:
        tables, rows = [], 0
        for run in runs:
            for found in run.scan(history.columns_read(feature), keep):
                batch = self._erasures.only(feature.id, found)
                rows += batch.num_rows
                if rows > MAX_ROWS_FROM_DISK:
                    raise TooLarge(
                        f"more than {MAX_ROWS_FROM_DISK} observations of {feature.id}: ask for less at once"
                    )
                if batch.num_rows:
                    tables.append(pa.Table.from_batches([batch]))
        return tables

    def versions(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> Rows:
        """Out of the runs, then out of what the journal has beyond them."""
        places = {entity: place for place, entity in enumerate(entities)}
        with self._runs_lock:
            keep = history.pairs_filter(feature, entities, start, end)
            parts = [history.to_rows(feature, entities, self._scan(self._runs.runs(), feature, keep))]
            for arrived, blocks in self.replay(self._position):
                own = [
                    block for block in blocks if (block.feature, block.created) == (feature.id, feature.created)
                ]
                parts += [_placed(block, arrived, places, start, end) for block in own]
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

    def _accepted(self, feature: Feature, start: int, end: int) -> tuple[list[pa.Table], list[Accepted]]:
        keep, waiting = history.period_filter(feature, start, end), []
        with self._runs_lock:  # no checkpoint comes between the two, and no file goes
            tables = self._scan(self._runs.runs(), feature, keep)
            for arrived, blocks in self.replay(self._position):
                for block in blocks:
                    if (block.feature, block.created) == (feature.id, feature.created):
                        inside = (block.times >= start) & (block.times <= end)
                        if inside.any():
                            waiting.append(_accepted(block, arrived, inside))
        return tables, waiting

    # The monitor's

    def save_summaries(self, position: int, parts: Mapping[SummaryKey, bytes], merge: Merge) -> None:
        """In one transaction with their position."""
        self._monitored.save(position, parts, merge)

    def read_summaries(self, feature: Feature, start: int, end: int) -> SavedSummaries:
        """From the monitor's database."""
        return self._monitored.read(feature, start, end)

    def read_whole(self, feature: Feature) -> SavedSummaries:
        """From the monitor's database."""
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

    def held(self, after: int) -> int:
        """In the runs that reach beyond, and in the journal."""
        runs = sum(run.rows for run in self._runs.runs() if run.position > after)
        return runs + self._journal.count(max(after, self._position))

    def carried(self, features: Mapping[str, Feature], after: int) -> Iterator[Lot]:
        """Run by run; what the journal has beyond them is moved there first."""
        while self.flush(lambda: features, NEVER).observations:
            pass
        for run in self._runs.runs():
            if run.position > after:
                batches = map(self._not_erased, run.scan(history.SCHEMA.names, None))
                parts = (_later(part, after) for batch in batches for part in history.loaded(batch, features))
                yield Lot(run.position, whole(part for part in parts if len(part.arrived)))

    def carry(self, lot: Lot, note: Noted) -> None:
        """Through the journal, a batch for each arrival."""
        self.commit([*by_arrival(lot.parts), note])

    def all_summaries(self) -> Iterator[tuple[SummaryKey, bytes]]:
        """From the monitor's database."""
        return self._monitored.all()


def _later(part: LoadedRows, after: int) -> LoadedRows:
    rows = np.flatnonzero(part.arrived > after)
    return part if len(rows) == len(part.arrived) else LoadedRows(part.block.take(rows), part.arrived[rows])


def _placed(block: Block, arrived: int, places: Mapping[str, int], start: int, end: int) -> Rows:
    """The rows of a block that belong to some entities and lie within a closed range of event time."""
    slots = np.array([places.get(entity, -1) for entity in block.entities], np.int32)
    chosen = np.flatnonzero((slots >= 0) & (block.times >= start) & (block.times <= end))
    arrivals = np.full(len(chosen), arrived, np.int64)
    return Rows(slots[chosen], block.times[chosen], arrivals, block.values[chosen], block.nulls[chosen])


def _accepted(block: Block, arrived: int, inside: Nulls) -> Accepted:
    times = block.times[inside]
    return Accepted(times, np.full(len(times), arrived, np.int64), block.values[inside], block.nulls[inside])


def _worth_merging(runs: Sequence[Run]) -> list[Run]:
    """The newest runs, back to the first that is more than twice as large as all after it."""
    if len(runs) <= RUNS_BEFORE_COMPACTION:
        return []
    chosen: list[Run] = []
    rows = 0
    for run in reversed(runs):
        if (chosen and run.rows > 2 * rows) or rows + run.rows > MAX_RUN_ROWS:
            break
        chosen.insert(0, run)
        rows += run.rows
    return chosen


class EmbeddedStorage(LocalStorage):
    """Durable files in a directory, which belongs to one process at a time."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory).absolute()
        self._lock_file: int | None = None
        super().__init__(
            Journal(str(self._directory / "journal.db")),
            DeltaRuns(self._directory / "history"),
            Monitored(str(self._directory / "monitor.db")),
        )

    def open(self) -> Recovered:
        """Take the directory for this process, then open what is in it."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock_file = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            reason = self._why(error)
            self.close()
            raise StartupError(reason) from error
        os.ftruncate(self._lock_file, 0)
        os.write(self._lock_file, str(os.getpid()).encode())
        try:
            return super().open()
        except BaseException:
            self.close()
            raise

    def _why(self, error: OSError) -> str:
        if error.errno in (errno.EAGAIN, errno.EACCES) and self._lock_file is not None:
            owner = os.read(self._lock_file, 20).decode() or "?"
            return f"the data directory {self._directory} is in use by process {owner}"
        return f"the data directory {self._directory} cannot be written: {error.strerror}"

    def close(self) -> None:
        """Close the journal and give the directory back."""
        super().close()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None


class MemoryStorage(LocalStorage):
    """The same without a directory: nothing survives the process."""

    def __init__(self) -> None:
        super().__init__(Journal(":memory:"), MemoryRuns(), Monitored(":memory:"))
