"""Memory is a cache: what it lets go of comes back from the history files, as far as retention allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.domain import FeatureChange, Retention
from actors.ingest.sent import Sent
from actors.opening import open_router
from actors.router import Router
from actors.serving import Span
from actors.settings import Settings
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.store import StoreActor
from tests.faults import instead
from tests.model import rfc3339

NOW = 1_762_509_600_000_000
SECOND = 1_000_000
FEATURE = "user.clicks.v1"


class Watched(EmbeddedStorage):
    """Counts the reads of history files."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.reads = 0
        instead(self.history, "read", self._read)

    def _read(self, sane: Callable[..., Any], *question: Any) -> Any:
        self.reads += 1
        return sane(*question)


@pytest.fixture
def storage(tmp_path: Path) -> Watched:
    return Watched(str(tmp_path / "data"))


SETTINGS = Settings(shards=1, checkpoint_seconds=1e6)


async def prepare(router: Router, retention: Retention, entities: int = 1, values: int = 10) -> None:
    """Register, write one value a second up to the present for each entity, and checkpoint."""
    change = FeatureChange(entity="user", name="clicks", value_type="integer", retention=retention)
    await router.register(change)
    for entity in range(entities):
        await write(router, f"u{entity}", [(NOW - (values - 1 - n) * SECOND, n) for n in range(values)])
    await router.checkpointer.checkpoint()


async def write(router: Router, entity: str, rows: list[tuple[int, int]]) -> None:
    times = [rfc3339(time) for time, _ in rows]
    values = [value for _, value in rows]
    count = len(rows)
    sent = Sent([FEATURE] * count, [entity] * count, values, times, [None] * count)
    await router.write(router.judge.at_once(sent), b"done")


async def served(router: Router, entity: str, at: int = NOW, current: bool = True) -> int | None:
    grid = await router.latest([entity], router.registry.select([FEATURE], None), at, current)
    return int(grid.values[0][0, 0]) if grid.times[0, 0] > 0 else None


async def counted(router: Router, entity: str, start: int = 0) -> int:
    span = Span(start, NOW + 100 * SECOND)
    answer = await router.aggregate([entity], router.registry.resolve(FEATURE), "count", span)
    return int(answer.values[0])


async def test_history_older_than_retention_values_leaves_memory_and_stays_readable(storage: Watched) -> None:
    async with open_router(SETTINGS, storage, now=lambda: NOW) as router:
        await prepare(router, Retention(values=3))
        assert await served(router, "u0") == 9
        assert await served(router, "u0", NOW - SECOND, current=False) == 8
        assert await counted(router, "u0", NOW - 2 * SECOND) == 3
        assert (storage.reads, await router.serving.rows_in_memory()) == (0, 3)
        assert await served(router, "u0", NOW - 5 * SECOND, current=False) == 4
        assert await counted(router, "u0") == 10
        assert storage.reads == 2


async def test_an_evicted_pair_comes_back_when_it_is_served(storage: Watched) -> None:
    settings = msgspec.structs.replace(SETTINGS, cache_size=30)
    async with open_router(settings, storage, now=lambda: NOW) as router:
        await prepare(router, Retention(values=10), entities=6)
        await served(router, "u0")
        assert await router.serving.rows_in_memory() <= 30
        for _ in range(2):
            for entity in range(6):
                assert await served(router, f"u{entity}") == 9
                assert await counted(router, f"u{entity}") == 10
        before = storage.reads
        assert await served(router, "u5") == 9
        assert storage.reads == before, "the pair served last is in memory"


async def test_pairs_that_leave_memory_while_others_are_read_are_served(
    storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    actors, run = list[StoreActor](), StoreActor.run

    async def running(self: StoreActor) -> None:
        actors.append(self)
        await run(self)

    monkeypatch.setattr(StoreActor, "run", running)
    async with open_router(SETTINGS, storage, now=lambda: NOW) as router:
        await prepare(router, Retention(values=10), entities=8)
        entities, feature = [f"u{n}" for n in range(8)], router.registry.resolve(FEATURE)
        partition = actors[0].store.partition
        series, read = partition.series(feature), storage.history.read

        def let_go(entities: list[str]) -> None:
            for _ in series.evicting(partition.slots("user", entities), partition.flushed):
                pass

        def reading(*question: Any) -> Any:
            """All but one of those that are read leave memory, as when much else is used meanwhile."""
            found = read(*question)
            let_go([one for one in entities if one not in question[1]][:1])
            return found

        monkeypatch.setattr(storage.history, "read", reading)
        for current in (True, False):
            let_go(entities[:1])
            grid = await router.latest(entities, router.registry.select([FEATURE], None), NOW, current)
            assert grid.values[0][0].tolist() == [9] * 8
        let_go(entities[:1])
        answer = await router.aggregate(entities, feature, "count", Span(0, NOW))
        assert answer.values.tolist() == [10] * 8


async def test_unknown_entities_are_missing_after_eviction_too(storage: Watched) -> None:
    settings = msgspec.structs.replace(SETTINGS, cache_size=5)
    async with open_router(settings, storage, now=lambda: NOW) as router:
        await prepare(router, Retention(values=10), entities=3)
    async with open_router(settings, Watched(storage._directory.as_posix()), now=lambda: NOW) as router:
        assert await served(router, "nobody") is None
        assert await served(router, "u1") == 9


async def test_a_late_arrival_for_an_evicted_pair_lands_where_it_belongs(storage: Watched) -> None:
    settings = msgspec.structs.replace(SETTINGS, cache_size=1)
    async with open_router(settings, storage, now=lambda: NOW) as router:
        await prepare(router, Retention(values=10), entities=2)
        await served(router, "u1")
        await write(router, "u0", [(NOW - 5 * SECOND, 77), (NOW - 100 * SECOND, 78)])
        assert await served(router, "u0") == 9
        assert await served(router, "u0", NOW - 5 * SECOND, current=False) == 77
        assert await served(router, "u0", NOW - 50 * SECOND, current=False) == 78
        assert await counted(router, "u0") == 11


async def test_a_present_value_is_served_when_retention_keeps_only_later_ones(storage: Watched) -> None:
    async with open_router(SETTINGS, storage, now=lambda: NOW) as router:
        await prepare(router, Retention(values=2), values=1)
        await write(router, "u0", [(NOW + SECOND, 100), (NOW + 2 * SECOND, 101)])
        await router.checkpointer.checkpoint()
        assert await served(router, "u0") == 0


async def test_values_past_their_retention_age_answer_nothing_from_memory_or_disk(storage: Watched) -> None:
    async with open_router(SETTINGS, storage, now=lambda: NOW) as router:
        await prepare(router, Retention(values=3, age=4))
        assert await counted(router, "u0") == 5
        assert await served(router, "u0", NOW - 5 * SECOND, current=False) is None
        assert await served(router, "u0", NOW - 4 * SECOND, current=False) == 5


async def test_the_newest_value_past_its_retention_age_is_missing(storage: Watched) -> None:
    async with open_router(SETTINGS, storage, now=lambda: NOW) as router:
        await prepare(router, Retention(age="1h"), values=1)
        await write(router, "late", [(NOW - 3601 * SECOND, 5)])
        assert (await served(router, "u0"), await served(router, "late")) == (0, None)
