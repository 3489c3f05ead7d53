"""The journal, the registry's records and the consumers' positions, in one SQLite database.

WAL mode with synchronous=FULL: a commit is one fsync of the log and survives the loss of power; a torn tail
of the log fails its checksum and is not there. One row per batch, so that a commit of 1,000 values costs
what a commit of one does.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from actors.columns import Block, pack, unpack
from actors.domain import Feature, Group
from actors.errors import StartupError, StorageDown
from actors.storage.protocol import (
    Deleted,
    Entry,
    Grouped,
    Noted,
    Recovered,
    Registered,
    Trimmed,
    Ungrouped,
    Written,
)

FORMAT = 1
REPLAY_ENTRIES = 64
"""Batches read at a time, so that a replay never keeps a commit waiting for long."""

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (arrived INTEGER PRIMARY KEY, count INTEGER NOT NULL, blocks BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS features (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, arrived INTEGER NOT NULL, answer BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS forgotten (feature TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS windows (
    feature TEXT, created INTEGER, width INTEGER, start INTEGER, state BLOB NOT NULL,
    PRIMARY KEY (feature, created, width, start)
);
CREATE TABLE IF NOT EXISTS notes (
    kind TEXT, key TEXT, record BLOB NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
"""


class Journal:
    """Thread-safe: a lock admits one call at a time, none of which is long but the commits themselves."""

    def __init__(self, path: str) -> None:
        """`path` may be ":memory:"."""
        self._path = path
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open or create the database. Raises StartupError that names the file."""
        try:
            self._database = self._connect()
            self._database.executescript(_TABLES)
            found = self.meta("format", FORMAT)
        except (sqlite3.Error, StorageDown) as error:
            raise StartupError(f"cannot open the journal {self._path}: {error}") from error
        if found != FORMAT:
            raise StartupError(f"{self._path} has format {found}, this version of Timewell reads {FORMAT}")
        self._set_meta("format", FORMAT)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("PRAGMA journal_size_limit=67108864")
        return database

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    @property
    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise StorageDown("the journal is closed")
        return self._database

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. Raises StorageDown where SQLite refuses."""
        with self._lock:
            database = self._open
            try:
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back(database)
                raise StorageDown(f"the journal cannot be written: {error}") from error
            except BaseException:
                self._roll_back(database)
                raise

    def _roll_back(self, database: sqlite3.Connection) -> None:
        """Leave a connection that can go on. After an I/O error SQLite may need a new one to recover."""
        try:
            if database.in_transaction:
                database.execute("ROLLBACK")
        except sqlite3.Error:
            if self._path != ":memory:":
                database.close()
                self._database = self._connect()

    # Entries

    def commit(self, entries: Sequence[Entry]) -> None:
        """Make all entries durable, or none."""
        packed = [
            (pack(entry.blocks), entry.observations) if isinstance(entry, Written) else None for entry in entries
        ]
        with self.transaction() as database:
            for entry, body in zip(entries, packed, strict=True):
                self._put(database, entry, body)

    def _put(self, database: sqlite3.Connection, entry: Entry, packed: tuple[bytes, int] | None) -> None:
        match entry:
            case Written(arrived, _, key, answer):
                assert packed is not None
                if packed[1]:
                    database.execute("INSERT INTO batches VALUES (?, ?, ?)", (arrived, packed[1], packed[0]))
                if key is not None:
                    database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, arrived, answer))
            case Registered(feature, groups):
                _save(database, "features", feature.id, feature)
                _save_groups(database, groups)
            case Deleted(feature, groups):
                database.execute("DELETE FROM features WHERE id = ?", (feature.id,))
                _save(database, "forgotten", feature.id, feature)
                _save_groups(database, groups)
            case Grouped(group):
                _save(database, "groups", group.name, group)
            case Ungrouped(name):
                database.execute("DELETE FROM groups WHERE name = ?", (name,))
            case Noted(kind, key, None):
                database.execute("DELETE FROM notes WHERE kind = ? AND key = ?", (kind, key))
            case Noted(kind, key, record):
                database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (kind, key, record))

    def recover(self) -> Recovered:
        """The registry and the newest arrival."""
        features = [
            msgspec.msgpack.decode(row[0], type=Feature) for row in self.rows("SELECT record FROM features")
        ]
        groups = [msgspec.msgpack.decode(row[0], type=Group) for row in self.rows("SELECT record FROM groups")]
        arrivals = [
            row[0] for row in self.rows("SELECT max(arrived) FROM batches UNION SELECT max(arrived) FROM answers")
        ]
        marks = [
            *arrivals,
            *(feature.updated for feature in features),
            *(group.updated for group in groups),
            *self.positions(),
            0,
        ]
        return Recovered(features, groups, max(mark for mark in marks if mark is not None), 0)

    def answers(self, keys: Sequence[str], given_after: int) -> dict[str, bytes]:
        """The answers given later than `given_after` to those of the keys that are known."""
        marks = ",".join("?" * len(keys))
        query = f"SELECT key, answer FROM answers WHERE key IN ({marks}) AND arrived > ?"
        return dict(self.rows(query, *keys, given_after))

    def replay(self, after: int) -> Iterator[tuple[int, list[Block]]]:
        """The batches that arrived later than `after`, in order. Raises Trimmed where some are gone."""
        while True:
            rows = self.rows(
                "SELECT arrived, blocks FROM batches WHERE arrived > ? ORDER BY arrived LIMIT ?",
                after,
                REPLAY_ENTRIES,
            )
            # Looked at after the rows were: a trim in between cannot go unseen.
            if after < self.meta("trimmed", 0):
                raise Trimmed("the journal was trimmed while it was read")
            if not rows:
                return
            for arrived, blocks in rows:
                yield arrived, unpack(blocks)
            after = rows[-1][0]

    def count(self, after: int) -> int:
        """How many observations arrived later than `after`."""
        return int(self.rows("SELECT coalesce(sum(count), 0) FROM batches WHERE arrived > ?", after)[0][0])

    # Positions

    def meta(self, key: str, default: Any = None) -> Any:
        """A value kept under a name."""
        rows = self.rows("SELECT value FROM meta WHERE key = ?", key)
        return rows[0][0] if rows else default

    def _set_meta(self, key: str, value: object) -> None:
        with self.transaction() as database:
            database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def set_history(self, position: int, version: int) -> None:
        """The history reaches `position` with its table version `version`, and both are on disk."""
        with self.transaction() as database:
            for pair in (("history_position", position), ("history_version", version)):
                database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", pair)

    def positions(self) -> tuple[int, int]:
        """How far the history and the monitor are."""
        return self.meta("history_position", 0), self.meta("monitor_position", 0)

    def trim(self, until: int, answers_until: int) -> None:
        """Delete batches that arrived by `until` and idempotency answers given by `answers_until`."""
        with self.transaction() as database:
            database.execute("DELETE FROM batches WHERE arrived <= ?", (until,))
            database.execute(
                "INSERT INTO meta VALUES ('trimmed', ?1) ON CONFLICT DO UPDATE SET value = max(value, ?1)",
                (until,),
            )
            database.execute("DELETE FROM answers WHERE arrived <= ?", (answers_until,))

    # Deleted features whose rows the history files still have

    def forgotten(self) -> list[Feature]:
        """Deleted features, as they were."""
        return [msgspec.msgpack.decode(row[0], type=Feature) for row in self.rows("SELECT record FROM forgotten")]

    def forgot(self, features: Sequence[Feature]) -> None:
        """The history files have none of their rows any more."""
        with self.transaction() as database:
            database.executemany(
                "DELETE FROM forgotten WHERE feature = ? AND record = ?",
                [(feature.id, msgspec.msgpack.encode(feature)) for feature in features],
            )

    def rows(self, query: str, *parameters: object) -> list[Any]:
        """What a query finds. Raises StorageDown where the file cannot be read."""
        with self._lock:
            try:
                return self._open.execute(query, parameters).fetchall()
            except sqlite3.Error as error:
                raise StorageDown(f"the journal cannot be read: {error}") from error


def _save(database: sqlite3.Connection, table: str, key: str, record: Feature | Group) -> None:
    database.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, msgspec.msgpack.encode(record)))


def _save_groups(database: sqlite3.Connection, groups: Sequence[Group]) -> None:
    for group in groups:
        _save(database, "groups", group.name, group)
