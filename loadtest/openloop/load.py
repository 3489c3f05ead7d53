"""The parameters of a run: scenario, rate, length, shape; and its options."""

from __future__ import annotations

import argparse
import math
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec

from actors.timestamps import now
from loadtest.machine.cores import Cores
from loadtest.machine.service import Service, running, temporary
from loadtest.openloop.outcome import Frame
from loadtest.openloop.schedule import AbsurdLoad, Instants, bursts, constant
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
        return self.mixture.work(self.shape, len(self.instants()))

    def frame(self) -> Frame:
        """The measured time. The moments in which slow readers begin are in neither phase."""
        phases = {}
        if self.mixture.slow_readers:
            settled = self.slow_from + min(MOST_SETTLING_SECONDS, self.seconds / 8)
            phases = {WITHOUT: (self.warm_up, self.slow_from), BESIDE: (settled, self.end)}
        return Frame(start=self.warm_up, end=self.end, kinds=self.work().kinds, phases=phases)


# The options

RESULTS = Path(__file__).parents[1] / "results"
_SHAPE = {
    "entities": "entities of one read",
    "features": "features of one read",
    "population": "entities that exist",
    "observations": "observations of each pair before the run",
    "batch_values": "values of one batch",
}
_SHARES = {"writes": "share of writes (mixed, hot-entity)", "batches": "share of batches (mixed)"}


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything but scenario, rate and length."""
    parser.add_argument("--connections", type=whole, default=32, metavar="C", help="default: 32")
    parser.add_argument("--processes", type=whole, default=1, metavar="N", help="driver processes (default: 1)")
    parser.add_argument("--warm-up", type=not_negative, default=2.0, metavar="S", help="not measured (default: 2)")
    parser.add_argument("--url", help="a service that is running on this machine (default: a new one is started)")
    for name, words in _SHAPE.items():
        parser.add_argument(flag(name), type=whole, metavar="N", help=f"{words} (default: the scenario's)")
    for name, words in _SHARES.items():
        parser.add_argument(flag(name), type=share, metavar="SHARE", help=f"{words} (default: the scenario's)")
    parser.add_argument("--burst-factor", type=positive, default=10.0, metavar="N", help="times the rate (10)")
    parser.add_argument("--burst-every", type=positive, default=2.0, metavar="S", help="between bursts (2)")
    parser.add_argument(
        "--slow-readers", type=whole, default=8, metavar="N", help="connections of slow-client (8)"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where reports are written")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")


def add_scenario(parser: argparse.ArgumentParser) -> None:
    about = "; ".join(f"{name}: {one.about}" for name, one in SCENARIOS.items())
    parser.add_argument("--scenario", choices=SCENARIOS, default="serve", help=about)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def load_of(arguments: argparse.Namespace, rate: float, seconds: float) -> Load:
    """The load that the options describe. Raises AbsurdLoad."""
    given = {name: getattr(arguments, name) for name in (*_SHAPE, *_SHARES)}
    fields = {
        **SCENARIOS[arguments.scenario].defaults,
        **{name: one for name, one in given.items() if one is not None},
    }
    load = Load(
        scenario=arguments.scenario,
        shape=Shape(prefix=f"{secrets.token_hex(4)}-", filled_at=now() // 1_000 * 1_000, **fields),
        rate=rate,
        seconds=seconds,
        warm_up=arguments.warm_up,
        connections=max(arguments.connections, arguments.processes),
        processes=arguments.processes,
        burst_factor=arguments.burst_factor,
        burst_every=arguments.burst_every,
        slow_readers=arguments.slow_readers,
    )
    if load.shape.features < load.mixture.least_features:
        raise AbsurdLoad(f"{load.scenario}: has at least {load.mixture.least_features} features")
    load.instants()
    return load


def target(arguments: argparse.Namespace, here: Cores) -> AbstractContextManager[Service]:
    """The service that the options name, or our own. Raises NotHere."""
    return nullcontext(running(arguments.url)) if arguments.url else temporary(here)


def _number(fits: Callable[[float], bool], words: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not (math.isfinite(found) and fits(found)):
            raise argparse.ArgumentTypeError(f"{text!r} is not {words}")
        return found

    return read


positive = _number(lambda number: number > 0, "a number above 0")
not_negative = _number(lambda number: number >= 0, "a number from 0")
share = _number(lambda number: 0 <= number <= 1, "a share from 0 to 1")
_count = _number(lambda number: number >= 1 and number.is_integer(), "a whole number from 1")


def whole(text: str) -> int:
    """A count of at least 1."""
    return int(_count(text))
