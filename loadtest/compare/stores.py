"""A server that Timewell and a peer both keep their values in, each under names of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from loadtest.machine.cores import Cores, placed
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer


class Store(NamedTuple):
    """One that runs."""

    kind: str
    """As Timewell's STORAGE_TYPE has it."""
    url: str
    processes: Callable[[], list[int]]
    """The server and those that it has started."""

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


Starting = Callable[[Cores], AbstractContextManager[Store]]
Server = TypeVar("Server")


@contextmanager
def _on_core(cores: Cores, server: AbstractContextManager[Server]) -> Iterator[Server]:
    with ExitStack() as stack:
        with placed(cores.server):
            running = stack.enter_context(server)
        yield running


@contextmanager
def valkey(cores: Cores) -> Iterator[Store]:
    """An empty Valkey that appends to its file and syncs that every second."""
    with _on_core(cores, ValkeyServer()) as server:
        yield Store("redis", server.url, server.processes)


@contextmanager
def postgresql(cores: Cores) -> Iterator[Store]:
    """An empty PostgreSQL as it comes: what is committed is on stable storage."""
    with _on_core(cores, PostgresServer()) as server:
        yield Store("postgresql", server.url(), server.processes)
