"""Commits to PostgreSQL: each is one transaction, and the transactions of all processes are in a total order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from actors.domain import Group, kind_of
from actors.errors import Conflict, TimewellError
from actors.settings import IDEMPOTENCY_HOURS
from actors.storage.entries import (
    Catalogued,
    Deleted,
    Entry,
    Erased,
    Grouped,
    Noted,
    Registered,
    Removed,
    Together,
    Uncatalogued,
    Ungrouped,
    Written,
)
from actors.storage.postgres.link import Connection, Link
from actors.storage.postgres.registry import PostgresRegistry
from actors.storage.postgres.stored_rows import ERASE, RowWriter, Shapes
from actors.storage.postgres.summaries import PostgresSummaries, Uncounted, WriterLost, Writers
from actors.storage.protocol import Stale
from actors.storage.shared.parts import removed
from actors.table.batch import Batch, columns_of
from actors.timestamps import SECOND

_ERASURES_KEPT = 60 * SECOND
"""How long it is known what an erasure has removed."""


class PostgresLog(Uncounted):
    """See `Log`. It replays the batches that this process has yet to count in statistics."""

    def __init__(
        self,
        link: Link,
        writers: Writers,
        registry: PostgresRegistry,
        summaries: PostgresSummaries,
        shapes: Shapes,
    ) -> None:
        super().__init__(link, writers)
        self._registry = registry
        self._summaries = summaries
        self._shapes = shapes

    def commit(self, entries: Sequence[Entry]) -> Sequence[Entry | TimewellError]:
        """Commit in one transaction, which is retried if this process's writer was taken over."""
        with suppress(WriterLost):
            return self._commit(entries)
        return self._commit(entries)

    def last_erasure(self, entity_type: str, entity_id: str) -> bytes:
        """See `SharedLog`."""
        return self._link.read(lambda connection: _last_erasure(connection, _entity_key(entity_type, entity_id)))

    def _commit(self, entries: Sequence[Entry]) -> Sequence[Entry | TimewellError]:
        writer = self._writers.current()
        with self._link.write() as connection:
            commit = _Commit(connection, self._shapes, self._registry.versions_seen, entries)
            recorded = [commit.taken(entry) for entry in entries]
            commit.rows.write()
            with connection.pipeline():
                commit.end()
                kept = self.keep(connection, writer, commit.batches)
            self._writers.check(writer, kept)
        if commit.changed:
            self._registry.versions_seen = commit.registry
        for made in commit.rows.made:
            self._shapes.note(*made)
        return recorded

    def answers(self, keys: Sequence[str], given_after: int) -> Mapping[str, bytes]:
        """The answers to idempotency keys that were given after a moment."""
        query = "SELECT key, answer FROM answers WHERE key = ANY(%s) AND arrived > %s"
        given = list(keys), given_after
        return dict(self._link.read(lambda connection: connection.execute(query, given).fetchall()))

    def trimmed(self) -> int:
        """The position of the statistics: batches up to it may have been deleted."""
        return self._summaries.position

    def trim(self, monitored: int, now: int) -> None:
        """Delete batches that have been counted, and idempotency answers that are too old."""
        self.forget_counted(monitored)
        with self._link.write() as connection:
            old = now - IDEMPOTENCY_HOURS * 3_600 * SECOND
            connection.execute("DELETE FROM answers WHERE arrived <= %s", (old,))


_TAKE_CLOCK = "UPDATE clock SET arrived = greatest(arrived, %s) RETURNING arrived, registry"
_ANSWERS = "SELECT key, answer FROM answers WHERE key = ANY(%s)"
_CREATED = "SELECT id, created FROM features WHERE id = ANY(%s)"


def _moment(entry: Entry) -> int:
    """When an entry arrived by this process's clock; 0 for entries without a time."""
    match entry:
        case Written() | Erased():
            return entry.arrived
        case Registered(feature) | Deleted(feature):
            return feature.updated
        case Together(changes):
            return max(map(_moment, changes))
    return 0


