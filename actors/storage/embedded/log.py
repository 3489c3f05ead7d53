"""The journal as the log of a storage: of erased entities it gives out nothing, and it is trimmed under a lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from actors.settings import IDEMPOTENCY_HOURS
from actors.storage.embedded.erasure import Erasures
from actors.storage.embedded.journal_file import Journal
from actors.storage.protocol import Entry, Erased
from actors.table.batch import Batch
from actors.timestamps import SECOND


class LocalLog(Journal):
    """See `OwnLog`.

    `runs_lock` admits one change of the history's runs at a time, and keeps a batch from being trimmed while
    something is between the history and the journal.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.runs_lock = threading.RLock()
        self.erasures = Erasures()
        """Of which something may be left in the files."""
        self._erasures_lock = threading.Lock()

    def commit(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """One transaction, one fsync."""
        super().commit(entries)
        if any(isinstance(entry, Erased) for entry in entries):
            self.note_erasures()
        return entries

    def note_erasures(self) -> None:
        """Know which erasures there are now."""
        with self._erasures_lock:  # a commit and a checkpoint may both be here: the later look is to count
            self.erasures = Erasures(self.erased())

    def replay(self, after: int) -> Iterator[tuple[int, Batch]]:
        """The batches, without the rows of erased entities."""
        for arrived, batch in self.batches(after):
            erasures = self.erasures
            yield arrived, erasures.without(arrived, batch) if erasures else batch

    def trimmed(self) -> int:
        """As it is noted."""
        return int(self.meta("trimmed", 0))

    def trim(self, monitored: int, now: int) -> None:
        """Delete what the history and the monitor both have."""
        with self.runs_lock:
            until, answers_until = min(self.position, monitored), now - IDEMPOTENCY_HOURS * 3_600 * SECOND
            self.drop(until, answers_until, now, monitored)
