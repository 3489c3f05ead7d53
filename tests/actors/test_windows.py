"""Every observation lies in one window, and growing coarser neither loses nor doubles any."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.domain import Feature
from actors.monitoring.monitor import FeatureMonitor
from actors.stats.state import decode, encode
from actors.stats.summary import Accepted, Summary, merge_states, of_a_window, of_all
from actors.stats.windows import (
    DAILY_AHEAD,
    DAILY_FOR,
    DAY,
    FINE_AHEAD,
    FINE_FOR,
    FIVE_MINUTES,
    HOUR,
    HOURLY_FOR,
    MOST_WINDOWS,
    WHOLE,
    WIDEST,
    Window,
    coarser,
    due,
    placed,
)
from actors.storage.embedded import summaries as monitored
from actors.storage.embedded.local import MemoryStorage
from actors.storage.protocol import SummaryKey
from actors.table.batch import Table
from actors.table.columns import Times
from tests.batches import a_table

MIDNIGHT = 1_762_473_600_000_000
YEAR_ONE, YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999
FEATURE = Feature(id="user.x.v1", entity="user", name="x", version=1, value_type="number", created=7, updated=7)

edges = st.sampled_from([FIVE_MINUTES, HOUR, DAY, 14 * DAY])
offsets = st.builds(lambda unit, n, off: unit * n + off, edges, st.integers(-3, 3), st.integers(-2, 2))
moments = st.builds(lambda offset: MIDNIGHT + offset, offsets) | st.integers(YEAR_ONE, YEAR_9999)
arrivals = st.builds(lambda offset: MIDNIGHT + offset, offsets)
windows = st.builds(
    lambda width, time: Window(width, time - time % width),
    st.sampled_from([FIVE_MINUTES, HOUR, DAY, WIDEST]),
    moments,
)


def int64(values: list[int]) -> Times:
    return np.array(values, np.int64)


def width_of(age: int) -> int:
    """As the module promises it."""
    day = 86_400_000_000
    if age >= 5_000 * day or age < -366 * day:
        return 5_000 * day
    if age >= 14 * day or age < -14 * day:
        return day
    return 300_000_000 if age < day else 3_600_000_000


# Placing


@given(st.lists(st.tuples(moments, arrivals), min_size=1, max_size=30))
@settings(deadline=None, max_examples=200)
def test_every_observation_lies_in_a_window_of_the_width_of_its_age(pairs: list[tuple[int, int]]) -> None:
    times, arrived = zip(*pairs, strict=True)
    widths, starts = placed(int64(list(times)), int64(list(arrived)))
    for time, arrival, width, start in zip(times, arrived, widths.tolist(), starts.tolist(), strict=True):
        assert width == width_of(arrival - time)
        assert start % width == 0
        assert start <= time <= Window(width, start).last


@pytest.mark.parametrize(
    ("age", "width"),
    [
        (-4_000 * DAY, WIDEST),
        (-DAILY_AHEAD - 1, WIDEST),
        (-DAILY_AHEAD, DAY),
        (-FINE_AHEAD - 1, DAY),
        (-FINE_AHEAD, FIVE_MINUTES),
        (0, FIVE_MINUTES),
        (FINE_FOR - 1, FIVE_MINUTES),
        (FINE_FOR, HOUR),
        (HOURLY_FOR - 1, HOUR),
        (HOURLY_FOR, DAY),
        (4_000 * DAY, DAY),
        (DAILY_FOR - 1, DAY),
        (DAILY_FOR, WIDEST),
    ],
)
def test_the_width_changes_at_a_day_a_fortnight_and_5_000_days_to_the_microsecond(age: int, width: int) -> None:
    widths, _ = placed(int64([MIDNIGHT - age]), int64([MIDNIGHT]))
    assert widths.tolist() == [width]


def test_the_first_and_the_last_microsecond_of_a_window_lie_in_it_and_their_neighbours_do_not() -> None:
    times = [MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + FIVE_MINUTES - 1, MIDNIGHT + FIVE_MINUTES]
    _, starts = placed(int64(times), int64([MIDNIGHT] * 4))
    assert starts.tolist() == [MIDNIGHT - FIVE_MINUTES, MIDNIGHT, MIDNIGHT, MIDNIGHT + FIVE_MINUTES]


# Growing coarser


ages = st.integers(-20 * DAY, 20 * DAY) | st.integers(-6_000 * DAY, 6_000 * DAY)


@given(windows, ages)
@settings(deadline=None, max_examples=200)
def test_a_narrow_window_lies_within_the_wide_one_that_it_goes_into(window: Window, age: int) -> None:
    now = window.last + age
    if age < 0:  # of a window in the future the first moment is the nearest
        age = min(0, now - window.start)
    wide = coarser(window, now)
    assert wide.start <= window.start
    assert window.last <= wide.last
    assert wide.start % wide.width == 0
    assert wide.width == max(window.width, width_of(age))
    assert coarser(wide, now).width >= wide.width


@given(moments, arrivals, st.lists(st.integers(0, 10 * DAY), max_size=5))
@settings(deadline=None, max_examples=200)
def test_growing_coarser_in_steps_ends_where_growing_at_once_does(
    time: int, arrived: int, steps: list[int]
) -> None:
    widths, starts = placed(int64([time]), int64([arrived]))
    stepwise = Window(int(widths[0]), int(starts[0]))
    now = arrived
    for step in steps:
        now += step
        stepwise = coarser(stepwise, now)
        assert stepwise.start <= time <= stepwise.last
    assert coarser(stepwise, now + 30 * DAY + abs(now - time)).width >= DAY


@given(windows, ages)
@settings(deadline=None, max_examples=300)
def test_what_is_due_grows_wider_and_what_should_grow_wider_is_soon_due(window: Window, age: int) -> None:
    def is_due(now: int) -> bool:
        bounds = {width: (before, after) for width, before, after in due(now)}
        before, after = bounds.get(window.width, (-(2**63), 2**63))
        return not before <= window.start <= after

    now = window.start + age
    grows = coarser(window, now) != window
    assert grows or not is_due(now)
    assert not grows or is_due(now - window.width) or is_due(now + window.width)


def every(step: int, first: int, last: int) -> Times:
    return np.arange(first, last, step, dtype=np.int64)


def test_a_feature_has_few_windows_even_if_it_has_a_value_for_every_day_of_all_years() -> None:
    near = every(FIVE_MINUTES, MIDNIGHT - 20 * DAY, MIDNIGHT + 20 * DAY)
    times = np.concatenate([every(DAY, YEAR_ONE, YEAR_9999), near])
    monitor = FeatureMonitor()
    monitor.apply(MIDNIGHT, [table_of(times, np.ones(len(times)))])
    assert 9_000 < MOST_WINDOWS < 11_000
    found = leaving(monitor)
    assert len(found) <= MOST_WINDOWS + 1
    assert found.pop(SummaryKey(FEATURE.id, FEATURE.created, *WHOLE)).count == len(times)
    assert sum(summary.count for summary in found.values()) == len(times)


@pytest.mark.parametrize("arrived", [YEAR_ONE, YEAR_ONE + 6_000 * DAY, MIDNIGHT, YEAR_9999])
def test_windows_next_to_each_other_are_told_apart_from_year_1_to_9999(arrived: int) -> None:
    beside = [-WIDEST, -DAY, -HOUR, -1, 0, HOUR, DAY, WIDEST]
    bounds = [DAILY_FOR, HOURLY_FOR, FINE_FOR, -FINE_AHEAD, -DAILY_AHEAD]
    times = int64([YEAR_ONE, YEAR_9999, *(arrived - age + off for age in bounds for off in beside)])
    times = np.clip(times, YEAR_ONE, YEAR_9999)
    widths, starts = placed(times, np.full_like(times, arrived))
    monitor = FeatureMonitor(YEAR_ONE - 1)
    monitor.apply(arrived, [table_of(times, np.ones(len(times)))])
    found = {(key.width, key.start) for key in leaving(monitor)}
    assert found == {WHOLE, *zip(widths.tolist(), starts.tolist(), strict=True)}


# In the monitor and the storage


def table_of(times: list[int] | Times, values: list[float] | NDArray[np.float64]) -> Table:
    nulls = np.zeros(len(times), np.bool_)
    given = np.array(times, np.int64), np.array(values, np.float64)
    return a_table(FEATURE.id, FEATURE.created, ["u"] * len(times), *given, nulls)


def figures(part: Summary) -> Summary:
    """What a summary says once it is looked at."""
    summary = of_all(part.created)
    summary.merge(part)
    return summary


def leaving(monitor: FeatureMonitor) -> dict[SummaryKey, Summary]:
    for _ in monitor.folding():
        pass
    return {key: figures(part) for key, part in monitor.leave()[1].items()}


batches = st.lists(
    st.tuples(st.integers(0, 20 * DAY), st.lists(st.tuples(moments, st.integers(-9, 9)), min_size=1, max_size=12)),
    min_size=1,
    max_size=6,
)


@given(batches)
@settings(deadline=None, max_examples=100)
def test_the_windows_of_a_stream_hold_each_observation_once_and_the_whole_holds_all(
    sent: list[tuple[int, list[tuple[int, int]]]],
) -> None:
    monitor, arrived = FeatureMonitor(), MIDNIGHT
    expected: Counter[Window] = Counter()
    for step, rows in sent:
        arrived += step + 1
        monitor.apply(arrived, [table_of([time for time, _ in rows], [float(value) for _, value in rows])])
        expected.update(
            Window(width, time - time % width) for time, _ in rows for width in [width_of(arrived - time)]
        )
    found = {Window(key.width, key.start): summary for key, summary in leaving(monitor).items()}
    whole = found.pop(WHOLE)
    assert {window: summary.count for window, summary in found.items()} == expected
    assert whole.count == expected.total()
    for window, summary in found.items():
        assert summary.oldest is not None
        assert summary.newest is not None
        assert window.start <= summary.oldest <= summary.newest <= window.last


class Kept:
    """The saved windows of one feature, and what the oracle knows of them."""

    def __init__(self) -> None:
        self.storage = MemoryStorage()
        self.storage.open()
        self.now = MIDNIGHT
        self.seen: list[tuple[int, float]] = []

    def save(self, rows: list[tuple[int, float]]) -> None:
        """Rows that arrive now, each in a summary of its window."""
        parts: dict[SummaryKey, Summary] = {}
        for time, value in rows:
            times, arrived = int64([time]), int64([self.now])
            widths, starts = placed(times, arrived)
            key = SummaryKey(FEATURE.id, FEATURE.created, int(widths[0]), int(starts[0]))
            summary = parts.setdefault(key, of_a_window(FEATURE.created))
            summary.add(Accepted(times, arrived, np.array([value]), np.zeros(1, np.bool_)))
        self.storage.summaries.save(
            self.now, {key: encode(summary) for key, summary in parts.items()}, merge_states
        )
        self.seen += rows

    def coarsen(self) -> None:
        self.storage.summaries.coarsen(self.now, merge_states)

    def windows(self) -> dict[Window, Summary]:
        states = self.storage.summaries.read(FEATURE, -(2**63), 2**63 - 1).states
        return {window: figures(decode(state, Summary)) for window, state in states.items()}

    def check(self) -> None:
        found = self.windows()
        assert sum(summary.count for summary in found.values()) == len(self.seen)
        total = sum(summary.numbers.moments.mean * summary.count for summary in found.values())
        assert total == pytest.approx(sum(value for _, value in self.seen), abs=1e-6)
        for window, summary in found.items():
            assert summary.oldest is not None
            assert summary.newest is not None
            assert window.start <= summary.oldest <= summary.newest <= window.last
        times = [time for time, _ in self.seen]
        assert min(summary.oldest or 0 for summary in found.values()) == min(times)
        assert max(summary.newest or 0 for summary in found.values()) == max(times)


@given(batches)
@settings(deadline=None, max_examples=80)
def test_windows_that_grow_coarser_keep_the_totals_and_take_in_what_comes_late(
    sent: list[tuple[int, list[tuple[int, int]]]],
) -> None:
    kept = Kept()
    for step, rows in sent:
        kept.now += step + 1
        kept.save([(time, float(value)) for time, value in rows])
        kept.coarsen()
        kept.check()
    kept.now += 16 * DAY
    kept.coarsen()
    kept.check()
    old = kept.now - 15 * DAY - HOUR
    assert all(window.width >= DAY for window in kept.windows() if window.last < old)
    assert all(window.width == WIDEST for window in kept.windows() if window.last < kept.now - DAILY_FOR - DAY)
    state = kept.windows().keys()
    kept.coarsen()
    assert kept.windows().keys() == state


def test_five_minutes_become_an_hour_and_hours_a_day_as_they_age() -> None:
    kept = Kept()
    kept.save([(MIDNIGHT - minute * 60_000_000 - 1, 1.0) for minute in range(0, 180, 5)])
    assert Counter(window.width for window in kept.windows()) == {FIVE_MINUTES: 36}
    kept.now += DAY + FIVE_MINUTES
    kept.coarsen()
    assert Counter(window.width for window in kept.windows()) == {HOUR: 3}
    kept.now += 13 * DAY + 2 * HOUR
    kept.coarsen()
    assert Counter(window.width for window in kept.windows()) == {DAY: 1}
    kept.check()


def test_what_is_young_stays_fine() -> None:
    kept = Kept()
    kept.save([(MIDNIGHT - DAY + FIVE_MINUTES, 1.0), (MIDNIGHT, 1.0), (MIDNIGHT + DAY, 1.0)])
    kept.coarsen()
    assert Counter(window.width for window in kept.windows()) == {FIVE_MINUTES: 3}


def test_a_late_arrival_after_coarsening_joins_the_wide_window() -> None:
    kept = Kept()
    kept.save([(MIDNIGHT, 1.0), (MIDNIGHT + FIVE_MINUTES, 2.0)])
    kept.now += 2 * DAY
    kept.coarsen()
    kept.save([(MIDNIGHT + 1, 4.0)])
    kept.coarsen()
    assert {window: summary.count for window, summary in kept.windows().items()} == {Window(HOUR, MIDNIGHT): 3}
    kept.check()


def test_more_windows_than_are_coarsened_at_once_are_coarsened_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitored, "COARSENED_AT_ONCE", 5)
    kept = Kept()
    kept.save([(MIDNIGHT + step * FIVE_MINUTES, float(step)) for step in range(24)])
    kept.now += 3 * DAY
    for _ in range(5):
        kept.coarsen()
        kept.check()
    assert {window: summary.count for window, summary in kept.windows().items()} == {
        Window(HOUR, MIDNIGHT): 12,
        Window(HOUR, MIDNIGHT + HOUR): 12,
    }


def test_the_whole_stream_is_no_window_that_could_grow_coarser() -> None:
    kept = Kept()
    summary = of_a_window(FEATURE.created)
    summary.add(Accepted(int64([MIDNIGHT]), int64([MIDNIGHT]), np.ones(1), np.zeros(1, np.bool_)))
    kept.storage.summaries.save(
        1, {SummaryKey(FEATURE.id, FEATURE.created, *WHOLE): encode(summary)}, merge_states
    )
    kept.now += 100 * DAY
    kept.coarsen()
    assert list(kept.storage.summaries.read_whole(FEATURE).states) == [WHOLE]
    assert kept.windows() == {}


def test_features_and_their_earlier_lives_are_coarsened_apart() -> None:
    kept = Kept()
    kept.save([(MIDNIGHT, 1.0)])
    parts = {}
    for id_, created in ((FEATURE.id, 6), ("user.y.v1", 7)):
        summary = of_a_window(created)
        summary.add(Accepted(int64([MIDNIGHT]), int64([MIDNIGHT]), np.ones(1), np.zeros(1, np.bool_)))
        parts[SummaryKey(id_, created, FIVE_MINUTES, MIDNIGHT)] = encode(summary)
    kept.storage.summaries.save(kept.now, parts, merge_states)
    kept.now += 2 * DAY
    kept.coarsen()
    kept.check()
