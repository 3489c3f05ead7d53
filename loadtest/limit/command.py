"""`python -m loadtest find-limit`: open-loop runs at rates that close in on the highest one that holds."""

from __future__ import annotations

import argparse
import sys

import msgspec

from loadtest.limit.report import Search, Trial, kept, told
from loadtest.limit.search import Bounds, Reason, find
from loadtest.machine.cores import Cores, cores
from loadtest.machine.service import Service, crowded_share
from loadtest.openloop.load import Load
from loadtest.openloop.options import add_load_arguments, add_scenario, load_of, positive, target
from loadtest.openloop.outcome import BUSY, Outcome
from loadtest.openloop.parent import drive, measured, prepare
from loadtest.openloop.recording import Arrays
from loadtest.openloop.schedule import MOST_REQUESTS

CONFIRMATION_TIMES_AS_LONG = 3
CROWDED = 0.1
"""The share of its core that others may take from the service before a failure is put down to them."""
LATE = 0.5
"""A driver that has slack and yet sends later than this share of the bound was kept from its core."""


class WrongAnswers(RuntimeError):
    """The service answered wrongly: there is no limit to be found."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `find-limit`."""
    parser.add_argument("--p99-ms", type=positive, default=5.0, metavar="MS", help="the bound (default: 5)")
    parser.add_argument("--seconds", type=positive, default=5.0, metavar="S", help="of a step (default: 5)")
    parser.add_argument("--first", type=positive, default=250.0, metavar="N", help="the first rate (default: 250)")
    parser.add_argument(
        "--most", type=positive, default=50_000.0, metavar="N", help="the highest (default: 50,000)"
    )
    parser.add_argument("--precision", type=positive, default=0.05, metavar="SHARE", help="(default: 0.05)")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="of a step that fails (default: 1)")
    add_scenario(parser)
    add_load_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: found. 1: nothing held. Raises AbsurdLoad, NotHere, and RuntimeError or OSError."""
    search = _searched(arguments)
    print(f"\n{told(search)}\n\n{kept(search).write(arguments.results, arguments.json)}")
    return 0 if search.limit.rate else 1


def _searched(arguments: argparse.Namespace) -> Search:
    load, here = load_of(arguments, arguments.first, arguments.seconds), cores()
    longest = arguments.warm_up + arguments.seconds * CONFIRMATION_TIMES_AS_LONG
    ceiling = min(arguments.most, MOST_REQUESTS / longest)
    with target(arguments, here) as server:
        prepare(server, load.shape)
        steps = Steps(server, load, here, arguments.p99_ms, arguments.repeats)
        limit = find(steps.attempt, Bounds(arguments.first, ceiling, arguments.precision))
    return Search(load=load, p99_ms=arguments.p99_ms, limit=limit, trials=steps.trials)


class Steps:
    """Tries rates, each in a run of its own. A failed step is repeated: others may use the machine."""

    def __init__(self, server: Service, load: Load, here: Cores, p99_ms: float, repeats: int) -> None:
        self._server, self._load, self._cores, self._bound, self._repeats = server, load, here, p99_ms, repeats
        self.trials: list[Trial] = []

    def attempt(self, rate: float, confirms: bool) -> Reason:
        """Whether the bound holds at this rate. Raises WrongAnswers."""
        reason = self._once(rate, confirms)
        for _ in range(0 if confirms else self._repeats):
            if reason != "holds":
                reason = self._once(rate, confirms)
        return reason

    def _once(self, rate: float, confirms: bool) -> Reason:
        seconds = self._load.seconds * (CONFIRMATION_TIMES_AS_LONG if confirms else 1)
        load = msgspec.structs.replace(self._load, rate=rate, seconds=seconds)
        before = self._server.footprint()
        found = measured(load, drive(self._server, load, self._cores, _unwatched))
        if found.content.wrong:
            raise WrongAnswers(found.content.faults[0])
        crowded = crowded_share(before, self._server.footprint())
        trial = Trial(rate, judged(found, self._bound, crowded or 0.0), confirms, crowded, found)
        self.trials.append(trial)
        print(trial, file=sys.stderr, flush=True)
        return trial.reason


def judged(found: Outcome, bound_ms: float, crowded: float) -> Reason:
    """Whether the bound holds, and if not, what may be to blame. `crowded`: as of `Trial`."""
    if not found.errors and found.latency.p99 <= bound_ms:
        return "holds"
    if found.driver.busy > BUSY:
        return "driver"
    late = found.driver.lag.p99 > LATE * bound_ms
    return "machine" if late or crowded > CROWDED else "service"


def _unwatched(_arrays: Arrays, _since: float) -> None:
    """Steps are short."""
