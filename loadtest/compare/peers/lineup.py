"""The peers by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from loadtest.compare.peers import feast, postgresql
from loadtest.compare.peers.engines import DuckDB, InProcess, Polars
from loadtest.compare.peers.feast import Feast
from loadtest.compare.peers.postgresql import PostgreSQL
from loadtest.compare.peers.redis import OverShared, Redis
from loadtest.compare.peers.timewell import OneType
from loadtest.compare.serving import Place, Starting, valkey
from loadtest.compare.serving import postgresql as shared_postgresql
from loadtest.compare.work import Peer

Maker = Callable[[Place], Peer]
PEERS: dict[str, dict[str, Maker]] = {
    "feast": {"feast-sqlite": partial(Feast, feast.SQLITE), "feast-redis": partial(Feast, feast.REDIS)},
    "redis": {"redis-everysec": Redis},
    "shared": {
        "shared-redis-client": OverShared,
        "shared-redis": partial(Feast, feast.SHARED_REDIS),
        "shared-postgresql": partial(Feast, feast.SHARED_POSTGRESQL),
    },
    "engines": {"in-process": InProcess, "duckdb": DuckDB, "polars": Polars},
    "postgresql": {
        "postgresql-rows": partial(PostgreSQL, postgresql.ROWS),
        "postgresql-keyed": partial(PostgreSQL, postgresql.KEYED),
    },
    "timewell": {"timewell-one-type": partial(OneType, {})},
}
"""By family, then by name."""
STORES: dict[str, Starting] = {
    "shared-redis-client": valkey,
    "shared-redis": valkey,
    "shared-postgresql": shared_postgresql,
}
"""The store that these peers share with Timewell."""


def chosen(names: list[str]) -> dict[str, Maker]:
    """Families and single peers, each once, in the order given. Raises ValueError for an unknown name."""
    found: dict[str, Maker] = {}
    single = {name: make for family in PEERS.values() for name, make in family.items()}
    for name in names:
        family = PEERS.get(name) or ({name: single[name]} if name in single else {})
        if not family:
            raise ValueError(f"no peer {name}; there are {', '.join([*PEERS, *single])}")
        found |= family
    return found
