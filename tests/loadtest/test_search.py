"""Finding the highest rate that holds, on simulated services."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.limit.search import LOWEST_RATE, Bounds, Reason, find

BOUNDS = Bounds(first=100, ceiling=100_000, precision=0.05)


class Machine:
    """A service that holds up to `service`, behind a driver that reaches `driver`."""

    def __init__(self, service: float, driver: float = 1e9, lucky: float = 1.0) -> None:
        self._service, self._driver, self._lucky = service, driver, lucky
        self.tried: list[tuple[float, bool]] = []

    def attempt(self, rate: float, confirms: bool) -> Reason:
        self.tried.append((rate, confirms))
        if rate > self._driver:
            return "driver"
        return "holds" if rate <= self._service * (1 if confirms else self._lucky) else "service"


@given(st.floats(LOWEST_RATE, 100_000))
def test_it_comes_as_close_as_asked_for(limit: float) -> None:
    machine = Machine(limit)
    found = find(machine.attempt, BOUNDS)
    assert found.rate <= limit <= found.rate * 1.05
    assert found.why == ("service" if limit < 100_000 else "ceiling")
    assert len(machine.tried) < 25
    assert machine.tried[-1] == (found.rate, True)


def test_where_the_driver_is_the_limit_the_service_is_not_said_to_be() -> None:
    found = find(Machine(service=5_000, driver=2_000).attempt, BOUNDS)
    assert found.why == "driver"
    assert 1_900 < found.rate <= 2_000


def test_a_driver_that_gives_out_far_above_the_service_does_not_matter() -> None:
    found = find(Machine(service=1_000, driver=1_500).attempt, BOUNDS)
    assert found.why == "service"


def test_nothing_above_the_ceiling_is_tried() -> None:
    machine = Machine(service=1e9)
    assert find(machine.attempt, BOUNDS) == (100_000, "ceiling")
    assert max(rate for rate, _ in machine.tried) == 100_000


def test_where_nothing_holds_there_is_no_limit() -> None:
    machine = Machine(service=0)
    assert find(machine.attempt, BOUNDS) == (0, "nothing holds")
    assert not any(confirms for _, confirms in machine.tried)


def test_what_held_by_luck_is_not_confirmed_and_a_lower_rate_is() -> None:
    found = find(Machine(service=1_000, lucky=1.1).attempt, BOUNDS)
    assert 950 <= found.rate <= 1_000
    assert found.why == "service"


@pytest.mark.parametrize("lucky", [2.0, 10.0])
def test_what_is_never_confirmed_is_no_limit(lucky: float) -> None:
    assert find(Machine(service=1_000, lucky=lucky).attempt, BOUNDS) == (0, "nothing holds")
