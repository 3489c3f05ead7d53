"""A driver that runs in the environment of a peer: calls and answers are lines of JSON through its pipes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from loadtest.machine.processes import child

_CHUNK_BYTES = 1 << 20


class Remote:
    """One driver. Calls go one after the other; after a cancelled one there can be no other."""

    def __init__(self, process: subprocess.Popen[bytes], words: Path) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.pid = process.pid
        self._words = words
        self._to = trio.lowlevel.FdStream(os.dup(process.stdin.fileno()))
        self._from = trio.lowlevel.FdStream(os.dup(process.stdout.fileno()))

    async def call(self, name: str, **given: Any) -> Any:
        """What the function of that name returned. Raises RuntimeError with its error, or if the driver ends."""
        try:
            await self._to.send_all(msgspec.json.encode({"call": name, "given": given}) + b"\n")
            received = bytearray()
            while not received.endswith(b"\n"):
                if not (part := await self._from.receive_some(_CHUNK_BYTES)):
                    raise trio.BrokenResourceError
                received += part
        except trio.BrokenResourceError:
            last = self._words.read_text(errors="replace")[-1_000:]
            raise RuntimeError(f"the driver ended: {last}") from None
        answer = msgspec.json.decode(received)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["returned"]

    async def aclose(self) -> None:
        """Let go of the pipes, upon which the driver ends."""
        with trio.CancelScope(shield=True):
            await self._to.aclose()
            await self._from.aclose()


@asynccontextmanager
async def remote(python: Path, module: str, where: frozenset[int], words: Path) -> AsyncIterator[Remote]:
    """`python -m module`, which answers calls (drivers/calls.py), on these cores."""
    command: list[str | Path] = [python, "-m", module]
    with child(command, where, words, pipes=True) as process:
        driver = Remote(process, words)
        try:
            yield driver
        finally:
            await driver.aclose()
