"""Hypercorn alone: the cost of HTTP. The same requests, answers of the same size."""

from __future__ import annotations

import sys
from importlib.metadata import version

from loadtest.compare.driving import drive
from loadtest.compare.peers.timewell import requests
from loadtest.compare.serving import Launch, Served, over_http
from loadtest.compare.work import Given, Serve, StartUp, Timed, Work, Write
from loadtest.machine.messages import encoded


class Hypercorn(Served):
    """A server without an application: it answers with as many bytes as the path says."""

    name = "Hypercorn, no-op"
    kinds = (Serve, Write, StartUp)
    remembers = False

    def launch(self, name: str) -> Launch:

        def command(port: int) -> list[str]:
            return [sys.executable, "-m", "loadtest.machine.noop", str(port)]

        return Launch(
            command, over_http(encoded("POST", "/2", b"{}")), self._cores.server, self._directory / "words"
        )

    async def do(self, work: Work, given: Given) -> Timed:
        """Timewell's requests, to the path that gives the size of the answer."""
        assert isinstance(work, Serve | Write)
        sent = requests(work, given, f"/{given.answer_bytes}")
        return await drive(self.port, sent, work.connections, given.seconds)

    async def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("hypercorn", "trio", "h11")}
