"""A storage in PostgreSQL, which any number of processes share: `tables.py` has what is where.

A read asks the database, so it sees what any process was told had been written. A commit is one transaction, in
one order with those of all processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from actors.domain import Feature, Group
from actors.errors import Conflict, TimewellError
from actors.settings import IDEMPOTENCY_HOURS, READ_BYTES
from actors.stats.summary import Accepted
from actors.storage.carrying import by_row
from actors.storage.postgres.claims import PostgresClaims
from actors.storage.postgres.link import Connection, Link
from actors.storage.postgres.stored_rows import ERASE, RowReader, RowWriter, Shapes
from actors.storage.postgres.summaries import PostgresMonitored, WriterLost, Writers
from actors.storage.protocol import (
    Deleted,
    Entry,
    Erased,
    Grouped,
    Known,
    Latests,
    Lot,
    Newest,
    Noted,
    Recovered,
    Registered,
    Removed,
    SharedStorage,
    Stale,
    Ungrouped,
    Versions,
    Written,
)
from actors.storage.shared.base import SharedStorageBase, starting
from actors.storage.shared.parts import lots, removed
from actors.table.columns import Block
from actors.table.partition import DiskRows
from actors.table.rows import Rows
from actors.timestamps import NEVER, SECOND

OBSERVED_AT_ONCE = 100_000
CARRIED_AT_ONCE = 200_000


class PostgresStorage(SharedStorageBase):
    """See the module, and `SharedStorage` for what the methods promise."""

    def __init__(self, url: str, timeout: float, most_bytes: int = READ_BYTES) -> None:
        """`url`: as libpq takes it. `timeout`: seconds after which a question is given up.

        `most_bytes`: what one question may bring.
        """
        self._most_bytes = most_bytes
        self._link = Link(url, timeout)
        self._writers = Writers(self._link)
        self._monitored = PostgresMonitored(self._link, self._writers)
        claims = PostgresClaims(self._link)
        super().__init__(self._monitored, claims)
        self._let_go = claims.close
        self._shapes = Shapes()

    @property
    def shared(self) -> SharedStorage:
        """Itself."""
        return self

    def there(self) -> bool:
        """Where there are tables."""
        return self._link.there()

    def open(self) -> Recovered:
        """Wait for the server, make the tables, become a writer."""
        self._link.open()
        with starting():
            self._writers.own()
            return self.registered()

    def close(self) -> None:
        """End the connections."""
        self._let_go()
        self._writers.close()
        self._link.close()

    # The registry

    def registered(self) -> Recovered:
        """Features and groups, as of one moment."""
        row = self._link.read(lambda connection: connection.execute(_REGISTERED).fetchone())
        assert row is not None
        arrived, self._seen, features, groups, moment = row
        return Recovered(
            [msgspec.msgpack.decode(record, type=Feature) for record in features or ()],
            [msgspec.msgpack.decode(record, type=Group) for record in groups or ()],
            arrived,
            0,
            min(arrived, moment),
        )

    def versions_now(self) -> Versions:
        """From the clock's row."""
        row = self._link.read(
            lambda connection: connection.execute("SELECT registry, notes, arrived FROM clock").fetchone()
        )
        assert row is not None
        return Versions(*row)

    def leads(self) -> bool:
        """By an advisory lock."""
        return self._writers.leads()

    # Writing

    def commit(self, entries: Sequence[Entry]) -> Sequence[Entry | TimewellError]:
        """One transaction."""
        with suppress(WriterLost):
            return self._commit(entries)
        return self._commit(entries)

    def _commit(self, entries: Sequence[Entry]) -> Sequence[Entry | TimewellError]:
        writer = self._writers.own()
        with self._link.write() as connection:
            commit = _Commit(connection, self._shapes, self._seen, entries)
            recorded = [commit.taken(entry) for entry in entries]
            commit.rows.write()
            with connection.pipeline():
                commit.end()
                kept = self._monitored.keep(connection, writer, commit.batches)
            self._monitored.check(writer, kept)
        if commit.changed:
            self._seen = commit.registry
        for made in commit.rows.made:
            self._shapes.note(*made)
        return recorded

    def answers(self, keys: Sequence[str], given_after: int) -> Mapping[str, bytes]:
        """From their table."""
        query = "SELECT key, answer FROM answers WHERE key = ANY(%s) AND arrived > %s"
        given = list(keys), given_after
        return dict(self._link.read(lambda connection: connection.execute(query, given).fetchall()))

    # Reading

    def latest(self, questions: Sequence[Newest]) -> Latests:
        """In one visit."""
        return self._link.read(
            lambda connection: RowReader(connection, self._shapes, self._most_bytes).latest(questions)
        )

    def ranges(self, features: Sequence[Feature], entities: Sequence[str], start: int, end: int) -> list[DiskRows]:
        """In one query."""

        def ask(connection: Connection) -> list[Rows]:
            return RowReader(connection, self._shapes, self._most_bytes).ranges(features, entities, start, end)

        return [DiskRows(0, entities, rows) for rows in self._link.read(ask)]

    def observations(self, feature: Feature, start: int, end: int) -> Iterator[Accepted]:
        """Of all entities, which means to look at every row."""

        def ask(connection: Connection) -> Rows:
            return RowReader(connection, self._shapes, self._most_bytes).period(feature, max(start, NEVER), end)

        for rows in lots(self._link.read(ask), OBSERVED_AT_ONCE):
            yield Accepted(rows.times, rows.arrived, rows.values, rows.nulls)

    # Housekeeping

    def trim(self, monitored: int, now: int) -> None:
        """Forget what has been counted, and idempotency answers that are too old."""
        self._monitored.trim(monitored)
        with self._link.write() as connection:
            old = now - IDEMPOTENCY_HOURS * 3_600 * SECOND
            connection.execute("DELETE FROM answers WHERE arrived <= %s", (old,))

    def forget(self, known: Known) -> None:
        """Delete the rows and statistics of deleted features.

        Values of theirs that share rows with those of a feature that is still there stay until that goes, and are
        not to be had any more.
        """
        gone = self._link.read(
            lambda connection: connection.execute("SELECT created, feature, entity FROM forgotten").fetchall()
        )
        for created, feature, entity in gone:
            with self._link.write() as connection:
                connection.execute("SET LOCAL statement_timeout TO 0")
                connection.execute(_FORGET_ROWS, {"entity": entity, "created": created})
                self._monitored.forget(connection, feature, created)
                connection.execute("DELETE FROM forgotten WHERE created = %s", (created,))

    def notes(self, kind: str) -> Mapping[str, bytes]:
        """From their table."""
        query = "SELECT key, record FROM notes WHERE kind = %s"
        return dict(self._link.read(lambda connection: connection.execute(query, (kind,)).fetchall()))

    # Moving house

    def held(self, after: int) -> int:
        """Rows, each of which may be of several features."""
        query = "SELECT count(*) FROM rows WHERE arrived > %s"
        row = self._link.read(lambda connection: connection.execute(query, (after,)).fetchone())
        assert row is not None
        return int(row[0])

    def carried(self, features: Mapping[str, Feature], after: int) -> Iterator[Lot]:
        """Some hundred thousand rows at a time, all that arrived at one moment in one lot."""
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
        """Rows as they are, what was written together again in one."""
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


