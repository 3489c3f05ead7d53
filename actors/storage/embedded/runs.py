"""The history as sorted runs, oldest arrivals first: a log-structured merge tree (O'Neil et al. 1996).

A run is named by its last arrival. `DeltaRuns` keeps each run as one partition of a Delta table, so appending and
merging runs are atomic commits, and Spark, DuckDB, Polars and others can read the table. `MemoryRuns` keeps Arrow
tables.
"""

from __future__ import annotations

import math
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.errors import Damaged, StartupError
from actors.storage.embedded import delta
from actors.storage.embedded.layout import KEYS, SCHEMA, Keep, only
from actors.storage.embedded.run_files import Change, RunFile, VerifiedFile, bounds_of, damage, noted, sums_of
from actors.timestamps import NEVER
from actors.types.values import TYPES

ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 32 * 1024 * 1024
"""A row group is read as a whole, even for a single row; it has at most this many rows and bytes."""
_DICTIONARIES = [
    *(name for name in KEYS.names if name != "event_timestamp"),
    *(type_.name for type_ in TYPES.values() if type_.repeats),
    "vector.list.element",
]
"""The columns with dictionary encoding. Event times are smaller as differences."""


class Run(NamedTuple):
    """A sorted run: its name, the least and greatest event time of each feature, and how to read it.

    `size`: the uncompressed size of its rows in bytes. `scan`: reads columns of the rows that pass a filter, and
    raises Damaged if it needs a damaged block. `damage`: reads everything and describes the damage. `identity`:
    equal only for the same rows, while this object exists.
    """

    position: int
    rows: int
    size: int
    features: Mapping[str, tuple[int, int]]
    scan: Callable[[Sequence[str], pc.Expression | None], Iterator[pa.RecordBatch]]
    damage: Callable[[], list[str]]
    identity: object

    @property
    def greatest(self) -> int:
        """The greatest event time of all features."""
        return max(greatest for _, greatest in self.features.values())

    @property
    def entity_types(self) -> set[str]:
        """The entity types that have rows in the run."""
        return {feature.partition(".")[0] for feature in self.features}

    def has(self, feature: str, start: int, end: int) -> bool:
        """Whether there may be rows of a feature with event times in [start, end]."""
        if feature not in self.features:
            return False
        least, greatest = self.features[feature]
        return least <= end and start <= greatest

    def table(self, keep: Keep | None = None) -> pa.Table:
        """Load the rows that `keep` keeps, by default all."""
        batches = self.scan(SCHEMA.names, None)
        return pa.Table.from_batches((only(batch, keep) for batch in batches) if keep else batches, SCHEMA)


class Runs(Protocol):
    """A store of runs. Only `runs` is thread-safe."""

    def runs(self) -> list[Run]:
        """All runs, oldest first."""

    def append(self, position: int, table: pa.Table) -> Change:
        """Write a run to stable storage. It becomes visible when the change has been noted and adopted."""

    def replace(self, first: int, last: int, table: pa.Table) -> Change:
        """Replace the runs first..last by one named `last`, or by none if the table has no rows."""

    def vacuum(self, hours: int) -> Change:
        """Delete files that no run has used for this many hours."""

    def adopt(self, change: Change) -> None:
        """Make a change visible that has been noted in the journal."""


class MemoryRuns:
    """Runs as Arrow tables."""

    def __init__(self) -> None:
        self._runs: dict[int, Run] = {}

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        return [run for _, run in sorted(self._runs.items())]

    def append(self, position: int, table: pa.Table) -> Change:
        """Add a run, which is visible at once."""
        self._runs[position] = _memory_run(position, table)
        return Change(0)

    def replace(self, first: int, last: int, table: pa.Table) -> Change:
        """Replace the runs first..last by one."""
        kept = {position: run for position, run in self._runs.items() if not first <= position <= last}
        self._runs = {**kept, last: _memory_run(last, table)} if table.num_rows else kept
        return Change(0)

    def vacuum(self, hours: int) -> Change:
        """Nothing to delete in memory."""
        return Change(0)

    def adopt(self, change: Change) -> None:
        """Nothing to do: changes are visible at once."""


