"""One run as it was asked for: scenario, rate, length, shape."""

from __future__ import annotations

import msgspec

from loadtest.openloop.outcome import Frame
from loadtest.openloop.schedule import Instants, bursts, constant
from loadtest.workloads.asks import Work
from loadtest.workloads.scenarios import SCENARIOS, Scenario
from loadtest.workloads.shape import Shape

MOST_SETTLING_SECONDS = 1.0
WITHOUT, BESIDE = "without slow readers", "beside slow readers"


class Load(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`rate` a second for `warm_up` + `seconds`; the warm-up is not measured."""

    scenario: str
    shape: Shape
    rate: float
    seconds: float
    warm_up: float = 2.0
    connections: int = 32
    processes: int = 1
    burst_factor: float = 10.0
    burst_every: float = 2.0
    slow_readers: int = 8

    @property
    def mixture(self) -> Scenario:
        """The scenario itself."""
        return SCENARIOS[self.scenario]

    @property
    def end(self) -> float:
        """Seconds from the start to the end of the schedule."""
        return self.warm_up + self.seconds

    @property
    def slow_from(self) -> float:
        """When the slow readers begin: halfway through what is measured."""
        return self.warm_up + self.seconds / 2

    def instants(self) -> Instants:
        """Raises AbsurdLoad."""
        if self.mixture.rhythm == "bursts":
            return bursts(self.rate, self.end, self.burst_factor, self.burst_every)
        return constant(self.rate, self.end)

    def work(self) -> Work:
        """The requests."""
        return self.mixture.work(self.shape, len(self.instants()))

    def frame(self) -> Frame:
        """What is measured. The stretch in which slow readers first ask is in neither phase."""
        phases = {}
        if self.mixture.slow_readers:
            settled = self.slow_from + min(MOST_SETTLING_SECONDS, self.seconds / 8)
            phases = {WITHOUT: (self.warm_up, self.slow_from), BESIDE: (settled, self.end)}
        return Frame(start=self.warm_up, end=self.end, kinds=self.work().kinds, phases=phases)
