"""Those compared: one file for each, and the names by which they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from loadtest.compare import stores
from loadtest.compare.environments import Environment
from loadtest.compare.peers import engines, feast, postgresql, redis
from loadtest.compare.peers.hypercorn import Hypercorn
from loadtest.compare.stores import Starting, Store, valkey
from loadtest.compare.work import Peer
from loadtest.machine.cores import Cores


class Place(NamedTuple):
    """Where a peer may be: an empty directory, cores, and the directory of all environments."""

    directory: Path
    cores: Cores
    environments: Path
    store: Store | None = None
    """Where Timewell and it both keep their values."""


def _feast(kind: feast.Kind) -> Callable[[Place], Peer]:
    def make(place: Place) -> Peer:
        return feast.Feast(
            place.directory, place.cores, Environment("feast", place.environments), kind, place.store
        )

    return make


def _redis(kind: redis.Kind) -> Callable[[Place], Peer]:
    return lambda place: redis.Redis(place.directory, place.cores, kind)


def _postgresql(kind: postgresql.Kind) -> Callable[[Place], Peer]:
    return lambda place: postgresql.PostgreSQL(place.cores, kind)


PEERS: dict[str, dict[str, Callable[[Place], Peer]]] = {
    "feast": {"feast-sqlite": _feast(feast.SQLITE), "feast-redis": _feast(feast.REDIS)},
    "redis": {
        "redis-everysec": _redis(redis.EVERY_SECOND),
        "redis-always": _redis(redis.ALWAYS),
        "redis-packed": _redis(redis.PACKED),
    },
    "shared": {"shared-redis": _feast(feast.SHARED_REDIS), "shared-postgresql": _feast(feast.SHARED_POSTGRESQL)},
    "engines": {
        "in-process": lambda place: engines.InProcess(place.cores),
        "duckdb": lambda place: engines.DuckDB(place.cores),
        "polars": lambda place: engines.Polars(place.cores),
    },
    "postgresql": {
        "postgresql-rows": _postgresql(postgresql.ROWS),
        "postgresql-keyed": _postgresql(postgresql.KEYED),
    },
    "hypercorn": {"hypercorn-noop": lambda place: Hypercorn(place.directory, place.cores)},
}
"""By family, then by the name of one alone."""
STORES: dict[str, Starting] = {"shared-redis": valkey, "shared-postgresql": stores.postgresql}
"""Where those and Timewell keep their values together."""


def chosen(names: list[str]) -> dict[str, Callable[[Place], Peer]]:
    """Families and single peers, each once, in the order given. Raises ValueError for an unknown name."""
    found: dict[str, Callable[[Place], Peer]] = {}
    single = {name: make for family in PEERS.values() for name, make in family.items()}
    for name in names:
        family = PEERS.get(name) or ({name: single[name]} if name in single else {})
        if not family:
            raise ValueError(f"no peer {name}; there are {', '.join([*PEERS, *single])}")
        found |= family
    return found