def change_note(connection: Connection, note: Noted) -> None:
    """Within a transaction: store or delete a note of the monitor, and raise the version for all processes."""
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
    """One transaction: validates each entry against the database, and records it."""

    def __init__(self, connection: Connection, shapes: Shapes, seen: int, entries: Sequence[Entry]) -> None:
        self.rows = RowWriter(connection, shapes)
        self.batches: list[tuple[int, Batch]] = []
        self._connection = connection
        self._shapes = shapes
        written = [entry for entry in entries if isinstance(entry, Written)]
        keys = [entry.key for entry in written if entry.key]
        ids = {column.feature for entry in written for column in columns_of(entry.batch)}
        with connection.pipeline():  # one round trip
            # Locks the clock's row until the end of the transaction, so that commits are in order of arrival.
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
        """Store the last arrival of this commit in the clock's row."""
        self._connection.execute("UPDATE clock SET arrived = %s", (self._arrived,))

    def taken(self, entry: Entry) -> Entry | TimewellError:
        """Record an entry; returns it as recorded, or the error for which it was refused."""
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
        for column in columns_of(entry.batch):
            if self._created.get(column.feature) != column.created:
                return Conflict(f"feature {column.feature!r} was deleted while it was written")
        if entry.observations:
            arrived = self._arrived
            self._arrived = self.rows.add(arrived, entry.batch)
            self.batches.append((arrived, entry.batch))
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
        self.rows.write()  # rows that precede the erasure in the same commit
        given = {"type": erased.entity_type, "id": erased.entity_id}
        found = dict(self._connection.execute(ERASE, given).fetchall())
        shapes = self._shapes.of(self._connection, found)
        registered = {
            created for (created,) in self._connection.execute("SELECT created FROM features").fetchall()
        }
        return self._together(
            erased, removed({shapes[number]: count for number, count in found.items()}, registered)
        )

    def _together(self, erased: Erased, gone: Removed) -> Removed:
        """What is gone now; if nothing, what another process has removed since this was asked for."""
        key = _entity_key(*erased[:2])
        if gone.observations:
            old = max(0, self._arrived - _ERASURES_KEPT).to_bytes(8, "big")
            self._connection.execute("DELETE FROM notes WHERE kind = 'erased' AND record < %s", (old,))
            put = "INSERT INTO notes VALUES ('erased', %s, %s) ON CONFLICT (kind, key) DO UPDATE SET"
            record = self._arrived.to_bytes(8, "big") + msgspec.msgpack.encode(gone)
            self._connection.execute((put + " record = excluded.record").encode(), (key, record))
            return gone
        last = _last_erasure(self._connection, key)
        return gone if last in (b"", erased.before) else msgspec.msgpack.decode(last[8:], type=Removed)

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
            case Catalogued(catalogued):
                put = "INSERT INTO catalogue VALUES (%s, %s, %s) ON CONFLICT (kind, name) DO UPDATE SET"
                put += " record = excluded.record"
                row = kind_of(catalogued), catalogued.key, msgspec.msgpack.encode(catalogued)
                self._connection.execute(put.encode(), row)
            case Uncatalogued(kind, key):
                gone = "DELETE FROM catalogue WHERE kind = %s AND name = %s"
                self._connection.execute(gone, (kind, key))
            case Together(changes):
                for one in changes:
                    self._change(one)
        self.changed = True
        self.registry += 1
        self._connection.execute("UPDATE clock SET registry = %s", (self.registry,))

    def _put_groups(self, groups: Sequence[Group]) -> None:
        for group in groups:
            put = "INSERT INTO groups VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET record = excluded.record"
            self._connection.execute(put, (group.name, msgspec.msgpack.encode(group)))


def _entity_key(entity_type: str, entity_id: str) -> str:
    return msgspec.json.encode([entity_type, entity_id]).decode()


def _last_erasure(connection: Connection, key: str) -> bytes:
    query = "SELECT record FROM notes WHERE kind = 'erased' AND key = %s"
    found = connection.execute(query, (key,)).fetchone()
    return b"" if found is None else bytes(found[0])