_TAKE_CLOCK = "UPDATE clock SET arrived = greatest(arrived, %s) RETURNING arrived, registry"
_ANSWERS = "SELECT key, answer FROM answers WHERE key = ANY(%s)"
_CREATED = "SELECT id, created FROM features WHERE id = ANY(%s)"
_CARRIED = "SELECT shape, entity, time, arrived, payload FROM rows WHERE arrived > %s ORDER BY arrived"
_REGISTERED = """
SELECT arrived, registry, (SELECT array_agg(record) FROM features), (SELECT array_agg(record) FROM groups),
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM clock
"""
_FORGET_ROWS = """
WITH gone AS (
    DELETE FROM shapes WHERE entity = %(entity)s AND %(created)s = ANY(members)
    AND NOT EXISTS (SELECT 1 FROM features WHERE created = ANY(shapes.members))
    RETURNING number
) DELETE FROM rows WHERE shape IN (SELECT number FROM gone)
"""


def _moment(entry: Entry) -> int:
    """When this process says that it came."""
    match entry:
        case Written() | Erased():
            return entry.arrived
        case Registered(feature) | Deleted(feature):
            return feature.updated
    return 0


def change_note(connection: Connection, note: Noted) -> None:
    """Within a transaction: put a note of the monitor's, or take it away, and tell all processes."""
    _put_note(connection, note)
    connection.execute("UPDATE clock SET notes = notes + 1")


def _put_note(connection: Connection, note: Noted) -> None:
    if note.record is None:
        connection.execute("DELETE FROM notes WHERE kind = %s AND key = %s", note[:2])
    else:
        put = (
            "INSERT INTO notes VALUES (%s, %s, %s) ON CONFLICT (kind, key) DO UPDATE SET record = excluded.record"
        )
        connection.execute(put, note[:3])


