"""Groups `postgresql` and `redis`: the service over a real server beside that server's own way with the same.

PostgreSQL: COPY and SELECT of a plain table that has a column for each of 20 features and a row for each entity
and time, the form that COPY is fastest with; it is committed after each batch, as the service does.

Valkey: redis-py's pipelined HSET and HMGET of a hash for each entity with a field for each feature, as feature
stores over Redis do it; it knows neither event time nor history. Both are written with `appendfsync everysec`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from actors.timestamps import SECOND, format_timestamp, now
from loadtest.machine.arrow import post_table
from loadtest.machine.connection import Connection
from loadtest.machine.measure import Result, Target, at_least, at_most, seconds
from loadtest.machine.messages import Address, post
from loadtest.machine.service import Service, temporary
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer

ENTITIES, FEATURES, BATCHES, ROUNDS = 500, 20, 12, 60
READ = 100
TOGETHER_SECONDS = 4.0
CONNECTIONS = 8
NAMES = [f"user.f{number:02}.v1" for number in range(FEATURES)]


def register(address: Address) -> None:
    """Register the features."""
    with Connection(address) as connection:
        for name in NAMES:
            body = {"name": name.split(".")[1], "entity": "user", "valueType": "number"}
            connection.ask(post("/features/register", body))


def batch(values: np.ndarray[Any, Any], moment: int) -> bytes:
    """A batch of a value of each feature and entity at one time (microseconds), as a request."""
    when = format_timestamp(moment)
    rows = [
        {"featureId": name, "entityId": entity_id(entity), "value": values[entity, place], "timestamp": when}
        for entity in range(ENTITIES)
        for place, name in enumerate(NAMES)
    ]
    return post("/features/write-batch", {"values": [{**row, "value": float(row["value"])} for row in rows]})


def table(values: np.ndarray[Any, Any], moment: int) -> bytes:
    """The same as an Arrow table."""
    times = pa.array(np.full(len(values), moment)).cast(pa.timestamp("us", "UTC"))
    keys = {"entityId": list(map(entity_id, range(len(values)))), "timestamp": times}
    rows = pa.table({**keys, **{name: values[:, place] for place, name in enumerate(NAMES)}})
    return post_table("/features/write-batch", rows)


def entity_id(number: int) -> str:
    """The id of the entity of this number."""
    return f"user{number:05}"


Values = np.ndarray[Any, Any]


def written(
    group: str, peer: str, service: Service, write: Callable[[Values, int], None], target: Target
) -> Iterator[Result]:
    """Batches in both forms beside what the peer makes of `write`, in turns."""
    random = np.random.default_rng(9)
    took: dict[str, list[float]] = {"JSON": [], "Arrow": [], peer: []}
    with Connection(service.address) as connection:
        for number in range(BATCHES + 2):
            values = random.random((ENTITIES, FEATURES)) * 1_000
            moment = now() - (BATCHES + 2 - number) * 60 * SECOND
            requests = {"JSON": batch(values, moment), "Arrow": table(values, moment + 1)}
            for form, request in requests.items():
                took[form].append(seconds(lambda request=request: connection.ask(request)))  # type: ignore[misc]
            took[peer].append(seconds(lambda values=values, moment=moment: write(values, moment)))  # type: ignore[misc]
    count, theirs = ENTITIES * FEATURES, took[peer][2:]
    yield Result(f"{group}: {peer} of 10,000 values", "values/s", [count / one for one in theirs])
    for form in ("JSON", "Arrow"):
        ours = took[form][2:]
        yield Result(f"{group}: write-batch of the same, {form}", "values/s", [count / one for one in ours])
        ratios = [two / one for one, two in zip(ours, theirs, strict=True)]
        yield Result(f"{group}: {form} to {peer}", "x", ratios, target)


def served(
    group: str, peer: str, service: Service, ask: Callable[[Sequence[str]], None], target: Target | None = None
) -> Iterator[Result]:
    """Reads beside those of the peer, in turns."""
    entities, request = read()
    ours, theirs = list[float](), list[float]()
    with Connection(service.address) as connection:
        for _ in range(ROUNDS):
            ours.append(seconds(lambda: connection.ask(request)) * 1e3)
            theirs.append(seconds(lambda: ask(entities)) * 1e3)
    yield Result(f"{group}: serve 100x20", "ms", ours[10:])
    yield Result(f"{group}: {peer} of the same", "ms", theirs[10:])
    ratios = [one / two for one, two in zip(ours, theirs, strict=True)][10:]
    yield Result(f"{group}: serve to {peer}", "x", ratios, target)


def read() -> tuple[list[str], bytes]:
    """Some entities, and a request for all of their features."""
    entities = [entity_id(number * 3) for number in range(READ)]
    return entities, post("/features/serve", {"entityIds": entities, "features": NAMES})


def together(group: str, one: Service, two: Service, target: Target | None = None) -> Iterator[Result]:
    """How much two processes serve together, of what one does; as far as there are cores for it."""
    _, request = read()
    ratios = []
    for _ in range(3):
        alone = _rate([one], request)
        ratios.append(_rate([one, two], request) / alone)
    cores = f"{os.cpu_count()} cores"
    yield Result(f"{group}: serve 100x20, two processes to one ({cores})", "x", ratios, target)


def _rate(services: Sequence[Service], request: bytes) -> float:
    """Requests a second of several connections, which take the services in turn."""
    until = time.perf_counter() + TOGETHER_SECONDS
    counts = [0] * CONNECTIONS

    def ask(number: int, service: Service) -> None:
        with Connection(service.address) as connection:
            while time.perf_counter() < until:
                connection.ask(request)
                counts[number] += 1

    threads = [
        threading.Thread(target=ask, args=(number, services[number % len(services)]))
        for number in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / TOGETHER_SECONDS


# PostgreSQL

_SELECT = """
SELECT e.n, r.* FROM unnest(%s::text[]) WITH ORDINALITY AS e(id, n) CROSS JOIN LATERAL
(SELECT * FROM plain WHERE entity = e.id AND time <= %s ORDER BY time DESC LIMIT 1) AS r
"""


def over_postgresql() -> Iterator[Result]:
    """Writing beside COPY, reading beside SELECT, and two processes beside one."""
    with PostgresServer() as server, server.database() as url, psycopg.connect(url) as plain:
        over = partial(temporary, STORAGE_TYPE="postgresql", STORAGE_URL=url)
        _prepare(plain)

        def copy(values: Values, moment: int) -> None:
            with plain.cursor().copy("COPY plain FROM STDIN (FORMAT BINARY)") as rows:
                rows.set_types(["text", "int8", *["float8"] * FEATURES])
                for entity, row in enumerate(values.tolist()):
                    rows.write_row((entity_id(entity), moment, *row))
            plain.commit()

        def select(entities: Sequence[str]) -> None:
            plain.execute(_SELECT, (list(entities), now()), binary=True).fetchall()
            plain.commit()

        with over() as service, over() as other:
            register(service.address)
            yield from written("postgresql", "COPY", service, copy, at_least(0.5))
            yield from served("postgresql", "SELECT", service, select)
            yield from together("postgresql", service, other)


def _prepare(plain: psycopg.Connection[Any]) -> None:
    columns = ", ".join(f"f{number:02} double precision" for number in range(FEATURES))
    plain.execute(f"CREATE TABLE plain (entity text, time bigint, {columns})".encode())
    plain.execute("CREATE INDEX ON plain (entity, time)")
    plain.execute("SET enable_seqscan TO off")
    plain.commit()


# Redis

_FIELDS = [f"f{number:02}" for number in range(FEATURES)]


def over_redis() -> Iterator[Result]:
    """Writing beside HSET, reading beside HMGET, and two processes beside one."""
    with ValkeyServer() as server, server.client() as plain:
        over = partial(temporary, STORAGE_TYPE="redis", STORAGE_URL=server.url)

        def set_(values: Values, _: int) -> None:
            pipe = plain.pipeline(transaction=False)
            for entity, row in enumerate(values.tolist()):
                pipe.hset(f"plain:{entity_id(entity)}", mapping=dict(zip(_FIELDS, row, strict=True)))
            pipe.execute()

        def get(entities: Sequence[str]) -> None:
            pipe = plain.pipeline(transaction=False)
            for entity in entities:
                pipe.hmget(f"plain:{entity}", _FIELDS)
            for row in pipe.execute():
                list(map(float, row))

        with over() as service, over() as other:
            register(service.address)
            yield from written("redis", "pipelined HSET", service, set_, at_least(1.0))
            yield from served("redis", "pipelined HMGET", service, get, at_most(1.5))
            yield from together("redis", service, other, at_least(1.6))
