"""Rounds of the checks by the clock: alerts, events, scores, and what of them survives a restart."""

from __future__ import annotations

import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.domain import Feature, FeatureChange, ValueType
from actors.errors import NotFound, StorageDown, TimewellError
from actors.ingest.sent import Sent
from actors.monitoring import schedule as module
from actors.monitoring.alerts import Alert
from actors.monitoring.checks import Check, make_check
from actors.monitoring.events import Event
from actors.monitoring.findings import Finding
from actors.monitoring.watch import Period, PinnedPeriod
from actors.opening import open_router
from actors.router import Router
from actors.settings import Settings
from actors.storage.protocol import SavedSummaries
from tests.faults import FaultyStorage, instead
from tests.model import rfc3339

SECOND = 1_000_000
HOUR = 3_600 * SECOND
START = 1_762_509_600_000_000  # on the hour
ROUND_SECONDS = 60.0
SETTINGS = Settings(
    storage_type="memory",
    shards=1,
    checkpoint_seconds=1e6,
    monitor_seconds=ROUND_SECONDS,
    drift_window_seconds=3_600,
    alert_windows=2,
    alert_cooldown_seconds=600,
)
STALLED_SECONDS = 20.0


class Wall:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.micros = START

    def __call__(self) -> int:
        return self.micros

    def advance(self, seconds: float) -> None:
        self.micros += int(seconds * SECOND)


class SlowStorage(FaultyStorage):
    """Reads of a feature's summaries can be made to wait as well."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: dict[str, threading.Event] = {}
        instead(self.summaries, "read_whole", self._read_whole)
        self.reached = threading.Event()

    @contextmanager
    def holding(self, feature: Feature) -> Iterator[None]:
        """Reads of this feature's summaries wait until the block is left."""
        gate = self.gates[feature.id] = threading.Event()
        try:
            yield
        finally:
            del self.gates[feature.id]
            gate.set()

    def _hold(self, feature: Feature) -> None:
        gate = self.gates.get(feature.id)
        if gate is not None:
            self.reached.set()
            assert gate.wait(STALLED_SECONDS)

    def _read_whole(self, sane: Callable[[Feature], SavedSummaries], feature: Feature) -> SavedSummaries:
        self._hold(feature)
        return sane(feature)


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def storage() -> SlowStorage:
    return SlowStorage()


@asynccontextmanager
async def watched(wall: Wall, storage: SlowStorage | None, settings: Settings = SETTINGS) -> AsyncIterator[Router]:
    """A router by the wall clock that is given."""
    async with open_router(settings, storage, wall) as router:
        yield router


async def feature_of(router: Router, name: str, value_type: ValueType = "number") -> Feature:
    feature, _ = await router.register(FeatureChange(entity="user", name=name, value_type=value_type))
    return feature


async def write(router: Router, feature: Feature, values: Sequence[Any], at: int, step: int = 1) -> None:
    """Values of as many entities, with event times a few microseconds apart."""
    count = len(values)
    times = [rfc3339(at + step * position) for position in range(count)]
    entities = [f"u{position}" for position in range(count)]
    sent = Sent([feature.id] * count, entities, values, times, [None] * count)
    ingested = router.judge.at_once(sent)
    assert not ingested.faults
    await router.write(ingested, b"done")


async def add_check(router: Router, feature: Feature, check_type: str, id_: str = "c", **config: Any) -> Check:
    check = make_check(feature, id_, check_type, config)
    await router.monitoring.watch.put_check(check)
    return check


async def tick(router: Router, wall: Wall, rounds: int = 1) -> None:
    for _ in range(rounds):
        wall.advance(ROUND_SECONDS)
        await router.monitoring.schedule.tick()


async def findings(router: Router) -> dict[str, Finding]:
    """What every check finds now, by its key, in order."""
    watch = router.monitoring.watch
    checks = watch.checks()
    results = await watch.results(checks, refresh=True)
    return {check.key: results[check.key].finding for check in checks}


def alerts(router: Router) -> list[Alert]:
    return sorted(router.monitoring.watch.alerts.values(), key=lambda alert: alert.since)


