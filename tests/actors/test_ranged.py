"""Aggregates over ranges: what a naive look at every row gives, few rows or many, and nobody waits for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import serving
from actors.domain import Feature
from actors.ingest.sent import Sent
from actors.serving import Span
from actors.storage.embedded.local import MemoryStorage
from actors.table import ranged
from actors.table.aggregates import AGGREGATIONS, allowed
from actors.table.ids import numbered
from actors.table.index import Index
from actors.table.ranged import Ranged, by_rows, in_windows
from actors.table.rows import Rows, merge
from actors.timestamps import format_timestamp
from actors.training import Spine, Wanted
from actors.turns import at_once
from actors.types.type import blank
from actors.types.values import dtype_of, render
from tests.actors.service import FEATURE, ONE, OTHER, read, service, write
from tests.model import Model

WIDE = 2**62
KINDS: dict[str, list[Any]] = {
    "integer": [3, -7, 0],
    "number": [1.5, -2.0, 0.0],
    "string": ["a", "b", ""],
    "vector": [(1.0, 2.0), (0.0, 4.0), (0.0, 0.0)],
}
RUNS = st.lists(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 20), st.none() | st.integers(0, 2)), max_size=15),
    min_size=1,
    max_size=3,
)
"""Of each run its rows: a slot, a time, and which of the values or a null."""


class Asked(NamedTuple):
    """What a message asks for."""

    feature: Feature
    aggregation: str


def a_feature(kind: str) -> Feature:
    value_type: Any = kind
    return Feature(id="user.x.v1", entity="user", name="x", version=1, value_type=value_type, created=1, updated=1)


def run_of(kind: str, rows: Sequence[tuple[int, int, int | None]]) -> Rows:
    values = blank(dtype_of(kind), (len(rows), 2) if kind == "vector" else (len(rows),))
    for place, (_, _, which) in enumerate(rows):
        if which is not None:
            values[place] = KINDS[kind][which]
    slots, times = (np.array([row[column] for row in rows], np.int64) for column in (0, 1))
    nulls = np.array([which is None for _, _, which in rows], np.bool_)
    return merge([Rows(Index(slots.astype(np.int32), times, times), values, nulls)])


@pytest.mark.parametrize("kind", KINDS)
@given(
    RUNS,
    st.lists(st.integers(0, 4), max_size=6),
    st.tuples(st.integers(0, 20), st.integers(0, 20)).map(sorted),
    st.integers(1, 9),
    st.integers(1, 20),
    st.sampled_from(AGGREGATIONS),
)
@settings(deadline=None, max_examples=80)
def test_windows_of_several_runs_are_what_a_dictionary_of_all_gives(
    kind: str, runs: Any, slots: list[int], span: list[int], width: int, at_a_time: int, aggregation: str
) -> None:
    aggregation = aggregation if allowed(aggregation, kind) else "distinct"
    start, end = span
    windows = max(1, -((start - end) // width))
    model = Model()
    model.register("x", kind)
    for slot, time, which in (row for run in runs for row in run):
        model.write("x", str(slot), None if which is None else KINDS[kind][which], time)
    expected = [value for slot in slots for value in model.windows("x", str(slot), start, end, width, aggregation)]

    asked = Asked(a_feature(kind), aggregation)
    bounds = in_windows(np.array(slots, np.int64), start, end, width, windows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranged, "AGGREGATED_ROWS_AT_ONCE", at_a_time)
        patch.setattr(ranged, "_LOOKED_UP_AT_ONCE", at_a_time)
        found = at_once(Ranged([run_of(kind, run) for run in runs], bounds, asked).answering())
    values = [
        None if null else value for value, null in zip(found.values.tolist(), found.nulls.tolist(), strict=True)
    ]
    if aggregation in ("latest", "first") and kind == "vector":
        values = [None if value is None else tuple(value) for value in values]
    assert values == (expected if kind in ("string", "vector") else pytest.approx(expected))
    assert len(render(found.value_type, found.values, found.nulls)) == len(expected)


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 20))
def test_ranges_go_together_as_far_as_their_rows_fit(counts: list[int], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranged, "AGGREGATED_ROWS_AT_ONCE", most)
        cuts = list(by_rows(np.array(counts, np.int64)))
    assert [count for cut in cuts for count in counts[cut]] == counts
    assert all(sum(counts[cut]) <= most or cut.stop - cut.start == 1 for cut in cuts)


def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take any observation for one too many."""
    monkeypatch.setattr(ranged, "AGGREGATED_ROWS_PER_TURN", 0)
    monkeypatch.setattr(ranged, "AGGREGATED_ROWS_AT_ONCE", 2)


