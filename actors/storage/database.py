"""One SQLite database behind a lock.

WAL mode with synchronous=FULL: a commit is one fsync of the log and survives the loss of power; a torn tail
of the log fails its checksum and is not there.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from actors.errors import StartupError, StorageDown

_META = "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;"


class Database:
    """Thread-safe: one call at a time is let in."""

    def __init__(self, path: str, name: str, tables: str, format_: int) -> None:
        """`path` may be ":memory:"; `name` is for messages; a file of another format is refused."""
        self._path = path
        self._name = name
        self._tables = tables
        self._format = format_
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open or create the database. Raises StartupError that names the file."""
        try:
            self._connection = self._connect()
            self._connection.executescript(_META + self._tables)
            found = self.meta("format", self._format)
        except (sqlite3.Error, StorageDown) as error:
            raise StartupError(f"cannot open the {self._name} {self._path}: {error}") from error
        if found != self._format:
            message = f"{self._path} has format {found}, this version of Timewell reads {self._format}"
            raise StartupError(message)
        with self.transaction() as connection:
            set_meta(connection, format=self._format)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_size_limit=67108864")
        return connection

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @property
    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageDown(f"the {self._name} is closed")
        return self._connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. Raises StorageDown where SQLite refuses."""
        with self._lock:
            connection = self._open
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back(connection)
                raise StorageDown(f"the {self._name} cannot be written: {error}") from error
            except BaseException:
                self._roll_back(connection)
                raise

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """Leave a connection that can go on. After an I/O error SQLite may need a new one to recover."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            if self._path != ":memory:":
                connection.close()
                self._connection = self._connect()

    def scrub(self) -> None:
        """Write the file anew without what was deleted, and empty its log. Raises StorageDown."""
        with self._lock:
            try:
                self._open.execute("VACUUM")
                self._open.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as error:
                raise StorageDown(f"the {self._name} cannot be written: {error}") from error

    def rows(self, query: str, *parameters: object) -> list[Any]:
        """What a query finds. Raises StorageDown where the file cannot be read."""
        with self._lock:
            try:
                return self._open.execute(query, parameters).fetchall()
            except sqlite3.Error as error:
                raise StorageDown(f"the {self._name} cannot be read: {error}") from error

    def meta(self, key: str, default: Any = None) -> Any:
        """A value kept under a name."""
        rows = self.rows("SELECT value FROM meta WHERE key = ?", key)
        return rows[0][0] if rows else default


def set_meta(connection: sqlite3.Connection, **values: object) -> None:
    """Keep values under their names, as part of a transaction."""
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())
