"""The history as sorted runs, oldest arrivals first: a log-structured merge tree (O'Neil et al. 1996).

A run is named by the journal position that it reaches. `DeltaRuns` keeps each run as one partition of a Delta
table, so appending and merging runs are atomic commits that Spark, DuckDB, Polars and others read as they
are. `MemoryRuns` keeps Arrow tables.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import ColumnProperties, DeltaTable, PostCommitHookProperties, WriterProperties, write_deltalake

from actors.errors import StartupError
from actors.storage.history import SCHEMA, greatest_time, micros
from actors.timestamps import NEVER

ROW_GROUP_ROWS = 65_536


class Run(NamedTuple):
    """A sorted run: its name, size, greatest event time, and how to read it."""

    position: int
    rows: int
    greatest: int
    scan: Callable[[Sequence[str], pc.Expression | None], Iterator[pa.RecordBatch]]

    def table(self, keep: pc.Expression | None = None) -> pa.Table:
        """The rows of a run that `keep` names, in memory."""
        return pa.Table.from_batches(self.scan(SCHEMA.names, keep), SCHEMA)


class Runs(Protocol):
    """What a store of runs does. Not thread-safe but for `runs`."""

    def runs(self) -> list[Run]:
        """All runs, oldest first."""

    def append(self, position: int, table: pa.Table) -> int:
        """Add a run. Returns the version of the table, on stable storage."""

    def replace(self, first: int, last: int, table: pa.Table) -> int:
        """Put one run (named `last`; none where it has no rows) in the place of the runs first..last."""

    def vacuum(self, hours: int) -> int:
        """Delete files that no run has used for so many hours. Returns the version of the table then."""


class MemoryRuns:
    """Runs as Arrow tables."""

    def __init__(self) -> None:
        self._tables: dict[int, pa.Table] = {}

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        return [_memory_run(position, table) for position, table in sorted(self._tables.items())]

    def append(self, position: int, table: pa.Table) -> int:
        """Add a run."""
        self._tables[position] = table
        return 0

    def replace(self, first: int, last: int, table: pa.Table) -> int:
        """Put one run in the place of several."""
        kept = {position: kept for position, kept in self._tables.items() if not first <= position <= last}
        self._tables = {**kept, last: table} if table.num_rows else kept
        return 0

    def vacuum(self, hours: int) -> int:
        """Nothing is left over in memory."""
        return 0


def _memory_run(position: int, table: pa.Table) -> Run:
    def scan(columns: Sequence[str], keep: pc.Expression | None) -> Iterator[pa.RecordBatch]:
        return _batches(table, columns, keep)

    return Run(position, table.num_rows, greatest_time(table), scan)


def _batches(
    source: pa.Table | list[str], columns: Sequence[str], keep: pc.Expression | None
) -> Iterator[pa.RecordBatch]:
    """The rows of a table or of Parquet files that `keep` names, without reading more of the files than needed."""
    # Imported when first needed: it takes a third of a second, in which an empty service is up.
    import pyarrow.dataset as ds

    dataset = ds.dataset(source) if isinstance(source, pa.Table) else ds.dataset(source, SCHEMA, format="parquet")
    scanner = dataset.scanner(
        columns=list(columns), filter=keep, batch_size=ROW_GROUP_ROWS, batch_readahead=2, fragment_readahead=1
    )
    batches: Iterator[pa.RecordBatch] = scanner.to_batches()
    return batches


class DeltaRuns:
    """Runs as the partitions of a Delta table in a directory."""

    _CONFIGURATION = {  # noqa: RUF012
        "delta.logRetentionDuration": "interval 1 day",
        "delta.dataSkippingStatsColumns": "feature,entity_id,event_timestamp",
    }
    # The log is tidied by `vacuum`, once the journal knows the version: a commit must be possible to undo.
    _HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
    # What hardly repeats is written in half the time without a dictionary; moments are smaller as differences.
    _WRITER = WriterProperties(
        max_row_group_size=ROW_GROUP_ROWS,
        compression="ZSTD",
        compression_level=1,
        column_properties={
            "number": ColumnProperties(dictionary_enabled=False),
            "event_timestamp": ColumnProperties(dictionary_enabled=False, encoding="DELTA_BINARY_PACKED"),
        },
    )

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, version: int) -> None:
        """Return to the table version that the journal knows of.

        A commit beyond it was cut off before it was known to be on disk; the journal still has its rows.
        Raises StartupError where the table cannot be read.
        """
        self._undo_after(version)
        if version < 0:
            return
        try:
            found = DeltaTable(str(self._directory)).version()
            missing = [path for path in self._paths() if not path.exists()]
        except Exception as error:  # the library raises many kinds
            raise StartupError(f"cannot read the history table {self._directory}: {error}") from error
        if found != version:
            raise StartupError(
                f"the history table {self._directory} is at version {found}, the journal knows {version}"
            )
        if missing:
            raise StartupError(f"the history table {self._directory} lacks the file {missing[0].name}")

    def _undo_after(self, version: int) -> None:
        late = [path for path in self._log.glob("*") if path.name[:20].isdigit() and int(path.name[:20]) > version]
        if late:
            (self._log / "_last_checkpoint").unlink(missing_ok=True)
        for path in sorted(late, reverse=True):
            if path.suffix == ".json":
                for added in _added(path):
                    (self._directory / added).unlink(missing_ok=True)
            path.unlink()

    @property
    def _log(self) -> Path:
        return self._directory / "_delta_log"

    def _exists(self) -> bool:
        return any(self._log.glob("*.json"))

    def _paths(self) -> list[Path]:
        return [self._directory / str(action["path"]) for action in self._actions()]

    def _actions(self) -> list[dict[str, Any]]:
        """What the table says of each file it is made of."""
        actions: list[dict[str, Any]] = pa.table(
            DeltaTable(str(self._directory)).get_add_actions(flatten=True)
        ).to_pylist()
        return actions

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        if not self._exists():
            return []
        by_run: dict[int, list[dict[str, Any]]] = {}
        for action in self._actions():
            by_run.setdefault(int(action["partition.run"]), []).append(action)
        return [self._run(position, files) for position, files in sorted(by_run.items())]

    def _run(self, position: int, files: Sequence[dict[str, Any]]) -> Run:
        paths = sorted(str(self._directory / file["path"]) for file in files)
        rows = sum(int(file["num_records"]) for file in files)
        greatest = [file.get("max.event_timestamp") for file in files]
        bounds = [int(micros(pa.array([bound], pa.timestamp("us", "UTC")))[0]) for bound in greatest if bound]

        def scan(columns: Sequence[str], keep: pc.Expression | None) -> Iterator[pa.RecordBatch]:
            return _batches(paths, columns, keep)

        # Delta keeps statistics to the millisecond, rounded down.
        return Run(position, rows, max(bounds, default=NEVER) + 1_000, scan)

    def append(self, position: int, table: pa.Table) -> int:
        """Add a run."""
        write_deltalake(
            str(self._directory),
            _named(table, position),
            partition_by=["run"],
            mode="append",
            writer_properties=self._WRITER,
            post_commithook_properties=self._HOOKS,
            configuration=self._CONFIGURATION,
        )
        return self._synced()

    def replace(self, first: int, last: int, table: pa.Table) -> int:
        """Put one run in the place of several."""
        predicate = f"run >= {first} AND run <= {last}"
        if table.num_rows:
            write_deltalake(
                str(self._directory),
                _named(table, last),
                mode="overwrite",
                predicate=predicate,
                writer_properties=self._WRITER,
                post_commithook_properties=self._HOOKS,
            )
        else:
            table_now = DeltaTable(str(self._directory))
            table_now.delete(predicate, post_commithook_properties=self._HOOKS)
        return self._synced()

    def _synced(self) -> int:
        """fsync what the last commit wrote, which the library leaves to the operating system."""
        version = DeltaTable(str(self._directory)).version()
        commit = self._log / f"{version:020}.json"
        written = [self._directory / added for added in _added(commit)]
        for path in (*written, commit, *{path.parent for path in written}, self._log, self._directory):
            _fsync(path)
        return version

    def vacuum(self, hours: int) -> int:
        """Delete files that no run has used for so many hours, and shorten the table's log.

        This too is a commit of the library's, so the journal has to learn of its version.
        """
        if not self._exists():
            return -1
        table = DeltaTable(str(self._directory))
        table.create_checkpoint()
        table.cleanup_metadata()
        table.vacuum(
            retention_hours=hours,
            dry_run=False,
            enforce_retention_duration=False,
            post_commithook_properties=self._HOOKS,
        )
        return self._synced()


def _named(table: pa.Table, position: int) -> pa.Table:
    """The table with its run's name in a column, which becomes the partition.

    In one piece: the library writes several in any order, and a run is sorted.
    """
    return table.combine_chunks().append_column("run", pa.repeat(pa.scalar(position, pa.int64()), table.num_rows))


def _added(commit: Path) -> list[str]:
    """The files that a commit added; none for one that was torn."""
    found = []
    for line in commit.read_text(errors="replace").splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            found += [unquote(str(entry["add"]["path"]))] if "add" in entry else []
    return found


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