def states(router: Router) -> list[str]:
    return [alert.state for alert in alerts(router)]


@contextmanager
def hearing(router: Router) -> Iterator[list[Event]]:
    """Everything that is published meanwhile, once the block is left."""
    heard: list[Event] = []
    events = router.monitoring.watch.events
    sane = events.publish

    def publish(kind: str, data: dict[str, Any]) -> Event:
        heard.append(sane(kind, data))
        return heard[-1]

    events.publish = publish  # type: ignore[method-assign]
    yield heard
    events.publish = sane  # type: ignore[method-assign]


async def eventually(truth: Callable[[], bool]) -> None:
    """Let everybody run until something holds; worker threads take their time, the mock clock does not."""
    for _ in range(2_000):
        if truth():
            return
        await wait_all_tasks_blocked(0.002)
    raise AssertionError("it never happened")


def normal(seed: int, mean: float, count: int = 500) -> list[float]:
    source = random.Random(seed)
    return [source.gauss(mean, 1.0) for _ in range(count)]


# Alerts


async def test_an_alert_is_pending_then_firing_then_resolved_and_each_is_told(
    wall: Wall, storage: SlowStorage
) -> None:
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        await add_check(router, feature, "volume", window="10m", min=1)
        with hearing(router) as heard:
            await tick(router, wall)
            assert states(router) == ["pending"]
            await tick(router, wall)
            assert states(router) == ["firing"]
            fired = wall.micros
            await tick(router, wall)
            assert states(router) == ["firing"]
            await write(router, feature, [1.0], wall.micros)
            await tick(router, wall)
            assert states(router) == ["firing"]
            await tick(router, wall)
            assert states(router) == ["resolved"]
        (alert,) = alerts(router)
        assert (alert.check_id, alert.feature_id, alert.check_type) == ("c", feature.id, "volume")
        assert (alert.fired, alert.resolved) == (fired, wall.micros)
        assert [event.kind for event in heard] == [
            "check.failing", "alert.pending", "alert.firing", "check.recovered", "alert.resolved",
        ]  # fmt: skip
        assert {event.data["featureId"] for event in heard} == {feature.id}
        assert heard[-1].data["resolvedAt"] is not None
        assert heard[2].data["resolvedAt"] is None


async def test_a_single_failure_is_pending_and_goes_without_a_trace(wall: Wall, storage: SlowStorage) -> None:
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        await add_check(router, feature, "volume", window="10m", min=1)
        await tick(router, wall)
        assert states(router) == ["pending"]
        await write(router, feature, [1.0], wall.micros)
        await tick(router, wall)
        assert states(router) == []
        assert not storage.notes("alert")


async def test_the_next_alert_of_a_check_waits_out_the_cooldown(wall: Wall, storage: SlowStorage) -> None:
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        await add_check(router, feature, "volume", window="1m", min=1)
        await tick(router, wall, 2)
        for _ in range(2):
            await write(router, feature, [1.0], wall.micros + SECOND)
            await tick(router, wall)
        assert states(router) == ["resolved"]
        resolved = wall.micros
        while states(router) != ["resolved", "firing"]:
            assert wall.micros - resolved < 600 * SECOND
            await tick(router, wall)
        assert wall.micros - resolved == 600 * SECOND


async def test_rounds_that_have_too_little_to_look_at_neither_fire_nor_resolve_nor_call_it_recovered(
    wall: Wall, storage: SlowStorage
) -> None:
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        await add_check(router, feature, "null", window="90s", maxNullRate=0)
        await write(router, feature, [None], wall.micros + 30 * SECOND)
        with hearing(router) as heard:
            await tick(router, wall)
            assert states(router) == ["pending"]
            await tick(router, wall, 5)  # nothing in the window any more
            assert states(router) == ["pending"]
            await write(router, feature, [None], wall.micros)
            await tick(router, wall)
            assert states(router) == ["firing"]
            await tick(router, wall, 5)
            assert states(router) == ["firing"]
        assert [event.kind for event in heard if event.kind == "check.recovered"] == []


