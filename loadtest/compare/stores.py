"""A server that Timewell and a peer both keep their values in, each under names of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from loadtest.compare.processes import Cores, placed
from loadtest.postgres import PostgresServer
from loadtest.valkey import ValkeyServer


class Store(NamedTuple):
    """One that runs."""

    kind: str
    """As Timewell's STORAGE_TYPE has it."""
    url: str
    pid: int

    @property
    def settings(self) -> Mapping[str, str]:
        """Of a Timewell that keeps its values there."""
        return {"STORAGE_TYPE": self.kind, "STORAGE_URL": self.url}

    @property
    def online_store(self) -> Mapping[str, object]:
        """Of a Feast that does, in its words."""
        where = urlsplit(self.url)
        if self.kind == "redis":
            return {"type": "redis", "connection_string": f"{where.hostname}:{where.port}"}
        return {
            "type": "postgres",
            "host": where.hostname,
            "port": where.port,
            "database": where.path.removeprefix("/"),
            "user": where.username,
            "password": "",
            "sslmode": "disable",
            "conn_type": "pool",
        }

    def processes(self) -> list[int]:
        """The server and those that it has started."""
        children = ""
        with suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]


Starting = Callable[[Cores], AbstractContextManager[Store]]


@contextmanager
def valkey(cores: Cores) -> Iterator[Store]:
    """An empty Valkey that appends to its file and syncs that every second."""
    with ExitStack() as stack:
        with placed(cores.server):
            server = stack.enter_context(ValkeyServer())
        yield Store("redis", server.url, server.pid)


@contextmanager
def postgresql(cores: Cores) -> Iterator[Store]:
    """An empty PostgreSQL as it comes: what is committed is on stable storage."""
    with ExitStack() as stack:
        with placed(cores.server):
            server = stack.enter_context(PostgresServer())
        yield Store("postgresql", server.url(), server.pid)
