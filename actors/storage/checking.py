"""Whether a data directory that no process uses is what was written. Nothing in it is changed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import Damaged, StartupError
from actors.storage import delta
from actors.storage.damages import Damages
from actors.storage.directory import DataDirectory
from actors.storage.history import micros
from actors.storage.journal import Journal
from actors.storage.monitored import Monitored
from actors.storage.run_files import BLOCK_BYTES, RunFile, VerifiedFile
from actors.storage.sealed import told


def check(directory: Path) -> list[str]:
    """What is damaged: the file, and what of which feature was in it. Raises StartupError where it is in use."""
    if not (directory / "journal.db").exists():
        raise StartupError(f"{directory} has no journal.db: it is no data directory")
    with _alone(directory), tempfile.TemporaryDirectory() as copies:
        monitored, found = _monitored(directory, Path(copies))
        try:
            return found + _journal_and_history(directory, Path(copies), monitored)
        except StartupError as error:
            return [*found, error.detail.replace(copies, str(directory))]
        finally:
            monitored.close()


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """While no process uses the directory."""
    held = DataDirectory(directory)
    held.lock()
    try:
        yield
    finally:
        held.release()


def _copied(directory: Path, copies: Path, name: str) -> str:
    """A copy of a database, to which SQLite may do what it does to one that is opened."""
    for part in (name, f"{name}-wal"):
        if (directory / part).exists():
            shutil.copyfile(directory / part, copies / part)
    return str(copies / name)


def _monitored(directory: Path, copies: Path) -> tuple[Monitored, list[str]]:
    monitored = Monitored(_copied(directory, copies, "monitor.db"))
    monitored.open()
    if monitored.damage is not None:
        return monitored, [monitored.damage.replace(str(copies), str(directory))]
    unsound = sorted(monitored.damaged_windows())
    return monitored, [f"{directory / 'monitor.db'} is damaged: statistics of {feature}" for feature in unsound]


def _journal_and_history(directory: Path, copies: Path, monitored: Monitored) -> list[str]:
    journal = Journal(_copied(directory, copies, "journal.db"))
    journal.open()
    try:
        damages = Damages(journal, monitored)
        journal.find_lost(monitored.position)
        found = [f"{directory / 'journal.db'}: {words}" for words in damages.in_journal()]
        files = [file for file in journal.files() if file.removed is None]
        found += [words for file in files for words in _of_file(directory / "history", file)]
        return found + _of_log(directory / "history", int(journal.meta("history_version", -1)), files)
    finally:
        journal.close()


def _of_log(history: Path, version: int, files: list[RunFile]) -> list[str]:
    """Timewell does not go by the log, but others that read the table do."""
    log = history / "_delta_log"
    if version < 0:
        return []
    try:
        _, named = delta.read(log, version)
    except Exception as error:  # Arrow raises many kinds
        return [f"{log} is damaged: {error}"]
    same = {path: about["size"] for path, about in named.items()} == {file.path: file.size for file in files}
    return [] if same or not files else [f"{log} is damaged: it names other files than there are"]


def _of_file(history: Path, file: RunFile) -> list[str]:
    """What is damaged of a file, row group by row group as far as its end can be read."""
    try:
        reader = VerifiedFile(history, file)
    except (Damaged, OSError) as error:
        return [f"{history / file.path}: {_all_of(file)}: {error}"]
    with reader:
        bad = [start for start in range(0, file.size, BLOCK_BYTES) if not _readable(reader, start)]
        if not bad:
            return []
        try:
            metadata = pq.ParquetFile(pa.PythonFile(reader, mode="r")).metadata
        except Damaged:
            return [f"{history / file.path}: {_all_of(file)}"]
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    return [f"{history / file.path}: {_of_group(group)}" for group in groups if _meets(group, bad)] or [
        f"{history / file.path}: in no value"
    ]


def _readable(reader: VerifiedFile, start: int) -> bool:
    try:
        reader.seek(start)
        reader.read(BLOCK_BYTES)
    except Damaged:
        return False
    return True


def _all_of(file: RunFile) -> str:
    return ", ".join(told(feature, *bounds) for feature, bounds in file.features.items())


def _meets(group: pq.RowGroupMetaData, bad: list[int]) -> bool:
    columns = [group.column(place) for place in range(group.num_columns)]
    begins = [min(filter(None, (column.dictionary_page_offset, column.data_page_offset))) for column in columns]
    spans = zip(begins, (column.total_compressed_size for column in columns), strict=True)
    return any(begin < start + BLOCK_BYTES and start < begin + size for begin, size in spans for start in bad)


def _of_group(group: pq.RowGroupMetaData) -> str:
    feature, times = group.column(0).statistics, group.column(2).statistics
    first, last = micros(pa.array([times.min, times.max], pa.timestamp("us", "UTC"))).tolist()
    names = feature.min if feature.min == feature.max else f"{feature.min} to {feature.max}"
    return told(names, first, last)
