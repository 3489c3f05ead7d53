"""Any history, however it came and wherever it lies, joins as the oracle and DuckDB have it, and never leaks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from unittest import mock

import duckdb
import numpy as np
import pandas as pd
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.domain import FeatureChange, Retention, ValueSchema
from actors.opening import open_router
from actors.router import Router
from actors.settings import Settings
from actors.storage.embedded import filed
from actors.training import Wanted
from tests.actors.test_training import filled, put
from tests.model import reduce
from tests.properties.test_service import ARITHMETIC, EVERYTHING, VALUES, normal, same

NOW = 1_762_509_600_000_000
STEP = 250_001
TYPES = tuple(sorted(VALUES))
ENTITIES = ("u1", "u2", "u3", "Zoë ✓ 東京", "nobody")

times = st.integers(-4, 4).map(lambda n: NOW + n * STEP)
entities = st.sampled_from(ENTITIES[:4])
moments = st.lists(
    st.tuples(
        st.sampled_from(ENTITIES),
        times | st.tuples(times, st.sampled_from((-1, 1))).map(sum),
    ),
    min_size=1,
    max_size=12,
)
# Which of the arrivals so far each row knows of, counted from the newest.
knowledge = st.lists(st.integers(0, 6), min_size=12, max_size=12)
reaches = st.none() | st.sampled_from((1, STEP - 1, STEP, STEP + 1, 4 * STEP, 40 * STEP))
writes = st.lists(st.tuples(st.sampled_from(TYPES), entities, times), min_size=4, max_size=12)


class Step(NamedTuple):
    """What to do, and with what."""

    action: str
    detail: Any = None


asking = st.builds(Step, st.just("ask"), st.tuples(moments, reaches, knowledge))
pairs = st.lists(st.tuples(entities, times), min_size=2, max_size=8)
writing = st.builds(Step, st.just("write"), writes) | st.builds(Step, st.just("write_together"), pairs)
steps = st.lists(
    st.one_of(writing, writing, asking, st.just(Step("checkpoint")), st.just(Step("restart"))),
    min_size=2,
    max_size=10,
)


class Version(NamedTuple):
    """A value as it was accepted."""

    arrived: int
    entity: str
    time: int
    value: Any


class Oracle:
    """Every version of every value, and the contract read aloud."""

    def __init__(self) -> None:
        self.versions: dict[str, list[Version]] = {name: [] for name in TYPES}

    def seen(self, name: str, entity: str, start: int, end: int, known: int | None) -> list[Any]:
        """An entity's values with start <= time <= end in time order, as far as they had arrived."""
        latest: dict[int, Any] = {}
        for one in self.versions[name]:
            if one.entity == entity and start <= one.time <= end and (known is None or one.arrived <= known):
                latest[one.time] = one.value
        return [latest[time] for time in sorted(latest)]

    def answer(self, wanted: Wanted, entity: str, at: int, known: int | None) -> Any:
        if wanted.aggregation is not None:
            window = self.seen(wanted.feature.name, entity, at - wanted.window + 1, at, known)
            return reduce(wanted.aggregation, window)
        reach = 2**62 if wanted.lookback is None else wanted.lookback
        return (self.seen(wanted.feature.name, entity, at - reach, at, known) or [None])[-1]


