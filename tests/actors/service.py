"""A router over a storage, with the few calls that the tests of the actors make."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from actors.domain import FeatureChange
from actors.ingest.sent import Sent
from actors.opening import AnyStorage, open_router
from actors.router import Router
from actors.settings import Settings
from actors.table.sharding import shard_of

FEATURE = "user.clicks.v1"
SHARDS = 2
SETTINGS = Settings(storage_type="memory", shards=SHARDS, checkpoint_seconds=1e6)


def entity_of_shard(shard: int) -> str:
    """Some entity that a given store owns."""
    return next(f"u{n}" for n in range(100) if shard_of("user", f"u{n}", SHARDS) == shard)


ONE, OTHER = entity_of_shard(0), entity_of_shard(1)


@asynccontextmanager
async def service(storage: AnyStorage, settings: Settings = SETTINGS) -> AsyncIterator[Router]:
    """A router with one number feature registered."""
    async with open_router(settings, storage) as router:
        if FEATURE not in router.registry.features:
            await router.register(FeatureChange(entity="user", name="clicks", value_type="number"))
        yield router


async def write(
    router: Router, entity: str, *values: float, key: str | None = None, feature: str = FEATURE
) -> bytes:
    """Write values of one entity at the present."""
    count = len(values)
    sent = Sent([feature] * count, [entity] * count, values, [None] * count, [None] * count)
    return await router.write(router.judge.at_once(sent), b"done", key)


async def read(router: Router, *entities: str, feature: str = FEATURE) -> list[Any]:
    """The latest values, None for what is missing."""
    return await read_as(router, router.now(), entities, feature)


async def read_as(router: Router, at: int, entities: Sequence[str], reference: str = FEATURE) -> list[Any]:
    """The values as of a moment, None for what is missing."""
    feature = router.registry.resolve(reference)
    grid = await router.latest(entities, router.registry.select([feature.id]), at, current=True)
    times, values = grid.times[0].tolist(), grid.values[0][0].tolist()
    return [value if time > 0 else None for time, value in zip(times, values, strict=True)]
