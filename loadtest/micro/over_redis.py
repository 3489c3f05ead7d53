"""Group `redis`: the service over a real Valkey beside redis-py's pipelined HSET and HMGET of the same values.

The hash of an entity has a field for each of 20 features, as feature stores over Redis do it; it knows neither
event time nor history. Both are written with `appendfsync everysec`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import redis

from actors.timestamps import SECOND, now
from loadtest.micro.client import Connection
from loadtest.micro.measure import Result, at_least, at_most, seconds
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
from loadtest.valkey import ValkeyServer

_FIELDS = [f"f{number:02}" for number in range(FEATURES)]


def run() -> Iterator[Result]:
    """Writing beside HSET, reading beside HMGET, and two processes beside one."""
    random = np.random.default_rng(9)
    with ValkeyServer() as server, server.client() as plain:
        with _over(server.url) as service, _over(server.url) as other:
            register(service.address)
            yield from _writing(service, plain, random)
            yield from _reading(service, plain)
            yield from together("redis", service, other, at_least(1.6))


def _over(url: str) -> Any:
    return timewell(STORAGE_TYPE="redis", STORAGE_URL=url)


def _writing(service: Service, plain: redis.Redis, random: np.random.Generator) -> Iterator[Result]:
    took: dict[str, list[float]] = {"JSON": [], "Arrow": [], "HSET": []}
    with Connection(service.address) as connection:
        for number in range(BATCHES + 2):
            values = random.random((ENTITIES, FEATURES)) * 1_000
            moment = now() - (BATCHES + 2 - number) * 60 * SECOND
            requests = {"JSON": batch(values, moment), "Arrow": table(values, moment + 1)}
            for form, request in requests.items():
                took[form].append(seconds(lambda request=request: connection.ask(request)))  # type: ignore[misc]
            took["HSET"].append(seconds(lambda values=values: _set(plain, values)))  # type: ignore[misc]
    count, theirs = ENTITIES * FEATURES, took["HSET"][2:]
    yield Result("redis: pipelined HSET of 10,000 values", "values/s", [count / one for one in theirs])
    for form in ("JSON", "Arrow"):
        ours = took[form][2:]
        yield Result(f"redis: write-batch of the same, {form}", "values/s", [count / one for one in ours])
        ratios = [two / one for one, two in zip(ours, theirs, strict=True)]
        yield Result(f"redis: {form} to HSET", "x", ratios, at_least(1.0))


def _set(plain: redis.Redis, values: np.ndarray[Any, Any]) -> None:
    pipe = plain.pipeline(transaction=False)
    for entity, row in enumerate(values.tolist()):
        pipe.hset(f"plain:{entity_id(entity)}", mapping=dict(zip(_FIELDS, row, strict=True)))
    pipe.execute()


def _reading(service: Service, plain: redis.Redis) -> Iterator[Result]:
    entities, request = read()

    def get() -> None:
        pipe = plain.pipeline(transaction=False)
        for entity in entities:
            pipe.hmget(f"plain:{entity}", _FIELDS)
        for row in pipe.execute():
            list(map(float, row))

    ours, theirs = list[float](), list[float]()
    with Connection(service.address) as connection:
        for _ in range(ROUNDS):
            ours.append(seconds(lambda: connection.ask(request)) * 1e3)
            theirs.append(seconds(get) * 1e3)
    yield Result("redis: serve 100x20", "ms", ours[10:])
    yield Result("redis: pipelined HMGET of the same", "ms", theirs[10:])
    ratios = [one / two for one, two in zip(ours, theirs, strict=True)][10:]
    yield Result("redis: serve to HMGET", "x", ratios, at_most(1.5))
