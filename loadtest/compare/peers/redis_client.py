"""Drives a Redis or Valkey server: a hash for each entity, a field for each feature, a value as its decimal text.

redis-py with a pipeline where a question is about more than one entity; or, with `Packed`, commands that are put
into bytes beforehand, so that a question costs this side only the sending and the replies.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle, islice
from typing import Any, Self

import redis

from loadtest.compare.work import Batch, Given, Read, Serve, Timed, Write

MOST_QUESTIONS = 50_000
Row = tuple[str, dict[str, float]]
Ask = Callable[[], list[Any]]
"""A question with everything ready: its replies when it is called."""


class Pipelined:
    """A connection, and questions as an application asks them. A context manager."""

    def __init__(self, port: int) -> None:
        self.client: Any = redis.Redis(port=port, single_connection_client=True)
        self.client.ping()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def reading(self, entities: Sequence[str], features: Sequence[str]) -> Ask:
        """The latest values: a list of texts for each entity."""
        if len(entities) == 1:
            return lambda: [self.client.hmget(entities[0], features)]

        def ask() -> list[Any]:
            pipeline = self.client.pipeline(transaction=False)
            for entity in entities:
                pipeline.hmget(entity, features)
            return list(pipeline.execute())

        return ask

    def writing(self, rows: Sequence[Row]) -> Ask:
        """Values of some entities."""
        if len(rows) == 1:
            return lambda: [self.client.hset(rows[0][0], mapping=rows[0][1])]

        def ask() -> list[Any]:
            pipeline = self.client.pipeline(transaction=False)
            for entity, values in rows:
                pipeline.hset(entity, mapping=values)
            return list(pipeline.execute())

        return ask


class Packed(Pipelined):
    """The same questions as bytes that are there beforehand."""

    def reading(self, entities: Sequence[str], features: Sequence[str]) -> Ask:
        """The latest values: a list of texts for each entity."""
        return self._asking([("HMGET", entity, *features) for entity in entities])

    def writing(self, rows: Sequence[Row]) -> Ask:
        """Values of some entities."""
        return self._asking([("HSET", entity, *chain.from_iterable(values.items())) for entity, values in rows])

    def _asking(self, commands: Sequence[tuple[Any, ...]]) -> Ask:
        connection = self.client.connection
        packed = connection.pack_commands(commands)

        def ask() -> list[Any]:
            connection.send_packed_command(packed)
            return [connection.read_response() for _ in commands]

        return ask


def rows_of(batch: Batch, features: Sequence[str]) -> list[Row]:
    """An entity and its values for each row."""
    rows = zip(batch.entities, batch.values.tolist(), strict=True)
    return [(entity, dict(zip(features, values, strict=True))) for entity, values in rows]


def read(port: int, entities: Sequence[str], features: Sequence[str]) -> Read:
    """The latest values: texts as numbers again."""
    with Pipelined(port) as client:
        found = client.reading(entities, features)()
    return [[None if text is None else float(text) for text in row] for row in found]


def done(port: int, kind: type[Pipelined], work: Serve | Write, given: Given) -> Timed:
    """Questions in turns over each connection, or batches each over one of them, until the time is up."""
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
    """A thread for each connection. Raises what went wrong in one of them."""
    latencies: list[float] = []
    failures: list[Exception] = []
    began = time.perf_counter()

    def work(mine: Iterator[Ask]) -> None:
        try:
            for ask in mine:
                asked = time.perf_counter()
                ask()
                now = time.perf_counter()
                latencies.append(now - asked)
                if now - began >= seconds:
                    return
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(mine,), daemon=True) for mine in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if failures:
        raise RuntimeError(str(failures[0])) from failures[0]
    return Timed(len(latencies), took, latencies)