async def test_checks_of_one_feature_and_of_others_have_alerts_of_their_own(
    wall: Wall, storage: SlowStorage
) -> None:
    async with watched(wall, storage) as router:
        one, other = await feature_of(router, "f"), await feature_of(router, "g")
        await add_check(router, one, "volume", "a", window="1h", min=1)
        await add_check(router, one, "volume", "b", window="1h", max=1)
        await add_check(router, other, "volume", "a", window="1h", min=1)
        await tick(router, wall, 2)
        found = {(alert.feature_id, alert.check_id, alert.state) for alert in alerts(router)}
        assert found == {(one.id, "a", "firing"), (other.id, "a", "firing")}


async def test_deleting_a_check_takes_its_open_alert_along_and_a_resolved_one_stays(
    wall: Wall, storage: SlowStorage
) -> None:
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        watch = router.monitoring.watch
        await add_check(router, feature, "volume", "open", window="1h", min=5)
        await add_check(router, feature, "volume", "closed", window="1h", min=1)
        await tick(router, wall, 2)
        await write(router, feature, [1.0], wall.micros)
        await tick(router, wall, 2)
        assert sorted(states(router)) == ["firing", "resolved"]
        for id_ in ("open", "closed"):
            await watch.delete_check(feature, id_)
        assert [(alert.check_id, alert.state) for alert in alerts(router)] == [("closed", "resolved")]
        assert len(storage.notes("alert")) == 1
        with pytest.raises(NotFound):
            await watch.delete_check(feature, "open")


async def test_a_deleted_feature_has_no_checks_and_no_open_alerts_any_more(
    wall: Wall, storage: SlowStorage
) -> None:
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        await add_check(router, feature, "volume", window="1h", min=1)
        await tick(router, wall, 2)
        assert states(router) == ["firing"]
        await router.delete_feature(feature.id)
        await tick(router, wall, 2)
        assert router.monitoring.watch.checks() == []
        assert "firing" not in states(router)


async def test_a_feature_registered_again_inherits_no_checks_pins_scores_or_alerts(
    wall: Wall, storage: SlowStorage
) -> None:
    async with watched(wall, storage) as router:
        old = await feature_of(router, "f")
        await add_check(router, old, "volume", window="1h", min=1)
        await router.monitoring.watch.pin(old, Period(START, START + HOUR))
        await write(router, old, [1.0], wall.micros)
        wall.advance(3_600)
        await tick(router, wall, 2)
        assert states(router) == ["firing"]
        assert router.monitoring.schedule.scores_of(old)
        await router.delete_feature(old.id)
        wall.advance(1)
        new = await feature_of(router, "f")
        watch = router.monitoring.watch
        assert watch.checks(new) == []
        assert watch.pinned(new) is None
        assert router.monitoring.schedule.scores_of(new) == []
        await add_check(router, new, "volume", window="1h", min=1)
        with hearing(router) as heard:
            await tick(router, wall)
        # One failure is not enough: the streak of the old feature's check is not this one's.
        assert [event.kind for event in heard if event.kind.startswith("alert.")] == ["alert.pending"]


