"""Group `postgresql`: the service over a real PostgreSQL beside that server's own COPY and SELECT of the same.

The plain table has a column for each of 20 features and a row for each entity and time, the form that COPY
is fastest with; it is committed after each batch, as the service does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import psycopg

from actors.timestamps import now
from loadtest.machine.measure import Result, at_least
from loadtest.machine.service import Service, temporary
from loadtest.micro.over_shared import FEATURES, Values, entity_id, register, served, together, written
from tests.servers.postgres import PostgresServer

_SELECT = """
SELECT e.n, r.* FROM unnest(%s::text[]) WITH ORDINALITY AS e(id, n) CROSS JOIN LATERAL
(SELECT * FROM plain WHERE entity = e.id AND time <= %s ORDER BY time DESC LIMIT 1) AS r
"""


def run() -> Iterator[Result]:
    """Writing beside COPY, reading beside SELECT, and two processes beside one."""
    with PostgresServer() as server, server.database() as url, psycopg.connect(url) as plain:
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

        with _over(url) as service, _over(url) as other:
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


def _over(url: str) -> AbstractContextManager[Service]:
    return temporary(STORAGE_TYPE="postgresql", STORAGE_URL=url)