class _Commit:
    """One transaction: judges each entry by what the database has, and records it."""

    def __init__(self, connection: Connection, shapes: Shapes, seen: int, entries: Sequence[Entry]) -> None:
        self.rows = RowWriter(connection, shapes)
        self.batches: list[tuple[int, Sequence[Block]]] = []
        self._connection = connection
        self._shapes = shapes
        written = [entry for entry in entries if isinstance(entry, Written)]
        keys = [entry.key for entry in written if entry.key]
        ids = {block.feature for entry in written for block in entry.blocks}
        with connection.pipeline():  # one visit
            # Whoever comes next waits here, so that this order of commits is that of their arrivals.
            clock = connection.execute(_TAKE_CLOCK, (max(map(_moment, entries), default=0) - 1,))
            answers = connection.execute(_ANSWERS, (keys,)) if keys else None
            created = connection.execute(_CREATED, (list(ids),)) if ids else None
        row = clock.fetchone()
        assert row is not None
        self._arrived, self.registry = row
        self.changed = False
        self._stale = self.registry != seen
        self._begun_at = self.registry
        self._answers: dict[str, bytes] = dict(answers.fetchall()) if answers else {}
        self._created: dict[str, int] = dict(created.fetchall()) if created else {}

    def end(self) -> None:
        """Let the clock be where this commit has brought it."""
        self._connection.execute("UPDATE clock SET arrived = %s", (self._arrived,))

    def taken(self, entry: Entry) -> Entry | TimewellError:
        """The entry as it is recorded, or why not."""
        self._arrived += 1
        match entry:
            case Written():
                return self._written(entry)
            case Erased():
                return entry._replace(arrived=self._arrived, removed=self._erase(entry))
            case Noted(kind, key, _, True) if self._is_noted(kind, key):
                return Conflict(f"another process has put {kind} {key}")
            case Noted():
                change_note(self._connection, entry)
            case _ if self._stale:
                return Stale("the registry was changed by another process")
            case _:
                self._change(entry)
        return entry

    def _is_noted(self, kind: str, key: str) -> bool:
        query = "SELECT 1 FROM notes WHERE kind = %s AND key = %s"
        return self._connection.execute(query, (kind, key)).fetchone() is not None

    def _written(self, entry: Written) -> Entry | TimewellError:
        if entry.key is not None and entry.key in self._answers:
            return Written(self._arrived, (), entry.key, self._answers[entry.key], repeated=True)
        if entry.judged not in (None, self._begun_at):
            return Stale("another process has changed what is registered")
        for block in entry.blocks:
            if self._created.get(block.feature) != block.created:
                return Conflict(f"feature {block.feature!r} was deleted while it was written")
        if entry.observations:
            arrived = self._arrived
            self._arrived = self.rows.add(arrived, entry.blocks)
            self.batches.append((arrived, entry.blocks))
            entry = entry._replace(arrived=arrived)
        if entry.key is not None:
            self._answers[entry.key] = entry.answer
            put = "INSERT INTO answers VALUES (%s, %s, %s) ON CONFLICT (key) DO UPDATE SET"
            put += " arrived = excluded.arrived, answer = excluded.answer"
            self._connection.execute(put.encode(), (entry.key, self._arrived, entry.answer))
        for note in entry.notes:
            _put_note(self._connection, note)
        return entry

    def _erase(self, erased: Erased) -> Removed:
        self.rows.write()  # those that came before it in the same commit
        given = {"type": erased.entity_type, "id": erased.entity_id}
        found = dict(self._connection.execute(ERASE, given).fetchall())
        shapes = self._shapes.of(self._connection, found)
        registered = {
            created for (created,) in self._connection.execute("SELECT created FROM features").fetchall()
        }
        return removed({shapes[number]: count for number, count in found.items()}, registered)

    def _change(self, entry: Entry) -> None:
        match entry:
            case Registered(feature, groups):
                record = msgspec.msgpack.encode(feature)
                put = "INSERT INTO features VALUES (%s, %s, %s) ON CONFLICT (id) DO UPDATE SET"
                put += " created = excluded.created, record = excluded.record"
                self._connection.execute(put.encode(), (feature.id, feature.created, record))
                self._put_groups(groups)
                self._created[feature.id] = feature.created
            case Deleted(feature, groups):
                self._connection.execute("DELETE FROM features WHERE id = %s", (feature.id,))
                forgotten = feature.created, feature.id, feature.entity
                self._connection.execute("INSERT INTO forgotten VALUES (%s, %s, %s)", forgotten)
                self._put_groups(groups)
                self._created.pop(feature.id, None)
            case Grouped(group):
                self._put_groups([group])
            case Ungrouped(name):
                self._connection.execute("DELETE FROM groups WHERE name = %s", (name,))
        self.changed = True
        self.registry += 1
        self._connection.execute("UPDATE clock SET registry = %s", (self.registry,))

    def _put_groups(self, groups: Sequence[Group]) -> None:
        for group in groups:
            put = "INSERT INTO groups VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET record = excluded.record"
            self._connection.execute(put, (group.name, msgspec.msgpack.encode(group)))
