"""A series against an oracle that keeps everything, beside a disk that holds whatever was flushed.

The invariant: an answer that is not cold is what the oracle says, and a cold one becomes that once the rows of
the disk join the question or are taken back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import actors.table.grid
import actors.table.index
import actors.table.latest
import actors.table.layers
import actors.table.merging
import actors.table.series
from actors.table.columns import Indices
from actors.table.found import Found
from actors.table.index import Index
from actors.table.latest import LatestTable
from actors.table.layers import Layers
from actors.table.rows import Ranges, Rows, merge
from actors.table.series import Series
from actors.timestamps import FOREVER, NEVER
from actors.turns import at_once

KINDS = ["number", "object", "vector"]
SLOTS = 5
TIMES = st.integers(0, 12)
QUESTIONS = [NEVER, -1, 0, 3, 6, 9, 12, FOREVER]
ASKED = np.arange(SLOTS, dtype=np.int64)


@pytest.fixture(autouse=True, scope="module")
def small_limits() -> Iterator[None]:
    """Runs and merges happen with few rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actors.table.series, "TAIL_ROWS", 4)
        patch.setattr(actors.table.series, "ROWS_PER_TURN", 3)
        for module in (actors.table.index, actors.table.series):
            patch.setattr(module, "SLOTS_A_STEP", 2)
        patch.setattr(actors.table.layers, "MOST_RUNS", 3)
        patch.setattr(actors.table.series, "SLOTS_WORTH_COMPACTING", 3)
        yield


class Kept(NamedTuple):
    """One observation of the oracle; `id` is what its value is made of."""

    slot: int
    time: int
    null: bool
    id: int
    arrived: int


Cell = tuple[int, Any, bool]
NOTHING = -1


