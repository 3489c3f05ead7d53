"""Group `postgresql`: the service over a real PostgreSQL beside that server's own COPY and SELECT of the same.

The plain table has a column for each of 20 features and a row for each entity and time, the form that COPY
is fastest with; it is committed after each batch, as the service does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg

from actors.timestamps import SECOND, now
from loadtest.micro.client import Connection
from loadtest.micro.measure import Result, at_least, seconds
from loadtest.micro.over_shared import (
    BATCHES,
    ENTITIES,
    FEATURES,
    ROUNDS,
    batch,
    entity_id,
    read,
    register,
    table,
    together,
)
from loadtest.micro.service import Service, timewell
from loadtest.postgres import PostgresServer


def run() -> Iterator[Result]:
    """Writing beside COPY, reading beside SELECT, and two processes beside one."""
    random = np.random.default_rng(9)
    with PostgresServer() as server, server.database() as url, psycopg.connect(url) as plain:
        columns = ", ".join(f"f{number:02} double precision" for number in range(FEATURES))
        plain.execute(f"CREATE TABLE plain (entity text, time bigint, {columns})".encode())
        plain.execute("CREATE INDEX ON plain (entity, time)")
        plain.commit()
        with _over(url) as service, _over(url) as other:
            register(service.address)
            yield from _writing(service, plain, random)
            yield from _reading(service, plain)
            yield from together("postgresql", service, other)


def _over(url: str) -> Any:
    return timewell(STORAGE_TYPE="postgresql", STORAGE_URL=url)


def _writing(service: Service, plain: psycopg.Connection[Any], random: np.random.Generator) -> Iterator[Result]:
    took: dict[str, list[float]] = {"JSON": [], "Arrow": [], "COPY": []}
    with Connection(service.address) as connection:
        for number in range(BATCHES + 2):
            values = random.random((ENTITIES, FEATURES)) * 1_000
            moment = now() - (BATCHES + 2 - number) * 60 * SECOND
            requests = {"JSON": batch(values, moment), "Arrow": table(values, moment + 1)}
            for form, request in requests.items():
                took[form].append(seconds(lambda request=request: connection.ask(request)))  # type: ignore[misc]
            took["COPY"].append(seconds(lambda values=values, moment=moment: _copy(plain, values, moment)))  # type: ignore[misc]
    count, theirs = ENTITIES * FEATURES, took["COPY"][2:]
    yield Result("postgresql: COPY of 10,000 values", "values/s", [count / one for one in theirs])
    for form in ("JSON", "Arrow"):
        ours = took[form][2:]
        yield Result(f"postgresql: write-batch of the same, {form}", "values/s", [count / one for one in ours])
        ratios = [two / one for one, two in zip(ours, theirs, strict=True)]
        yield Result(f"postgresql: {form} to COPY", "x", ratios, at_least(0.5))


def _copy(plain: psycopg.Connection[Any], values: np.ndarray[Any, Any], moment: int) -> None:
    with plain.cursor().copy("COPY plain FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["text", "int8", *["float8"] * FEATURES])
        for entity, row in enumerate(values.tolist()):
            copy.write_row((entity_id(entity), moment, *row))
    plain.commit()


def _reading(service: Service, plain: psycopg.Connection[Any]) -> Iterator[Result]:
    entities, request = read()
    query = (
        "SELECT e.n, r.* FROM unnest(%s::text[]) WITH ORDINALITY AS e(id, n) CROSS JOIN LATERAL"
        " (SELECT * FROM plain WHERE entity = e.id AND time <= %s ORDER BY time DESC LIMIT 1) AS r"
    )
    plain.execute("SET enable_seqscan TO off")

    def select() -> None:
        plain.execute(query, (entities, now()), binary=True).fetchall()
        plain.commit()

    ours, theirs = list[float](), list[float]()
    with Connection(service.address) as connection:
        for _ in range(ROUNDS):
            ours.append(seconds(lambda: connection.ask(request)) * 1e3)
            theirs.append(seconds(select) * 1e3)
    yield Result("postgresql: serve 100x20", "ms", ours[10:])
    yield Result("postgresql: SELECT of the same", "ms", theirs[10:])
    yield Result(
        "postgresql: serve to SELECT", "x", [one / two for one, two in zip(ours, theirs, strict=True)][10:]
    )
