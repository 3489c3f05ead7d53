"""A server of a peer, from its start to its end, and the peers that have one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import trio

from loadtest.compare.driving import ask, call
from loadtest.compare.work import NotHad, Peer
from loadtest.machine.processes import child, session_of
from tests.servers.server import free_port

START_SECONDS = 90.0
POLL_SECONDS = 0.002


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
    """A server that answers. `started_in`: seconds from its process's start to its first answer."""

    port: int
    pid: int
    started_in: float

    def processes(self) -> list[int]:
        return session_of(self.pid)


@asynccontextmanager
async def serving(launch: Launch) -> AsyncIterator[Serving]:
    """Start a server and wait until it answers. Raises NotHad with its last words where it does not."""
    port = free_port()
    began = time.perf_counter()
    with child(launch.command(port), launch.where, launch.words, launch.environment) as process:
        await _first_answer(launch, process, port)
        yield Serving(port, process.pid, time.perf_counter() - began)


async def _first_answer(launch: Launch, process: subprocess.Popen[bytes], port: int) -> None:
    with trio.move_on_after(START_SECONDS):
        while process.poll() is None:
            with suppress(OSError, RuntimeError, trio.BrokenResourceError):
                return await launch.answers(port)
            await trio.sleep(POLL_SECONDS)
    words = launch.words.read_text(errors="replace")[-1_000:]
    raise NotHad(f"no answer from {launch.command(port)[0]}: {words}")


def over_http(request: bytes) -> Callable[[int], Awaitable[None]]:
    """`answers` of a server that speaks HTTP."""

    async def answers(port: int) -> None:
        await ask(port, request)

    return answers


async def over_rpc(port: int) -> None:
    """`answers` of one that speaks XML-RPC."""
    await call(port, "system.listMethods")


class Served(Peer):
    """A peer with a server, and whatever else of its own goes onto the stack."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._server: Serving | None = None

    def launch(self, name: str) -> Launch:
        """How its server is started on the files of this name, which may be there already."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start on the files of the last time."""
        self._server = await self._stack.enter_async_context(serving(self.launch("data")))

    async def stop(self) -> None:
        """End the server and all that came with it."""
        self._server = None
        await self._stack.aclose()

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.port

    async def start_up(self) -> float:
        """On files of its own."""
        async with serving(self.launch(f"empty-{time.monotonic_ns()}")) as server:
            return server.started_in

    def processes(self) -> list[int]:
        return [] if self._server is None else self._server.processes()
