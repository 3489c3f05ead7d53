"""Connections to PostgreSQL: a pool, a deadline for each use, and errors that say what users can do about them.

A server that hangs (a stopped process, a lost network) does not answer at all, so its own timeouts do not help: a
watchdog shuts down the socket of a use that takes too long, which wakes up the thread that waits for it.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from actors.errors import StartupError, StorageDown
from actors.settings import (
    STORAGE_CONNECTIONS,
    STORAGE_START_SECONDS,
)
from actors.storage.postgres.tables import SCHEMA, has_tables, migrate
from actors.storage.shared.address import check_address, refused

log = logging.getLogger("timewell.storage")
Connection = psycopg.Connection[Any]
T = TypeVar("T")
_GLANCE_SECONDS = 0.25
_REFUSED_AT_START = ("08", "57P03", "53")
"""SQLSTATEs of temporary conditions: connection failures, server starting up, insufficient resources."""
_UNKNOWN_VALUE = re.compile(r'invalid (\w+) value: "|invalid \w+ value ".*" for connection option "(\w+)"')
"""libpq's message about an invalid value of an option."""


class Link:
    """A pool of connections. Thread-safe."""

    def __init__(self, url: str, timeout: float) -> None:
        """`url`: anything that libpq accepts, such as `postgresql://user:password@host:port/database?sslmode=...`.

        `timeout`: seconds that a use of a connection may take.
        """
        if "://" in url or "=" not in url:  # else it is a list of options, as in "host=db dbname=features"
            check_address(url, ("postgresql", "postgres"), "PostgreSQL")
        try:
            given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        except psycopg.ProgrammingError:
            raise refused("PostgreSQL", "an option in it is unknown or incomplete, or it cannot be read") from None
        defaults = {"connect_timeout": str(max(2, int(timeout))), "application_name": "timewell"}
        self._conninfo = make_conninfo(**{**defaults, **given})
        self._pool = ConnectionPool(
            self._conninfo,
            kwargs={"autocommit": True},
            min_size=1,
            max_size=STORAGE_CONNECTIONS,
            open=False,
            timeout=timeout,
            configure=self._configure,
            reconnect_timeout=0,
        )
        self._timeout = timeout
        self._watchdog = _Watchdog(timeout)

    def open(self) -> None:
        """Wait for the server, and create or migrate the tables. Raises StartupError."""
        self._once_up(migrate)
        self._pool.open()

    def there(self) -> bool:
        """Wait for the server, and check whether it has Timewell's tables. Raises StartupError."""
        return self._once_up(has_tables)

    def _once_up(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as soon as the server is up.

        Raises StartupError after STORAGE_START_SECONDS, or at once for an error that waiting cannot solve.
        """
        until, pause = time.monotonic() + STORAGE_START_SECONDS, 0.1
        while True:
            try:
                with self._connected() as connection:
                    return work(connection)
            except psycopg.Error as error:
                if option := _UNKNOWN_VALUE.search(str(error)):
                    raise refused("PostgreSQL", f"{option[1] or option[2]} cannot have the value given") from None
                state = getattr(error, "sqlstate", None)
                lasting = state is not None and not state.startswith(_REFUSED_AT_START)
                if lasting or _lasting(error) or time.monotonic() > until:
                    raise StartupError(f"PostgreSQL cannot be used: {_words(error)}") from None
                log.warning("PostgreSQL cannot be reached yet, trying again: %s", _words(error))
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close(timeout=1.0)

    def alone(self) -> Connection:
        """Open a connection outside the pool, for session locks and cursors. Raises StorageDown."""
        try:
            return self._connected()
        except psycopg.Error as error:
            raise StorageDown(f"PostgreSQL cannot be reached: {_words(error)}") from None

    def _connected(self) -> Connection:
        connection = psycopg.connect(self._conninfo, autocommit=True)
        self._configure(connection)
        return connection

    def _configure(self, connection: Connection) -> None:
        connection.execute(f"SET search_path TO {SCHEMA}")
        connection.execute(f"SET statement_timeout TO {int(self._timeout * 1_000)}")
        # Queries are for few entities, whatever the planner assumes about tables that were not analysed yet.
        connection.execute("SET enable_seqscan TO off")
        connection.execute("SET jit TO off")
        # Planning each query anew does not help either: it took longer than execution (190 of 330 microseconds).
        connection.execute("SET plan_cache_mode TO force_generic_plan")

    def watching(self, connection: Connection) -> AbstractContextManager[object]:
        """Apply the deadline to a use of a connection outside the pool."""
        return self._watchdog.watching(connection)

    def read(self, ask: Callable[[Connection], T]) -> T:
        """Run `ask` with a connection, again with another if that turns out to be broken. Raises StorageDown."""
        for _ in range(STORAGE_CONNECTIONS):
            with suppress(_Lost), self._use() as connection:
                return ask(connection)
        with self._use() as connection:
            return ask(connection)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction on a connection that is known to work, as it has answered BEGIN. Raises StorageDown."""
        with ExitStack() as stack:
            yield self._begun(stack)

    def _begun(self, stack: ExitStack) -> Connection:
        for _ in range(STORAGE_CONNECTIONS):
            with suppress(_Lost), ExitStack() as attempt:
                connection = attempt.enter_context(self._use())
                attempt.enter_context(connection.transaction())
                stack.push(attempt.pop_all())
                return connection
        raise StorageDown("PostgreSQL keeps going away")

    @contextmanager
    def _use(self) -> Iterator[Connection]:
        """A connection of the pool. Raises StorageDown, or _Lost if only this connection is known to be broken."""
        connection = None
        try:
            with self._taken() as connection, self._watchdog.watching(connection) as watched:
                yield connection
        except (PoolTimeout, TooManyRequests):
            raise StorageDown("PostgreSQL cannot be reached, or is slow to answer") from None
        except errors.ReadOnlySqlTransaction:
            raise StorageDown("PostgreSQL is read-only: a replica, or a primary that has stepped down") from None
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if connection is not None and connection.broken and not watched.late:
                raise _Lost(f"PostgreSQL went away: {_words(error)}") from error
            raise StorageDown(f"PostgreSQL cannot do it now: {_words(error)}") from error
        except psycopg.Error as error:  # for example a revoked privilege, or a missing table
            raise StorageDown(f"PostgreSQL refuses: {_words(error)}") from error

    @contextmanager
    def _taken(self) -> Iterator[Connection]:
        """A connection of the pool.

        The pool does not say why it has none, so meanwhile connections are opened, which fail at once with a
        reason if the server is down.
        """
        with ExitStack() as stack:
            yield self._waited_for(stack)

    def _waited_for(self, stack: ExitStack) -> Connection:
        until, patience = time.monotonic() + self._timeout, _GLANCE_SECONDS
        while True:
            left = until - time.monotonic()
            try:
                return stack.enter_context(self._pool.connection(max(0.0, min(patience, left))))
            except PoolTimeout:
                if left <= patience:
                    raise
            psycopg.connect(self._conninfo).close()
            patience *= 2  # the server is up: all connections are in use, or it has just come back


class _Lost(StorageDown):
    """A connection has turned out to be broken."""


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _lasting(error: psycopg.Error) -> bool:
    """Whether waiting cannot solve an error, for those of libpq that have a message but no SQLSTATE."""
    words = str(error)
    return any(said in words for said in ("authentication failed", "does not exist", "no pg_hba.conf", "SSL"))


class _Watched:
    """A use of a connection, with its deadline. `late`: whether it was cut off."""

    def __init__(self, connection: Connection, until: float) -> None:
        self.connection = connection
        self.until = until
        self.late = False


class _Watchdog:
    """Shuts down the sockets of uses that take too long. Its thread lives while anything is watched."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._watched: set[_Watched] = set()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, connection: Connection) -> Iterator[_Watched]:
        """Watch a connection within the context."""
        watched = _Watched(connection, time.monotonic() + self._timeout + 2 * _GLANCE_SECONDS)
        with self._lock:
            self._watched.add(watched)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="timewell-watchdog", daemon=True)
                self._thread.start()
        try:
            yield watched
        finally:
            with self._lock:
                self._watched.discard(watched)

    def _watch(self) -> None:
        idle = 0
        while True:
            time.sleep(_GLANCE_SECONDS)
            with self._lock:
                idle = 0 if self._watched else idle + 1
                if idle > 20:
                    self._thread = None
                    return
                for watched in self._watched:
                    if time.monotonic() > watched.until and not watched.late:
                        watched.late = True
                        _cut(watched.connection)


def _cut(connection: Connection) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as plain:
        plain.shutdown(socket.SHUT_RDWR)
