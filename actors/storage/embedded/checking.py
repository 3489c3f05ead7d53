"""Checks a data directory, which no process may be using, for damage. Nothing in it is changed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import Damaged, StartupError
from actors.storage.embedded import delta
from actors.storage.embedded.damages import Damages, gone_back
from actors.storage.embedded.directory import DataDirectory
from actors.storage.embedded.doubt import all_files
from actors.storage.embedded.journal_file import Journal
from actors.storage.embedded.layout import micros
from actors.storage.embedded.run_files import BLOCK_BYTES, RunFile, VerifiedFile
from actors.storage.embedded.runs import DeltaRuns
from actors.storage.embedded.sealed import counted, told
from actors.storage.embedded.sqlite_log import find_damage
from actors.storage.embedded.summaries import EmbeddedSummaries


class DirectoryDamage(msgspec.Struct):
    """The damage to a directory. `words`: descriptions: the file, and the values of which features it held.

    `cut`: how many bytes of a database's write-ahead log are sound, by file name; `files`: damaged history files;
    `log`: whether the Delta table's log is damaged; `back`: whether the journal is, or will be when cut, in an
    earlier state than the history; `beyond_help`: whether only a backup helps.
    """

    words: list[str]
    cut: dict[str, int]
    files: list[RunFile]
    log: bool = False
    back: bool = False
    beyond_help: bool = False


def check(directory: Path) -> list[str]:
    """Descriptions of all damage to a directory. Raises StartupError if it is in use."""
    with alone(directory):
        return look(directory).words


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Lock a data directory within the context. Raises StartupError if it is in use, or not a data directory."""
    if not (directory / "journal.db").exists():
        raise StartupError(f"{directory} has no journal.db: it is no data directory")
    held = DataDirectory(directory)
    held.lock()
    try:
        yield
    finally:
        held.release()


def look(directory: Path) -> DirectoryDamage:
    """The damage to a directory that is locked."""
    found = DirectoryDamage([], {}, [])
    with tempfile.TemporaryDirectory() as copies:
        monitored = EmbeddedSummaries(_copied(directory, Path(copies), "monitor.db", found))
        monitored.open()
        try:
            if monitored.damage is not None:
                found.words.append(f"{monitored.damage.replace(copies, str(directory))}: all statistics")
            for feature in sorted(monitored.damaged_windows()):
                found.words.append(f"{directory / 'monitor.db'} is damaged: statistics of {feature}")
            _journal_and_history(directory, Path(copies), monitored, found)
        except StartupError as error:
            found.beyond_help = True
            found.words.append(error.detail.replace(copies, str(directory)))
        finally:
            monitored.close()
    return found


def _copied(directory: Path, copies: Path, name: str, found: DirectoryDamage) -> str:
    """Copy a database, as opening it makes SQLite change it; returns the path of the copy.

    The write-ahead log is copied as far as it is sound. What SQLite would ignore in it is added to `found`.
    """
    log = copies / f"{name}-wal"
    for part in (name, log.name):
        if (directory / part).exists():
            shutil.copyfile(directory / part, copies / part)
    wrong = find_damage(log)
    if wrong is not None:
        found.cut[name] = wrong.begin
        found.words.append(
            f"{directory / log.name} is damaged between bytes {wrong.begin} and {wrong.end - 1}:"
            f" what was written or registered after that, in {counted(wrong.commits, 'commit')}"
        )
        with log.open("r+b") as file:
            file.truncate(wrong.begin)
    return str(copies / name)