class World:
    """A series, the oracle, and the disk."""

    def __init__(self, kind: str, before: list[tuple[int, int, bool]] | None = None) -> None:
        """`before`: what only the disk has, from before the series was made."""
        self.kind = kind
        self.kept: list[Kept] = []
        self.written = 0
        self.arrived = 1
        self.flushed = 0
        self._remember(before or [])
        self.flushed = self.arrived
        base = max((row.time + 1 for row in self.kept), default=NEVER)
        width = 2 if kind == "vector" else 0
        dtype = {"number": np.float64, "object": object, "vector": np.float32}[kind]
        self.untidy: list[Layers] = []
        self.under_way: list[Iterator[Any]] = []
        self.series = Series(np.dtype(dtype), width, base, untidy=self.untidy)
        self.series.make_room(SLOTS)
        self.tick = 0

    def _remember(self, batch: list[tuple[int, int, bool]]) -> list[Kept]:
        fresh = [
            Kept(slot, time, null, self.written + place, self.arrived)
            for place, (slot, time, null) in enumerate(batch)
        ]
        self.written += len(fresh)
        self.kept += fresh
        return fresh

    def value(self, id_: int) -> Any:
        """The value made of an id, NOTHING for a null."""
        if self.kind == "object":
            return None if id_ == NOTHING else f"v{id_}"
        if self.kind == "vector":
            return [0.0, 0.0] if id_ == NOTHING else [float(id_), 0.5]
        return 0.0 if id_ == NOTHING else float(id_)

    def rows(self, kept: list[Kept]) -> Rows:
        values = self.series.blank(len(kept))
        for place, row in enumerate(kept):
            values[place] = self.value(NOTHING if row.null else row.id)
        index = Index(
            np.array([row.slot for row in kept], np.int32),
            np.array([row.time for row in kept], np.int64),
            np.array([row.arrived for row in kept], np.int64),
        )
        return Rows(index, values, np.array([row.null for row in kept], np.bool_))

    # What may happen

    def append(self, batch: list[tuple[int, int, bool]]) -> None:
        self.arrived += 1
        self.series.append(self.rows(self._remember(batch)))

    def append_many(self, batch: list[tuple[int, int, bool]]) -> None:
        self.arrived += 1
        at_once(self.series.appending(self.rows(self._remember(batch))))

    def order(self) -> None:
        at_once(self.series.ordering())
        owner, asked = np.arange(SLOTS), (NEVER, 5)
        for at in QUESTIONS[1:]:
            for visible_from in asked:
                moments = np.full(SLOTS, at, np.int64)
                cells = self.series.past(ASKED, owner, moments, visible_from, None, Found())
                missing = cells.times == NEVER  # values mean nothing there
                nothing = self.series.blank(SLOTS)
                cells.values[missing], cells.nulls[missing] = nothing[missing], False
                self.check_cells(cells, at, visible_from)

    def flush(self) -> None:
        self.flushed = self.arrived

    def trim(self, keep: int) -> None:
        self.series.trim(keep, self.flushed)

    def evict(self, slots: list[int]) -> None:
        for _ in self.series.evicting(np.array(slots, np.int64), self.flushed):
            pass

    def install(self, slots: list[int], keep: int) -> None:
        self.tick += 1
        self.series.install(np.array(slots, np.int64), self.disk(slots), keep, self.tick)

    # The same a step at a time

    def tidy(self, steps: int) -> None:
        for _ in range(steps):
            if self.untidy and not self.untidy[0].tidy():
                del self.untidy[0]

    def begin_trim(self, keep: int) -> None:
        self.under_way.append(self.series.trimming(keep, self.flushed))

    def begin_evict(self, slots: list[int]) -> None:
        self.under_way.append(self.series.evicting(np.array(slots, np.int64), self.flushed))

    def go_on(self, steps: int) -> None:
        """With what was begun, each in turn."""
        for _ in range(steps):
            if self.under_way:
                work = self.under_way.pop(0)
                if next(work, self) is not self:
                    self.under_way.append(work)

    def purge(self, slot: int) -> None:
        """Erase what an entity has, from the disk as well."""
        self.kept = [row for row in self.kept if row.slot != slot]
        self.series.purge(slot, self.arrived)

    # What must hold

    def disk(self, slots: list[int]) -> Rows:
        """What the history files have of these slots, sorted."""
        return merge([self.rows([row for row in self.kept if row.arrived <= self.flushed and row.slot in slots])])

    def history(self, slot: int) -> dict[int, Kept]:
        """The observation that counts at each moment."""
        return {row.time: row for row in self.kept if row.slot == slot}

    def range(self, slot: int, start: int, end: int) -> list[Cell]:
        found = self.history(slot)
        return [self._cell(found[time]) for time in sorted(found) if start <= time <= end]

    def newest(self, slot: int, at: int) -> Cell:
        cells = self.range(slot, NEVER, at)
        return cells[-1] if cells else (NEVER, self.value(NOTHING), False)

    def _cell(self, row: Kept) -> Cell:
        return row.time, self.value(NOTHING if row.null else row.id), row.null

    def check(self) -> None:
        for at in QUESTIONS:
            self.check_latest(at)
            self.check_as_of(at)
        for start, end in ((NEVER, FOREVER), (3, 9), (6, 6), (9, FOREVER)):
            self.check_between(start, end)
        self.check_first(3, 9)
        self.check_unflushed()

    def check_latest(self, now: int) -> None:
        for visible_from in (NEVER, 5):
            cells = latest(self.series, ASKED, now, visible_from)
            self.check_cells(cells, now, visible_from)

    def check_as_of(self, at: int) -> None:
        for visible_from in (NEVER, 5):
            self.check_cells(self.series.as_of(ASKED, at, visible_from), at, visible_from)
        exact = self.series.as_of(ASKED, at, disk=self.disk(list(range(SLOTS))))
        for slot in range(SLOTS):
            assert cell(exact, slot) == self.newest(slot, at)

    def check_cells(self, cells: actors.table.grid.Cells, at: int, visible_from: int) -> None:
        for slot in range(SLOTS):
            if cells.cold is not None and cells.cold[slot]:
                continue
            expected = self.newest(slot, at)
            if expected[0] >= visible_from:
                assert cell(cells, slot) == expected
            else:
                # The caller hides what was before `visible_from`.
                assert cells.times[slot] < visible_from or visible_from == NEVER

    def check_between(self, start: int, end: int) -> None:
        cold = self.series.cold_before(ASKED, start)
        for slots in ([0], [2, 1], [1, 2, 3, 4, 0]):
            asked = np.array(slots, np.int64)
            warm = ranged(self.series.between(asked, start, end))
            whole = ranged(self.series.between(asked, start, end, self.disk(slots)))
            for slot, memory, everything in zip(slots, warm, whole, strict=True):
                assert everything == self.range(slot, start, end)
                assert cold[slot] or memory == everything

    def check_first(self, start: int, end: int) -> None:
        """The first and the last few of a range."""
        for most in (1, 2, -1, -2):
            held = ranged(self.series.between(ASKED, start, end, self.disk(list(range(SLOTS))), most))
            for slot in range(SLOTS):
                cut = slice(most) if most > 0 else slice(most, None)
                assert held[slot][cut] == self.range(slot, start, end)[cut]

    def check_unflushed(self) -> None:
        """What the disk does not have is in memory."""
        held = ranged(self.series.between(ASKED, NEVER, FOREVER))
        for slot in range(SLOTS):
            missing = [row for row in self.history(slot).values() if row.arrived > self.flushed]
            assert all(self._cell(row) in held[slot] for row in missing)


