"""`python -m loadtest find-limit`: open-loop runs that search for the highest rate within a latency bound."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from loadtest.limit.search import Bounds, Limit, Reason, find
from loadtest.machine.cores import Cores, cores
from loadtest.machine.facts import ending, facts, where
from loadtest.machine.service import Service, crowded_share
from loadtest.machine.tables import table
from loadtest.openloop.load import Load, add_load_arguments, add_scenario, load_of, positive, target
from loadtest.openloop.outcome import BUSY, Outcome
from loadtest.openloop.parent import drive, measured, prepare
from loadtest.openloop.report import conclude
from loadtest.openloop.schedule import MOST_REQUESTS

CONFIRMATION_TIMES_AS_LONG = 3
CROWDED = 0.1
"""A failure is attributed to other work above this share of the service's core."""
LATE = 0.5
"""A driver that is not busy but sends later than this share of the bound was kept from its core."""
WHOSE = {
    "service": "Above that the service does not hold the bound.",
    "driver": "Above that the driver was the limit: the service may do more. Try --processes.",
    "machine": "Above that other work on this machine interfered: the service may do more.",
    "ceiling": "No higher rate was tried: the service may do more. Raise --most.",
    "nothing holds": "No rate kept the bound, or none did in the confirming run.",
}
WORDS = {
    "holds": "holds",
    "service": "does not hold",
    "driver": "does not hold: the driver",
    "machine": "does not hold: other work",
}


class WrongAnswers(RuntimeError):
    """The service answered wrongly: there is no limit to find."""


class Trial(msgspec.Struct, frozen=True):
    """One step. `confirms`: the longer one at the end. `crowded`: the share of the service's core that other work
    used, None if we did not start the service.
    """

    rate: float
    reason: Reason
    confirms: bool
    crowded: float | None
    outcome: Outcome


class Search(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A search from its first step to its answer. `load`: of a step, except its rate."""

    load: Load
    p99_ms: float
    limit: Limit
    trials: Sequence[Trial]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--p99-ms", type=positive, default=5.0, metavar="MS", help="the bound (default: 5)")
    add("--seconds", type=positive, default=5.0, metavar="S", help="length of a step in seconds (default: 5)")
    add("--first", type=positive, default=250.0, metavar="N", help="the first rate (default: 250)")
    add("--most", type=positive, default=50_000.0, metavar="N", help="the highest (default: 50,000)")
    add("--precision", type=positive, default=0.05, metavar="SHARE", help="(default: 0.05)")
    add("--repeats", type=int, default=1, metavar="N", help="how often a failed step is repeated (default: 1)")
    add_scenario(parser)
    add_load_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: found. 1: nothing held. Raises AbsurdLoad, NotHere, and RuntimeError or OSError."""
    load, here, known = load_of(arguments, arguments.first, arguments.seconds), cores(), facts()
    longest = arguments.warm_up + arguments.seconds * CONFIRMATION_TIMES_AS_LONG
    ceiling = min(arguments.most, MOST_REQUESTS / longest)
    with target(arguments, here) as server:
        prepare(server, load.shape)
        steps = Steps(server, load, here, arguments.p99_ms, arguments.repeats)
        limit = find(steps.attempt, Bounds(arguments.first, ceiling, arguments.precision))
    search = Search(load=load, p99_ms=arguments.p99_ms, limit=limit, trials=steps.trials)
    document = {**known, "kind": "find-limit", **msgspec.to_builtins(search)}
    conclude(arguments, f"limit-{load.scenario}", document, report(search, known))
    return 0 if limit.rate else 1


class Steps:
    """Tries rates, each in its own run. A failed step is repeated, since other work may have caused it."""

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
        found = measured(load, drive(self._server, load, self._cores))
        if found.content.wrong:
            raise WrongAnswers(found.content.faults[0])
        crowded = crowded_share(before, self._server.footprint())
        trial = Trial(rate, judged(found, self._bound, crowded or 0.0), confirms, crowded, found)
        self.trials.append(trial)
        said = zip(_HEADINGS, _row(trial), strict=True)
        print(", ".join(f"{name} {value}".strip() for name, value in said), file=sys.stderr, flush=True)
        return trial.reason


def judged(found: Outcome, bound_ms: float, crowded: float) -> Reason:
    """Whether the bound holds, and if not, what may have limited it. `crowded`: as in `Trial`."""
    if not found.errors and found.latency.p99 <= bound_ms:
        return "holds"
    if found.driver.busy > BUSY:
        return "driver"
    late = found.driver.lag.p99 > LATE * bound_ms
    return "machine" if late or crowded > CROWDED else "service"


_HEADINGS = ("rate", "p50 ms", "p99 ms", "p99.9 ms", "errors", "driver busy", "late by ms", "crowded", "")


def _row(trial: Trial) -> tuple[str, ...]:
    one = trial.outcome
    latencies = (f"{ms:.3f}" for ms in (one.latency.p50, one.latency.p99, one.latency.p999))
    crowded = "unknown" if trial.crowded is None else f"{trial.crowded:.0%}"
    doubts = (f"{one.driver.busy:.0%}", f"{one.driver.lag.p99:.3f}", crowded)
    words = WORDS[trial.reason] + (" (confirmation)" if trial.confirms else "")
    return (f"{trial.rate:,.0f}", *latencies, f"{one.errors:,}", *doubts, words)


def report(search: Search, known: Mapping[str, Any]) -> str:
    """The answer in a sentence or two, and the steps."""
    load, rate = search.load, search.limit.rate
    held = f"{rate:,.0f} requests a second" if rate else "no rate"
    return "\n".join(
        [
            f"# The limit of {load.scenario}",
            "",
            f"{load.scenario} ({load.shape.entities} x {load.shape.features}, {load.connections} connections):"
            f" {held} with p99 <= {search.p99_ms:g} ms and no errors. {WHOSE[search.limit.why]}",
            "",
            f"{where(known)}.",
            "",
            table([_HEADINGS, *map(_row, search.trials)], 0),
            "",
            "Late by: delay of the driver itself, at p99. Crowded: the share of the service's core that other",
            "work on this machine used.",
            *ending(known),
        ]
    )