def _journal_and_history(
    directory: Path, copies: Path, monitored: EmbeddedSummaries, found: DirectoryDamage
) -> None:
    journal = Journal(_copied(directory, copies, "journal.db", found))
    journal.open()
    try:
        lost_commits = gone_back(journal, DeltaRuns(directory / "history"))
        if lost_commits is not None and "journal.db" not in found.cut:
            found.words.append(lost_commits.replace(str(copies), str(directory)))
        found.back = lost_commits is not None or "journal.db" in found.cut
        if found.back and not journal.known():
            raise StartupError(
                f"{directory / 'journal.db'}: every feature was registered after what is left of it"
            )
        journal.find_lost(monitored.position)
        lost = Damages(journal, monitored).in_journal()
        found.words += [f"{directory / 'journal.db'}: {words}" for words in lost]
        files = [file for file in all_files(journal, directory / "history") if file.removed is None]
        if journal.unsound_files() and all(file.sums for file in files):
            found.words.append(
                f"{directory / 'journal.db'}: in the note of a history file that is not used any more"
            )
        for file in files:
            damaged = _of_file(directory / "history", file)
            found.words += damaged
            found.files += [file] if damaged else []
        of_log = _of_log(directory / "history", journal, files)
        found.words += of_log
        found.log = bool(of_log)
        if monitored.damage is None and "monitor.db" not in found.cut:
            why = monitored.reaching(journal.counted)
            found.words += [] if why is None else [f"{why.replace(str(copies), str(directory))}: all statistics"]
    finally:
        journal.close()


def _of_log(history: Path, journal: Journal, files: list[RunFile]) -> list[str]:
    """Descriptions of damage to the Delta table's log, which Timewell does not rely on but other readers do."""
    version = int(journal.meta("history_version", -1))
    try:
        why = _wrong_in_log(history / "_delta_log", version, journal, files) if version >= 0 else None
    except Exception as error:  # Arrow raises many kinds
        why = str(error)
    words = "it has no values, and is written anew out of what journal.db knows by --forget-damaged"
    return [] if why is None else [f"{history / '_delta_log'} is damaged: {why} ({words})"]


def _wrong_in_log(log: Path, version: int, journal: Journal, files: list[RunFile]) -> str | None:
    delta.need_sound(log, journal.log_sums())
    if not delta.hint_is_sound(log):
        return "what points at its checkpoint is not what was written"
    _, named = delta.read(log, version)
    said = {path: (about["size"], about["partitionValues"], about["stats"]) for path, about in named.items()}
    same = said == {file.path: (file.size, {"run": str(file.run)}, file.stats) for file in files}
    return None if same or not files else "it says something else of the files than is known of them"


def _of_file(history: Path, file: RunFile) -> list[str]:
    """Descriptions of the damage to a file: by row group, if the footer can be read."""
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
        except (Damaged, OSError):
            return [f"{history / file.path}: {_all_of(file)}"]
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    return [f"{history / file.path}: {_of_group(group)}" for group in groups if _meets(group, bad)] or [
        f"{history / file.path}: in no value"
    ]


def _readable(reader: VerifiedFile, start: int) -> bool:
    try:
        reader.seek(start)
        reader.read(BLOCK_BYTES)
    except (Damaged, OSError):
        return False
    return True


def _all_of(file: RunFile) -> str:
    what = ", ".join(told(feature, *bounds) for feature, bounds in file.features.items())
    return f"{what} ({counted(file.rows)})"


def _meets(group: pq.RowGroupMetaData, bad: list[int]) -> bool:
    columns = [group.column(place) for place in range(group.num_columns)]
    begins = [min(filter(None, (column.dictionary_page_offset, column.data_page_offset))) for column in columns]
    spans = zip(begins, (column.total_compressed_size for column in columns), strict=True)
    return any(begin < start + BLOCK_BYTES and start < begin + size for begin, size in spans for start in bad)


def _of_group(group: pq.RowGroupMetaData) -> str:
    feature, times = group.column(0).statistics, group.column(2).statistics
    first, last = micros(pa.array([times.min, times.max], pa.timestamp("us", "UTC"))).tolist()
    names = feature.min if feature.min == feature.max else f"{feature.min} to {feature.max}"
    return f"{told(names, first, last)} ({counted(group.num_rows)})"