@pytest.mark.parametrize("aggregation", ["avg", "distinct", "median"])
async def test_reads_are_answered_while_an_aggregate_of_many_observations_is_made(
    monkeypatch: pytest.MonkeyPatch, aggregation: str
) -> None:
    many(monkeypatch)
    async with service(MemoryStorage()) as router:
        for value in (1.0, 2.0, 3.0):
            await write(router, ONE, value)
            await write(router, OTHER, value)
        feature = router.registry.resolve(FEATURE)
        answers = list[Any]()

        async def history() -> None:
            answers.append(await router.aggregate([ONE, OTHER], feature, aggregation, Span(0, WIDE)))

        async def training() -> None:
            moments = Spine([numbered([ONE, OTHER])], np.full(2, WIDE))
            answers.extend(await router.fill(moments, [Wanted("x", feature, None, aggregation, WIDE)]))

        threads = router.serving.aggregators
        async with trio.open_nursery() as nursery:
            for thread in range(int(threads.total_tokens)):
                threads.acquire_on_behalf_of_nowait(thread)  # all of them are at work for others
            nursery.start_soon(history)
            nursery.start_soon(training)
            await trio.testing.wait_all_tasks_blocked()
            assert await read(router, ONE, OTHER) == [3.0, 3.0]
            await write(router, ONE, 4.0)
            assert (await read(router, ONE), answers) == ([4.0], [])
            for thread in range(int(threads.total_tokens)):
                threads.release_on_behalf_of(thread)
        expected = {"avg": 2.0, "distinct": 3, "median": 2.0}[aggregation]
        assert [one.values.tolist() for one in answers] == [[expected] * 2] * 2


async def test_an_entity_that_is_asked_for_often_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Sequence[str]]()
    async with service(MemoryStorage()) as router:
        await write(router, ONE, 1.0, 3.0)
        await write(router, OTHER, 5.0)
        aggregated = router.serving.aggregated

        async def noted(shard: int, question: Any, *span: int) -> Any:
            asked.append(question.entities)
            return await aggregated(shard, question, *span)

        monkeypatch.setattr(router.serving, "aggregated", noted)
        feature, span = router.registry.resolve(FEATURE), Span(0, 2 * WIDE - 2, WIDE, 2)
        found = await router.aggregate([OTHER, ONE] * 3, feature, "count", span)
        assert found.values.tolist() == [1, 0, 1, 0] * 3
        assert sorted(map(tuple, asked)) == sorted([(ONE,), (OTHER,)])


@pytest.mark.parametrize("closed", ["both", "right", "left", "neither"])
@pytest.mark.parametrize("windows", [1, 2, 3, 7])
async def test_many_windows_are_asked_for_some_at_a_time_and_are_those_of_the_whole_range(
    monkeypatch: pytest.MonkeyPatch, windows: int, closed: str
) -> None:
    asked = list[int]()
    async with service(MemoryStorage()) as router:
        times = [format_timestamp(moment) for moment in range(0, 36, 3)]
        many = [None] * len(times)
        sent = Sent([FEATURE] * len(times), [ONE] * len(times), [1.0] * len(times), times, many)
        await router.write(router.judge.at_once(sent), b"")
        feature = router.registry.resolve(FEATURE)
        sides = closed in ("both", "left"), closed in ("both", "right")
        span = Span(0, 10 * windows - 5, 10, windows, *sides)
        whole = await router.aggregate([OTHER, ONE, OTHER], feature, "count", span)
        aggregated = router.serving.aggregated

        async def noted(shard: int, question: Any, *span: int) -> Any:
            asked.append(len(question.entities) * question.windows)
            return await aggregated(shard, question, *span)

        monkeypatch.setattr(router.serving, "aggregated", noted)
        monkeypatch.setattr(serving, "CELLS_PER_QUESTION", 2)
        found = await router.aggregate([OTHER, ONE, OTHER], feature, "count", span)
    assert found.values.tolist() == whole.values.tolist()
    assert max(asked) <= 2
    assert sum(asked) == 2 * windows
