"""LocalStorage: a SQLite journal and sorted runs, in a directory or in memory, for one process."""

from __future__ import annotations

from actors.errors import Damaged, StartupError
from actors.settings import READ_BYTES
from actors.storage.embedded import forgetting
from actors.storage.embedded.damages import Damages, gone_back
from actors.storage.embedded.doubt import all_files
from actors.storage.embedded.filed import LocalHistory
from actors.storage.embedded.known_ids import LocalIds
from actors.storage.embedded.log import LocalLog
from actors.storage.embedded.moving import LocalMover
from actors.storage.embedded.runs import DeltaRuns, MemoryRuns, Runs
from actors.storage.embedded.summaries import EmbeddedSummaries
from actors.storage.protocol import Recovered


class LocalStorage:
    """See `OwnStorage`."""

    def __init__(self, log: LocalLog, runs: Runs, summaries: EmbeddedSummaries, most_bytes: int) -> None:
        """`most_bytes`: how much one query may read."""
        self.log = log
        self.summaries = summaries
        self.notes = log.notes
        self.damage = Damages(log, summaries)
        summaries.need_all_counted = self.damage.need_all_counted
        self.history = LocalHistory(log, runs, summaries, self.damage, most_bytes)
        self.ids = LocalIds(log, runs, self.history, self.damage)
        self.mover = LocalMover(log, self.history, runs, self.damage)
        self._runs = runs

    def there(self) -> bool:
        """Whether the storage exists; one in memory always does."""
        return True

    def open(self) -> Recovered:
        """Open the journal and the summaries, then the history at the version that the journal knows."""
        self.log.open()
        self.summaries.open()
        self.summaries.reaching(self.log.counted)
        if isinstance(self._runs, DeltaRuns):
            if (lost := gone_back(self.log, self._runs)) is not None:
                raise StartupError(lost) from Damaged(lost)
            version, metadata = self.log.meta("history_version", -1), self.log.meta("history_metadata")
            looked_up = self._runs.open(version, metadata, all_files(self.log, self._runs.directory))
            if looked_up is not None:
                self.log.set_history(self.log.position, looked_up)
            if not self._runs.has_log():
                forgetting.write_log_anew(self.log, self._runs)
        self.history.position = self.log.position
        self.damage.look()
        recovered = self.log.recover()
        self.log.note_erasures()
        # Not before the monitor's position either, as it ignores batches that arrived by then.
        last = max(recovered.last_arrived, self.summaries.position)
        return recovered._replace(last_arrived=last, unflushed=self.log.count(self.history.position))

    def close(self) -> None:
        """Close the databases."""
        self.log.close()
        self.summaries.close()


class MemoryStorage(LocalStorage):
    """A storage in memory: nothing survives the process."""

    def __init__(self, most_bytes: int = READ_BYTES) -> None:
        super().__init__(LocalLog(":memory:"), MemoryRuns(), EmbeddedSummaries(":memory:"), most_bytes)
