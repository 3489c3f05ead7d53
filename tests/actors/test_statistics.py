"""Statistics of the whole stream and of any period are those of everything accepted, whatever happens."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.domain import VALUE_TYPES, Feature, FeatureChange, Retention, ValueSchema
from actors.errors import TooLarge
from actors.ingest.sent import Sent
from actors.opening import open_router
from actors.router import Router
from actors.settings import READ_BYTES, Settings
from actors.stats.summary import Summary
from actors.stats.windows import DAY, FIVE_MINUTES, HOUR
from actors.storage.embedded import filed
from actors.storage.embedded.local import LocalStorage
from actors.storage.embedded.log import LocalLog
from actors.storage.embedded.runs import MemoryRuns
from actors.storage.embedded.summaries import EmbeddedSummaries
from actors.timestamps import FOREVER, NEVER
from tests.model import rfc3339

MIDNIGHT = 1_762_473_600_000_000
MINUTE = 60_000_000
ID = "user.x.v1"
NUMBER = FeatureChange(entity="user", name="x", value_type="number")
TEXT = FeatureChange(entity="user", name="x", value_type="string")
both = pytest.mark.parametrize("kind", [NUMBER, TEXT], ids=["number", "string"])
"""Windows keep numbers as they came while there are few, texts never."""


class Seen(NamedTuple):
    """An observation that was accepted."""

    time: int
    arrived: int
    value: Any


class Lasting(LocalStorage):
    """A memory that outlives its router, so that restarts can be had without a disk."""

    def __init__(self, summaries: EmbeddedSummaries | None = None) -> None:
        super().__init__(
            LocalLog(":memory:"), MemoryRuns(), summaries or EmbeddedSummaries(":memory:"), READ_BYTES
        )
        self.open()
        for database in (self.log, self.summaries):
            database.open = lambda: None  # type: ignore[method-assign]

    def close(self) -> None:
        """Not yet."""


class Service:
    """A router over a storage, with a clock of its own and an oracle that has seen all that was accepted."""

    def __init__(
        self,
        open_storage: Callable[[], LocalStorage | None],
        directory: str = "unused",
        kind: FeatureChange = NUMBER,
    ) -> None:
        self.open_storage = open_storage
        self.kind = kind
        self.settings = Settings(data_dir=directory, checkpoint_seconds=1e6, monitor_seconds=1e6)
        self.now = MIDNIGHT + 30 * MINUTE
        self.seen: list[Seen] = []
        self.router: Router

    @asynccontextmanager
    async def running(self, change: FeatureChange | None = None) -> AsyncIterator[Router]:
        """From a start to a stop."""
        async with open_router(self.settings, self.open_storage(), now=lambda: self.now) as router:
            self.router = router
            if ID not in router.registry.features:
                await router.register(change or self.kind)
            yield router

    @property
    def feature(self) -> Feature:
        return self.router.registry.resolve(ID)

    async def write(self, *rows: tuple[int, Any], entity: str = "u") -> None:
        """(event time, value) in one batch; where the feature is of texts, numbers are written out."""
        if self.feature.value_type == "string":
            rows = tuple((time, repr(value) if isinstance(value, float) else value) for time, value in rows)
        count = len(rows)
        stamps = [rfc3339(time) for time, _ in rows]
        sent = Sent([ID] * count, [entity] * count, [value for _, value in rows], stamps, [None] * count)
        ingested = self.router.judge.at_once(sent)
        assert ingested.faults == []
        await self.router.write(ingested, b"done")
        self.seen += [Seen(time, self.router.committed(), value) for time, value in rows]

    async def checkpoint(self) -> None:
        await self.router.checkpointer.checkpoint()

    async def renew(self, change: FeatureChange | None = None) -> None:
        """Delete the feature and register it again: it has seen nothing."""
        await self.router.delete_feature(ID)
        await self.router.register(change or self.kind)
        self.seen = []

    async def whole(self) -> Summary:
        return await self.router.statistics(self.feature)

    async def period(self, start: int, end: int) -> Summary:
        return await self.router.statistics(self.feature, start, end)

    async def check(self, *periods: tuple[int, int]) -> None:
        """The whole, and the periods, against the oracle."""
        agree(await self.whole(), self.seen)
        for start, end in periods:
            agree(await self.period(start, end), [row for row in self.seen if start <= row.time <= end])


def agree(summary: Summary, seen: Sequence[Seen]) -> None:
    values = [row.value for row in seen if row.value is not None]
    assert (summary.count, summary.null_count) == (len(seen), len(seen) - len(values))
    assert summary.oldest == min((row.time for row in seen), default=None)
    assert summary.newest == max((row.time for row in seen), default=None)
    assert summary.last_updated == max((row.arrived for row in seen), default=None)
    assert (summary.distinct.estimate(), summary.distinct.exact) == (len(set(values)), True)
    if values and isinstance(values[0], str):
        assert dict(summary.top.most()) == Counter(values)
        values = list(map(len, values))
    moments = summary.numbers.moments
    assert (moments.count, moments.min, moments.max) == (
        len(values),
        min(values, default=None),
        max(values, default=None),
    )
    if values:
        assert moments.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
        assert moments.std == pytest.approx(np.std(values), rel=1e-9, abs=1e-6)
        if summary.numbers.quantiles.exact:
            assert summary.numbers.quantiles.at([0.5]) == pytest.approx([np.median(values)])
    lateness = [(row.arrived - row.time) / 1e6 for row in seen]
    assert summary.lateness.moments.count == len(lateness)
    if lateness:
        assert summary.lateness.moments.mean == pytest.approx(np.mean(lateness), rel=1e-9, abs=1e-6)
    due = [row.time for row in seen if row.time <= row.arrived]
    assert summary.newest_due == max(due, default=None)


@pytest.fixture
def kind() -> FeatureChange:
    return NUMBER


@pytest.fixture
def service(kind: FeatureChange) -> Service:
    storage = Lasting()
    return Service(lambda: storage, kind=kind)


# Anything that may happen


class Step(NamedTuple):
    """What to do, and with what."""

    action: str
    detail: Any = None


_times = st.builds(
    lambda day, step, off: MIDNIGHT + day * DAY + step * FIVE_MINUTES + off,
    st.sampled_from([0, 0, 0, 0, -1, -14, -15, 2]),
    st.integers(-14, 14),
    st.sampled_from([-2, -1, 0, 1, MINUTE, 2 * MINUTE]),
)
_rows = st.lists(
    st.tuples(_times, st.none() | st.integers(-5, 5).map(float) | st.floats(-1e6, 1e6, width=32)),
    min_size=1,
    max_size=8,
)
_periods = st.tuples(_times, _times).map(lambda pair: (min(pair), max(pair)))
_steps = st.lists(
    st.one_of(
        st.builds(Step, st.just("write"), _rows),
        st.builds(Step, st.just("write"), _rows),
        st.builds(Step, st.just("pass"), st.sampled_from([1, FIVE_MINUTES, HOUR, DAY, DAY + HOUR, 15 * DAY])),
        st.builds(Step, st.just("check"), _periods),
        st.just(Step("checkpoint")),
        st.just(Step("restart")),
        st.just(Step("renew")),
    ),
    min_size=2,
    max_size=14,
)


async def happen(service: Service, steps: Sequence[Step], periods: Sequence[tuple[int, int]]) -> None:
    waiting, running = list(steps), True
    while running:
        async with service.running():
            while waiting and (step := waiting.pop(0)).action != "restart":
                match step:
                    case Step("write", rows):
                        await service.write(*rows)
                    case Step("pass", time):
                        service.now += time
                    case Step("check", period):
                        await service.check(period)
                    case Step("checkpoint"):
                        await service.checkpoint()
                    case Step("renew"):
                        await service.renew()
            if not waiting:
                await service.check(*periods)
                running = False


@settings(max_examples=70, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=_steps, periods=st.lists(_periods, max_size=3))
@both
def test_whatever_happens_statistics_are_those_of_everything_accepted(
    kind: FeatureChange, steps: list[Step], periods: list[tuple[int, int]]
) -> None:
    storage = Lasting()
    trio.run(happen, Service(lambda: storage, kind=kind), steps, periods)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=_steps, periods=st.lists(_periods, max_size=3))
@both
def test_whatever_happens_on_a_disk_statistics_are_those_of_everything_accepted(
    kind: FeatureChange, steps: list[Step], periods: list[tuple[int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trio.run(happen, Service(lambda: None, directory, kind), steps, periods)


@both
def test_a_month_of_random_writes_is_exact_in_every_period(kind: FeatureChange) -> None:
    """Ages pass through all widths of windows; corrections and repeats come late."""

    async def month() -> None:
        chance = random.Random(3)
        storage = Lasting()
        service = Service(lambda: storage, kind=kind)
        async with service.running():
            for _ in range(60):
                service.now += chance.choice([MINUTE, HOUR, DAY])
                age = chance.choice([HOUR, DAY, 2 * DAY, 20 * DAY])
                rows = [(service.now - chance.randrange(age), float(chance.randrange(50))) for _ in range(5)]
                await service.write(*rows, rows[0])
                if chance.random() < 0.4:
                    await service.checkpoint()
            times = sorted(row.time for row in service.seen)
            for _ in range(40):
                start, end = sorted(chance.choice(times) + chance.randrange(-1, 2) for _ in range(2))
                await service.check((start, end))

    trio.run(month)


# One thing at a time


@both
async def test_the_microseconds_around_the_edge_of_a_window_lie_where_they_lie(service: Service) -> None:
    around = [MIDNIGHT + offset for offset in (-3, -2, -1, 0, 1, 2)]
    async with service.running():
        for saved in (False, True):
            if saved:
                await service.checkpoint()
            await service.write(*((time, float(time - MIDNIGHT)) for time in around[1:-1]))
            await service.check(*((start, end) for start in around for end in around if start <= end))


@both
async def test_a_period_is_closed_at_both_ends(service: Service) -> None:
    async with service.running():
        await service.write(*((MIDNIGHT + offset, float(offset)) for offset in range(-2, 3)))
        assert (await service.period(MIDNIGHT - 1, MIDNIGHT + 1)).count == 3
        assert (await service.period(MIDNIGHT, MIDNIGHT)).count == 1
        await service.check((MIDNIGHT - 1, MIDNIGHT), (MIDNIGHT, MIDNIGHT + 1), (MIDNIGHT + 3, MIDNIGHT + 9))


@both
@pytest.mark.parametrize("saved", [False, True])
async def test_a_bound_that_cuts_a_window_counts_what_lies_on_its_side(service: Service, saved: bool) -> None:
    async with service.running():
        await service.write(*((MIDNIGHT + minute * MINUTE, float(minute)) for minute in range(25)))
        if saved:
            await service.checkpoint()
        await service.write(*((MIDNIGHT + minute * MINUTE + 1, -float(minute)) for minute in range(25)))
        for start in range(0, 25, 3):
            for end in range(start, 25, 4):
                await service.check((MIDNIGHT + start * MINUTE, MIDNIGHT + end * MINUTE))


@both
@pytest.mark.parametrize(("start", "end"), [(NEVER, MIDNIGHT), (MIDNIGHT, FOREVER), (NEVER, FOREVER)])
async def test_a_period_may_be_open_at_an_end(service: Service, start: int, end: int) -> None:
    async with service.running():
        await service.write((-(10**16), 1.0), (MIDNIGHT - 1, 2.0), (MIDNIGHT, 3.0), (MIDNIGHT + 1, 4.0))
        await service.write((253_402_300_799_999_999, 5.0))
        await service.check((start, end))
        await service.checkpoint()
        await service.check((start, end))


@both
async def test_a_bound_through_an_old_fine_window_beside_a_late_coarse_one_counts_once(service: Service) -> None:
    """Five minutes that no checkpoint has coarsened yet lie within an hour that late arrivals have begun."""
    async with service.running():
        service.now = MIDNIGHT + HOUR
        await service.write((MIDNIGHT + 16 * MINUTE, 1.0), (MIDNIGHT + 18 * MINUTE, 2.0))
        service.now += DAY
        await service.write((MIDNIGHT + 18 * MINUTE + 1, 4.0), (MIDNIGHT + 30 * MINUTE, 8.0))
        await service.check((MIDNIGHT + 17 * MINUTE, MIDNIGHT + 40 * MINUTE))


@both
async def test_a_bound_through_an_old_hour_beside_a_late_day_counts_once(service: Service) -> None:
    async with service.running():
        service.now = MIDNIGHT + 3 * DAY
        await service.write((MIDNIGHT + HOUR, 1.0), (MIDNIGHT + 2 * HOUR - 1, 2.0))
        service.now = MIDNIGHT + 16 * DAY
        await service.write((MIDNIGHT + 2 * HOUR - 2, 4.0), (MIDNIGHT + 5 * HOUR, 8.0))
        await service.check((MIDNIGHT + HOUR + MINUTE, MIDNIGHT + 6 * HOUR))


@both
async def test_a_period_within_one_window_counts_what_lies_in_it(service: Service) -> None:
    async with service.running():
        await service.write(*((MIDNIGHT + second * 1_000_000, float(second)) for second in range(100)))
        await service.checkpoint()
        await service.check((MIDNIGHT + 10_000_001, MIDNIGHT + 50_000_000))


@both
async def test_corrections_and_repeats_count_each_time_they_are_accepted(service: Service) -> None:
    async with service.running():
        for value in (1.0, 2.0, 2.0):
            await service.write((MIDNIGHT, value))
        await service.write((MIDNIGHT, 3.0), (MIDNIGHT, 3.0))
        await service.checkpoint()
        await service.write((MIDNIGHT, None), (MIDNIGHT + MINUTE, 7.0))
        assert (await service.whole()).count == 7
        await service.check((MIDNIGHT, MIDNIGHT), (MIDNIGHT - 1, MIDNIGHT + 1), (MIDNIGHT, MIDNIGHT + MINUTE))


@both
async def test_what_comes_from_the_future_is_counted_where_it_lies_and_once_it_is_past(service: Service) -> None:
    async with service.running():
        await service.write((MIDNIGHT + 40 * DAY, 1.0), (MIDNIGHT + 40 * DAY + MINUTE, 2.0), (MIDNIGHT, 3.0))
        ahead = (MIDNIGHT + 40 * DAY, MIDNIGHT + 40 * DAY)
        for days in (0, 42, 60):
            service.now = MIDNIGHT + days * DAY + HOUR
            await service.checkpoint()
            await service.check(ahead, (MIDNIGHT, MIDNIGHT + HOUR))


@both
async def test_statistics_outlive_restarts_and_checkpoints_in_any_order(service: Service) -> None:
    for round_ in range(4):
        async with service.running():
            await service.write((MIDNIGHT + round_ * MINUTE, float(round_)), (MIDNIGHT - DAY, None))
            if round_ % 2:
                await service.checkpoint()
                await service.checkpoint()
            await service.write((MIDNIGHT + round_ * MINUTE + 1, 1.5))
            await service.check((MIDNIGHT, MIDNIGHT + MINUTE), (MIDNIGHT - DAY, MIDNIGHT - DAY))


async def test_what_comes_after_an_empty_batch_and_a_restart_is_counted_though_the_clock_stands_still(
    service: Service,
) -> None:
    for _ in range(3):
        async with service.running():
            await service.write((MIDNIGHT, 1.0), (MIDNIGHT + MINUTE, 2.0))
            await service.write()
            await service.checkpoint()
            await service.check((MIDNIGHT, MIDNIGHT + HOUR))


@both
async def test_a_feature_registered_again_has_seen_nothing(service: Service) -> None:
    async with service.running():
        await service.write((MIDNIGHT, 1.0), (MIDNIGHT + MINUTE, 2.0))
        await service.checkpoint()
        await service.write((MIDNIGHT, 3.0))
        await service.renew()
        await service.check((MIDNIGHT, MIDNIGHT + HOUR))
        await service.write((MIDNIGHT, 9.0), (MIDNIGHT + 1, 8.0))
        await service.check((MIDNIGHT, MIDNIGHT), (MIDNIGHT, MIDNIGHT + HOUR))
        await service.checkpoint()
    async with service.running():
        await service.check((MIDNIGHT, MIDNIGHT), (MIDNIGHT, MIDNIGHT + HOUR))


async def test_a_feature_registered_again_under_another_type_is_another(service: Service) -> None:
    async with service.running():
        await service.write((MIDNIGHT, 1.0))
        await service.checkpoint()
        await service.renew(TEXT)
        await service.write((MIDNIGHT, "a"), (MIDNIGHT + MINUTE, "b"), (MIDNIGHT, "a"))
        summary = await service.period(MIDNIGHT, MIDNIGHT)
        assert (summary.count, summary.top.most()) == (2, [("a", 2)])


async def test_the_saved_summaries_of_a_deleted_feature_go_with_the_next_checkpoint(service: Service) -> None:
    async with service.running() as router:
        await service.write((MIDNIGHT, 1.0))
        await service.checkpoint()
        gone, storage = service.feature, service.open_storage()
        assert storage is not None
        assert storage.summaries.read_whole(gone).states != {}
        await router.delete_feature(ID)
        await service.checkpoint()
        assert storage.summaries.read_whole(gone).states == {}
        assert storage.summaries.read(gone, NEVER, FOREVER).states == {}


async def test_the_summaries_of_two_lives_that_end_between_two_checkpoints_both_go(service: Service) -> None:
    async with service.running() as router:
        await service.write((MIDNIGHT, 1.0))
        await service.checkpoint()
        first = service.feature
        await service.renew()
        await router.delete_feature(ID)
        await service.checkpoint()
        storage = service.open_storage()
        assert storage is not None
        assert storage.summaries.read_whole(first).states == {}


async def test_features_of_one_batch_are_counted_apart(service: Service) -> None:
    async with service.running() as router:
        await router.register(FeatureChange(entity="user", name="y", value_type="number"))
        sent = Sent([ID, "user.y.v1", ID], ["u"] * 3, [1.0, 2.0, 3.0], [rfc3339(MIDNIGHT)] * 3, [None] * 3)
        await router.write(router.judge.at_once(sent), b"done")
        for id_, values in ((ID, [1.0, 3.0]), ("user.y.v1", [2.0])):
            summary = await router.statistics(router.registry.resolve(id_), MIDNIGHT, MIDNIGHT)
            assert summary.count == len(values)
            assert summary.numbers.moments.mean == np.mean(values)


async def test_a_retention_age_leaves_the_whole_stream_as_it_was(service: Service) -> None:
    change = FeatureChange(entity="user", name="x", value_type="number", retention=Retention(age="1h"))
    async with service.running(change):
        await service.write((MIDNIGHT - DAY, 1.0), (MIDNIGHT, 2.0), (MIDNIGHT + 29 * MINUTE, 3.0))
        for _ in range(3):
            service.now += DAY
            await service.checkpoint()
            await service.check((MIDNIGHT - 2 * DAY, MIDNIGHT + DAY))


@pytest.mark.parametrize("kind", [TEXT])
async def test_a_period_that_cuts_through_too_many_observations_is_refused_and_one_that_does_not_is_not(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filed, "MAX_ROWS_FROM_DISK", 10)
    async with service.running():
        await service.write(*((MIDNIGHT + second * 1_000_000, float(second)) for second in range(50)))
        await service.checkpoint()
        with pytest.raises(TooLarge):
            await service.period(MIDNIGHT + 1, MIDNIGHT + 60_000_000)
        await service.check((MIDNIGHT, MIDNIGHT + FIVE_MINUTES), (MIDNIGHT, MIDNIGHT + 5_000_000))


@both
async def test_a_period_of_more_distinct_values_than_a_window_can_tell_apart_says_so(service: Service) -> None:
    async with service.running():
        await service.write(*((MIDNIGHT + number, float(number)) for number in range(2_000)))
        inside = await service.period(MIDNIGHT, MIDNIGHT + FIVE_MINUTES)
        assert not inside.distinct.exact
        assert inside.distinct.estimate() == pytest.approx(2_000, rel=0.05)
        cut = await service.period(MIDNIGHT + 1, MIDNIGHT + FIVE_MINUTES)
        assert (cut.distinct.estimate(), cut.distinct.exact) == (1_999, True)
        assert (await service.whole()).distinct.exact


# Every type, where a bound cuts and the values come back from journal and history

VALUES: dict[str, list[Any]] = {
    "number": [0.1, -0.0, 0.0, 1e300, 5],
    "integer": [2**53 + 1, 2**63 - 1, -(2**63), 0, 0],
    "string": ["", "a", "é" * 70, "a", "\U0001f600"],
    "boolean": [True, False, True, True, True],
    "timestamp": ["2025-11-07T10:00:00.000001Z", "1969-12-31T23:59:59Z", "2025-11-07T11:00:00.000001+01:00"],
    "vector": [[1.0, 2.0], [2.0, 1.0], [0.1, 0.2], [1.0, 2.0], [0.0, 0.0]],
    "json": [{"b": 1, "a": [None]}, {"a": [None], "b": 1}, "x", 5, False],
}
DISTINCT = {"number": 4, "integer": 4, "string": 4, "boolean": 2, "timestamp": 2, "vector": 4, "json": 4}


@pytest.mark.parametrize("value_type", VALUE_TYPES)
@pytest.mark.parametrize("where", ["journal", "history"])
async def test_a_cut_period_of_any_type_is_as_exact_as_the_whole(
    service: Service, value_type: Any, where: str
) -> None:
    schema = ValueSchema(dimension=2) if value_type == "vector" else None
    change = FeatureChange(entity="user", name="x", value_type=value_type, schema=schema)
    values = [*VALUES[value_type], None]
    async with service.running(change):
        await service.write(*((MIDNIGHT + second, value) for second, value in enumerate(values, 1)))
        whole = await service.whole()
        await service.write((MIDNIGHT, VALUES[value_type][0]))  # so that the period cuts the window
        if where == "history":
            await service.checkpoint()
        cut = await service.period(MIDNIGHT + 1, MIDNIGHT + 100)
        for summary in (whole, cut):
            assert (summary.count, summary.null_count) == (len(values), 1)
            assert (summary.distinct.estimate(), summary.distinct.exact) == (DISTINCT[value_type], True)
        assert cut.numbers.moments == whole.numbers.moments
        assert Counter(dict(cut.top.most())) == Counter(dict(whole.top.most()))
        assert cut.components == whole.components
        assert (cut.oldest, cut.newest) == (MIDNIGHT + 1, MIDNIGHT + len(values))
