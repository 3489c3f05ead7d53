"""A wall clock that is wrong for a while: nothing is lost, what was acknowledged is seen, the later write wins."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.clock import ArrivalClock, SteadyClock
from actors.domain import FeatureChange, Retention
from actors.ingest.sent import Sent
from actors.monitoring.checks import make_check
from actors.opening import open_router
from actors.router import Router
from actors.serving import Span
from actors.settings import Settings
from actors.storage.embedded import filed
from tests.model import rfc3339
from web.routes.serving import serve_latest

SECOND = 1_000_000
MINUTE, HOUR = 60 * SECOND, 3_600 * SECOND
NOON = 1_762_516_800_000_000
FEATURE = "user.clicks.v1"
SETTINGS = Settings(shards=1, checkpoint_seconds=1e6, monitor_seconds=1e6)


class Wall:
    """A clock that is set by hand."""

    def __init__(self, micros: int = NOON) -> None:
        self.micros = micros

    def __call__(self) -> int:
        return self.micros


@asynccontextmanager
async def service(directory: Path, wall: Wall, age: str | None = "1h") -> AsyncIterator[Router]:
    settings = Settings(
        **{name: getattr(SETTINGS, name) for name in SETTINGS.__struct_fields__} | {"data_dir": str(directory)}
    )
    async with open_router(settings, now=wall) as router:
        if FEATURE not in router.registry.features:
            change = FeatureChange(
                entity="user", name="clicks", value_type="integer", max_age="1h", retention=Retention(age=age)
            )
            await router.register(change)
        yield router


async def write(router: Router, value: int, at: int | None = None, key: str | None = None) -> bytes:
    times = [None if at is None else rfc3339(at)]
    return await router.write(
        router.judge.at_once(Sent([FEATURE], ["u"], [value], times, [None])), b"%d" % value, key
    )


async def served(router: Router) -> int | None:
    grid = await router.latest(["u"], router.registry.select([FEATURE], None), router.now(), current=True)
    return int(grid.values[0][0, 0]) if grid.times[0, 0] > 0 else None


async def kept(router: Router) -> Sequence[Any]:
    span = Span(0, NOON + 100 * HOUR)
    found = await router.observations("u", router.registry.resolve(FEATURE), span, 100, False)
    return list(found.values.tolist())


# What is removed for good


async def test_a_clock_that_is_two_hours_ahead_for_a_while_costs_no_value(tmp_path: Path) -> None:
    wall = Wall()
    async with service(tmp_path, wall) as router:
        await write(router, 1, NOON - 30 * MINUTE)
        wall.micros += 2 * HOUR
        await router.checkpointer.checkpoint()
        wall.micros += 6 * SECOND - 2 * HOUR
        assert (await served(router), await kept(router)) == (1, [1])
    async with service(tmp_path, wall) as router:
        assert (await served(router), await kept(router)) == (1, [1])


async def test_nor_when_files_are_merged_under_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filed, "RUNS_BEFORE_COMPACTION", 1)
    wall = Wall()
    async with service(tmp_path, wall) as router:
        await write(router, 1, NOON - 30 * MINUTE)
        await router.checkpointer.checkpoint()
        await write(router, 2, NOON - 20 * MINUTE)
        wall.micros += 2 * HOUR
        await router.checkpointer.checkpoint()
        wall.micros -= 2 * HOUR
        assert len(router.checkpointer._history._runs.runs()) == 1  # type: ignore[attr-defined]
    async with service(tmp_path, wall) as router:
        assert await kept(router) == [1, 2]


async def test_nor_when_the_process_starts_under_it(tmp_path: Path) -> None:
    wall = Wall()
    async with service(tmp_path, wall) as router:
        await write(router, 1, NOON - 30 * MINUTE)
    wall.micros += 2 * HOUR
    async with service(tmp_path, wall) as router:
        await router.checkpointer.checkpoint()
    wall.micros -= 2 * HOUR
    async with service(tmp_path, wall) as router:
        assert (await served(router), await kept(router)) == (1, [1])


@pytest.mark.parametrize("checkpointed", [True, False])
async def test_nor_when_values_came_in_under_it_before_the_process_starts_again(
    tmp_path: Path, checkpointed: bool
) -> None:
    wall = Wall()
    async with service(tmp_path, wall) as router:
        await write(router, 1, NOON - 30 * MINUTE)
        if checkpointed:
            await router.checkpointer.checkpoint()
        wall.micros += 2 * HOUR
        await router.write(router.judge.at_once(Sent([FEATURE], ["v"], [9], [None], [None])), b"")
    for ahead in (0, -2 * HOUR):
        wall.micros += ahead
        async with service(tmp_path, wall) as router:
            await router.checkpointer.checkpoint()
    async with service(tmp_path, wall) as router:
        assert (await served(router), await kept(router)) == (1, [1])


async def test_a_directory_without_a_moment_goes_on_from_its_last_arrival(tmp_path: Path) -> None:
    wall = Wall()
    async with service(tmp_path, wall) as router:
        await write(router, 1)
        arrived = router.now()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as database, database:
        database.execute("DELETE FROM meta WHERE key = 'moment'")
    wall.micros += 2 * HOUR
    async with service(tmp_path, wall) as router:
        assert arrived - SECOND <= router.clock.steady() <= arrived + MINUTE


async def test_what_came_in_under_it_hides_nothing_that_is_young_once_it_is_right_again(tmp_path: Path) -> None:
    wall = Wall()
    async with service(tmp_path, wall) as router:
        await write(router, 1, NOON - 30 * MINUTE)
        wall.micros += 2 * HOUR
        await router.write(router.judge.at_once(Sent([FEATURE], ["v"], [9], [None], [None])), b"")
        wall.micros -= 2 * HOUR
        assert (await served(router), await kept(router)) == (1, [1])


async def test_nor_does_it_make_a_young_value_one_that_has_expired(tmp_path: Path) -> None:
    wall, asked = Wall(), {"entityIds": ["u", "v"], "features": [FEATURE], "includeMetadata": True}
    async with service(tmp_path, wall) as router:
        await write(router, 1, NOON - 30 * MINUTE)
        wall.micros += 2 * HOUR
        await router.write(router.judge.at_once(Sent([FEATURE], ["v"], [9], [None], [None])), b"")
        wall.micros -= 2 * HOUR
        answer = msgspec.json.decode(await serve_latest(router, SETTINGS, msgspec.json.encode(asked)))
    described = [result["metadata"][FEATURE] for result in answer["results"]]
    assert [(one["status"], one["ageSeconds"]) for one in described] == [("present", 1_800), ("present", 0)]


def test_the_steady_clock_is_the_wall_clock_where_that_does_not_leap() -> None:
    wall, passed = Wall(), [0.0]
    steady = SteadyClock(wall, lambda: passed[0])
    steady.begin_after(NOON - HOUR)
    for _ in range(30):
        assert steady() <= wall()
        wall.micros += HOUR
        passed[0] += 3_600
    assert steady() == wall()
    wall.micros -= HOUR
    assert steady() == wall()


def test_after_a_long_absence_retention_goes_on_a_day_later() -> None:
    wall, passed = Wall(), [0.0]
    steady = SteadyClock(wall, lambda: passed[0])
    steady.begin_after(NOON - 1_000 * HOUR)
    assert steady() == NOON - 1_000 * HOUR
    for _ in range(25):
        wall.micros += HOUR
        passed[0] += 3_600
        steady()
    assert steady() == wall()


def test_no_leap_is_believed_at_the_first_look_however_rare_looks_are() -> None:
    wall, passed = Wall(), [0.0]
    steady = SteadyClock(wall, lambda: passed[0])
    steady.begin_after(0)
    passed[0] += 100 * 3_600
    wall.micros += 100 * HOUR
    assert steady() == wall()
    passed[0] += 100 * 3_600
    wall.micros += 102 * HOUR
    assert steady() == wall() - 2 * HOUR
    wall.micros -= 2 * HOUR
    assert steady() == wall()


async def test_a_clock_that_leaps_a_day_ahead_forgets_no_idempotency_key(tmp_path: Path) -> None:
    wall = Wall()
    async with service(tmp_path, wall) as router:
        assert await write(router, 1, NOON, "key") == b"1"
        wall.micros += 25 * HOUR
        await router.checkpointer.checkpoint()
        assert await router.repeated("key") == b"1"
        assert await write(router, 2, NOON, "key") == b"1"
        wall.micros -= 25 * HOUR
        assert await served(router) == 1


# What was acknowledged is seen


@pytest.mark.parametrize("back", [SECOND, HOUR, 1_000 * HOUR])
async def test_what_was_acknowledged_is_seen_and_the_later_write_wins_when_the_clock_goes_back(
    tmp_path: Path, back: int
) -> None:
    wall = Wall()
    async with service(tmp_path, wall, None) as router:
        await write(router, 1)
        wall.micros -= back
        assert await served(router) == 1
        await write(router, 2)
        assert await served(router) == 2
        await router.checkpointer.checkpoint()
    async with service(tmp_path, wall, None) as router:
        assert await served(router) == 2
        await write(router, 3)
        assert await served(router) == 3
        assert await kept(router) == [1, 2, 3]


async def test_a_clock_that_goes_back_between_the_judgement_and_the_commit_is_no_matter(tmp_path: Path) -> None:
    wall = Wall()
    async with service(tmp_path, wall, None) as router:
        first = router.judge.at_once(Sent([FEATURE], ["u"], [1], [None], [None]))
        wall.micros -= HOUR
        await router.write(first, b"")
        assert await served(router) == 1
        await write(router, 2)
        assert await served(router) == 2


def test_the_present_is_never_before_the_last_arrival() -> None:
    wall = Wall()
    clock = ArrivalClock(wall, lambda: 0.0)
    clock.begin_after(NOON + HOUR)
    assert clock.now() == NOON + HOUR
    assert clock.tick() == NOON + HOUR + 1
    assert clock.stamp() == clock.now() == NOON + HOUR + 1
    wall.micros += 2 * HOUR
    assert clock.now() == wall()


# Watching


async def test_windows_are_scored_after_a_clock_that_was_ahead_for_a_while(tmp_path: Path) -> None:
    wall = Wall()
    async with service(tmp_path, wall, None) as router:
        schedule = router.monitoring.schedule
        wall.micros += 2 * HOUR
        await schedule.tick()
        wall.micros -= 2 * HOUR
        await schedule.tick()
        wall.micros += MINUTE
        await write(router, 1, NOON + MINUTE)
        wall.micros += HOUR
        await schedule.tick()
        (score,) = schedule.scores_of(router.registry.resolve(FEATURE))
        assert score.current[0] == NOON


async def test_a_check_of_age_goes_by_the_clock_that_is_right_again(tmp_path: Path) -> None:
    wall = Wall()
    async with service(tmp_path, wall, None) as router:
        feature = router.registry.resolve(FEATURE)
        watch = router.monitoring.watch
        for type_, config in (("freshness", {"maxAge": "1h"}), ("volume", {"window": "1h", "min": 2})):
            await watch.put_check(make_check(feature, type_, type_, config))
        await write(router, 1, NOON - MINUTE)
        wall.micros += 2 * HOUR
        await router.write(router.judge.at_once(Sent([FEATURE], ["v"], [9], [None], [None])), b"")
        wall.micros -= 2 * HOUR
        results = await watch.results(watch.checks(), refresh=True)
        assert {result.finding.status for result in results.values()} == {"passing"}


async def test_alerts_go_on_when_a_process_starts_with_a_clock_that_has_gone_back(tmp_path: Path) -> None:
    wall = Wall()
    async with service(tmp_path, wall, None) as router:
        feature = router.registry.resolve(FEATURE)
        await router.monitoring.watch.put_check(make_check(feature, "c", "volume", {"window": "1h", "min": 1}))
        for _ in range(2):
            await router.monitoring.schedule.tick()
        await write(router, 1)
        for _ in range(2):
            await router.monitoring.schedule.tick()
        assert [alert.state for alert in router.monitoring.watch.alerts.values()] == ["resolved"]
    wall.micros -= 20 * HOUR
    async with service(tmp_path, wall, None) as router:
        (before,) = router.monitoring.watch.alerts.values()
        for _ in range(3):
            wall.micros += 13 * HOUR
            await router.monitoring.schedule.tick()
        assert {alert.state for alert in router.monitoring.watch.alerts.values()} == {"resolved", "firing"}
        assert before.since in {alert.since for alert in router.monitoring.watch.alerts.values()}