def latest(
    series: Series, slots: Indices, now: int, visible_from: int = NEVER, tick: int = 0
) -> actors.table.grid.Cells:
    times, nulls = np.empty(len(slots), np.int64), np.empty(len(slots), np.bool_)
    into = actors.table.grid.Cells(times, series.blank(len(slots)), nulls, None)
    return into._replace(cold=series.latest(slots, now, into, visible_from, tick))


def cell(cells: actors.table.grid.Cells, slot: int) -> Cell:
    return cells.times[slot].item(), cells.values[slot : slot + 1].tolist()[0], bool(cells.nulls[slot])


def ranged(ranges: Ranges) -> list[list[Cell]]:
    cells = list(zip(ranges.times.tolist(), ranges.values.tolist(), ranges.nulls.tolist(), strict=True))
    return [
        cells[start:end] for start, end in zip(ranges.offsets.tolist(), ranges.offsets.tolist()[1:], strict=False)
    ]


OBSERVED = st.tuples(st.integers(1, SLOTS - 1), TIMES, st.booleans())
IN_ANY_ORDER = st.lists(OBSERVED, min_size=1, max_size=7)
IN_ORDER = IN_ANY_ORDER.map(lambda batch: sorted(batch, key=lambda row: row[1]))
TIED = st.lists(st.tuples(st.integers(1, 2), st.just(6), st.booleans()), min_size=1, max_size=7)
SOME_SLOTS = st.lists(st.integers(1, SLOTS - 1), min_size=1, max_size=SLOTS, unique=True)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "append_many"]), IN_ANY_ORDER | IN_ORDER | TIED),
        st.tuples(st.sampled_from(["flush", "order"])),
        st.tuples(st.just("trim"), st.integers(0, 3)),
        st.tuples(st.just("evict"), SOME_SLOTS),
        st.tuples(st.just("install"), SOME_SLOTS, st.integers(0, 3)),
    ),
    max_size=14,
)


@pytest.mark.parametrize("kind", KINDS)
@given(st.none() | st.lists(OBSERVED, min_size=1, max_size=10), STEPS)
@example([(1, 12, False)], [("install", [1], 1)])
@settings(deadline=None, max_examples=60)
def test_every_answer_is_exact_or_cold_and_exact_with_the_disk(
    kind: str, before: list[tuple[int, int, bool]] | None, steps: list[tuple[Any, ...]]
) -> None:
    world = World(kind, before)
    world.check()
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
        world.check()


