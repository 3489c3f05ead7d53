"""Group `lanes`: the forms in which values are written in bulk, ready-made bodies over one connection.

The service is durable, watches the stream and makes its checkpoints; event times are spread over a month, which is
the dearer case for what watches. A rate is that of one request; what the service does behind it (checkpoints, the
monitor) takes from the requests after it, and is in the processor time, which is taken until all is at rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import trio

from actors.table.batch import Table
from actors.timestamps import format_timestamp
from actors.types.values import render
from loadtest.machine.arrow import post_table
from loadtest.machine.connection import Connection
from loadtest.machine.measure import Result, Target, at_least, seconds
from loadtest.machine.messages import encoded
from loadtest.machine.processes import at_rest, processor_seconds
from loadtest.machine.service import Service, temporary
from loadtest.micro import data
from loadtest.micro.http import register, write_requests

NUMBERS = tuple(feature for feature in data.MIXED if feature.value_type == "number")
PATH = "/features/write-batch"
BODIES = 6
"""So many different ones are sent in turn."""
WARM_UP = 2
REST_PATIENCE_SECONDS = 60.0


class Lane(NamedTuple):
    """A form, how many values a body of it has, and how many of them are written."""

    name: str
    values: int
    bodies: Callable[[np.random.Generator, int], list[bytes]]
    requests: int
    target: Target | None = None


def run() -> Iterator[Result]:
    """Each lane on a service of its own."""
    random = np.random.default_rng(6)
    for lane in LANES:
        bodies = lane.bodies(random, lane.values)
        with temporary() as service:
            register(service.address)
            yield from _written(service, lane, bodies)


def _written(service: Service, lane: Lane, bodies: Sequence[bytes]) -> Iterator[Result]:
    with Connection(service.address) as connection:
        for body in bodies[:WARM_UP]:
            connection.ask(body)
        trio.run(at_rest, [service.pid], REST_PATIENCE_SECONDS)
        before = processor_seconds(service.pid)
        sent = [bodies[number % len(bodies)] for number in range(lane.requests)]
        took = [seconds(lambda body=body: connection.ask(body)) for body in sent]  # type: ignore[misc]
        answered = processor_seconds(service.pid)
        trio.run(at_rest, [service.pid], REST_PATIENCE_SECONDS)
        after = processor_seconds(service.pid)
    yield Result(f"lanes: {lane.name}", "values/s", [lane.values / one for one in took], lane.target)
    if before is None or answered is None or after is None:
        return
    millions = lane.values * lane.requests / 1e6
    yield Result("lanes:   processor time of a million, answered", "s", [(answered - before) / millions])
    yield Result("lanes:   the same until all is at rest", "s", [(after - before) / millions])


# Bodies


def json_bodies(random: np.random.Generator, _: int) -> list[bytes]:
    return write_requests(random, BODIES)


def line_bodies(random: np.random.Generator, values: int) -> list[bytes]:
    """A value of one of 20 features on each line, in no order."""
    lines = msgspec.json.Encoder().encode_lines
    bodies = (lines(_observations(random, values)) for _ in range(BODIES))
    return [encoded("POST", PATH, body, "application/x-ndjson") for body in bodies]


def _observations(random: np.random.Generator, values: int) -> list[dict[str, Any]]:
    batch = data.random_batch(random, data.MIXED, values)
    rows = [
        row for feature, table in zip(data.MIXED, batch, strict=True) for row in _rows(feature.value_type, table)
    ]
    return [rows[place] for place in random.permutation(len(rows)).tolist()]


def _rows(value_type: str, table: Table) -> Iterator[dict[str, Any]]:
    (column,) = table.columns
    values = render(value_type, column.values, column.nulls)
    for entity, moment, value in zip(table.entities, table.times.tolist(), values, strict=True):
        when = format_timestamp(moment)
        yield {"featureId": column.feature, "entityId": entity, "value": value, "timestamp": when}


def long_bodies(random: np.random.Generator, values: int) -> list[bytes]:
    """A value of one of 14 features in each row, in no order."""
    return [post_table(PATH, _long_table(random, values)) for _ in range(BODIES)]


def _long_table(random: np.random.Generator, values: int) -> pa.Table:
    features = [NUMBERS[place].id for place in random.integers(0, len(NUMBERS), values).tolist()]
    return pa.table(
        {
            "featureId": features,
            "entityId": data.random_entities(random, values),
            "value": data.random_values(random, "number", values),
            "timestamp": _moments(random, values),
        }
    )


def wide_bodies(random: np.random.Generator, values: int) -> list[bytes]:
    """A row has a value of each of 20 features."""
    return [post_table(PATH, _wide_table(random, values // len(data.MIXED))) for _ in range(BODIES)]


def _wide_table(random: np.random.Generator, rows: int) -> pa.Table:
    keys = {"entityId": data.random_entities(random, rows), "timestamp": _moments(random, rows)}
    return pa.table({**keys, **{one.id: data.random_values(random, one.value_type, rows) for one in data.MIXED}})


def _moments(random: np.random.Generator, count: int) -> pa.Array:
    return pa.array(data.random_times(random, count)).cast(pa.timestamp("us", "UTC"))


LANES = (
    Lane("JSON, bodies of 10,000", 10_000, json_bodies, 60),
    Lane("NDJSON, bodies of 100,000", 100_000, line_bodies, 12, at_least(500_000)),
    Lane("Arrow long, bodies of 200,000", 200_000, long_bodies, 15, at_least(3_000_000)),
    Lane("Arrow wide, bodies of 10,000 x 20", 200_000, wide_bodies, 25, at_least(3_000_000)),
)