async def test_no_more_than_so_many_resolved_alerts_are_kept(
    wall: Wall, storage: SlowStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESOLVED_KEPT", 2)
    settings = Settings(
        storage_type="memory", shards=1, checkpoint_seconds=1e6, alert_windows=1, alert_cooldown_seconds=0
    )
    async with watched(wall, storage, settings) as router:
        feature = await feature_of(router, "f")
        await add_check(router, feature, "volume", window="30s", min=1)
        resolved = []
        for _ in range(4):
            await tick(router, wall)
            await write(router, feature, [1.0], wall.micros + 59 * SECOND)
            await tick(router, wall)
            resolved.append(wall.micros)
        assert [alert.resolved for alert in alerts(router)] == resolved[-2:]
        assert len(storage.notes("alert")) == 2


# What goes on meanwhile


async def test_a_check_that_is_deleted_while_the_round_runs_does_not_hurt_the_round(
    wall: Wall, storage: SlowStorage
) -> None:
    async with watched(wall, storage) as router, trio.open_nursery() as nursery:
        one, other = await feature_of(router, "a"), await feature_of(router, "b")
        for feature in (one, other):
            await add_check(router, feature, "unique", minUnique=1)
            await write(router, feature, [1.0], wall.micros)
        with storage.holding(other):
            nursery.start_soon(tick, router, wall)
            await trio.to_thread.run_sync(storage.reached.wait, STALLED_SECONDS)
            await router.monitoring.watch.delete_check(one, "c")
    assert [check.feature_id for check in router.monitoring.watch.checks()] == [other.id]


async def test_a_check_that_is_replaced_while_it_is_looked_at_is_answered_all_the_same(
    wall: Wall, storage: SlowStorage
) -> None:
    async with watched(wall, storage) as router, trio.open_nursery() as nursery:
        one, other = await feature_of(router, "a"), await feature_of(router, "b")
        for feature in (one, other):
            await add_check(router, feature, "unique", minUnique=1)
            await write(router, feature, [1.0], wall.micros)
        watch = router.monitoring.watch
        await watch.results(watch.checks(one))
        with storage.holding(other):
            nursery.start_soon(watch.results, watch.checks())
            await trio.to_thread.run_sync(storage.reached.wait, STALLED_SECONDS)
            await add_check(router, one, "unique", minUnique=2)


async def test_what_is_set_up_while_notes_are_read_is_not_hidden_by_them(wall: Wall, storage: SlowStorage) -> None:
    async with watched(wall, storage) as router:
        watch = router.monitoring.watch
        one, other = await feature_of(router, "a"), await feature_of(router, "b")
        await add_check(router, one, "unique", minUnique=1)
        await watch.pin(one, Period(1, 2))
        with watch.noting():
            before = watch.noted()
            await add_check(router, other, "unique", minUnique=1)
            await watch.delete_check(one, "c")
            await watch.unpin(one)
            await watch.pin(other, Period(3, 4))
            watch.take_over(before)
        assert [check.feature_id for check in watch.checks()] == [other.id]
        assert (watch.pinned(one), watch.pinned(other)) == (None, PinnedPeriod(other.id, other.created, 3, 4))
        watch.take_over(before)  # as read again later
        assert [check.feature_id for check in watch.checks()] == [one.id]


async def test_a_check_that_is_deleted_while_it_fails_leaves_no_alert_behind(
    wall: Wall, storage: SlowStorage
) -> None:
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        await write(router, feature, [1.0], wall.micros)
        await add_check(router, feature, "unique", minUnique=2)
        async with trio.open_nursery() as nursery:
            with storage.holding(feature):
                nursery.start_soon(tick, router, wall)
                await trio.to_thread.run_sync(storage.reached.wait, STALLED_SECONDS)
                await router.monitoring.watch.delete_check(feature, "c")
        assert states(router) == []


@pytest.mark.parametrize(("check_type", "config"), [("range", {"max": 0}), ("drift", {"window": "70s"})])
async def test_a_check_that_cannot_be_evaluated_does_not_keep_the_others_from_firing(
    wall: Wall, storage: SlowStorage, monkeypatch: pytest.MonkeyPatch, check_type: str, config: dict[str, Any]
) -> None:
    async with watched(wall, storage) as router:
        large, small = await feature_of(router, "a"), await feature_of(router, "b")
        # Half of them outside of the period looked at, so that its bound cuts through them.
        await write(router, large, normal(1, 0.0, 50), wall.micros - 20 * SECOND, step=SECOND)
        await router.checkpointer.checkpoint()
        await add_check(router, large, check_type, **config)
        await add_check(router, small, "volume", window="1h", min=1)
        monkeypatch.setattr("actors.storage.embedded.filed.MAX_ROWS_FROM_DISK", 10)
        for _ in range(2):
            with suppress(TimewellError):  # as `run` does
                await tick(router, wall)
        assert (small.id, "firing") in {(alert.feature_id, alert.state) for alert in alerts(router)}


# By the clock


async def test_rounds_come_by_the_clock_and_none_in_between(
    wall: Wall, storage: SlowStorage, mock_clock: MockClock
) -> None:
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        await add_check(router, feature, "volume", window="1h", min=1)
        wall.advance(ROUND_SECONDS)
        mock_clock.jump(ROUND_SECONDS - 1)
        await wait_all_tasks_blocked(0.01)
        assert states(router) == []
        mock_clock.jump(1)
        await eventually(lambda: states(router) == ["pending"])
        wall.advance(ROUND_SECONDS)
        mock_clock.jump(ROUND_SECONDS)
        await eventually(lambda: states(router) == ["firing"])


async def test_a_round_that_the_storage_fails_is_followed_by_the_next(
    wall: Wall, storage: SlowStorage, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        await add_check(router, feature, "volume", window="1h", min=1)
        storage.failing.add("commit")
        for _ in range(2):
            wall.advance(ROUND_SECONDS)
            mock_clock.jump(ROUND_SECONDS)
            await wait_all_tasks_blocked(0.01)
        await eventually(lambda: "did not finish its round" in caplog.text)
        storage.failing.clear()
        wall.advance(ROUND_SECONDS)
        mock_clock.jump(ROUND_SECONDS)
        await eventually(lambda: states(router) == ["firing"])
        assert len(storage.notes("alert")) == 1


async def test_drift_checks_are_judged_by_the_last_window_against_those_before_it(
    wall: Wall, storage: SlowStorage
) -> None:
    async with watched(wall, storage) as router:
        same, moved = await feature_of(router, "same"), await feature_of(router, "moved")
        for feature, mean in ((same, 0.0), (moved, 3.0)):
            await write(router, feature, normal(1, 0.0), START - HOUR, step=SECOND)
            await write(router, feature, normal(2, mean), START, step=SECOND)
            await add_check(router, feature, "drift", window="1h")
        wall.micros = START + HOUR - 1
        found = await findings(router)
        assert found[f"{same.id} c"].status == "passing"
        assert found[f"{moved.id} c"].status == "failing"
        assert "moved up" in found[f"{moved.id} c"].message
        await router.monitoring.watch.pin(moved, Period(START, START + HOUR))
        assert [finding.status for finding in (await findings(router)).values()] == ["passing", "passing"]


# Scores of closed windows


async def test_a_window_is_scored_once_when_it_has_closed(wall: Wall, storage: SlowStorage) -> None:
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        schedule = router.monitoring.schedule
        await write(router, feature, normal(1, 0.0), START - HOUR, step=SECOND)
        await write(router, feature, normal(2, 4.0), START, step=SECOND)
        wall.micros = START + HOUR - 70 * SECOND
        await tick(router, wall)
        assert schedule.scores_of(feature) == []
        with hearing(router) as heard:
            await tick(router, wall, 3)
        (score,) = schedule.scores_of(feature)
        assert score.current == (START, START + HOUR - 1, 500)
        assert score.reference == (START - 24 * HOUR, START - 1, 500)
        assert (score.judgement.verdict, score.judgement.severity) == ("drift", "high")
        assert [(event.kind, event.data["featureId"]) for event in heard] == [("drift", feature.id)]


async def test_scores_are_newest_first_and_no_more_than_so_many_are_kept(
    wall: Wall, storage: SlowStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCORES_KEPT", 3)
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        for hour in range(5):
            await write(router, feature, [1.0], START + hour * HOUR)
            wall.micros = START + (hour + 1) * HOUR
            await router.monitoring.schedule.tick()
        found = [score.current[0] for score in router.monitoring.schedule.scores_of(feature)]
        assert found == [START + hour * HOUR for hour in (4, 3, 2)]
        assert len(storage.notes("score")) == 3


async def test_windows_that_a_backfill_fills_are_scored_when_it_has_settled(
    wall: Wall, storage: SlowStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LATE_WINDOWS_A_ROUND", 2)
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        schedule = router.monitoring.schedule
        for hour in range(4):
            shift = 4.0 if hour == 2 else 0.0
            await write(router, feature, normal(hour, shift), START - (10 - hour) * HOUR, step=SECOND)
        await tick(router, wall)
        assert schedule.scores_of(feature) == [], "it may go on"
        with hearing(router) as heard:
            await tick(router, wall)
        assert [one.current[0] for one in schedule.scores_of(feature)] == [START - 7 * HOUR, START - 8 * HOUR]
        await tick(router, wall, 2)
        scores = schedule.scores_of(feature)
        assert [one.current[0] for one in scores] == [START - hour * HOUR for hour in (7, 8, 9)]
        assert [one.judgement.verdict for one in scores][1:] == ["drift", "stable"]
        assert "drift" in [event.kind for event in heard]
        await write(router, feature, normal(9, 0.0, 4_000), START - 8 * HOUR, step=SECOND // 2)
        await tick(router, wall, 3)
        assert len(schedule.scores_of(feature)) == 3
        assert schedule.scores_of(feature)[1].current[2] == 4_500, "and once more for what comes later still"
        assert len(storage.notes("score")) == 3


async def test_a_window_of_nothing_but_nulls_has_drifted(wall: Wall, storage: SlowStorage) -> None:
    async with watched(wall, storage) as router:
        feature = await feature_of(router, "f")
        await write(router, feature, normal(1, 0.0), START - HOUR, step=SECOND)
        await write(router, feature, [None] * 100, START, step=SECOND)
        wall.micros = START + HOUR
        await router.monitoring.schedule.tick()
        (score,) = router.monitoring.schedule.scores_of(feature)
        assert (score.judgement.verdict, score.judgement.severity) == ("drift", "high")
        assert "nulls went from 0.00% to 100.00%" in score.judgement.reasons[0]


async def test_a_feature_without_values_in_a_window_has_no_score_for_it(wall: Wall, storage: SlowStorage) -> None:
    async with watched(wall, storage) as router:
        before, during, after = [await feature_of(router, name) for name in ("before", "during", "after")]
        await write(router, before, [1.0], START - 1)
        await write(router, during, [1.0], START)
        wall.micros = START + HOUR + 30 * SECOND
        await write(router, after, [1.0], wall.micros)
        await tick(router, wall)
        scored = [len(router.monitoring.schedule.scores_of(feature)) for feature in (before, during, after)]
        assert scored == [0, 1, 0]


async def test_the_scores_of_a_window_are_judged_as_one_family(wall: Wall, storage: SlowStorage) -> None:
    features_count, seeds = 40, random.Random(5)
    async with watched(wall, storage) as router:
        features = [await feature_of(router, f"f{number:02}") for number in range(features_count)]
        shifted = features[0]
        for number, feature in enumerate(features):
            await write(router, feature, normal(seeds.getrandbits(30), 0.0, 200), START - HOUR, step=SECOND)
            mean = 2.0 if number == 0 else 0.0
            await write(router, feature, normal(seeds.getrandbits(30), mean, 200), START, step=SECOND)
        wall.micros = START + HOUR
        await router.monitoring.schedule.tick()
        schedule, watch = router.monitoring.schedule, router.monitoring.watch
        drifted = []
        for feature in features:
            (score,) = schedule.scores_of(feature)
            assert f"over {features_count} features" in score.judgement.reasons[-1]
            alone = await watch.score(feature, Period(*score.reference[:2]), Period(*score.current[:2]))
            assert alone.judgement.score == score.judgement.score
            assert alone.judgement.p_value is not None
            assert score.judgement.p_value is not None
            assert score.judgement.p_value >= alone.judgement.p_value
            drifted += [feature] if score.judgement.drift else []
        assert drifted == [shifted]


async def test_a_window_whose_scores_could_not_be_noted_is_scored_in_the_next_round(
    wall: Wall, storage: SlowStorage
) -> None:
    async with watched(wall, storage) as router:
        features = [await feature_of(router, name) for name in ("a", "b")]
        for feature in features:
            await write(router, feature, [1.0], START)
        wall.micros = START + HOUR
        storage.failing.add("commit")
        with pytest.raises(StorageDown):
            await router.monitoring.schedule.tick()
        storage.failing.clear()
        await tick(router, wall)
        found = [[score.current[0] for score in router.monitoring.schedule.scores_of(one)] for one in features]
        assert found == [[START], [START]]


# Restarts


async def test_checks_pins_alerts_and_scores_survive_a_restart(wall: Wall, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=str(tmp_path / "data"), shards=1, checkpoint_seconds=1e6, alert_cooldown_seconds=600
    )
    async with watched(wall, None, settings) as router:
        feature = await feature_of(router, "f")
        gone = await feature_of(router, "gone")
        await write(router, feature, normal(1, 0.0, 60), START - HOUR, step=SECOND)
        await write(router, feature, normal(2, 3.0, 60), START, step=SECOND)
        await add_check(router, feature, "volume", "quiet", window="10m", min=1)
        await add_check(router, feature, "range", "wide", max=1e9)
        await add_check(router, feature, "null", "deleted", maxNullRate=0)
        await add_check(router, gone, "null", maxNullRate=0)
        await router.monitoring.watch.delete_check(feature, "deleted")
        await router.delete_feature(gone.id)
        wall.micros = START + HOUR
        await tick(router, wall, 2)
        pinned = await router.monitoring.watch.pin(feature, Period(START, START + HOUR))
        before = router.monitoring
        kept = (before.watch.checks(), before.watch.alerts, before.schedule.scores_of(feature))
        assert (len(kept[0]), states(router), len(kept[2])) == (2, ["firing"], 1)

    async with watched(wall, None, settings) as router:
        after = router.monitoring
        assert (after.watch.checks(), after.watch.alerts, after.schedule.scores_of(feature)) == kept
        assert after.watch.pinned(feature) == pinned
        statuses = [finding.status for finding in (await findings(router)).values()]
        assert statuses == ["failing", "passing"]
        # The alert goes on where it was: it does not fire again, and it resolves.
        with hearing(router) as heard:
            await tick(router, wall)
            await write(router, feature, [1.0], wall.micros)
            await tick(router, wall, 2)
        assert [event.kind for event in heard if event.kind.startswith("alert.")] == ["alert.resolved"]
        await after.watch.unpin(feature)

    async with watched(wall, None, settings) as router:
        assert states(router) == ["resolved"]
        assert router.monitoring.watch.pinned(feature) is None
        wall.advance(700 - 60 * 3)  # still cooling down, but for the last rounds
        await tick(router, wall, 2)
        assert states(router)[0] == "resolved"


async def test_a_restart_does_not_shorten_the_cooldown(wall: Wall, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=str(tmp_path / "data"),
        shards=1,
        checkpoint_seconds=1e6,
        alert_windows=1,
        alert_cooldown_seconds=600,
    )
    async with watched(wall, None, settings) as router:
        feature = await feature_of(router, "f")
        await add_check(router, feature, "volume", window="30s", min=1)
        await tick(router, wall)
        await write(router, feature, [1.0], wall.micros + 59 * SECOND)
        await tick(router, wall)
        assert states(router) == ["resolved"]
        resolved = wall.micros
    async with watched(wall, None, settings) as router:
        while "firing" not in states(router):
            assert wall.micros - resolved < 600 * SECOND
            await tick(router, wall)
        assert wall.micros - resolved == 600 * SECOND


async def test_violations_are_counted_the_same_before_and_after_a_checkpoint(wall: Wall, tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path / "data"), shards=1, checkpoint_seconds=1e6)
    async with watched(wall, None, settings) as router:
        feature = await feature_of(router, "f", "string")
        values = ["a", None, "b", "c" * 80, "a"]
        await add_check(router, feature, "pattern", "all", regex="^a")
        await add_check(router, feature, "enum", "late", values=["a"], window="30s")

        async def observed() -> list[Any]:
            return [finding.observed for finding in (await findings(router)).values()]

        await write(router, feature, values, START, step=10 * SECOND)
        wall.micros = START + 45 * SECOND
        before = await observed()
        assert before == [2 / 4, 2 / 3]
        await router.checkpointer.checkpoint()
        assert await observed() == before
        await write(router, feature, ["x"], START + 41 * SECOND)
        assert await observed() == [3 / 5, 3 / 4]
