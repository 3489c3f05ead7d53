"""Gives up what is damaged: copies it aside, records it, and lets the directory work as if it was never written.

First everything that is to change or be deleted is copied to a new folder below `damaged/`, with a file `lost.txt`
that says what is lost; every start logs that for as long as the folder exists. Then the directory is changed in
atomic steps: after a crash in between it is as damaged as before, or less, and the command can be repeated.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import Damaged, StartupError
from actors.storage.embedded import delta
from actors.storage.embedded.checking import DirectoryDamage, alone, look
from actors.storage.embedded.journal_file import Journal
from actors.storage.embedded.layout import SCHEMA
from actors.storage.embedded.run_files import Change, RunFile, VerifiedFile
from actors.storage.embedded.runs import DeltaRuns
from actors.storage.embedded.summaries import EmbeddedSummaries

log = logging.getLogger("timewell.storage")
FOLDER = "damaged"
LOST = "lost.txt"
MOST_TOLD = 20
_DATABASES = ("journal.db", "monitor.db")


def forget(directory: Path) -> tuple[list[str], Path | None]:
    """Give up all that is damaged. Returns descriptions of it, and the folder it was copied to (None if none).

    Raises StartupError if the directory is in use, or only a backup helps.
    """
    with alone(directory):
        found = look(directory)
        if found.beyond_help:
            raise StartupError(f"only a backup helps here: {found.words[-1]}")
        if not found.words:
            return [], None
        aside = _set_aside(directory, found)
        for name, size in found.cut.items():
            _cut(directory / f"{name}-wal", size)
        _forget_statistics(directory)
        _forget_values(directory, found, aside)
        return found.words, aside


def given_up_in(directory: Path) -> list[str]:
    """Descriptions of what was given up in a directory earlier, from the folders that still exist."""
    words = []
    for path in sorted((directory / FOLDER).glob(f"*/{LOST}")):
        lines = path.read_text(errors="replace").splitlines()
        words += [f"forgotten as damaged ({path}): {line}" for line in lines[:MOST_TOLD]]
    return words


# Copying aside


def _set_aside(directory: Path, found: DirectoryDamage) -> Path:
    """Copy all that is to be changed or deleted, and a description, to stable storage; returns the folder."""
    aside = directory / FOLDER / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%fZ}"
    aside.mkdir(parents=True, mode=0o700)
    history = directory / "history"
    for name in (part for database in _DATABASES for part in (database, f"{database}-wal")):
        if (directory / name).exists():
            shutil.copyfile(directory / name, aside / name)
    if (found.log or found.back) and (history / "_delta_log").exists():
        shutil.copytree(history / "_delta_log", aside / "_delta_log", dirs_exist_ok=True)
    # A journal that is cut does not know the newest files, which the next start would delete.
    paths = sorted(history.glob("run=*/*.parquet")) if found.back else []
    for path in {*paths, *(history / file.path for file in found.files)}:
        _kept(path, aside / path.parent.name)
    (aside / LOST).write_text("".join(f"{words}\n" for words in found.words))
    for path in [*aside.rglob("*"), aside, aside.parent, directory]:
        with suppress(OSError):  # files that can no longer be read
            delta.sync(path)
    return aside


def _kept(path: Path, folder: Path) -> None:
    """Hard-link a file into a folder, or copy it if the file system has no hard links."""
    folder.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        try:
            os.link(path, folder / path.name)
        except PermissionError:
            shutil.copyfile(path, folder / path.name)


def _cut(path: Path, size: int) -> None:
    os.truncate(path, size)
    delta.sync(path)


# Changing the directory


def _forget_statistics(directory: Path) -> None:
    monitored = EmbeddedSummaries(str(directory / "monitor.db"))
    monitored.open()
    if monitored.damage is None:
        monitored.forget_damaged()
        monitored.close()
        return
    for name in ("monitor.db-wal", "monitor.db"):
        (directory / name).unlink(missing_ok=True)
    delta.sync(directory)


def _forget_values(directory: Path, found: DirectoryDamage, aside: Path) -> None:
    journal = Journal(str(directory / "journal.db"))
    journal.open()
    try:
        journal.find_lost(0)
        history, runs = directory / "history", DeltaRuns(directory / "history")
        version, metadata = int(journal.meta("history_version", -1)), journal.meta("history_metadata")
        if metadata is not None:
            runs.adopt(Change(version, journal.files(), (), metadata))
        if found.back:
            runs.go_back(version, journal.newest)
        for file in found.files:
            _go_by(journal, runs, runs.without(file, _sound_rows(history, file)))
            (history / file.path).unlink(missing_ok=True)
        if found.log:
            write_log_anew(journal, runs)
        journal.forget_lost()
    finally:
        journal.close()


def write_log_anew(journal: Journal, runs: DeltaRuns) -> None:
    """Rewrite the log of the Delta table from the records in the journal."""
    begun = runs.begin_log_anew()
    _go_by(journal, runs, begun)
    summed_up = runs.sum_up()
    _go_by(journal, runs, summed_up)
    journal.forget_log_sums([name for name, _ in (*begun.log, *summed_up.log)])


def _go_by(journal: Journal, runs: DeltaRuns, change: Change) -> None:
    journal.set_history(journal.position, change)
    runs.adopt(change)


def _sound_rows(history: Path, file: RunFile) -> pa.Table:
    """The rows of all row groups that can be read undamaged."""
    groups: list[pa.Table] = []
    with suppress(Damaged, OSError), VerifiedFile(history, file) as reader:
        parquet = pq.ParquetFile(pa.PythonFile(reader, mode="r"))
        for group in range(parquet.num_row_groups):
            with suppress(Damaged, OSError):
                groups.append(parquet.read_row_group(group, use_threads=False))
    return pa.concat_tables(_in_schema(groups)) if groups else SCHEMA.empty_table()


def _in_schema(groups: Sequence[pa.Table]) -> list[pa.Table]:
    return [group.select(SCHEMA.names).cast(SCHEMA) for group in groups]
