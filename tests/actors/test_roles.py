"""Rows that name several entities: each store is asked about all of them at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from actors import completing
from actors.domain import FeatureChange, ServiceFeature
from actors.mailbox import Message, R
from actors.messages import Latest
from actors.router import Router
from actors.storage.embedded.local import MemoryStorage
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.store import FeatureStore
from actors.table.grid import Grid
from tests.actors.service import FEATURE, SETTINGS, SHARDS, service, write

PRICE = "item.price.v1"
IDS = [f"e{number}" for number in range(8)]


async def known(router: Router) -> None:
    """Values of both features for all of IDS, by their place."""
    await router.register(FeatureChange(entity="item", name="price", value_type="number"))
    for place, entity in enumerate(IDS):
        await write(router, entity, place)
        await write(router, entity, 10 + place, feature=PRICE)


@asynccontextmanager
async def on_disk(path: Path) -> AsyncIterator[Router]:
    """A router that has nearly nothing of that in memory."""
    async with service(EmbeddedStorage(str(path))) as router:
        await known(router)
        await router.checkpointer.checkpoint()
    async with service(EmbeddedStorage(str(path)), msgspec.structs.replace(SETTINGS, cache_size=1)) as router:
        yield router


async def of_items(router: Router) -> Grid:
    selected = router.registry.select([FEATURE, PRICE])
    ids = [IDS, [*IDS[:0:-1], "nobody"]]
    return await router.latest_of_rows(ids, selected, router.now(), current=True)


def check(grid: Grid) -> None:
    assert (grid.times > 0).tolist() == [[True] * 8, [*[True] * 7, False]]
    assert grid.values[0][0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert grid.values[0][1, :-1].tolist() == [17, 16, 15, 14, 13, 12, 11]


async def test_what_memory_lacks_of_any_role_is_read_from_the_disk(tmp_path: Path) -> None:
    async with on_disk(tmp_path) as router:
        check(await of_items(router))


async def test_roles_that_are_too_much_to_be_read_together_are_read_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "MAX_ROWS_FROM_DISK", len(IDS))
    async with on_disk(tmp_path) as router:
        check(await of_items(router))


async def test_a_feature_may_be_read_from_the_disk_for_two_entities_of_each_row(tmp_path: Path) -> None:
    async with on_disk(tmp_path) as router:
        named = [ServiceFeature(FEATURE, name, name) for name in ("sender", "receiver")]
        selected = router.registry.select(named)
        grid = await router.latest_of_rows([IDS, IDS[::-1]], selected, router.now(), current=True)
        assert grid.values[0].tolist() == [[0, 1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1, 0]]


async def test_each_store_gets_one_message_for_all_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    messages, sane = list[Latest](), FeatureStore.handle

    def handle(self: FeatureStore, message: Message[R]) -> R:
        if isinstance(message, Latest):
            messages.append(message)
        return sane(self, message)

    monkeypatch.setattr(FeatureStore, "handle", handle)
    async with service(MemoryStorage(SETTINGS.max_read_bytes)) as router:
        await known(router)
        check(await of_items(router))
    assert len(messages) == SHARDS
