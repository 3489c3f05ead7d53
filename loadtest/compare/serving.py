"""Servers from their start to their end: those of peers, and stores shared with Timewell."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import NamedTuple, TypeVar

import trio

from loadtest.compare.driving import ask, call
from loadtest.compare.work import Peer, Unavailable
from loadtest.machine.cores import Cores, placed
from loadtest.machine.processes import child, session_of
from tests.servers.postgres import PostgresServer
from tests.servers.server import free_port
from tests.servers.valkey import ValkeyServer

START_SECONDS = 90.0
POLL_SECONDS = 0.002
T = TypeVar("T")


class Launch(NamedTuple):
    """How to start a server."""

    command: Callable[[int], Sequence[str | Path]]
    """The command line for a port."""
    answers: Callable[[int], Awaitable[None]]
    """Returns once the server on that port has answered; raises OSError or RuntimeError until it does."""
    where: frozenset[int]
    words: Path
    environment: Mapping[str, str] | None = None


class Serving(NamedTuple):
    """A server that answers."""

    port: int
    pid: int

    def processes(self) -> list[int]:
        return session_of(self.pid)


@asynccontextmanager
async def serving(launch: Launch) -> AsyncIterator[Serving]:
    """Start a server and wait until it answers. Raises Unavailable with its last output if it does not."""
    port = free_port()
    with child(launch.command(port), launch.where, launch.words, launch.environment) as process:
        await _first_answer(launch, process, port)
        yield Serving(port, process.pid)


async def _first_answer(launch: Launch, process: subprocess.Popen[bytes], port: int) -> None:
    with trio.move_on_after(START_SECONDS):
        while process.poll() is None:
            with suppress(OSError, RuntimeError, trio.BrokenResourceError):
                return await launch.answers(port)
            await trio.sleep(POLL_SECONDS)
    words = launch.words.read_text(errors="replace")[-1_000:]
    raise Unavailable(f"no answer from {launch.command(port)[0]}: {words}")


def over_http(request: bytes) -> Callable[[int], Awaitable[None]]:
    """`answers` of a server that speaks HTTP."""

    async def answers(port: int) -> None:
        await ask(port, request)

    return answers


async def over_rpc(port: int) -> None:
    """`answers` of one that speaks XML-RPC."""
    await call(port, "system.listMethods")


# Stores


class Store(NamedTuple):
    """A server in which Timewell and a peer keep their values, each under its own names."""

    kind: str
    """The value of Timewell's STORAGE_TYPE."""
    url: str
    processes: Callable[[], list[int]]
    """The process ids of the server and its children."""


Starting = Callable[[Cores], AbstractContextManager[Store]]


@contextmanager
def _on_core(cores: Cores, server: AbstractContextManager[T]) -> Iterator[T]:
    with ExitStack() as stack:
        with placed(cores.server):
            running = stack.enter_context(server)
        yield running


@contextmanager
def valkey(cores: Cores) -> Iterator[Store]:
    """An empty Valkey with an append-only file, synced every second."""
    with _on_core(cores, ValkeyServer()) as server:
        yield Store("redis", server.url, server.processes)


@contextmanager
def postgresql(cores: Cores) -> Iterator[Store]:
    """An empty PostgreSQL with default settings: commits are on stable storage."""
    with _on_core(cores, PostgresServer()) as server:
        yield Store("postgresql", server.url(), server.processes)


# Peers


class Place(NamedTuple):
    """What a peer may use: an empty directory, cores, and the directory of all environments."""

    directory: Path
    cores: Cores
    environments: Path
    store: Store | None = None
    """The store that it shares with Timewell."""


class Served(Peer):
    """A peer with a server; subclasses put what else they start onto the stack."""

    def __init__(self, place: Place) -> None:
        self._directory, self._cores, self._store = place.directory, place.cores, place.store
        self._stack = AsyncExitStack()
        self._server: Serving | None = None

    def launch(self, name: str) -> Launch:
        """How its server is started on the files of this name, which may exist."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start on the files of the last start."""
        self._server = await self._stack.enter_async_context(serving(self.launch("data")))

    async def stop(self) -> None:
        """Stop the server and everything on the stack."""
        self._server = None
        await self._stack.aclose()

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.port

    def processes(self) -> list[int]:
        """The processes of its server and of its store."""
        servers = [one for one in (self._server, self._store) if one is not None]
        return [process for one in servers for process in one.processes()]
