"""Group `redis`: the service over a real Valkey beside redis-py's pipelined HSET and HMGET of the same values.

The hash of an entity has a field for each of 20 features, as feature stores over Redis do it; it knows neither
event time nor history. Both are written with `appendfsync everysec`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from loadtest.machine.measure import Result, at_least, at_most
from loadtest.machine.service import Service, temporary
from loadtest.micro.over_shared import FEATURES, Values, entity_id, register, served, together, written
from tests.servers.valkey import ValkeyServer

_FIELDS = [f"f{number:02}" for number in range(FEATURES)]


def run() -> Iterator[Result]:
    """Writing beside HSET, reading beside HMGET, and two processes beside one."""
    with ValkeyServer() as server, server.client() as plain:

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

        with _over(server.url) as service, _over(server.url) as other:
            register(service.address)
            yield from written("redis", "pipelined HSET", service, set_, at_least(1.0))
            yield from served("redis", "pipelined HMGET", service, get, at_most(1.5))
            yield from together("redis", service, other, at_least(1.6))


def _over(url: str) -> AbstractContextManager[Service]:
    return temporary(STORAGE_TYPE="redis", STORAGE_URL=url)
