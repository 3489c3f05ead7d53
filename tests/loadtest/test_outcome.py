"""Evaluating a recording."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.openloop.drive import DRAIN_SECONDS
from loadtest.openloop.outcome import FAILED, UNANSWERED, Frame, Outcome, outcome
from loadtest.openloop.recording import PartDone, Recording, empty
from loadtest.openloop.schedule import constant
from loadtest.openloop.slow_reader import Sipped

FRAME = Frame(start=1.0, end=3.0, kinds=["read", "write"])
PART = PartDone(busy=0.25, held_up=0.5, longest=0.1, sampled=9, wrong=0, faults=[], sipped=Sipped())


def recorded() -> Recording:
    """100 a second for three seconds, all answered 10 ms after their instant, sent 2 ms after it."""
    arrays = empty(constant(100, 3))
    arrays.ready[:] = arrays.scheduled + 0.001
    arrays.sent[:] = arrays.scheduled + 0.002
    arrays.done[:] = arrays.scheduled + 0.010
    arrays.status[:] = 200
    return arrays


def of(arrays: Recording) -> Outcome:
    return outcome(arrays, FRAME, [PART, PART])


def test_latency_counts_from_the_schedule_and_service_time_from_the_sending() -> None:
    found = of(recorded())
    assert found.latency.max == pytest.approx(10)
    assert found.service_time.max == pytest.approx(8)
    assert found.driver.lag.max == pytest.approx(1)
    assert (found.asked, found.requests, found.errors) == (100, 200, 0)


def test_the_warm_up_does_not_count() -> None:
    arrays = recorded()
    arrays.done[:100] += 5
    arrays.status[:100] = 500
    assert of(arrays) == of(recorded())


def test_refusals_and_failures_are_counted_by_status_and_have_no_latency() -> None:
    arrays = recorded()
    arrays.status[100:110] = 503
    arrays.status[110:113] = 0
    arrays.done[100:113] = arrays.scheduled[100:113] + 9
    found = of(arrays)
    assert found.statuses == {"200": 187, "503": 10, FAILED: 3}
    assert (found.errors, found.latency.count) == (13, 187)
    assert found.latency.max == pytest.approx(10)


def test_requests_that_were_never_answered_count_with_the_time_they_were_waited_for() -> None:
    arrays = recorded()
    for column in (arrays.ready, arrays.sent, arrays.done):
        column[150] = np.nan
    arrays.status[150] = 0
    found = of(arrays)
    assert found.statuses == {"200": 199, UNANSWERED: 1}
    assert found.latency.max == pytest.approx((2.99 + DRAIN_SECONDS - 1.5) * 1e3)
    assert found.errors == 1


def test_what_is_answered_after_the_end_of_the_schedule_was_not_achieved() -> None:
    arrays = recorded()
    arrays.done[200:] = 3.5
    found = of(arrays)
    assert found.achieved == 50
    assert found.errors == 0


def test_latencies_are_told_by_kind_and_over_time() -> None:
    arrays = recorded()
    arrays.done[1::2] += 0.090
    arrays.done[250:] += 1
    found = of(arrays)
    assert found.kinds["read"].p50 == pytest.approx(10)
    assert found.kinds["write"].p50 == pytest.approx(100)
    assert [one.requests for one in found.timeline] == pytest.approx([20] * 10, abs=1)
    assert sum(one.requests for one in found.timeline) == 200
    assert [one.max > 1_000 for one in found.timeline] == [False] * 7 + [True] * 3
    assert found.timeline[0].start == 1.0


def test_phases_are_told_apart() -> None:
    arrays = recorded()
    arrays.done[200:] += 0.090
    frame = Frame(start=1.0, end=3.0, kinds=["read"], phases={"before": (1.0, 2.0), "after": (2.0, 3.0)})
    found = outcome(arrays, frame, [PART])
    assert found.phases["before"].max == pytest.approx(10)
    assert found.phases["after"].max == pytest.approx(100)
    assert found.phases["before"].count == 100


def test_the_busiest_driver_is_told_of() -> None:
    other = PartDone(busy=0.75, held_up=1.0, longest=0.9, sampled=1, wrong=1, faults=["bad"], sipped=Sipped())
    found = outcome(recorded(), FRAME, [PART, other])
    assert (found.driver.busy, found.driver.held_up_seconds, found.driver.longest_seconds) == (0.75, 1.5, 0.9)
    assert (found.content.sampled, found.content.wrong, found.content.faults) == (10, 1, ["bad"])
