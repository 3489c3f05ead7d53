"""What is written together has one index: kept once, put in order once, and each series stays right alone."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import actors.table.layers
import actors.table.merging
import actors.table.rows
import actors.table.series
from actors.domain import Feature
from actors.table.batch import Column, Table
from actors.table.ids import numbered
from actors.table.loading import Loading
from actors.table.partition import Partition
from actors.table.rows import Rows
from actors.table.series import Series
from actors.timestamps import FOREVER
from actors.types.type import Array, known_without_nulls, no_nulls
from tests.actors.test_partition import a_feature
from tests.actors.test_series import IN_ANY_ORDER, SLOTS, SOME_SLOTS, World

FEATURES = [a_feature(f"f{number}") for number in range(4)]
ENTITIES = 50


@pytest.fixture
def short_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tails are sorted after some batches."""
    monkeypatch.setattr(actors.table.series, "TAIL_ROWS", 200)


@pytest.fixture
def merges_in_steps(short_tails: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And all merges but those of tails wait for `tidy`."""
    monkeypatch.setattr(actors.table.layers, "MERGED_IN_PASSING", 0)
    monkeypatch.setattr(actors.table.layers, "MERGED_AT_ONCE", 0)
    for module in (actors.table.merging, actors.table.layers):
        monkeypatch.setattr(module, "ROWS_A_STEP", 16)


def a_batch(
    number: int, features: Sequence[Feature] = FEATURES, first: int = 0, count: int = ENTITIES
) -> list[Table]:
    """A value of each entity and feature, of one moment."""
    entities = numbered([f"e{which:03}" for which in range(first, first + count)])
    columns = [
        Column(one.id, one.created, np.arange(count) + number * 1_000.0 + place, np.zeros(count, np.bool_))
        for place, one in enumerate(features)
    ]
    return [Table("user", entities, np.full(count, number, np.int64), columns)]


def all_series(partition: Partition) -> list[Series]:
    return [partition.series(one) for one in FEATURES]


def settled(partition: Partition) -> None:
    """All rows are in runs."""
    for one in all_series(partition):
        one.parts(0)


def share(partition: Partition) -> bool:
    """Whether each run of a series has the very index that the same run of the others has."""
    every = [[run.index for run in one.runs] for one in all_series(partition)]
    return all(len(own) == len(every[0]) and all(map(_is, own, every[0])) for own in every)


def _is(one: object, other: object) -> bool:
    return one is other


def held(arrays: Iterable[Array]) -> int:
    """The bytes of some arrays, of those that are views of one only once."""
    bases = {id(base): base for base in (array if array.base is None else array.base for array in arrays)}
    return sum(base.nbytes for base in bases.values())


def arrays_of(runs: Iterable[Rows]) -> Iterator[Array]:
    for run in runs:
        yield from (run.slots, run.times, run.arrived, run.values)
        if not known_without_nulls(run.nulls):
            yield run.nulls


@pytest.mark.usefixtures("short_tails")
def test_series_that_are_written_together_share_one_index_before_and_after_their_runs_merge() -> None:
    partition, counts = Partition(), set()
    for number in range(1, 60):
        partition.apply(number, a_batch(number))
        assert share(partition)
        counts.add(len(partition.series(FEATURES[0]).runs))
    assert len(counts) > 2
    settled(partition)
    assert share(partition)


@pytest.mark.usefixtures("merges_in_steps")
def test_large_runs_of_what_was_written_together_share_one_index_when_they_were_merged_in_steps() -> None:
    partition, merged = Partition(), False
    for number in range(1, 40):
        partition.apply(number, a_batch(number))
        before = len(partition.series(FEATURES[-1]).runs)
        while partition.tidy():
            pass
        merged = merged or len(partition.series(FEATURES[-1]).runs) < before
        assert share(partition)
    assert merged


@pytest.mark.usefixtures("short_tails")
def test_single_observations_that_come_together_share_one_index_as_well() -> None:
    partition = Partition()
    for number in range(1, 500):
        partition.apply(number, a_batch(number, first=number % 7, count=1))
    settled(partition)
    assert share(partition)
    assert partition.rows == 499 * len(FEATURES)


@pytest.mark.usefixtures("short_tails")
def test_one_order_is_found_for_all_that_is_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sorts, order = [0], actors.table.rows.order

    def counted(*about: Any) -> Any:
        sorts[0] += 1
        return order(*about)

    for module in (actors.table.rows, actors.table.merging):
        monkeypatch.setattr(module, "order", counted)
    every, one = Partition(), Partition()
    for number in range(1, 60):
        every.apply(number, a_batch(number))
    for_all, sorts[0] = sorts[0], 0
    for number in range(1, 60):
        one.apply(number, a_batch(number, FEATURES[:1]))
    assert for_all == sorts[0] > 10


@pytest.mark.usefixtures("short_tails")
def test_what_is_written_together_takes_the_memory_of_one_index() -> None:
    partition, batches = Partition(), 64
    for number in range(1, batches + 1):
        partition.apply(number, a_batch(number))
    for one in all_series(partition):
        one.parts(100)  # which merges them
    rows = batches * ENTITIES
    runs = [run for one in all_series(partition) for run in one.runs]
    assert held(arrays_of(runs)) <= rows * (len(FEATURES) * 8 + 4 + 8 + 8)


@pytest.mark.usefixtures("short_tails")
def test_parts_leave_memory_when_the_last_series_has_merged_them() -> None:
    partition = Partition()
    for number in range(1, 20):
        partition.apply(number, a_batch(number))
    settled(partition)
    first, *others = all_series(partition)
    parts = [weakref.ref(run.slots) for run in first.runs]
    assert len(parts) > 1
    first.parts(100)
    assert all(part() is not None for part in parts)
    for one in others:
        one.parts(100)
    assert [part() for part in parts] == [None] * len(parts)
    assert share(partition)


def test_a_series_that_was_read_alone_shares_what_is_written_afterwards() -> None:
    partition = Partition()
    partition.apply(1, a_batch(1))
    partition.series(FEATURES[1]).parts(0)
    partition.apply(2, a_batch(2))
    partition.apply(3, a_batch(3))
    settled(partition)
    first, alone, *rest = all_series(partition)
    assert [run.size for run in first.runs] == [3 * ENTITIES]
    assert [run.size for run in alone.runs] == [ENTITIES, 2 * ENTITIES]
    assert all(other.runs[0].index is first.runs[0].index for other in rest)


@pytest.mark.usefixtures("short_tails")
def test_removing_the_same_rows_of_each_series_leaves_one_index() -> None:
    partition = Partition()
    for number in range(1, 30):
        partition.apply(number, a_batch(number))
    partition.flush(partition.position)
    partition.trim({one.id: 3 for one in FEATURES})
    assert partition.rows == 3 * ENTITIES * len(FEATURES)
    assert share(partition)
    partition.evict(partition.rows // 2)
    assert partition.rows < 2 * ENTITIES * len(FEATURES)
    assert partition.rows > 0


@pytest.mark.usefixtures("short_tails")
@pytest.mark.parametrize("at_once", [10_000, 10])
def test_erasing_an_entity_leaves_one_index(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(actors.table.layers, "MERGED_AT_ONCE", at_once)
    partition = Partition()
    for number in range(1, 30):
        partition.apply(number, a_batch(number))
    partition.purge("user", "e007", FOREVER)
    while partition.tidy():
        pass
    assert partition.rows == 29 * (ENTITIES - 1) * len(FEATURES)
    assert share(partition)


def test_what_the_history_has_shares_its_index_again_however_it_is_cut() -> None:
    cuts = [[0, 50], [0, 20, 50], [0, 1, 49, 50], [0, 30, 50]]
    partition = Partition()
    loading = Loading(partition)
    (table,) = a_batch(1)
    for column, bounds in zip(table.columns, cuts, strict=True):
        for start, end in pairwise(bounds):
            loading.add(table.only([column]).cut(start, end - start), np.full(end - start, 1, np.int64))
    loading.end()
    settled(partition)
    assert share(partition)
    slots = partition.slots("user", [f"e{which:03}" for which in range(ENTITIES)])
    for place, one in enumerate(all_series(partition)):
        assert one.as_of(slots, FOREVER).values.tolist() == [1_000.0 + place + which for which in range(ENTITIES)]


def test_columns_of_one_batch_with_other_entities_or_times_have_indices_of_their_own() -> None:
    (whole,) = a_batch(1)
    first, second, third, fourth = whole.columns
    other_entities = Table("user", numbered(list(whole.entities)[::-1]), whole.times, [second])
    other_times = Table("user", whole.entities, whole.times + 1, [third])
    partition = Partition()
    partition.apply(1, [whole.only([first, fourth]), other_entities, other_times])
    settled(partition)
    one, other, later, same = (series.runs[0] for series in all_series(partition))
    assert one.index is same.index
    assert len({id(run.index) for run in (one, other, later)}) == 3
    assert later.times.tolist() == [2] * ENTITIES


def test_no_nulls_are_a_view_of_one_array_until_there_is_a_null() -> None:
    partition = Partition()
    for number in (1, 2):
        partition.apply(number, a_batch(number))
    (missing,) = a_batch(3)
    missing.columns[1] = missing.columns[1]._replace(nulls=np.arange(ENTITIES) == 7)
    partition.apply(3, [missing])
    settled(partition)
    first, second, *_ = all_series(partition)
    assert all(known_without_nulls(run.nulls) for run in first.runs)
    assert second.as_of(np.array([7, 8, 9]), FOREVER).nulls.tolist() == [False, True, False]
    assert second.as_of(np.array([7, 8, 9]), 2).nulls.tolist() == [False] * 3
    assert held([no_nulls(5), no_nulls(1_000)]) == held([no_nulls(1)])
    with pytest.raises(ValueError, match="read-only"):
        no_nulls(1)[0] = True


def test_uses_take_no_memory_until_they_are_noted() -> None:
    partition = Partition()
    partition.apply(1, a_batch(1))
    series = partition.series(FEATURES[0])
    series.usage(FOREVER)
    assert not series.column.table.noted
    partition.tick = 5
    partition.install(FEATURES[0], ["e001"], series.parts(0)[0].take(slice(1)))
    assert series.column.table.noted


# Each against its own oracle


class Together:
    """Series that are written together, or one of them alone."""

    def __init__(self) -> None:
        self.worlds = [World("number"), World("object"), World("vector")]

    def append(self, which: int, batch: list[tuple[int, int, bool]]) -> None:
        """To one of them, or beyond these to all: where one has a null the next has none."""
        chosen = self.worlds[which : which + 1] or self.worlds
        arrived, index = max(world.arrived for world in self.worlds) + 1, None
        for place, world in enumerate(chosen):
            world.arrived = arrived
            own = [(slot, time, null and place % 2 == 0) for slot, time, null in batch]
            rows = world.rows(world._remember(own))
            rows = Rows(index or rows.index, rows.values, rows.nulls)
            index = rows.index
            world.series.append(rows)

    def each(self, which: int, name: str, *arguments: Any) -> None:
        for world in self.worlds[which : which + 1] or self.worlds:
            if name == "look":
                world.series.parts(arguments[0])
            else:
                getattr(world, name)(*arguments)


WHICH = st.integers(0, 5)
EACH = st.one_of(
    st.tuples(st.just("flush")),
    st.tuples(st.just("look"), st.sampled_from([1, SLOTS])),
    st.tuples(st.just("trim"), st.integers(0, 3)),
    st.tuples(st.just("evict"), SOME_SLOTS),
    st.tuples(st.just("install"), SOME_SLOTS, st.integers(0, 3)),
    st.tuples(st.just("begin_trim"), st.integers(0, 3)),
    st.tuples(st.just("purge"), st.integers(1, SLOTS - 1)),
    st.tuples(st.just("tidy"), st.integers(1, 4)),
    st.tuples(st.just("go_on"), st.integers(1, 4)),
)


@pytest.mark.parametrize("merged_at_once", [5, 200_000])
@given(st.lists(st.tuples(WHICH, IN_ANY_ORDER | EACH), max_size=24))
@settings(deadline=None, max_examples=60)
def test_what_happens_to_one_series_leaves_those_that_are_written_with_it_right(
    merged_at_once: int, steps: list[tuple[int, Any]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actors.table.series, "TAIL_ROWS", 10)
        patch.setattr(actors.table.series, "SLOTS_WORTH_COMPACTING", 3)
        patch.setattr(actors.table.layers, "MERGED_AT_ONCE", merged_at_once)
        patch.setattr(actors.table.merging, "ROWS_A_STEP", 2)
        together = Together()
        for which, step in steps:
            if isinstance(step, list):
                together.append(which, step)
            else:
                together.each(which, *step)
        for world in together.worlds:
            world.check()
            world.go_on(100)
            world.tidy(100)
            world.check()