class Service:
    """A router over a data directory, compared with the oracle at every step."""

    def __init__(self, directory: str, cache_size: int, draw: Callable[[str], Any]) -> None:
        self.settings = Settings(
            data_dir=directory, cache_size=cache_size, shards=2, checkpoint_seconds=1e6, enable_monitoring=False
        )
        self.oracle = Oracle()
        self.draw = draw
        self.arrivals = [0]
        self.router: Router

    async def run(self, given_steps: Sequence[Step]) -> None:
        """Do the steps, and restart where one says so."""
        waiting = [*given_steps, Step("restart")]
        while waiting:
            async with open_router(self.settings, now=lambda: NOW) as router:
                self.router = router
                await self.register()
                while (step := waiting.pop(0)).action != "restart":
                    await getattr(self, step.action)(*([] if step.detail is None else [step.detail]))

    async def register(self) -> None:
        """A feature of each type, of which memory keeps two values an entity."""
        for name in TYPES:
            schema: Any = {"schema": ValueSchema(dimension=2)} if name == "vector" else {}
            kind: Any = name
            kept = Retention(values=2)
            change = FeatureChange(entity="user", name=name, value_type=kind, retention=kept, **schema)
            await self.router.register(change)

    async def write(self, rows: Sequence[tuple[str, str, int]]) -> None:
        """One batch a feature."""
        for name in dict.fromkeys(name for name, _, _ in rows):
            batch = [(entity, time, self.draw(name)) for other, entity, time in rows if other == name]
            await put(self.router, self.router.registry.resolve(name), *batch)
            self.arrivals.append(self.router.committed())
            self.oracle.versions[name] += [Version(self.arrivals[-1], *row) for row in batch]

    async def write_together(self, rows: Sequence[tuple[str, int]]) -> None:
        """A value of each feature for the same entities at the same moments."""
        await self.write([(name, entity, time) for name in TYPES for entity, time in rows])

    async def checkpoint(self) -> None:
        """Into the files, which are merged whenever there are two."""
        await self.router.checkpointer.checkpoint()

    def wanted(self, reach: int | None) -> list[Wanted]:
        """The latest of each feature, and each aggregate of it where there is a window."""
        features = [self.router.registry.resolve(name) for name in TYPES]
        columns = [Wanted(feature.id, feature, reach) for feature in features]
        if reach is None:
            return columns
        for feature in features:
            names = EVERYTHING + (ARITHMETIC if feature.value_type in ("number", "integer") else ())
            columns += [Wanted(f"{name} {feature.id}", feature, None, name, reach) for name in names]
        return columns

    def known(self, behind: Sequence[int] | None, rows: int) -> list[int] | None:
        """The arrivals that each row knows of."""
        return (
            None if behind is None else [self.arrivals[max(0, len(self.arrivals) - 1 - n)] for n in behind[:rows]]
        )

    async def ask(self, detail: tuple[list[tuple[str, int]], int | None, list[int]]) -> None:
        """As it is, and as it was known."""
        rows, reach, behind = detail
        await self.compare(rows, reach, None)
        await self.compare(rows, reach, self.known(behind, len(rows)))

    async def compare(self, rows: list[tuple[str, int]], reach: int | None, known: list[int] | None) -> None:
        """All columns at once with the oracle's."""
        wanted = self.wanted(reach)
        found = await filled(self.router, rows, *wanted, known=known)
        for column, values in zip(wanted, found, strict=True):
            for place, ((entity, at), value) in enumerate(zip(rows, values, strict=True)):
                expected = self.oracle.answer(column, entity, at, None if known is None else known[place])
                assert same(value, expected), (column.name, entity, at - NOW, value, expected)


def drawn(data: st.DataObject) -> Callable[[str], Any]:
    """A value of a type, or a null, as answers have it."""
    return lambda value_type: normal(data.draw(st.none() | VALUES[value_type]))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps, asking, st.sampled_from((1, 8, 1_000_000)), st.data())