def _memory_run(position: int, table: pa.Table) -> Run:
    def scan(columns: Sequence[str], keep: pc.Expression | None) -> Iterator[pa.RecordBatch]:
        return _batches(table, columns, keep)

    return Run(position, table.num_rows, table.nbytes, bounds_of(table), scan, list, object())


def _batches(source: pa.Table, columns: Sequence[str], keep: pc.Expression | None) -> Iterator[pa.RecordBatch]:
    # Imported when first needed: it takes a third of a second, as long as an empty service needs to start.
    import pyarrow.dataset as ds

    return _scanned(ds.dataset(source), columns, keep)


def _read(
    files: Iterable[VerifiedFile], columns: Sequence[str], keep: pc.Expression | None
) -> Iterator[pa.RecordBatch]:
    """The rows of Parquet files that pass the filter `keep`. Reads no more of the files than needed."""
    import pyarrow.dataset as ds

    format_ = ds.ParquetFileFormat()
    with ExitStack() as stack:
        opened = [stack.enter_context(file) for file in files]
        parts = [format_.make_fragment(pa.PythonFile(file, mode="r")) for file in opened]
        yield from _scanned(ds.FileSystemDataset(parts, SCHEMA, format_), columns, keep)


def _scanned(dataset: Any, columns: Sequence[str], keep: pc.Expression | None) -> Iterator[pa.RecordBatch]:
    scanner = dataset.scanner(
        columns=list(columns), filter=keep, batch_size=ROW_GROUP_ROWS, batch_readahead=2, fragment_readahead=1
    )
    batches: Iterator[pa.RecordBatch] = scanner.to_batches()
    return batches


def worth_merging(runs: Sequence[Run], most_runs: int, most_rows: int, most_bytes: int) -> list[Run]:
    """Which of the newest runs to merge: those before which comes one more than twice as large as all after it.

    None while there are at most `most_runs`; the merged run has at most `most_rows` and `most_bytes`.
    """
    if len(runs) <= most_runs:
        return []
    chosen: list[Run] = []
    rows = size = 0
    for run in reversed(runs):
        rows, size, small = rows + run.rows, size + run.size, run.rows <= 2 * rows
        if (chosen and not small) or rows > most_rows or size > most_bytes:
            break
        chosen.insert(0, run)
    return chosen


def _write(file: BinaryIO, table: pa.Table) -> None:
    with pq.ParquetWriter(
        file,
        table.schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=_DICTIONARIES,
        column_encoding={"event_timestamp": "DELTA_BINARY_PACKED"},
        store_schema=False,
    ) as writer:
        for start in range(0, table.num_rows, ROW_GROUP_ROWS):
            for group in _groups(table.slice(start, ROW_GROUP_ROWS)):
                writer.write_table(group)


def _groups(rows: pa.Table) -> Iterator[pa.Table]:
    """Split rows into row groups of at most ROW_GROUP_BYTES."""
    half = rows.num_rows // 2
    if rows.nbytes <= ROW_GROUP_BYTES or half == 0:
        yield rows
    else:
        yield from _groups(rows.slice(0, half))
        yield from _groups(rows.slice(half))


def _position_of(folder: Path) -> int:
    """The position of the run in a folder; NEVER if the folder is not one of a run."""
    name = folder.name.removeprefix("run=")
    return int(name) if name.isdecimal() else NEVER


