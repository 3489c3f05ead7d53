"""The command-line options that say what a load is like, and the load they come to."""

from __future__ import annotations

import argparse
import math
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from actors.timestamps import now
from loadtest.machine.cores import Cores
from loadtest.machine.service import Service, running, temporary
from loadtest.openloop.load import Load
from loadtest.openloop.schedule import AbsurdLoad
from loadtest.workloads.scenarios import SCENARIOS
from loadtest.workloads.shape import Shape

RESULTS = Path(__file__).parents[1] / "results"
_SHAPE = {
    "entities": "entities of one read",
    "features": "features of one read",
    "population": "entities that exist",
    "observations": "observations that each pair has before it begins",
    "batch_values": "values of one batch",
}
_SHARES = {"writes": "share of writes (mixed, hot-entity)", "batches": "share of batches (mixed)"}


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything but scenario, rate and length."""
    parser.add_argument("--connections", type=whole, default=32, metavar="C", help="default: 32")
    parser.add_argument("--processes", type=whole, default=1, metavar="N", help="driver processes (default: 1)")
    parser.add_argument("--warm-up", type=not_negative, default=2.0, metavar="S", help="not measured (default: 2)")
    parser.add_argument("--url", help="a service that runs on this machine (default: one of its own is started)")
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
    """Which scenario."""
    about = "; ".join(f"{name}: {one.about}" for name, one in SCENARIOS.items())
    parser.add_argument("--scenario", choices=SCENARIOS, default="serve", help=about)


def flag(name: str) -> str:
    """The option of a field."""
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
    """The service that the options name, or one of our own. Raises NotHere."""
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
