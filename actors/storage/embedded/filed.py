"""The runs as history of a storage: the journal is moved into them, and they are read together with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc

from actors import timestamps
from actors.amount import Amount, bytes_of
from actors.domain import Feature
from actors.errors import Damaged, StorageDown, Unavailable
from actors.settings import (
    FLUSH_BYTES,
    FLUSH_VALUES,
    MAX_ROWS_FROM_DISK,
    MAX_RUN_BYTES,
    MAX_RUN_ROWS,
    RUNS_BEFORE_COMPACTION,
    VACUUM_HOURS,
)
from actors.stats.summary import Accepted
from actors.storage.embedded import layout
from actors.storage.embedded.damages import Damages
from actors.storage.embedded.erasure import Erasures
from actors.storage.embedded.layout import Keep
from actors.storage.embedded.log import LocalLog
from actors.storage.embedded.run_files import Change
from actors.storage.embedded.runs import Run, Runs, worth_merging
from actors.storage.embedded.summaries import EmbeddedSummaries
from actors.storage.entries import Erased
from actors.storage.protocol import Flush, HistoryPlan, Known, LoadedRows
from actors.table.batch import Batch, Column, Table, columns_of, observations
from actors.table.partition import DiskRows
from actors.table.rows import Rows, concatenate, order
from actors.timestamps import NEVER, SECOND


@contextmanager
def doing(doing: str) -> Iterator[None]:
    """Turn errors of the file system and Arrow into StorageDown, except for a lack of memory."""
    try:
        yield
    except MemoryError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise StorageDown(f"the history cannot be {doing}: {error}") from error


class LocalHistory:
    """See `OwnHistory`."""

    def __init__(
        self, log: LocalLog, runs: Runs, summaries: EmbeddedSummaries, damages: Damages, most_bytes: int
    ) -> None:
        """`most_bytes`: how much one query may read."""
        self.position = 0
        """The last arrival that the runs have."""
        self.removals = 0
        """How often rows have been removed from the runs."""
        self._log = log
        self._runs = runs
        self._summaries = summaries
        self._damages = damages
        self._most_bytes = most_bytes

    # Writing

    @doing("written")
    def flush(self, known: Known, now: int) -> Flush:
        """Add one run of about FLUSH_VALUES observations at most."""
        with self._log.runs_lock:
            try:
                batches, count = self._next_batches()
            except Damaged:
                self._damages.look()
                batches, count = self._next_batches()
            if not batches:
                return Flush(self.position, 0)
            position, features = batches[-1][0], known()
            table = layout.to_table(batches, features)
            live = layout.live_rows(features, now)
            table = pa.Table.from_batches([layout.only(one, live) for one in table.to_batches()], layout.SCHEMA)
            self._note(position, self._runs.append(position, table) if table.num_rows else None)
            return Flush(position, count)

    def _note(self, position: int, change: Change | None) -> None:
        """Note the position of the history, and a change of its files if there is one."""
        version = int(self._log.meta("history_version", -1))
        self._log.set_history(position, change or Change(version))
        if change is not None:
            self._runs.adopt(change)
        self.position = position

    def _next_batches(self) -> tuple[list[tuple[int, Batch]], int]:
        batches, count, size = list[tuple[int, Batch]](), 0, 0
        for arrived, batch in self._log.batches(self.position):
            batches.append((arrived, batch))
            count += observations(batch)
            size += sum(bytes_of(column.values) for column in columns_of(batch))
            if count >= FLUSH_VALUES or size >= FLUSH_BYTES:
                break
        return batches, count

    @doing("written")
    def forget(self, known: Known) -> None:
        """Rewrite the runs that have rows of deleted features."""
        with self._log.runs_lock:
            gone = self._log.forgotten()
            if not gone:
                return
            features = known()
            for feature in gone:
                self._summaries.forget(feature.id, features.get(feature.id))
            mine = pc.field("feature").isin(pa.array([feature.id for feature in gone], pa.string()))
            ids = {feature.id for feature in gone}
            keep = layout.rows_of_others(gone, features)
            if self._remove_all_but(keep, mine, lambda run: not ids.isdisjoint(run.features)):
                self._log.forgot(gone)

    @doing("written")
    def erase(self) -> Mapping[Erased, Mapping[str, int]]:
        """Rewrite the runs that have rows of erased entities."""
        with self._log.runs_lock:
            ready = [one for one in self._log.erased() if not self._log.holds(one.arrived)]
            if not ready:
                return {}
            erasures = Erasures(ready)
            types = {one.entity_type for one in ready}
            removed = erasures.counted(self._runs.runs(), ready)
            keep, others = erasures.kept, erasures.any_erased()
            if not self._remove_all_but(keep, others, lambda run: not types.isdisjoint(run.entity_types)):
                return {}
            self._log.erasing_done(ready)
            self._log.note_erasures()
            return removed

    def _remove_all_but(self, keep: Keep, others: pc.Expression, concerned: Callable[[Run], bool]) -> bool:
        """Rewrite the runs that have rows not to be kept, and delete their old files.

        `others`: a filter that these rows pass; `concerned`: whether a run may have any. A damaged run stays as it
        is, as rewriting it without what cannot be read would make it look sound. Returns whether there was none.
        """
        sound = True
        for run in filter(concerned, self._runs.runs()):
            try:
                if any(not keep(batch).all() for batch in run.scan(layout.KEYS.names, others)):
                    self._replace([run], run.table(keep))
            except Damaged as error:
                self._damages.note(run, error.detail)
                sound = False
        self._vacuum(0)
        return sound

    @doing("written")
    def compact(self, known: Known, now: int) -> None:
        """Merge the newest runs, see `worth_merging`."""
        with self._log.runs_lock:
            newer = self._damages.newer(self._runs.runs())
            chosen = worth_merging(newer, RUNS_BEFORE_COMPACTION, MAX_RUN_ROWS, MAX_RUN_BYTES)
            if len(chosen) < 2:
                return
            keep, tables = layout.live_rows(known(), now), []
            for run in chosen:
                try:
                    tables.append(run.table(keep))
                except Damaged as error:  # merging it would make it look sound; the next compaction leaves it out
                    self._damages.note(run, error.detail)
                    return
            self._replace(chosen, layout.merge_tables(tables))
            # Files are dated by the wall clock; if that may be ahead, they are kept longer accordingly.
            ahead = max(0, timestamps.now() - now) / (3_600 * SECOND)
            self._vacuum(VACUUM_HOURS + round(ahead))

    def _replace(self, runs: Sequence[Run], table: pa.Table) -> None:
        self._note(self.position, self._runs.replace(runs[0].position, runs[-1].position, table))
        if table.num_rows < sum(run.rows for run in runs):
            self.removals += 1

    def _vacuum(self, hours: int) -> None:
        self._note(self.position, self._runs.vacuum(hours))

    # Reading

    @doing("read")
    def plan(self, budget: int) -> HistoryPlan:
        """Choose the newest runs that fit into the budget, except damaged ones."""
        with self._log.runs_lock:
            runs = self._runs.runs()
            chosen: list[Run] = []
            left: list[Run] = []
            while runs and sum(run.rows for run in chosen) + runs[-1].rows <= budget:
                run = runs.pop()
                (chosen if self._damages.is_sound(run) else left).insert(0, run)
            floor = max((run.greatest + 1 for run in [*runs, *left]), default=NEVER)
            return HistoryPlan(self.position, floor, chosen, self._damages.floors())

    def load(self, plan: HistoryPlan, features: Mapping[str, Feature]) -> Iterator[LoadedRows]:
        """Load the planned runs, oldest first."""
        for run in plan.runs:
            for batch in run.scan(layout.SCHEMA.names, None):
                yield from layout.loaded(self.not_erased(batch), features)

    def not_erased(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Filter a batch: without the rows of erased entities."""
        return layout.only(batch, self._log.erasures.kept) if self._log.erasures else batch

    @doing("read")
    def read(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> DiskRows:
        """Read rows, using the statistics of files and row groups to skip others."""
        self._damages.need_nothing_lost(feature, start, end)
        keep = layout.pairs_filter(feature, entities, start, end)
        for _ in range(3):
            position, runs = self.position, self._runs.runs()
            try:
                tables = self._scan(runs, feature, keep, start, end, self._amount(feature))
            except FileNotFoundError:
                continue  # a compaction has replaced the run meanwhile
            return DiskRows(position, entities, layout.to_rows(feature, entities, tables))
        raise Unavailable("the history files changed while they were read")

    def _amount(self, feature: Feature) -> Amount:
        return Amount(feature.id, MAX_ROWS_FROM_DISK, self._most_bytes)

    def _scan(
        self, runs: Sequence[Run], feature: Feature, keep: pc.Expression, start: int, end: int, amount: Amount
    ) -> list[pa.Table]:
        tables = []
        for run in runs:
            for found in self._damages.scan(run, feature, start, end, layout.columns_read(feature), keep):
                batch = self._log.erasures.only(feature.id, found)
                amount.add(batch.num_rows, batch[feature.value_type].nbytes)
                if batch.num_rows:
                    tables.append(pa.Table.from_batches([batch]))
        return tables

    @doing("read")
    def versions(self, feature: Feature, entities: Sequence[str], start: int, end: int) -> Rows:
        """Read every version, from the runs and from the journal beyond them."""
        places, amount = {entity: place for place, entity in enumerate(entities)}, self._amount(feature)
        self._damages.need_nothing_lost(feature, start, end)
        with self._log.runs_lock:
            keep = layout.pairs_filter(feature, entities, start, end)
            tables = self._scan(self._runs.runs(), feature, keep, start, end, amount)
            parts = [layout.to_rows(feature, entities, tables)]
            for arrived, table, column in self._written_since(feature):
                parts.append(layout.placed(table, column, arrived, places, start, end))
                amount.add_rows(parts[-1])
        rows = concatenate(parts)
        return rows.take(order(rows.slots, rows.times))

    def observations(self, feature: Feature, start: int, end: int) -> Iterator[Accepted]:
        """Read everything, from the runs and from the journal beyond them.

        All is read before the first part is yielded: if the caller stops half way, this generator is closed in an
        arbitrary thread, which could not release a lock.
        """
        tables, waiting = self._accepted(feature, start, end)
        for part in tables:
            rows = layout.to_rows(feature, None, [part])
            yield Accepted(rows.times, rows.arrived, rows.values, rows.nulls)
        yield from waiting

    @doing("read")
    def _accepted(self, feature: Feature, start: int, end: int) -> tuple[list[pa.Table], list[Accepted]]:
        keep, waiting, amount = layout.period_filter(feature, start, end), [], self._amount(feature)
        self._damages.need_nothing_lost(feature, start, end)
        with self._log.runs_lock:  # so that no checkpoint comes in between, and no file is deleted
            tables = self._scan(self._runs.runs(), feature, keep, start, end, amount)
            for arrived, table, column in self._written_since(feature):
                inside = (table.times >= start) & (table.times <= end)
                if inside.any():
                    waiting.append(layout.accepted(table, column, arrived, inside))
                    amount.add(len(waiting[-1].times), bytes_of(waiting[-1].values))
        return tables, waiting

    def _written_since(self, feature: Feature) -> Iterator[tuple[int, Table, Column]]:
        """What the journal has of a feature beyond the runs, with its arrival."""
        for arrived, batch in self._log.replay(self.position):
            for table in batch:
                for column in table.columns:
                    if (column.feature, column.created) == (feature.id, feature.created):
                        yield arrived, table, column