def test_any_history_joins_as_the_oracle_has_it(
    given_steps: list[Step], last: Step, cache_size: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(filed, "RUNS_BEFORE_COMPACTION", 1):
        trio.run(Service(directory, cache_size, drawn(data)).run, [*given_steps, last])


async def _later(service: Service, before: list[Step], after: list[Step], asked: Any, leak: bool) -> None:
    """Answers before and after something happened that the rows cannot know of."""
    rows, reach, behind = asked
    async with open_router(service.settings, now=lambda: NOW) as service.router:
        await service.register()
        for step in before:
            await getattr(service, step.action)(*([] if step.detail is None else [step.detail]))
        known = service.known(behind, len(rows)) if leak else None
        wanted = service.wanted(reach)
        first = await filled(service.router, rows, *wanted, known=known)
        for step in after:
            await getattr(service, step.action)(*([] if step.detail is None else [step.detail]))
            assert await filled(service.router, rows, *wanted, known=known) == first
    async with open_router(service.settings, now=lambda: NOW) as service.router:
        assert await filled(service.router, rows, *wanted, known=known) == first


changes = st.lists(writing | st.just(Step("checkpoint")), min_size=1, max_size=4)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes, changes, moments, reaches, st.sampled_from((1, 1_000_000)), st.data())
def test_no_answer_changes_when_observations_later_than_its_row_are_added(
    before: list[Step],
    after: list[Step],
    rows: list[tuple[str, int]],
    reach: int | None,
    cache_size: int,
    data: st.DataObject,
) -> None:
    latest = max(at for _, at in rows)
    later = [
        step
        if step.action == "checkpoint"
        else step._replace(detail=[(*which, latest + 1 + t - NOW + 12 * STEP) for *which, t in step.detail])
        for step in after
    ]
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(filed, "RUNS_BEFORE_COMPACTION", 1):
        service = Service(directory, cache_size, drawn(data))
        trio.run(_later, service, before, later, (rows, reach, None), False)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes, changes, moments, reaches, st.lists(st.integers(0, 6), min_size=12, max_size=12), st.data())
def test_no_answer_as_known_changes_when_anything_arrives_later(
    before: list[Step],
    after: list[Step],
    rows: list[tuple[str, int]],
    reach: int | None,
    behind: list[int],
    data: st.DataObject,
) -> None:
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(filed, "RUNS_BEFORE_COMPACTION", 1):
        service = Service(directory, 8, drawn(data))
        trio.run(_later, service, before, after, (rows, reach, behind), True)


BY_ASOF = """
    select case when h.t >= a.t - $reach then h.v end
    from a asof left join h on a.e = h.e and a.t >= h.t order by a.n
"""


async def _numbers(
    history: list[list[tuple[str, int, Any]]], rows: list[tuple[str, int]], reach: int
) -> list[Any]:
    chosen = Settings(storage_type="memory", cache_size=8, checkpoint_seconds=1e6, enable_monitoring=False)
    async with open_router(chosen, now=lambda: NOW) as router:
        change = FeatureChange(entity="user", name="n", value_type="number", retention=Retention(values=1))
        feature, _ = await router.register(change)
        for batch in history:
            await put(router, feature, *batch)
            await router.checkpointer.checkpoint()
        (found,) = await filled(router, rows, Wanted("n", feature, reach))
        return list(found)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.lists(st.tuples(entities, times, st.none() | st.floats(-1e6, 1e6)), min_size=1, max_size=20), max_size=4
    ),
    moments,
    reaches,
)
def test_numbers_join_as_duckdb_joins_them(
    history: list[list[tuple[str, int, Any]]], rows: list[tuple[str, int]], reach: int | None
) -> None:
    corrected = {(entity, time): value for batch in history for entity, time, value in batch}
    h = pd.DataFrame(
        {
            "e": pd.Series([entity for entity, _ in corrected], dtype=str),
            "t": np.array([time for _, time in corrected], np.int64),
            "v": np.array(list(corrected.values()), float),
        }
    )
    a = pd.DataFrame({"e": [e for e, _ in rows], "t": [t for _, t in rows], "n": range(len(rows))})
    with duckdb.connect() as connection:
        connection.register("h", h)
        connection.register("a", a)
        expected = connection.execute(BY_ASOF, {"reach": reach or 2**60}).fetchnumpy()
    (column,) = expected.values()
    wide = np.ma.filled(np.ma.asarray(column, float), np.nan).tolist()
    found = trio.run(_numbers, history, rows, reach or 2**60)
    assert found == [None if np.isnan(value) else value for value in wide]
