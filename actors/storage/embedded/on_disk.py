"""EmbeddedStorage: a storage in a local directory."""

from __future__ import annotations

import logging
from pathlib import Path

from actors.errors import StartupError, StorageDown
from actors.settings import READ_BYTES
from actors.storage.embedded import forgetting
from actors.storage.embedded.database import OF_DAMAGE
from actors.storage.embedded.directory import DataDirectory
from actors.storage.embedded.local import LocalStorage
from actors.storage.embedded.log import LocalLog
from actors.storage.embedded.runs import DeltaRuns
from actors.storage.embedded.summaries import EmbeddedSummaries
from actors.storage.protocol import Recovered

log = logging.getLogger("timewell.storage")
_WAY_OUT = ": restore a backup, or see what is left by `timewell check-data`"


class EmbeddedStorage(LocalStorage):
    """A durable storage in a directory, which one process at a time may use."""

    def __init__(self, directory: str, most_bytes: int = READ_BYTES) -> None:
        self._directory = Path(directory).absolute()
        self._lock = DataDirectory(self._directory)
        super().__init__(
            LocalLog(str(self._directory / "journal.db")),
            DeltaRuns(self._directory / "history"),
            EmbeddedSummaries(str(self._directory / "monitor.db")),
            most_bytes,
        )

    def there(self) -> bool:
        """Whether the directory has a journal."""
        return (self._directory / "journal.db").is_file()

    def open(self) -> Recovered:
        """Lock the directory, then open what is in it."""
        self._lock.take()
        try:
            for words in forgetting.given_up_in(self._directory):
                log.warning(words)
            return super().open()
        except BaseException as error:
            self.close()
            if isinstance(error, StorageDown | OSError):
                raise StartupError(f"cannot open what is in {self._directory}: {error}") from error
            if isinstance(error, StartupError) and type(error.__cause__) in OF_DAMAGE:
                raise StartupError(f"{error.detail}{_WAY_OUT}") from error.__cause__
            raise

    def close(self) -> None:
        """Close the databases and unlock the directory."""
        super().close()
        self._lock.release()