@pytest.mark.parametrize("kind", KINDS)
@given(st.none() | st.lists(OBSERVED, min_size=1, max_size=10), STEPS, st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_the_newest_value_is_warm_once_it_was_taken_back(
    kind: str, before: list[tuple[int, int, bool]] | None, steps: list[tuple[Any, ...]], keep: int
) -> None:
    world = World(kind, before)
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    world.install([1, 2, 3, 4], keep)
    cells = latest(world.series, ASKED, FOREVER)
    for slot in range(1, SLOTS):
        assert cells.cold is None or not cells.cold[slot]
        assert cell(cells, slot) == world.newest(slot, FOREVER)


@given(st.lists(st.lists(st.tuples(st.integers(1, 4), TIMES, st.booleans()), min_size=1, max_size=9), max_size=12))
@settings(deadline=None, max_examples=60)
def test_each_run_is_sorted_and_at_least_twice_the_size_of_the_third_after_it(
    batches: list[list[tuple[int, int, bool]]],
) -> None:
    world = World("number")
    for batch in batches:
        world.append(batch)
    sizes = [run.size for run in world.series.runs]
    assert all(older >= 2 * newer for older, newer in zip(sizes, sizes[3:], strict=False))
    for run in world.series.runs:
        pairs = list(zip(run.slots.tolist(), run.times.tolist(), strict=True))
        assert pairs == sorted(set(pairs))


STEPS_BETWEEN = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "append_many"]), IN_ANY_ORDER | IN_ORDER | TIED),
        st.tuples(st.sampled_from(["flush", "order"])),
        st.tuples(st.just("begin_trim"), st.integers(0, 3)),
        st.tuples(st.just("begin_evict"), SOME_SLOTS),
        st.tuples(st.just("install"), SOME_SLOTS, st.integers(0, 3)),
        st.tuples(st.just("purge"), st.integers(1, SLOTS - 1)),
        st.tuples(st.just("tidy"), st.integers(1, 4)),
        st.tuples(st.just("go_on"), st.integers(1, 4)),
    ),
    max_size=20,
)


