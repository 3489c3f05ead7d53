"""The journal as log of a storage: it hides erased entities, and is trimmed under a lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from actors.settings import IDEMPOTENCY_HOURS
from actors.storage.embedded.erasure import Erasures
from actors.storage.embedded.journal_file import Journal
from actors.storage.entries import Entry, Erased
from actors.table.batch import Batch
from actors.timestamps import SECOND


class LocalLog(Journal):
    """See `OwnLog`.

    `runs_lock`: held while the history's runs are changed, and while the history and then the journal are read, so
    that no batch is trimmed in between.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.runs_lock = threading.RLock()
        self.erasures = Erasures()
        """The erasures that may still have rows in the files."""
        self._erasures_lock = threading.Lock()

    def commit(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Commit in one transaction with one fsync."""
        super().commit(entries)
        if any(isinstance(entry, Erased) for entry in entries):
            self.note_erasures()
        return entries

    def note_erasures(self) -> None:
        """Update `erasures` from the database."""
        with self._erasures_lock:  # a commit and a checkpoint may both do this: the later read has to win
            self.erasures = Erasures(self.erased())

    def replay(self, after: int) -> Iterator[tuple[int, Batch]]:
        """The batches that arrived later than `after`, without the rows of erased entities."""
        for arrived, batch in self.batches(after):
            erasures = self.erasures
            yield arrived, erasures.without(arrived, batch) if erasures else batch

    def trimmed(self) -> int:
        """The arrival up to which batches have been deleted."""
        return int(self.meta("trimmed", 0))

    def trim(self, monitored: int, now: int) -> None:
        """Delete batches that the history and the monitor both have, and old answers."""
        with self.runs_lock:
            until, answers_until = min(self.position, monitored), now - IDEMPOTENCY_HOURS * 3_600 * SECOND
            self.drop(until, answers_until, now, monitored)
