"""Reads the values in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from actors.domain import Feature
from actors.stats.summary import Accepted
from actors.storage.postgres.link import Connection, Link
from actors.storage.postgres.stored_rows import RowReader, Shapes
from actors.storage.postgres.summaries import PostgresSummaries
from actors.storage.protocol import Known, LatestAnswers, LatestQuestion
from actors.storage.shared.base import SharedHistory, none_quick
from actors.storage.shared.parts import lots
from actors.table.partition import DiskRows
from actors.table.rows import Rows
from actors.timestamps import NEVER

OBSERVED_AT_ONCE = 100_000


class PostgresValues:
    """See `Values`."""

    def __init__(self, link: Link, shapes: Shapes, most_bytes: int) -> None:
        """`most_bytes`: how much one query may read."""
        self.most_bytes = most_bytes
        self.quick = none_quick
        self._link = link
        self._shapes = shapes

    def latest(self, questions: Sequence[LatestQuestion]) -> LatestAnswers:
        """The latest values, for all queries in one round trip."""
        return self._link.read(
            lambda connection: RowReader(connection, self._shapes, self.most_bytes).latest(questions)
        )

    def ranges(self, features: Sequence[Feature], entities: Sequence[str], start: int, end: int) -> list[DiskRows]:
        """The observations of each feature in a range of event time, by one SQL query."""

        def ask(connection: Connection) -> list[Rows]:
            return RowReader(connection, self._shapes, self.most_bytes).ranges(features, entities, start, end)

        return [DiskRows(0, entities, rows) for rows in self._link.read(ask)]

    def period(self, feature: Feature, start: int, end: int) -> Rows:
        """Every version of the values of all entities, found by a scan of all rows. Raises TooLarge."""

        def ask(connection: Connection) -> Rows:
            return RowReader(connection, self._shapes, self.most_bytes).period(feature, max(start, NEVER), end)

        return self._link.read(ask)


class PostgresHistory(SharedHistory):
    """See `History`."""

    def __init__(self, link: Link, values: PostgresValues, summaries: PostgresSummaries) -> None:
        super().__init__(values)
        self._link = link
        self._of_all = values
        self._summaries = summaries

    def observations(self, feature: Feature, start: int, end: int) -> Iterator[Accepted]:
        """The observations of all entities."""
        for rows in lots(self._of_all.period(feature, start, end), OBSERVED_AT_ONCE):
            yield Accepted(rows.times, rows.arrived, rows.values, rows.nulls)

    def forget(self, known: Known) -> None:
        """Delete the rows and statistics of deleted features.

        Values stored in one row with those of a feature that still exists stay until that is deleted too, but are
        no longer read.
        """
        gone = self._link.read(
            lambda connection: connection.execute("SELECT created, feature, entity FROM forgotten").fetchall()
        )
        for created, feature, entity in gone:
            with self._link.write() as connection:
                connection.execute("SET LOCAL statement_timeout TO 0")
                connection.execute(_FORGET_ROWS, {"entity": entity, "created": created})
                self._summaries.forget(connection, feature, created)
                connection.execute("DELETE FROM forgotten WHERE created = %s", (created,))


_FORGET_ROWS = """
WITH gone AS (
    DELETE FROM shapes WHERE entity = %(entity)s AND %(created)s = ANY(members)
    AND NOT EXISTS (SELECT 1 FROM features WHERE created = ANY(shapes.members))
    RETURNING number
) DELETE FROM rows WHERE shape IN (SELECT number FROM gone)
"""
