"""Drives a Redis or Valkey server: a hash for each entity, a field for each feature, a value as its decimal text.

redis-py (or its fork valkey-py) with a pipeline where a question is about more than one entity; or, with `packed`,
commands that are put into bytes beforehand, so that a question costs this side only the sending and the replies.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle, islice
from typing import Any

from loadtest.compare.drivers.calls import answer_calls

ROWS_A_PIPELINE = 500
MOST_QUESTIONS = 50_000


def _library() -> Any:
    for name in ("redis", "valkey"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError("neither redis nor valkey is installed")


LIBRARY = _library()
Row = tuple[str, dict[str, float]]
Ask = Callable[[], list[Any]]
"""A question with everything ready: its replies when it is called."""


class Pipelined:
    """A connection, and questions as an application asks them."""

    def __init__(self, port: int) -> None:
        kind = getattr(LIBRARY, "Redis", None) or LIBRARY.Valkey
        self._client = kind(host="127.0.0.1", port=port, single_connection_client=True)
        self._client.ping()

    def reading(self, entities: Sequence[str], features: Sequence[str]) -> Ask:
        """The latest values: a list of texts for each entity."""
        if len(entities) == 1:
            return lambda: [self._client.hmget(entities[0], features)]

        def ask() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for entity in entities:
                pipeline.hmget(entity, features)
            return list(pipeline.execute())

        return ask

    def writing(self, rows: Sequence[Row]) -> Ask:
        """Values of some entities."""
        if len(rows) == 1:
            return lambda: [self._client.hset(rows[0][0], mapping=rows[0][1])]

        def ask() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for entity, values in rows:
                pipeline.hset(entity, mapping=values)
            return list(pipeline.execute())

        return ask

    def server(self) -> dict[str, Any]:
        """What the server says of itself."""
        return dict(self._client.info("server"))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Packed(Pipelined):
    """The same questions as bytes that are there beforehand."""

    def reading(self, entities: Sequence[str], features: Sequence[str]) -> Ask:
        """The latest values: a list of texts for each entity."""
        return self._asking([("HMGET", entity, *features) for entity in entities])

    def writing(self, rows: Sequence[Row]) -> Ask:
        """Values of some entities."""
        return self._asking([("HSET", entity, *chain.from_iterable(values.items())) for entity, values in rows])

    def _asking(self, commands: Sequence[tuple[Any, ...]]) -> Ask:
        connection = self._client.connection
        packed = connection.pack_commands(commands)

        def ask() -> list[Any]:
            connection.send_packed_command(packed)
            return [connection.read_response() for _ in commands]

        return ask


def _opened(port: int, packed: bool, connections: int) -> list[Pipelined]:
    return [(Packed if packed else Pipelined)(port) for _ in range(connections)]


def _rows(batch: Any, features: Sequence[str]) -> list[Row]:
    return [
        (entity, dict(zip(features, values, strict=True)))
        for entity, values in zip(batch["entities"], batch["values"], strict=True)
    ]


def load(port: int, batch: Any, features: Sequence[str]) -> int:
    """Write rows, some hundred at a time; how many they are."""
    client = Pipelined(port)
    rows = _rows(batch, features)
    for start in range(0, len(rows), ROWS_A_PIPELINE):
        client.writing(rows[start : start + ROWS_A_PIPELINE])()
    client.close()
    return len(rows)


def read(port: int, entities: Sequence[str], features: Sequence[str]) -> list[list[float | None]]:
    """The latest values."""
    client = Pipelined(port)
    found = client.reading(entities, features)()
    client.close()
    return [[None if text is None else float(text) for text in row] for row in found]


def serve(
    port: int,
    packed: bool,
    asked: Sequence[Sequence[str]],
    features: Sequence[str],
    connections: int,
    seconds: float,
) -> dict[str, Any]:
    """Ask the questions in turns over each connection until the time is up."""
    clients = _opened(port, packed, connections)
    asks = ([client.reading(entities, features) for entities in asked] for client in clients)
    return _together(clients, [islice(cycle(one), MOST_QUESTIONS) for one in asks], seconds)


def write(
    port: int, packed: bool, batches: Sequence[Any], features: Sequence[str], connections: int, seconds: float
) -> dict[str, Any]:
    """Write the batches, each over one of the connections, until the time is up."""
    clients = _opened(port, packed, connections)
    hands = [batches[first::connections] for first in range(connections)]
    asks = [
        [client.writing(_rows(batch, features)) for batch in hand]
        for client, hand in zip(clients, hands, strict=True)
    ]
    return _together(clients, [iter(one) for one in asks], seconds)


def _together(clients: Sequence[Pipelined], asks: Sequence[Iterator[Ask]], seconds: float) -> dict[str, Any]:
    """A thread for each connection; how many questions were answered, in how long, and how long each took."""
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

    threads = [threading.Thread(target=work, args=(mine,)) for mine in asks]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    for client in clients:
        client.close()
    if failures:
        raise failures[0]
    return {"finished": len(latencies), "seconds": took, "latencies": latencies}


def versions(port: int) -> dict[str, str]:
    """Of the server and of the library."""
    client = Pipelined(port)
    server = client.server()
    client.close()
    found = {LIBRARY.__name__: str(LIBRARY.__version__)}
    if "valkey_version" in server:
        return {"valkey-server": str(server["valkey_version"]), **found}
    return {"redis-server": str(server["redis_version"]), **found}


if __name__ == "__main__":
    answer_calls({"load": load, "read": read, "serve": serve, "write": write, "versions": versions})
