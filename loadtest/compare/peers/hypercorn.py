"""Bare Hypercorn: what HTTP costs here where nothing is done with it. Same requests, answers of the same size."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path

from loadtest.compare.data import Data
from loadtest.compare.driving import drive
from loadtest.compare.peers.timewell import requests
from loadtest.compare.serving import Launch, Serving, over_http, serving
from loadtest.compare.work import Given, Load, Read, Serve, StartUp, Timed, TrainingSet, View, Work, Write
from loadtest.machine.cores import Cores
from loadtest.machine.messages import encoded


class Hypercorn:
    """A server that knows nothing and answers with as many bytes as it is told to."""

    name = "Hypercorn, no-op"
    kinds = (Serve, Write, StartUp)
    remembers = False

    def __init__(self, directory: Path, cores: Cores) -> None:
        self._directory, self._cores = directory, cores
        self._stack = AsyncExitStack()
        self._server: Serving | None = None

    async def start(self) -> None:
        """Start the server."""
        self._server = await self._stack.enter_async_context(serving(self._launch()))

    async def stop(self) -> None:
        """End it."""
        self._server = None
        await self._stack.aclose()

    def _launch(self) -> Launch:
        def command(port: int) -> list[str]:
            return [sys.executable, "-m", "loadtest.compare.noop", str(port)]

        words = self._directory / "hypercorn.words"
        return Launch(command, over_http(encoded("POST", "/2", b"{}")), self._cores.server, words)

    async def load(self, data: Data, rows: slice) -> int:
        """It keeps nothing."""
        return 0

    async def prepare(self, work: TrainingSet | Load, data: Data) -> None:
        """It makes no training sets."""

    async def do(self, work: Work, given: Given) -> Timed:
        """Timewell's requests to the path that names the size of the answer."""
        assert self._server is not None and isinstance(work, Serve | Write)
        sent = requests(work, given, f"/{given.answer_bytes}")
        return await drive(self._server.port, sent, work.connections, given.seconds)

    async def read(self, view: View, entities: Sequence[str]) -> Read:
        """It has no values."""
        raise NotImplementedError

    async def start_up(self) -> float:
        """Of a further one."""
        async with serving(self._launch()) as server:
            return server.started_in

    def processes(self) -> list[int]:
        """The server."""
        return [] if self._server is None else self._server.processes()

    async def versions(self) -> dict[str, str]:
        """Of the server and what it runs on."""
        return {name: version(name) for name in ("hypercorn", "trio", "h11")}
