"""Sorted rows against dictionaries of dictionaries."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.table.index import Index
from actors.table.rows import (
    Rows,
    between,
    bisect_right,
    concatenate,
    extract,
    grouped,
    last_of_each,
    last_until,
    merge,
    order,
    rank_from_newest,
)
from actors.timestamps import FOREVER, NEVER

KINDS = ["number", "object", "vector"]
NEAR = st.integers(-4, 4)
FAR = st.sampled_from([-(2**62), -(2**61), -1, 0, 1, 2**61, 2**62]) | st.integers(-(2**62), 2**62)
BOUNDS = st.sampled_from([NEVER, NEVER + 1, FOREVER, FOREVER - 1]) | NEAR | FAR

Observation = tuple[int, int, bool]
"""Slot, time, null; the value is the place in the order of arrival."""
Latest = dict[int, dict[int, int]]
"""By slot, by time: the arrival that counts."""


def observations(times: st.SearchStrategy[int]) -> st.SearchStrategy[list[Observation]]:
    return st.lists(st.tuples(st.integers(0, 4), times, st.booleans()), max_size=40)


def values_of(kind: str, ids: list[int]) -> np.ndarray[Any, Any]:
    if kind == "object":
        column = np.empty(len(ids), object)
        column[:] = [f"v{id_}" for id_ in ids]
        return column
    if kind == "vector":
        return np.array([[id_, -id_] for id_ in ids], np.float32).reshape(len(ids), 2)
    return np.array(ids, np.float64)


def rows_of(kind: str, given_: list[Observation], first: int = 0) -> Rows:
    ids = list(range(first, first + len(given_)))
    index = Index(
        np.array([slot for slot, _, _ in given_], np.int32),
        np.array([time for _, time, _ in given_], np.int64),
        np.array(ids, np.int64),
    )
    return Rows(index, values_of(kind, ids), np.array([null for _, _, null in given_], np.bool_))


def latest_of(given_: list[Observation], first: int = 0) -> Latest:
    found: Latest = {}
    for id_, (slot, time, _) in enumerate(given_, first):
        found.setdefault(slot, {})[time] = id_
    return found


def sorted_ids(found: Latest) -> list[int]:
    return [found[slot][time] for slot in sorted(found) for time in sorted(found[slot])]


def consistent(kind: str, rows: Rows, given_: list[Observation]) -> bool:
    """Every column of a row is that of the observation with its id."""
    ids = rows.arrived.tolist()
    naive = [(slot, time, null) for slot, time, null in (given_[id_] for id_ in ids)]
    return (
        naive == list(zip(rows.slots.tolist(), rows.times.tolist(), rows.nulls.tolist(), strict=True))
        and rows.values.tolist() == values_of(kind, ids).tolist()
    )


# Order and merging


@given(observations(NEAR | FAR))
@example([(4, -(2**62), False), (0, 2**62, False), (4, 2**62, False), (0, -(2**62), False)])
@settings(deadline=None, max_examples=150)
def test_order_sorts_by_slot_then_time_and_leaves_equal_ones_in_their_order(given_: list[Observation]) -> None:
    rows = rows_of("number", given_)
    naive = sorted(range(len(given_)), key=lambda row: given_[row][:2])
    assert order(rows.slots, rows.times).tolist() == naive


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 3) | FAR), max_size=20))
@settings(deadline=None, max_examples=100)
def test_order_holds_where_slot_and_time_do_not_fit_one_key(pairs: list[tuple[int, int]]) -> None:
    slots = np.array([slot for slot, _ in pairs], np.int32)
    times = np.array([time for _, time in pairs], np.int64)
    assert order(slots, times).tolist() == sorted(range(len(pairs)), key=pairs.__getitem__)


@pytest.mark.parametrize("edge", [2**62 - 2, 2**62 - 1, 2**62, 2**62 + 1])
def test_order_holds_on_both_sides_of_the_largest_key(edge: int) -> None:
    times = np.array([edge, 0, edge, 0], np.int64)
    assert order(np.array([1, 1, 0, 0]), times).tolist() == [3, 2, 1, 0]


@given(
    st.lists(st.integers(0, 3) | st.integers(0, 2**40) | st.sampled_from([2**16 - 1, 2**16, 2**32]), max_size=30)
)
@settings(deadline=None, max_examples=150)
def test_codes_are_grouped_with_equal_ones_in_their_order(codes: list[int]) -> None:
    naive = sorted(range(len(codes)), key=codes.__getitem__)
    assert grouped(np.array(codes, np.int64)).tolist() == naive


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_more_codes_than_sixteen_bits_tell_apart_are_grouped(dtype: Any) -> None:
    codes = np.random.default_rng(1).integers(0, 200_000, 300_000).astype(dtype)
    assert np.array_equal(grouped(codes), np.argsort(codes, kind="stable"))


def test_order_holds_from_never_to_forever() -> None:
    times = np.array([FOREVER, NEVER, 0], np.int64)
    assert order(np.zeros(3, np.int32), times).tolist() == [1, 2, 0]


@pytest.mark.parametrize("kind", KINDS)
@given(observations(NEAR) | observations(FAR), st.lists(st.integers(0, 40), max_size=3))
@settings(deadline=None, max_examples=80)
def test_merging_parts_in_order_of_arrival_keeps_the_last_arrival_of_each_slot_and_time(
    kind: str, given_: list[Observation], cuts: list[int]
) -> None:
    bounds = [0, *sorted(min(cut, len(given_)) for cut in cuts), len(given_)]
    parts = [rows_of(kind, given_[start:end], start) for start, end in itertools.pairwise(bounds)]
    whole = merge(parts)
    assert whole.arrived.tolist() == sorted_ids(latest_of(given_))
    assert consistent(kind, whole, given_)
    assert merge([merge([part]) for part in parts]).arrived.tolist() == whole.arrived.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_merging_nothing_gives_nothing(kind: str) -> None:
    nothing = rows_of(kind, [])
    assert merge([nothing]).size == 0
    assert merge([nothing, nothing]).values.shape == nothing.values.shape


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_concatenated_in_the_order_given(kind: str) -> None:
    given_ = [(1, 5, False), (0, 5, True), (1, 5, False)]
    parts = [rows_of(kind, given_[:1]), rows_of(kind, [], 1), rows_of(kind, given_[1:], 1)]
    assert concatenate(parts).arrived.tolist() == [0, 1, 2]
    assert consistent(kind, concatenate(parts), given_)


@given(observations(NEAR))
@settings(deadline=None, max_examples=80)
def test_the_last_of_equal_pairs_is_marked(given_: list[Observation]) -> None:
    pairs = sorted((slot, time) for slot, time, _ in given_)
    marks = last_of_each(np.array([slot for slot, _ in pairs]), np.array([time for _, time in pairs], np.int64))
    assert marks.tolist() == [
        index + 1 == len(pairs) or pairs[index + 1] != pair for index, pair in enumerate(pairs)
    ]


# Looking up


@given(observations(NEAR) | observations(FAR), st.lists(st.integers(0, 6), max_size=8), BOUNDS)
@settings(deadline=None, max_examples=150)
def test_the_last_row_until_a_moment_is_the_one_a_dictionary_gives(
    given_: list[Observation], slots: list[int], at: int
) -> None:
    rows = merge([rows_of("number", given_)])
    found = latest_of(given_)
    expected = []
    for slot in slots:
        before = [time for time in found.get(slot, {}) if time <= at]
        expected.append(found[slot][max(before)] if before else -1)
    positions = last_until(rows, np.array(slots, np.int64), at).tolist()
    assert [rows.arrived[position].item() if position >= 0 else -1 for position in positions] == expected


@given(observations(NEAR) | observations(FAR), st.lists(st.integers(0, 6), max_size=8), BOUNDS, BOUNDS)
@settings(deadline=None, max_examples=150)
def test_the_rows_between_two_moments_are_those_of_the_closed_range(
    given_: list[Observation], slots: list[int], start: int, end: int
) -> None:
    rows = merge([rows_of("number", given_)])
    found = latest_of(given_)
    low, high = between(rows, np.array(slots, np.int64), start, end)
    for slot, begin, stop in zip(slots, low.tolist(), high.tolist(), strict=True):
        naive = [found[slot][time] for time in sorted(found.get(slot, {})) if start <= time <= end]
        assert rows.arrived[begin : max(begin, stop)].tolist() == naive


@given(st.lists(NEAR, max_size=12).map(sorted), st.integers(0, 12), st.integers(0, 12), BOUNDS)
@settings(deadline=None, max_examples=150)
def test_bisecting_within_bounds_is_what_a_loop_finds(times: list[int], low: int, high: int, at: int) -> None:
    low, high = min(low, len(times)), min(high, len(times))
    if low > high:
        low, high = high, low
    naive = next((place for place in range(low, high) if times[place] > at), high)
    found = bisect_right(np.array(times, np.int64), np.array([low]), np.array([high]), at)
    assert found.tolist() == [naive]


@pytest.mark.parametrize("kind", KINDS)
@given(
    st.lists(observations(NEAR), min_size=1, max_size=4),
    st.lists(st.integers(0, 6), max_size=8),
    BOUNDS,
    BOUNDS,
)
@settings(deadline=None, max_examples=60)
def test_extracting_from_several_runs_is_what_a_dictionary_of_all_gives(
    kind: str, runs: list[list[Observation]], slots: list[int], start: int, end: int
) -> None:
    check_extract(kind, runs, slots, start, end)


@given(
    st.lists(observations(FAR), min_size=1, max_size=4), st.lists(st.integers(0, 6), max_size=8), BOUNDS, BOUNDS
)
@settings(deadline=None, max_examples=60)
def test_extracting_holds_for_spans_of_time_that_do_not_fit_one_key(
    runs: list[list[Observation]], slots: list[int], start: int, end: int
) -> None:
    check_extract("number", runs, slots, start, end)


def check_extract(kind: str, runs: list[list[Observation]], slots: list[int], start: int, end: int) -> None:
    every = [observation for run in runs for observation in run]
    firsts = [sum(map(len, runs[:place])) for place in range(len(runs))]
    parts = [merge([rows_of(kind, run, first)]) for run, first in zip(runs, firsts, strict=True)]
    ranges = extract(parts, np.array(slots, np.int64), start, end)
    found = latest_of(every)
    assert len(ranges.offsets) == len(slots) + 1
    for question, slot in enumerate(slots):
        cut = slice(int(ranges.offsets[question]), int(ranges.offsets[question + 1]))
        times = [time for time in sorted(found.get(slot, {})) if start <= time <= end]
        ids = [found[slot][time] for time in times]
        assert ranges.times[cut].tolist() == times
        assert ranges.values[cut].tolist() == values_of(kind, ids).tolist()
        assert ranges.nulls[cut].tolist() == [every[id_][2] for id_ in ids]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 31, 32, 33, 200])
def test_long_and_short_slices_are_copied_alike(kind: str, length: int) -> None:
    given_ = [(slot, time, False) for slot in range(3) for time in range(length)]
    check_extract(kind, [given_], [2, 0, 1, 5, 2], 0, length)
    check_extract(kind, [given_, given_[: length // 2]], [2, 0], 1, length - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_extracting_from_nothing_gives_nothing_of_the_right_shape(kind: str) -> None:
    nothing = rows_of(kind, [])
    ranges = extract([nothing, nothing], np.array([0, 3], np.int64), NEVER, FOREVER)
    assert ranges.offsets.tolist() == [0, 0, 0]
    assert ranges.values.shape == nothing.values.shape
    assert ranges.values.dtype == nothing.values.dtype


def test_the_end_before_the_start_is_an_empty_range() -> None:
    rows = rows_of("number", [(0, 1, False), (0, 2, False), (0, 3, False)])
    assert extract([rows], np.array([0]), 3, 1).offsets.tolist() == [0, 0]
    assert extract([rows, rows], np.array([0]), 3, 1).offsets.tolist() == [0, 0]


@given(observations(NEAR))
@settings(deadline=None, max_examples=80)
def test_ranks_count_from_the_newest_row_of_each_slot(given_: list[Observation]) -> None:
    rows = merge([rows_of("number", given_)])
    found = latest_of(given_)
    naive = [rank for slot in sorted(found) for rank in reversed(range(len(found[slot])))]
    assert rank_from_newest(rows.slots).tolist() == naive
