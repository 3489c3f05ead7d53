"""A storage in PostgreSQL, which any number of processes share: `tables.py` has what is where.

A read asks the database, so it sees what any process was told had been written.
"""

from __future__ import annotations

from collections.abc import Mapping

from actors.settings import READ_BYTES
from actors.storage.postgres.claims import PostgresClaims
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
        """`url`: as libpq takes it. `timeout`: seconds after which a question is given up.

        `most_bytes`: what one question may bring.
        """
        link, shapes = Link(url, timeout), Shapes()
        self._link = link
        self._writers = Writers(link)
        self.registry = PostgresRegistry(link, self._writers)
        self.summaries = PostgresSummaries(link, self._writers)
        self.log = PostgresLog(link, self._writers, self.registry, self.summaries, shapes)
        self.values = PostgresValues(link, shapes, most_bytes)
        self.history = PostgresHistory(link, self.values, self.summaries)
        self.mover = PostgresMover(link, shapes, most_bytes)
        self.claims = PostgresClaims(link)

    def there(self) -> bool:
        """Where there are tables."""
        return self._link.there()

    def open(self) -> Recovered:
        """Wait for the server, make the tables, become a writer."""
        self._link.open()
        with starting():
            self._writers.own()
            return self.registry.registered()

    def close(self) -> None:
        """End the connections."""
        self.claims.close()
        self._writers.close()
        self._link.close()

    def notes(self, kind: str) -> Mapping[str, bytes]:
        """From their table."""
        query = "SELECT key, record FROM notes WHERE kind = %s"
        return dict(self._link.read(lambda connection: connection.execute(query, (kind,)).fetchall()))