class DeltaRuns:
    """Runs as partitions of a Delta table in a directory.

    The journal's records determine which files belong to it; the table's log is for other readers.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._version = -1
        self._metadata: str | None = None
        self._files: dict[str, RunFile] = {}

    def open(self, version: int, metadata: str | None, files: Sequence[RunFile]) -> Change | None:
        """Return to the table version that the journal knows.

        A commit beyond it was interrupted, and the journal still has its rows. If `metadata` is None the journal
        has no records of the files yet; then returns the change to note. Raises StartupError if the log does not
        list them.
        """
        self._version, self._metadata = version, metadata
        self._files = {file.path: file for file in files}
        self._undo_after(version)
        if version < 0:
            return None
        return self._look_up() if metadata is None else None

    def beyond(self, version: int, newest: int) -> list[Path]:
        """Files that show that a journal with this version and newest arrival has lost commits.

        One version more is no sign of that: an interrupted checkpoint leaves it, and the journal still has its
        rows.
        """
        runs = [path for path in self.directory.glob("run=*") if _position_of(path) > newest]
        late = [path for path in self._log.glob("*") if not delta.is_before(path, version + 1)]
        leftover = f"{version + 1:020}.json"
        late = [path for path in late if delta.version_of(path) is not None and path.name != leftover]
        return sorted(runs) + sorted(late)

    def go_back(self, version: int, newest: int) -> None:
        """Delete versions and runs that a journal with this version and newest arrival does not know."""
        self._undo_after(version)
        for path in self.directory.glob("run=*"):
            if _position_of(path) > newest:
                shutil.rmtree(path)

    def _look_up(self) -> Change:
        """The records of files that an earlier version of Timewell wrote, as a change to note."""
        try:
            metadata, named = delta.read(self._log, self._version)
            found = [
                noted(self.directory, path, int(about["partitionValues"]["run"]), str(about["stats"]))
                for path, about in sorted(named.items())
            ]
        except Exception as error:  # the library raises many kinds
            raise StartupError(f"cannot read the history table {self.directory}: {error}") from error
        change = Change(self._version, found, (), metadata)
        self.adopt(change)
        return change

    def _undo_after(self, version: int) -> None:
        late = [path for path in self._log.glob("*") if not delta.is_before(path, version + 1)]
        late = [path for path in late if delta.version_of(path) is not None]
        if any(path.suffix == ".parquet" for path in late):
            (self._log / "_last_checkpoint").unlink(missing_ok=True)
        for path in sorted(late, reverse=True):
            if path.suffix == ".json":
                for added in delta.files_added(path):
                    if added not in self._files:
                        (self.directory / added).unlink(missing_ok=True)
            path.unlink()

    @property
    def _log(self) -> Path:
        return self.directory / "_delta_log"

    def _in_use(self) -> list[RunFile]:
        return [file for file in self._files.values() if file.removed is None]

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        by_run: dict[int, list[RunFile]] = {}
        for file in self._in_use():
            by_run.setdefault(file.run, []).append(file)
        return [self._run(position, files) for position, files in sorted(by_run.items())]

    def _run(self, position: int, files: Sequence[RunFile]) -> Run:
        files = sorted(files, key=lambda file: file.path)
        bounds: dict[str, tuple[int, int]] = {}
        for file in files:
            for feature, (least, greatest) in file.features.items():
                before = bounds.get(feature, (least, greatest))
                bounds[feature] = min(least, before[0]), max(greatest, before[1])

        def scan(columns: Sequence[str], keep: pc.Expression | None) -> Iterator[pa.RecordBatch]:
            return _read(map(self._opened, files), columns, keep)

        def damaged() -> list[str]:
            return [what for file in files for what in damage(self.directory, file)]

        size = sum(file.memory or file.size for file in files)
        return Run(
            position,
            sum(file.rows for file in files),
            size,
            bounds,
            scan,
            damaged,
            tuple(file.path for file in files),
        )

    def _opened(self, file: RunFile) -> VerifiedFile:
        """Open a file. Raises Damaged if it is missing, FileNotFoundError if its run has been replaced."""
        try:
            return VerifiedFile(self.directory, file)
        except FileNotFoundError:
            if file.path in {other.path for other in self._in_use()}:
                raise Damaged(f"the history file {file.path} is damaged: it is gone") from None
            raise

    def append(self, position: int, table: pa.Table) -> Change:
        """Write a run."""
        return self._commit("WRITE", [self._written(position, table)])

    def replace(self, first: int, last: int, table: pa.Table) -> Change:
        """Replace the runs first..last by one."""
        now = delta.now()
        gone = [msgspec.structs.replace(file, removed=now) for file in self._in_use() if first <= file.run <= last]
        come = [self._written(last, table)] if table.num_rows else []
        return self._commit("OPTIMIZE", [*gone, *come])

    def without(self, file: RunFile, table: pa.Table) -> Change:
        """Replace a damaged file by what could still be read of it. The file itself is not deleted."""
        come = [self._written(file.run, table)] if table.num_rows else []
        gone = msgspec.structs.replace(file, removed=delta.now())
        return self._commit("DELETE", [gone, *come])._replace(files=come, gone=[file.path])

    def begin_log_anew(self) -> Change:
        """Commit one more version, without changes; after `sum_up` readers need nothing of the log before it."""
        return self._commit("RESTORE", [])

    def sum_up(self) -> Change:
        """Write a checkpoint of the log, and delete everything of the log before it."""
        if self._metadata is None:
            return Change(self._version)
        files = self._files.values()
        sums = delta.checkpoint(self._log, self._version, self._metadata, files, -math.inf)
        return Change(self._version, log=sums)

    def has_log(self) -> bool:
        """Whether the log has the current version."""
        return self._version < 0 or (self._log / f"{self._version:020}.json").exists()

    def _written(self, position: int, table: pa.Table) -> RunFile:
        """Write a new file to stable storage."""
        folder = self.directory / f"run={position}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"part-{uuid.uuid4()}.zstd.parquet"
        started = path.with_suffix(".part")  # readers of all Parquet files in the folder must see complete ones
        with started.open("wb") as file:
            _write(file, table)
        delta.sync(started)
        started.replace(path)
        for place in (folder, self.directory):
            delta.sync(place)
        about = path.stat()
        return RunFile(
            path=path.relative_to(self.directory).as_posix(),
            run=position,
            rows=table.num_rows,
            size=about.st_size,
            modified=about.st_mtime_ns // 1_000_000,
            stats=delta.stats_of(table),
            memory=table.nbytes,
            features=bounds_of(table),
            sums=sums_of(path),
        )

    def _commit(self, operation: str, files: Sequence[RunFile]) -> Change:
        """Commit the next version, replacing an interrupted one that the journal does not know."""
        self._undo_after(self._version)
        self._log.mkdir(parents=True, exist_ok=True)
        metadata = None if self._version >= 0 else delta.new_table()
        actions = [] if metadata is None else delta.begun(metadata)
        actions += [delta.added(file) if file.removed is None else delta.removed(file) for file in files]
        sums = delta.commit(self._log, self._version + 1, operation, actions)
        delta.sync(self.directory)
        return Change(self._version + 1, files, (), metadata, sums)

    def adopt(self, change: Change) -> None:
        """Make a change visible that has been noted in the journal."""
        files = {path: file for path, file in self._files.items() if path not in set(change.gone)}
        self._files = {**files, **{file.path: file for file in change.files}}
        self._version = change.version
        self._metadata = change.metadata or self._metadata

    def vacuum(self, hours: int) -> Change:
        """Delete files that no run has used for this many hours, and shorten the table's log."""
        if self._version < 0 or self._metadata is None:
            return Change(self._version)
        until = delta.now() - hours * 3_600_000
        gone = [path for path, file in self._files.items() if file.removed is not None and file.removed <= until]
        for path in gone:
            (self.directory / path).unlink(missing_ok=True)
        for stray in self.directory.glob("run=*/*.pa*"):
            known = stray.relative_to(self.directory).as_posix() in self._files
            if not known and stray.stat().st_mtime_ns // 1_000_000 <= until:
                stray.unlink()
        kept = [file for path, file in self._files.items() if path not in set(gone)]
        sums = delta.checkpoint(self._log, self._version, self._metadata, kept)
        return Change(self._version, (), gone, log=sums)
