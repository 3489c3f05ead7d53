"""What a soak expects of the service, and when it judges that memory or latency has grown."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.machine.facts import MEGABYTE
from loadtest.openloop.outcome import latency
from loadtest.openloop.recording import Recording, empty
from loadtest.openloop.schedule import constant
from loadtest.soak.ledger import ledger
from loadtest.soak.trend import memory, slope, slower
from loadtest.workloads.shape import Shape
from loadtest.workloads.soaking import BATCHES, SINGLES, Soaking

SHAPE = Shape(prefix="x-", filled_at=1_700_000_000_000_000, population=10, batch_values=4)
WORK = Soaking(SHAPE, 60)


def recorded() -> Recording:
    arrays = empty(constant(10, 6))
    arrays.sent[:] = arrays.done[:] = arrays.scheduled
    arrays.status[:] = 200
    return arrays


def by_hand(rows: list[int], feature: int) -> dict[int, list[int]]:
    """Row numbers written, by entity."""
    found: dict[int, list[int]] = {entity: [] for entity in range(10)}
    for row in rows:
        written = WORK.written(row)
        if written is not None and written.feature == feature:
            for entity in written.entities:
                found[entity].append(row)
    return found


def test_what_was_acknowledged_must_be_there() -> None:
    found = ledger(WORK, recorded())
    for feature in (SINGLES, BATCHES):
        expected = by_hand(list(range(60)), feature)
        assert found.least[feature].counts.tolist() == [len(expected[entity]) for entity in range(10)]
        assert found.least[feature].sums.tolist() == [sum(expected[entity]) for entity in range(10)]
        assert found.least[feature].latest.tolist() == [max([-1, *expected[entity]]) for entity in range(10)]
        np.testing.assert_array_equal(found.most[feature].counts, found.least[feature].counts)
    assert found.least[SINGLES].counts.sum() == 24
    assert found.least[BATCHES].counts.sum() == 12


@pytest.mark.parametrize(
    ("status", "may_be_there"), [(0, True), (503, True), (500, True), (400, False), (413, False)]
)
def test_what_failed_may_be_there_and_what_was_refused_is_not(status: int, may_be_there: bool) -> None:
    arrays = recorded()
    arrays.status[[0, 16]] = status
    found = ledger(WORK, arrays)
    assert found.least[SINGLES].counts.sum() == 23
    assert found.least[BATCHES].counts.sum() == 8
    assert found.most[SINGLES].counts.sum() == 23 + may_be_there
    assert found.most[BATCHES].counts.sum() == 8 + 4 * may_be_there


def test_what_was_never_sent_is_not_there() -> None:
    arrays = recorded()
    arrays.sent[40:] = arrays.done[40:] = np.nan
    arrays.status[40:] = 0
    found = ledger(WORK, arrays)
    assert found.most[SINGLES].counts.sum() == 16


def sampled(*, growth: float, peaks: bool = False, seconds: int = 600) -> list[tuple[float, int]]:
    """Memory by the second: 100 MB, reached within a minute, plus `growth` MB an hour; or with peaks."""
    sizes = [
        100 * min(1.0, (second + 30) / 90) + growth * second / 3_600 + 200 * (peaks and second % 60 < 10)
        for second in range(seconds)
    ]
    return [(float(second), round(size * MEGABYTE)) for second, size in enumerate(sizes)]


def test_memory_that_fills_and_then_stays_passes_whatever_its_peaks() -> None:
    assert memory(sampled(growth=0), 0, 600).passed
    assert memory(sampled(growth=0, peaks=True), 0, 600).passed


def test_memory_that_grows_on_fails() -> None:
    assert memory(sampled(growth=600), 0, 600).passed is False
    assert memory(sampled(growth=900, peaks=True), 0, 600).passed is False


def test_too_short_a_soak_is_not_judged() -> None:
    assert memory(sampled(growth=900, seconds=60), 0, 60).passed is None
    assert memory([], 0, 600).passed is None
    assert slower(latency(np.ones(3)), latency(np.ones(3) * 9), 60).passed is None


def test_the_slope_is_that_of_the_line_whatever_a_few_points_say() -> None:
    seconds = np.arange(600.0)
    values = 3 * seconds + 7
    values[::11] += 10_000
    assert slope(np.stack([seconds, values], axis=1)) == pytest.approx(3, rel=0.01)


def test_latency_that_has_doubled_fails_and_noise_below_milliseconds_passes() -> None:
    first = latency(np.linspace(0.001, 0.010, 100))
    assert slower(first, latency(np.linspace(0.0015, 0.012, 100)), 600).passed
    assert slower(first, latency(np.linspace(0.002, 0.020, 100)), 600).passed is False
    assert slower(latency(np.full(9, 0.0001)), latency(np.full(9, 0.0015)), 600).passed
