"""Folding counts each observation once in the whole and once in its window, in whatever pieces it is done."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
from datasketches import hll_sketch, hll_union, tgt_hll_type
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.stats import folding
from actors.stats.distinct import LOG2_BUCKETS, Distinct
from actors.stats.folding import Folding
from actors.stats.hll import sketch_of
from actors.stats.summary import Accepted, Summary, of_all
from actors.stats.waiting import Waiting
from actors.stats.windows import DAY, FIVE_MINUTES, HOUR, WHOLE, Window, placed

NOON = 1_762_516_800_000_000
Generator = np.random.Generator


def objects(texts: list[str]) -> NDArray[Any]:
    column = np.empty(len(texts), object)
    column[:] = texts
    return column


VALUES: dict[str, Callable[[Generator, int], NDArray[Any]]] = {
    "number": lambda chance, count: chance.normal(5, 2, count),
    "integer": lambda chance, count: chance.integers(-3, 900, count),
    "boolean": lambda chance, count: chance.random(count) < 0.3,
    "string": lambda chance, count: objects([f"text {n}" for n in chance.integers(0, 60, count).tolist()]),
    "vector": lambda chance, count: chance.normal(0, 1, (count, 3)).astype(np.float32),
}
AGES: dict[str, Callable[[Generator, int], NDArray[Any]]] = {
    "live": lambda chance, count: chance.integers(0, 1_000_000, count),
    "some late": lambda chance, count: np.where(
        chance.random(count) < 0.1, chance.integers(0, 3 * HOUR, count), chance.integers(0, FIVE_MINUTES, count)
    ),
    "a month": lambda chance, count: chance.integers(0, 30 * DAY, count),
    "a few windows": lambda chance, count: chance.choice([0, HOUR, 2 * DAY, 20 * DAY, -HOUR], count),
}


def stream(value_type: str, ages: str, seed: int, count: int) -> Accepted:
    chance = np.random.default_rng(seed)
    arrived = NOON + np.sort(chance.integers(0, 2 * HOUR, count))
    nulls = chance.random(count) < 0.1
    return Accepted(arrived - AGES[ages](chance, count), arrived, VALUES[value_type](chance, count), nulls)


@contextmanager
def small_steps(rows: int) -> Iterator[None]:
    with mock.patch.object(folding, "ROWS_PER_STEP", rows):
        yield


def exhaust(steps: Iterator[None]) -> int:
    return sum(1 for _ in steps)


def folded(seen: Accepted, seed: int) -> dict[Window, Summary]:
    """The summaries of a stream that came and was folded in any pieces."""
    chance, one = random.Random(seed), Folding(7)
    cuts = sorted(chance.randrange(len(seen.times) + 1) for _ in range(chance.randrange(5)))
    for begin, end in zip([0, *cuts], [*cuts, len(seen.times)], strict=True):
        one.waiting.append(*seen.cut(slice(begin, end)))
        if chance.random() < 0.5:
            exhaust(one.fold())
        if chance.random() < 0.3:
            exhaust(one.fold_aside())
    exhaust(one.fold())
    exhaust(one.fold_aside())
    return one.leave()


def check(found: Summary, seen: Accepted) -> None:
    """As `of_all` has it that sees all at once."""
    summary, truth = of_all(7), of_all(7)
    summary.merge(found)
    truth.add(seen)
    for figure in ("count", "null_count", "oldest", "newest", "newest_due", "last_updated"):
        assert getattr(summary, figure) == getattr(truth, figure), figure
    for one, other in ((summary.numbers, truth.numbers), (summary.lateness, truth.lateness)):
        assert one.moments.count == other.moments.count
        assert (one.moments.min, one.moments.max) == pytest.approx((other.moments.min, other.moments.max))
        assert one.moments.mean == pytest.approx(other.moments.mean)
        assert one.quantiles.sketch is None or one.quantiles.sketch.n == one.moments.count
    assert summary.distinct.estimate() == pytest.approx(truth.distinct.estimate(), rel=0.06)
    assert Counter(dict(summary.top.most())) == Counter(dict(truth.top.most()))
    assert summary.components.count == truth.components.count


@given(st.integers(0, 10**6), st.sampled_from([1, 7, 150, 2_500]), st.sampled_from([1, 64, 1_000]))
@settings(deadline=None, max_examples=12, derandomize=True)
@pytest.mark.parametrize("ages", AGES)
@pytest.mark.parametrize("value_type", VALUES)
def test_each_observation_counts_once_in_the_whole_and_once_in_its_window(
    value_type: str, ages: str, seed: int, count: int, step: int
) -> None:
    count = min(count, 150 * step)  # thousands of steps of one row each show no more than a hundred
    seen = stream(value_type, ages, seed, count)
    with small_steps(step):
        found = folded(seen, seed)
    check(found.pop(WHOLE), seen)
    places = list(map(Window, *(column.tolist() for column in placed(seen.times, seen.arrived))))
    assert {window: count_of(summary) for window, summary in found.items()} == Counter(places)
    for window, summary in found.items():
        check(summary, seen.take(np.array([row for row, place in enumerate(places) if place == window])))


def count_of(part: Summary) -> int:
    return part.raw.count if part.raw is not None else part.count


@pytest.mark.parametrize(("ages", "aside"), [("live", 0), ("a month", 20_000)])
def test_only_the_rows_of_windows_with_few_are_put_aside(ages: str, aside: int) -> None:
    one, chance = Folding(7), np.random.default_rng(1)
    one.waiting.append(NOON - AGES[ages](chance, 20_000), NOON, np.ones(20_000), np.zeros(20_000, np.bool_))
    exhaust(one.fold())
    assert one.aside.rows == pytest.approx(aside, abs=10)
    assert one.summaries[WHOLE].count == 20_000


def test_the_late_among_the_live_are_put_aside_alone() -> None:
    one, late = Folding(7), 10 * DAY
    times = np.full(8_000, NOON)
    times[::40] -= late
    one.waiting.append(times, NOON, np.ones(8_000), np.zeros(8_000, np.bool_))
    exhaust(one.fold())
    assert one.aside.rows == 200
    assert one.summaries[Window(FIVE_MINUTES, NOON)].count == 7_800
    exhaust(one.fold_aside())
    assert one.aside.rows == 0
    assert count_of(one.summaries[Window(HOUR, NOON - late)]) == 200


@pytest.mark.parametrize("value_type", ["string", "vector"])
def test_what_may_be_large_is_not_put_aside_for_longer(value_type: str) -> None:
    one = Folding(7)
    one.waiting.append(*stream(value_type, "a month", 2, 500))
    exhaust(one.fold())
    assert (one.waiting.rows, one.aside.rows) == (0, 0)
    assert sum(summary.count for window, summary in one.summaries.items() if window.width) == 500


@pytest.mark.parametrize(("dimension", "least"), [(1, 1), (768, 20), (16_384, 400)])
def test_a_step_takes_the_fewer_vectors_the_wider_they_are(dimension: int, least: int) -> None:
    one = Folding(7)
    one.waiting.append(np.full(2_000, NOON), NOON, np.ones((2_000, dimension), np.float32), np.zeros(2_000, bool))
    assert exhaust(one.fold()) >= least


# What waits


@pytest.mark.parametrize("ages", ["live", "some late", "a month"])
def test_vectors_that_were_put_aside_are_added_to_a_window_as_many_a_step_as_to_the_whole(ages: str) -> None:
    rows = stream("vector", ages, 4, 900)
    added, done = list[int](), Folding(1)
    done.aside.append(*rows)
    with (
        mock.patch.object(folding, "COMPONENTS_PER_STEP", 30),
        mock.patch.object(Summary, "add", lambda _, part: added.append(len(part.times))),
    ):
        most = folding._rows_per_step(rows)
        before = [sum(added) for _ in done.fold_aside()]
    assert sum(added) == 900
    assert max(np.diff([0, *before, 900])) <= most == 11


@given(st.lists(st.integers(0, 90), max_size=12), st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("value_type", VALUES)
def test_what_waits_comes_out_as_it_came_whatever_becomes_of_what_it_came_from(
    value_type: str, sizes: list[int], seed: int
) -> None:
    waiting, seen = Waiting(), [stream(value_type, "live", seed + size, size) for size in sizes]
    for part in seen:
        copy = Accepted(part.times.copy(), part.arrived.copy(), part.values.copy(), part.nulls.copy())
        waiting.append(*copy)
        for column in copy:
            column[:] = column[::-1].copy()
    assert waiting.rows == sum(sizes)
    assert waiting.bytes == sum(column.nbytes for part in seen for column in part)
    found = waiting.drain()
    assert (waiting.rows, waiting.bytes, waiting.drain()) == (0, 0, None)
    if sum(sizes):
        assert found is not None
        for name in Accepted._fields:
            expected = np.concatenate([getattr(part, name) for part in seen])
            assert np.array_equal(getattr(found, name), expected)


# The sketch of a column


def one_by_one(keys: NDArray[np.int64]) -> hll_sketch:
    sketch = hll_sketch(LOG2_BUCKETS, tgt_hll_type.HLL_8)
    for key in keys.tolist():
        sketch.update(key)
    return sketch


def buckets(sketch: hll_sketch) -> bytes:
    return bytes(sketch.serialize_compact()[-(1 << LOG2_BUCKETS) :])


def united(*sketches: hll_sketch) -> hll_sketch:
    union = hll_union(LOG2_BUCKETS)
    for sketch in sketches:
        union.update(sketch)
    return union.get_result(tgt_hll_type.HLL_8)


@pytest.mark.parametrize("count", [600, 4_000, 100_000])
def test_the_sketch_of_a_column_is_that_of_its_keys_one_by_one(count: int) -> None:
    keys = np.random.default_rng(count).integers(-(2**63), 2**63, count)
    found, truth = sketch_of(keys, LOG2_BUCKETS), one_by_one(keys)
    assert buckets(found) == buckets(truth)
    assert found.get_estimate() == united(truth, truth).get_estimate()


def test_the_sketch_of_a_column_goes_on_like_any_other() -> None:
    keys = np.random.default_rng(5).integers(-(2**63), 2**63, 9_000)
    found = hll_sketch.deserialize(sketch_of(keys[:5_000], LOG2_BUCKETS).serialize_compact())
    for key in keys[5_000:].tolist():
        found.update(key)
    assert buckets(found) == buckets(one_by_one(keys))
    halves = united(sketch_of(keys[:5_000], LOG2_BUCKETS), sketch_of(keys[5_000:], LOG2_BUCKETS))
    assert buckets(halves) == buckets(found)
    assert halves.get_estimate() == pytest.approx(found.get_estimate())


@pytest.mark.parametrize("limit", [0, 512])
@pytest.mark.parametrize("pieces", [1, 3, 40])
def test_distinct_keys_are_counted_alike_in_any_pieces(limit: int, pieces: int) -> None:
    keys = np.arange(20_000) ** 3
    found = Distinct(limit)
    for part in np.array_split(keys, pieces):
        found.add(part)
        found.add(part[:9])
    assert found.sketch is not None
    assert buckets(found.sketch) == buckets(one_by_one(keys))
    assert found.estimate() == pytest.approx(20_000, rel=0.05)