@pytest.fixture(scope="module")
def smaller_steps() -> Iterator[None]:
    """What is merged at once is next to nothing, and a step is about two rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actors.table.layers, "MERGED_AT_ONCE", 5)
        patch.setattr(actors.table.latest, "CELLS_A_STEP", 4)
        patch.setattr(actors.table.latest, "SLOTS_A_STEP", 2)
        for module in (actors.table.merging, actors.table.layers):
            patch.setattr(module, "ROWS_A_STEP", 2)
        patch.setattr(actors.table.series, "ROWS_A_STEP", 0)
        yield


@pytest.mark.usefixtures("smaller_steps")
@pytest.mark.parametrize("kind", KINDS)
@given(st.none() | st.lists(OBSERVED, min_size=1, max_size=10), STEPS_BETWEEN)
@settings(deadline=None, max_examples=40)
def test_what_comes_between_the_steps_of_large_work_is_answered_as_exactly(
    kind: str, before: list[tuple[int, int, bool]] | None, steps: list[tuple[Any, ...]]
) -> None:
    world = World(kind, before)
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
        world.check()
    world.go_on(100)
    world.tidy(100)
    world.check()
    for run in world.series.runs:
        pairs = list(zip(run.slots.tolist(), run.times.tolist(), strict=True))
        assert pairs == sorted(set(pairs))


@pytest.mark.usefixtures("smaller_steps")
def test_large_runs_are_merged_in_steps_that_writes_and_reads_come_between() -> None:
    world, steps = World("number"), 0
    for at in range(12):
        world.append([(slot, at, False) for slot in range(1, SLOTS)])
    assert len(world.series.runs) > 3
    for at in range(10):
        world.tidy(1)
        world.append([(1, at, False)])
        world.check()
    while world.untidy:
        world.tidy(1)
        steps += 1
    assert steps > 10
    sizes = [run.size for run in world.series.runs]
    assert all(older >= 2 * newer for older, newer in zip(sizes, sizes[3:], strict=False))


@pytest.mark.usefixtures("smaller_steps")
def test_what_is_let_go_of_in_steps_is_gone_at_their_end() -> None:
    world = World("number")
    for at in range(12):
        world.append([(slot, at, False) for slot in range(1, SLOTS)])
    world.flush()
    world.begin_trim(2)
    world.go_on(1_000)
    assert world.series.rows == 2 * (SLOTS - 1)
    world.begin_evict([1, 2])
    world.go_on(3)
    world.append([(1, 20, False)])
    world.go_on(1_000)
    assert world.series.rows == 5
    world.check()


@pytest.mark.usefixtures("smaller_steps")
def test_what_was_under_way_with_a_series_that_is_closed_touches_nothing_of_the_next() -> None:
    table, untidy = LatestTable(), list[Layers]()
    series = Series(np.dtype(np.float64), table=table, untidy=untidy)
    series.make_room(6)
    for at in range(4):
        series.append(rows_of(5, at))
    work = series.evicting(np.arange(1, 6), FOREVER)
    next(work)
    series.close()
    table.free(series.column)
    after = Series(np.dtype(np.float64), table=table, untidy=untidy)
    after.append(rows_of(5, 1))
    assert sum(1 for _ in work) < 10
    cells = latest(after, np.arange(1, 6), FOREVER)
    assert cells.times.tolist() == [1] * 5 and (cells.cold is None or not cells.cold.any())


def test_a_later_arrival_corrects_an_equal_time_and_not_a_later_one() -> None:
    world = World("number")
    world.append([(1, 5, False)])
    world.append([(1, 5, False), (1, 4, False)])
    assert cell(latest(world.series, ASKED, FOREVER), 1) == (5, 1.0, False)


def test_nothing_is_served_from_the_future() -> None:
    world = World("number")
    world.append([(1, 5, False), (1, 9, False), (2, 9, False)])
    cells = latest(world.series, ASKED, 8)
    assert cell(cells, 1) == (5, 0.0, False)
    assert cells.times[2] == NEVER


def test_nothing_is_served_from_the_future_after_it_was_read_from_disk() -> None:
    world = World("number", [(1, 5, False), (1, 9, False)])
    world.install([1], 10)
    cells = latest(world.series, np.array([1]), 8)
    assert (cells.times[0].item(), cells.values[0].item()) == (5, 0.0)


def test_a_series_that_let_nothing_go_is_never_cold() -> None:
    world = World("number")
    world.append([(1, 5, False)])
    world.flush()
    world.trim(1)
    assert latest(world.series, ASKED, FOREVER).cold is None
    assert not world.series.cold_before(ASKED, NEVER).any()


def test_trimming_keeps_the_newest_rows_of_each_slot() -> None:
    world = World("number")
    world.append([(slot, time, False) for slot in (1, 2) for time in (4, 2, 8, 6)])
    world.flush()
    world.trim(2)
    assert world.series.rows == 4
    assert [[time for time, _, _ in cells] for cells in ranged(world.series.between(ASKED, NEVER, FOREVER))] == [
        [],
        [6, 8],
        [6, 8],
        [],
        [],
    ]


def test_what_was_kept_only_because_it_was_not_flushed_goes_at_the_next_trim() -> None:
    world = World("number")
    world.append([(1, time, False) for time in (1, 2, 3)])
    world.trim(1)
    assert world.series.rows == 3
    world.flush()
    world.trim(1)
    assert world.series.rows == 1


def test_a_retention_that_was_lowered_is_kept_to_at_the_next_trim() -> None:
    world = World("number")
    world.append([(1, time, False) for time in (1, 2, 3)])
    world.flush()
    world.trim(3)
    world.trim(1)
    assert world.series.rows == 1


def test_evicting_everything_leaves_only_what_is_not_flushed() -> None:
    world = World("number")
    world.append([(1, 3, False), (2, 3, False)])
    world.flush()
    world.append([(1, 2, False)])
    world.evict([1, 2, 3, 4])
    assert world.series.rows == 1


def test_usage_counts_the_rows_of_each_slot_and_when_it_was_last_asked_for() -> None:
    world = World("number")
    world.append([(1, 3, False), (1, 4, False), (1, 4, False), (3, 3, False)])
    latest(world.series, np.array([3, 2]), FOREVER, tick=7)
    latest(world.series, np.array([1]), FOREVER, tick=9)
    slots, used, counts = world.series.usage(FOREVER)
    assert (slots.tolist(), used.tolist(), counts.tolist()) == ([1, 3], [9, 7], [2, 1])


def test_room_is_made_for_slots_that_were_not_heard_of() -> None:
    series = Series(np.dtype(object), 0, 10)
    series.make_room(1_000)
    series.make_room(3)
    cells = latest(series, np.array([0, 999]), FOREVER)
    assert cells.times.tolist() == [NEVER, NEVER]
    assert cells.values.tolist() == [None, None]
    assert cells.cold is not None
    assert cells.cold.tolist() == [True, True]


def test_the_disk_is_not_asked_for_what_is_hidden_anyway() -> None:
    world = World("number", [(1, 5, False)])
    cells = latest(world.series, ASKED, FOREVER, 6)
    assert cells.cold is not None
    assert not cells.cold.any()


def rows_of(count: int, at: int) -> Rows:
    """An observation of each of so many slots at one time."""
    slots, times = np.arange(1, count + 1), np.full(count, at)
    return Rows(Index(slots.astype(np.int32), times, times.copy()), np.zeros(count), np.zeros(count, np.bool_))


def test_features_that_are_written_together_are_not_all_sorted_by_one_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actors.table.series, "TAIL_ROWS", 1_000)
    table, most = LatestTable(), 0
    series = [Series(np.dtype(np.float64), table=table) for _ in range(20)]
    for at in range(500):
        before = [[run.size for run in one.runs] for one in series]
        for one in series:
            one.make_room(11)
            one.append(rows_of(10, at))
        after = [[run.size for run in one.runs] for one in series]
        most = max(most, sum(was != now for was, now in zip(before, after, strict=True)))
    assert 0 < most <= 4


def test_a_trim_that_has_nothing_to_let_go_of_merges_nothing() -> None:
    series = Series(np.dtype(np.float64))
    series.make_room(6)
    for at in range(3):
        series.append(rows_of(5, at))
    runs = list(series.runs)
    series.trim(keep=3, flushed=FOREVER)
    assert len(runs) > 1 and [id(run) for run in series.runs] == [id(run) for run in runs]
    assert series.rows == 15
    series.trim(keep=2, flushed=FOREVER)
    assert series.rows == 10


@pytest.mark.parametrize("rows", [1, 3_000, 30_000])
def test_what_a_point_in_time_query_sorts_is_sorted_in_short_steps_and_only_once(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(actors.table.layers, "MERGED_AT_ONCE", 2 * rows)
    for module in (actors.table.merging, actors.table.layers):
        monkeypatch.setattr(module, "ROWS_A_STEP", 1_000)
    series, steps = Series(np.dtype(np.float64)), 0
    series.make_room(rows + 1)
    for at in range(2):
        series.append(rows_of(rows, at))
    for _ in series.ordering():
        steps += 1
        assert rows < 10_000 or all(run.size in (rows, 2 * rows) for run in series.runs)
    assert steps >= 2 * rows // 1_000
    assert series.is_in_order()
    runs = series.runs
    slots = np.array([1, rows], np.int64)
    cells = series.past(slots, np.arange(2), np.array([0, 1]), NEVER, None, Found())
    assert cells.times.tolist() == [0, 1]
    assert series.runs is runs
