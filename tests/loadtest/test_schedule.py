"""When requests are sent."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.openloop.schedule import MOST_REQUESTS, AbsurdLoad, bursts, constant

RATES = st.floats(0.5, 5_000)
LENGTHS = st.floats(0.1, 4)


@given(RATES, LENGTHS)
def test_a_constant_rate_leaves_the_same_time_between_requests(rate: float, seconds: float) -> None:
    instants = constant(rate, seconds)
    assert len(instants) == max(1, round(rate * seconds))
    assert instants[0] == 0
    np.testing.assert_allclose(np.diff(instants), 1 / rate)


@given(RATES, LENGTHS, st.floats(1, 50), st.floats(0.1, 2))
def test_bursts_have_as_many_requests_at_the_beginning_of_each_cycle(
    rate: float, seconds: float, factor: float, every: float
) -> None:
    instants = bursts(rate, seconds, factor, every)
    assert len(instants) == len(constant(rate, seconds))
    assert np.all(np.diff(instants) >= -1e-9)
    size = max(1, round(rate * every))
    assert np.all(instants <= constant(rate, seconds) + 1e-9)
    np.testing.assert_allclose(instants[::size], constant(rate, seconds)[::size])
    np.testing.assert_allclose(np.diff(instants[:size]), 1 / (rate * factor))


def test_within_a_burst_the_rate_is_so_many_times_as_high() -> None:
    instants = bursts(rate=100, seconds=2, factor=10, every=1)
    np.testing.assert_allclose(np.diff(instants[:100]), 0.001)
    assert instants[100] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [(0, 1), (-5, 1), (5, 0), (MOST_REQUESTS, 2), (math.inf, 1), (math.nan, 1), (1, math.inf)],
)
def test_absurd_loads_are_refused(rate: float, seconds: float) -> None:
    with pytest.raises(AbsurdLoad):
        constant(rate, seconds)
    with pytest.raises(AbsurdLoad):
        bursts(rate, seconds, 2, 1)


@pytest.mark.parametrize(("factor", "every"), [(0.5, 1), (2, 0)])
def test_absurd_bursts_are_refused(factor: float, every: float) -> None:
    with pytest.raises(AbsurdLoad):
        bursts(10, 1, factor, every)
