"""PostgreSQL as shared store for any number of processes. `tables.py` describes the tables.

Every read asks the database, so it sees all writes acknowledged by any process.
"""

from __future__ import annotations

from collections.abc import Mapping

from actors.settings import READ_BYTES
from actors.storage.postgres.claims import PostgresClaims
from actors.storage.postgres.known_ids import PostgresIds
from actors.storage.postgres.link import Link
from actors.storage.postgres.log import PostgresLog
from actors.storage.postgres.moving import PostgresMover
from actors.storage.postgres.registry import PostgresRegistry
from actors.storage.postgres.stored_rows import Shapes
from actors.storage.postgres.summaries import PostgresSummaries, Writers
from actors.storage.postgres.values import PostgresHistory, PostgresValues
from actors.storage.protocol import Recovered
from actors.storage.shared.base import starting


class PostgresStorage:
    """See `SharedStorage`."""

    def __init__(self, url: str, timeout: float, most_bytes: int = READ_BYTES) -> None:
        """`url` and `timeout`: see `Link`. `most_bytes`: how much one query may read."""
        link, shapes = Link(url, timeout), Shapes()
        self._link = link
        self._writers = Writers(link)
        self.registry = PostgresRegistry(link, self._writers)
        self.summaries = PostgresSummaries(link, self._writers)
        self.log = PostgresLog(link, self._writers, self.registry, self.summaries, shapes)
        self.values = PostgresValues(link, shapes, most_bytes)
        self.history = PostgresHistory(link, self.values, self.summaries)
        self.ids = PostgresIds(link)
        self.mover = PostgresMover(link, shapes, most_bytes)
        self.claims = PostgresClaims(link)

    def there(self) -> bool:
        """Whether the database has Timewell's tables. Raises StartupError."""
        return self._link.there()

    def open(self) -> Recovered:
        """Wait for the server, create or migrate the tables, and register this process as a writer."""
        self._link.open()
        with starting():
            self._writers.current()
            return self.registry.registered()

    def close(self) -> None:
        """Give up claims and this process's writer, and close the connections."""
        self.claims.close()
        self._writers.close()
        self._link.close()

    def notes(self, kind: str) -> Mapping[str, bytes]:
        """The records of a kind, by key."""
        query = "SELECT key, record FROM notes WHERE kind = %s"
        return dict(self._link.read(lambda connection: connection.execute(query, (kind,)).fetchall()))
