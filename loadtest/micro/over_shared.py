"""Groups `postgresql` and `redis`: the service over a real server beside that server's own way with the same.

PostgreSQL: COPY and SELECT of a plain table that has a column for each of 20 features and a row for each entity
and time, the form that COPY is fastest with; it is committed after each batch, as the service does.

Valkey: redis-py's pipelined HSET and HMGET of a hash for each entity with a field for each feature, as feature
stores over Redis do it; it knows neither event time nor history. Both are written with `appendfsync everysec`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from actors.timestamps import SECOND, format_timestamp, now
from loadtest.machine.arrow import post_table
from loadtest.machine.connection import Connection, together
from loadtest.machine.measure import Result, Target, at_least, at_most, seconds
from loadtest.machine.messages import post
from loadtest.machine.service import Service, temporary
from loadtest.micro.bodies import PATH, register
from loadtest.micro.data import entity_ids, feature
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer

ENTITIES, FEATURES, BATCHES, ROUNDS = entity_ids(range(500)), 20, 12, 60
READ = ENTITIES[::3][:100]
REQUESTS, CONNECTIONS = 1_000, 8
FIELDS = [f"f{number:02}" for number in range(FEATURES)]
NUMBERS = [feature(name, "number") for name in FIELDS]
SERVE = post("/features/serve", {"entityIds": READ, "features": [one.id for one in NUMBERS]})
Values = np.ndarray[Any, Any]
"""Of each entity and feature."""


def as_json(values: Values, moment: int) -> bytes:
    """A batch of values at one time (microseconds), as a request."""
    when = format_timestamp(moment)
    rows = [
        {"featureId": one.id, "entityId": entity, "value": value, "timestamp": when}
        for entity, row in zip(ENTITIES, values.tolist(), strict=True)
        for one, value in zip(NUMBERS, row, strict=True)
    ]
    return post(PATH, {"values": rows})


def as_arrow(values: Values, moment: int) -> bytes:
    """The same as an Arrow table."""
    times = pa.array(np.full(len(values), moment)).cast(pa.timestamp("us", "UTC"))
    columns = {one.id: column for one, column in zip(NUMBERS, values.T, strict=True)}
    return post_table(PATH, pa.table({"entityId": ENTITIES, "timestamp": times, **columns}))


def written(
    group: str, peer: str, service: Service, write: Callable[[Values, int], None], target: Target
) -> Iterator[Result]:
    """Batches in both forms beside what the peer makes of `write`, in turns."""
    random = np.random.default_rng(9)
    took: dict[str, list[float]] = {"JSON": [], "Arrow": [], peer: []}
    with Connection(service.address) as connection:
        for number in range(BATCHES + 2):
            values = random.random((len(ENTITIES), FEATURES)) * 1_000
            moment = now() - (BATCHES + 2 - number) * 60 * SECOND
            json, arrow = as_json(values, moment), as_arrow(values, moment + 1)
            took["JSON"].append(seconds(partial(connection.ask, json)))
            took["Arrow"].append(seconds(partial(connection.ask, arrow)))
            took[peer].append(seconds(partial(write, values, moment)))
    count, theirs = len(ENTITIES) * FEATURES, took[peer][2:]
    yield Result(f"{group}: {peer} of 10,000 values", "values/s", [count / one for one in theirs])
    for form in ("JSON", "Arrow"):
        ours = took[form][2:]
        yield Result(f"{group}: write-batch of the same, {form}", "values/s", [count / one for one in ours])
        ratios = [two / one for one, two in zip(ours, theirs, strict=True)]
        yield Result(f"{group}: {form} to {peer}", "x", ratios, target)


def served(
    group: str, peer: str, service: Service, ask: Callable[[], object], target: Target | None = None
) -> Iterator[Result]:
    """Reads of 100 entities beside those of the peer, in turns."""
    ours, theirs = list[float](), list[float]()
    with Connection(service.address) as connection:
        for _ in range(ROUNDS):
            ours.append(seconds(lambda: connection.ask(SERVE)) * 1e3)
            theirs.append(seconds(ask) * 1e3)
    yield Result(f"{group}: serve 100x20", "ms", ours[10:])
    yield Result(f"{group}: {peer} of the same", "ms", theirs[10:])
    ratios = [one / two for one, two in zip(ours, theirs, strict=True)][10:]
    yield Result(f"{group}: serve to {peer}", "x", ratios, target)


def doubled(group: str, one: Service, two: Service, target: Target | None = None) -> Iterator[Result]:
    """How much two processes serve together, of what one does; as far as there are cores for it."""
    requests, ratios = [SERVE] * REQUESTS, []
    for _ in range(3):
        alone = together([one.address], requests, CONNECTIONS)
        ratios.append(alone / together([one.address, two.address], requests, CONNECTIONS))
    name = f"{group}: serve 100x20, two processes to one ({os.cpu_count()} cores)"
    yield Result(name, "x", ratios, target)


# PostgreSQL

_SELECT = """
SELECT e.n, r.* FROM unnest(%s::text[]) WITH ORDINALITY AS e(id, n) CROSS JOIN LATERAL
(SELECT * FROM plain WHERE entity = e.id AND time <= %s ORDER BY time DESC LIMIT 1) AS r
"""


def over_postgresql() -> Iterator[Result]:
    """Writing beside COPY, reading beside SELECT, and two processes beside one."""
    with PostgresServer() as server, server.database() as url, psycopg.connect(url) as plain:
        over = partial(temporary, STORAGE_TYPE="postgresql", STORAGE_URL=url)
        columns = ", ".join(f"{field} double precision" for field in FIELDS)
        plain.execute(f"CREATE TABLE plain (entity text, time bigint, {columns})".encode())
        plain.execute("CREATE INDEX ON plain (entity, time)")
        plain.execute("SET enable_seqscan TO off")
        plain.commit()

        def copy(values: Values, moment: int) -> None:
            with plain.cursor().copy("COPY plain FROM STDIN (FORMAT BINARY)") as rows:
                rows.set_types(["text", "int8", *["float8"] * FEATURES])
                for entity, row in zip(ENTITIES, values.tolist(), strict=True):
                    rows.write_row((entity, moment, *row))
            plain.commit()

        def select() -> None:
            plain.execute(_SELECT, (READ, now()), binary=True).fetchall()
            plain.commit()

        with over() as service, over() as other:
            register(service.address, NUMBERS)
            yield from written("postgresql", "COPY", service, copy, at_least(0.5))
            yield from served("postgresql", "SELECT", service, select)
            yield from doubled("postgresql", service, other)


# Redis


def over_redis() -> Iterator[Result]:
    """Writing beside HSET, reading beside HMGET, and two processes beside one."""
    with ValkeyServer() as server, server.client() as plain:
        over = partial(temporary, STORAGE_TYPE="redis", STORAGE_URL=server.url)

        def hset(values: Values, _: int) -> None:
            pipe = plain.pipeline(transaction=False)
            for entity, row in zip(ENTITIES, values.tolist(), strict=True):
                pipe.hset(f"plain:{entity}", mapping=dict(zip(FIELDS, row, strict=True)))
            pipe.execute()

        def hmget() -> None:
            pipe = plain.pipeline(transaction=False)
            for entity in READ:
                pipe.hmget(f"plain:{entity}", FIELDS)
            for row in pipe.execute():
                list(map(float, row))

        with over() as service, over() as other:
            register(service.address, NUMBERS)
            yield from written("redis", "pipelined HSET", service, hset, at_least(1.0))
            yield from served("redis", "pipelined HMGET", service, hmget, at_most(1.5))
            yield from doubled("redis", service, other, at_least(1.6))
