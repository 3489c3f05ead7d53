"""History files whose record in the journal is damaged: the Delta table's log still describes them.

As their checksums are lost, nobody can tell whether such a file is undamaged, so requests for what it may hold are
refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from actors.errors import Damaged, StartupError
from actors.storage.embedded import delta
from actors.storage.embedded.journal_file import Journal
from actors.storage.embedded.run_files import RunFile
from actors.timestamps import parse_timestamp


def all_files(journal: Journal, history: Path) -> list[RunFile]:
    """The files that the journal knows, and those in doubt. Raises StartupError if the log lacks the latter."""
    files = journal.files()
    if not journal.unsound_files():
        return files
    log = history / "_delta_log"
    try:
        delta.need_sound(log, journal.log_sums())  # otherwise a file missing from it would not be noticed
        _, named = delta.read(log, int(journal.meta("history_version", -1)))
        known, features = {file.path for file in files}, journal.known()
        return files + [_in_doubt(path, about, features) for path, about in named.items() if path not in known]
    except Exception as error:  # Arrow raises many kinds
        words = f"{journal.path} is damaged in what it notes of the history's files, nor does their log tell it"
        raise StartupError(f"{words}: {error}") from Damaged(words)


def _in_doubt(path: str, about: Mapping[str, Any], features: Iterable[str]) -> RunFile:
    """A file in doubt: without checksums, and of all features that its statistics allow for."""
    stats = json.loads(about["stats"])
    least, greatest = stats["minValues"], stats["maxValues"]
    first, last = least["feature"], greatest["feature"]
    times = parse_timestamp(least["event_timestamp"]), parse_timestamp(greatest["event_timestamp"]) + 999
    return RunFile(
        path=path,
        run=int(about["partitionValues"]["run"]),
        rows=stats["numRecords"],
        size=about["size"],
        modified=about["modificationTime"],
        stats=about["stats"],
        features=dict.fromkeys((first, last, *(id_ for id_ in features if first <= id_ <= last)), times),
        sums=b"",
    )
