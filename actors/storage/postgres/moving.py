"""Reads everything from PostgreSQL in order of arrival, and writes it, for migrations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from actors.domain import Feature
from actors.storage.carrying import by_row
from actors.storage.entries import Noted
from actors.storage.postgres.link import Link
from actors.storage.postgres.log import change_note
from actors.storage.postgres.stored_rows import RowReader, RowWriter, Shapes
from actors.storage.protocol import Lot

CARRIED_AT_ONCE = 200_000


class PostgresMover:
    """See `Mover`."""

    def __init__(self, link: Link, shapes: Shapes, most_bytes: int) -> None:
        """`most_bytes`: how much one query may read."""
        self._link = link
        self._shapes = shapes
        self._most_bytes = most_bytes

    def held(self, after: int) -> int:
        """The number of rows, each of which may have values of several features."""
        query = "SELECT count(*) FROM rows WHERE arrived > %s"
        row = self._link.read(lambda connection: connection.execute(query, (after,)).fetchone())
        assert row is not None
        return int(row[0])

    def carried(self, features: Mapping[str, Feature], after: int) -> Iterator[Lot]:
        """All rows in lots of about CARRIED_AT_ONCE; rows with the same arrival are in the same lot."""
        by_created = {feature.created: feature for feature in features.values()}
        with self._link.alone() as connection, connection.transaction():
            connection.execute("SET LOCAL statement_timeout TO 0")
            connection.execute("SET LOCAL enable_seqscan TO on")
            reader = RowReader(connection, self._shapes, self._most_bytes)
            with connection.cursor(name="carried") as cursor:
                cursor.execute(_CARRIED, (after,), binary=True)
                held: list[tuple[Any, ...]] = []
                while fetched := cursor.fetchmany(CARRIED_AT_ONCE):
                    held += fetched
                    last = held[-1][3]
                    ready, held = [row for row in held if row[3] < last], [row for row in held if row[3] == last]
                    if ready:
                        yield Lot(last - 1, reader.loaded(ready, by_created))
                if held:
                    yield Lot(held[0][3], reader.loaded(held, by_created))

    def carry(self, lot: Lot, note: Noted) -> None:
        """Write the rows with their arrivals, those written together again as one row, and the note."""
        with self._link.write() as connection:
            writer = RowWriter(connection, self._shapes)
            newest = max((int(part.arrived.max()) for part in lot.parts), default=lot.mark)
            connection.execute("UPDATE clock SET arrived = greatest(arrived, %s)", (newest,))
            for rows in by_row(lot.parts):
                writer.add_carried(rows)
            writer.write()
            change_note(connection, note)
        for made in writer.made:
            self._shapes.note(*made)


_CARRIED = "SELECT shape, entity, time, arrived, payload FROM rows WHERE arrived > %s ORDER BY arrived"
