"""Percentiles are latencies that were recorded."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadtest.openloop.outcome import NAMED, at, latency

LATENCIES = st.lists(st.floats(0, 100, width=32), min_size=1, max_size=300).map(np.array)


@given(LATENCIES)
def test_they_are_numpys_with_the_inverted_distribution(
    seconds: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    found = latency(seconds)
    expected = np.percentile(seconds * 1e3, [100 * one for one in NAMED.values()], method="inverted_cdf")
    assert [found.p50, found.p90, found.p99, found.p999, found.p9999] == expected.tolist()
    assert found.max == seconds.max() * 1e3
    assert found.count == len(seconds)
    assert math.isclose(found.mean, seconds.mean() * 1e3, abs_tol=1e-9)


@given(LATENCIES, st.floats(0.001, 1))
def test_at_least_the_share_asked_for_is_not_slower(
    seconds: np.ndarray[tuple[int], np.dtype[np.float64]], share: float
) -> None:
    ordered = np.sort(seconds)
    (found,) = at(ordered, [share])
    assert (ordered <= found).mean() >= share - 1e-6
    assert (ordered < found).mean() <= share + 1e-6


def test_one_slow_request_in_ten_thousand_is_the_last_percentile_alone() -> None:
    seconds = np.full(10_000, 0.001)
    seconds[77] = 1.0
    found = latency(seconds)
    assert (found.p999, found.p9999, found.max) == (1.0, 1.0, 1_000.0)


def test_of_nothing_there_is_no_percentile() -> None:
    found = latency(np.zeros(0))
    assert found.count == 0
    assert math.isnan(found.p99)
