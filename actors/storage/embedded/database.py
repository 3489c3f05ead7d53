"""A SQLite database behind a lock.

It is in WAL mode with synchronous=FULL: a commit is one fsync of the write-ahead log and survives a power loss; a
torn end of the log fails its checksum and is ignored. A log that is damaged elsewhere is refused
(`sqlite_log.py`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actors.errors import Damaged, StartupError, StorageDown
from actors.storage.embedded.sealed import put, sound
from actors.storage.embedded.sqlite_log import need_whole

_META = "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value, seal INTEGER NOT NULL) WITHOUT ROWID;"
Reform = Callable[[sqlite3.Connection], None]
"""Converts the tables of the previous format to the current one."""
OF_DAMAGE = (Damaged, sqlite3.DatabaseError, StorageDown)
"""The exact types of a StartupError's cause if a file is damaged. SQLite raises subclasses for other errors."""
PAGES_AT_ONCE = 2_000


class Database:
    """A database. Thread-safe: calls run one at a time."""

    def __init__(self, path: str, name: str, tables: str, format_: int, reform: Reform) -> None:
        """`path`: may be ":memory:"; `name`: for messages; `tables`: the SQL that creates the tables.

        A file of the format before `format_` is converted by `reform`; any other is refused.
        """
        self.path = path
        self._name = name
        self._tables = tables
        self._format = format_
        self._reform = reform
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._cut_off = False
        """Whether the connection was closed because of a failure, and is to be opened again when needed."""

    def open(self) -> None:
        """Open or create the database. Raises StartupError, which names the file."""
        try:
            need_whole(Path(f"{self.path}-wal"))  # before SQLite opens it, and truncates the log
            self._connection = self._connect()
            self._look_over(self._connection)
            with self.transaction() as connection:
                found = _format(connection)
                if found == self._format - 1:
                    self._reformed(connection)
                elif found not in (None, self._format):
                    message = f"{self.path} has format {found}, this version of Timewell reads {self._format}"
                    raise StartupError(message)
                for statement in _statements(self._tables):
                    connection.execute(statement)
                if found != self._format:  # only then, as a start on a full disk has to work
                    set_meta(connection, format=self._format)
            if _schema(self._connection) != self._expected():
                raise Damaged(f"{self.path} is damaged: its tables are not those that were made")
            self.sealed("meta", "key, value")
        except UnicodeDecodeError as error:  # from a message of SQLite that quotes damaged text
            cause = Damaged(f"{self.path} is damaged: what it says of its tables is no text ({error.reason})")
            raise StartupError(f"cannot open the {self._name} {self.path}: {cause}") from cause
        except (sqlite3.Error, OSError, StorageDown, Damaged) as error:
            raise StartupError(f"cannot open the {self._name} {self.path}: {error}") from error

    def _look_over(self, connection: sqlite3.Connection) -> None:
        """Raise Damaged if SQLite's integrity check fails, or there are tables but no `meta`."""
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
        if found != ["ok"]:
            raise Damaged(f"{self.path} is damaged: {found[0]}")
        tables = {row[0] for row in _schema(connection)}
        if tables and "meta" not in tables:
            raise Damaged(f"{self.path} is damaged: it says nothing of its format")

    def _reformed(self, connection: sqlite3.Connection) -> None:
        """Convert a database of the previous format."""
        old = connection.execute("SELECT key, value FROM meta").fetchall()
        connection.execute("DROP TABLE meta")
        connection.execute(_META)
        set_meta(connection, **dict(old))
        self._reform(connection)

    def _expected(self) -> set[Any]:
        fresh = sqlite3.connect(":memory:")
        try:
            fresh.executescript(_META + self._tables)
            return _schema(fresh)
        finally:
            fresh.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()  # otherwise it would keep the file open until garbage collection
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        # With exclusive access the index of the write-ahead log is kept in memory, and needs no disk space.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        if connection.execute("PRAGMA page_count").fetchone() == (0,):  # else it writes, and fails on a full disk
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_size_limit=67108864")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._cut_off = False
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @property
    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if not self._cut_off:
                raise StorageDown(f"the {self._name} is closed")
            try:
                self._connection, self._cut_off = self._connect(), False
            except sqlite3.Error as error:
                raise StorageDown(f"the {self._name} cannot be opened: {error}") from error
        return self._connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction, rolled back if the context raises. Raises StorageDown if SQLite fails."""
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
        """Roll back. If that fails, as it may after an I/O error, close the connection: SQLite needs a new one."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            if self.path != ":memory:":
                connection.close()
                self._connection, self._cut_off = None, True

    def shrink(self) -> None:
        """Release some free pages to the file system. Raises StorageDown."""
        with self._lock:
            try:
                # executescript runs the statement to its end; execute would stop early, as it returns no rows.
                self._open.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")
            except sqlite3.Error as error:
                raise StorageDown(f"the {self._name} cannot be written: {error}") from error

    def scrub(self) -> None:
        """Rewrite the file without deleted content, and truncate its log. Raises StorageDown."""
        with self._lock:
            try:
                self._open.execute("VACUUM")
                self._open.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as error:
                raise StorageDown(f"the {self._name} cannot be written: {error}") from error

    def rows(self, query: str, *parameters: object) -> list[Any]:
        """The rows that a query returns. Raises StorageDown if the file cannot be read."""
        with self._lock:
            try:
                return self._open.execute(query, parameters).fetchall()
            except sqlite3.Error as error:
                raise StorageDown(f"the {self._name} cannot be read: {error}") from error

    def sealed(self, table: str, columns: str, which: str = "true", *parameters: object) -> list[Any]:
        """Rows of a table, with their seals verified. Raises Damaged."""
        rows = self.rows(f"SELECT {columns}, seal FROM {table} WHERE {which}", *parameters)
        return sound(self.path, table, rows)

    def meta(self, key: str, default: Any = None) -> Any:
        """The value in the table `meta` under a key."""
        rows = self.sealed("meta", "key, value", "key = ?", key)
        return rows[0][1] if rows else default


def set_meta(connection: sqlite3.Connection, **values: object) -> None:
    """Store values in the table `meta` under their names, within a transaction."""
    for key, value in values.items():
        put(connection, "meta", key, value)


def _format(connection: sqlite3.Connection) -> object:
    """The format of a database; None for a new one."""
    if not _schema(connection):
        return None
    found = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    return found[0] if found else None


def _schema(connection: sqlite3.Connection) -> set[Any]:
    query = "SELECT name, type, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'"
    return set(connection.execute(query))


def _statements(script: str) -> list[str]:
    return [_META, *(statement for statement in script.split(";") if statement.strip())]


def renewed(connection: sqlite3.Connection, script: str, table: str, columns: str) -> None:
    """Replace a table without seals by one created by `script`, with every row sealed."""
    (statement,) = [one for one in _statements(script) if f"EXISTS {table} (" in one]
    rows = connection.execute(f"SELECT {columns} FROM {table}").fetchall()
    connection.execute(f"DROP TABLE {table}")
    connection.execute(statement)
    for row in rows:
        put(connection, table, *row)
