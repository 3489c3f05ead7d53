"""Rows that name several entities, asked of the stores in one fan-out."""

from __future__ import annotations

from pathlib import Path

import msgspec

from actors.domain import FeatureChange
from actors.storage.embedded.on_disk import EmbeddedStorage
from tests.actors.service import FEATURE, SETTINGS, service, write

PRICE = "item.price.v1"


async def test_what_memory_lacks_of_any_role_is_read_from_the_disk(tmp_path: Path) -> None:
    async with service(EmbeddedStorage(str(tmp_path))) as router:
        await router.register(FeatureChange(entity="item", name="price", value_type="number"))
        for entity in ("a", "b"):
            await write(router, entity, 1)
            await write(router, entity, 2, feature=PRICE)
        await router.checkpointer.checkpoint()
    small = msgspec.structs.replace(SETTINGS, cache_size=1)
    async with service(EmbeddedStorage(str(tmp_path)), small) as router:
        selected = router.registry.select([FEATURE, PRICE])
        grid = await router.latest_of_rows([["a", "b"], ["b", "nobody"]], selected, router.now(), current=True)
        assert (grid.times > 0).tolist() == [[True, True], [True, False]]
        assert grid.values[0][:, 0].tolist() == [1, 2]
