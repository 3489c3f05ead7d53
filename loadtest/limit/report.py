"""What is told of a search: its steps, the limit, and whose limit it is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from loadtest.limit.search import Limit, Reason
from loadtest.machine.facts import where
from loadtest.openloop.charts import Chart, Series
from loadtest.openloop.load import Load
from loadtest.openloop.outcome import Outcome
from loadtest.openloop.report import Kept

WHOSE = {
    "service": "Above that the service does not hold the bound.",
    "driver": "Above that the driver was the limit: the service may do more. Try --processes.",
    "machine": "Above that other work on this machine was in the way: the service may do more.",
    "ceiling": "No higher rate was tried: the service may do more. Raise --most.",
    "nothing holds": "The bound was not held at any rate, or was not when that was to be confirmed.",
}
WORDS = {
    "holds": "holds",
    "service": "does not hold",
    "driver": "does not hold: the driver",
    "machine": "does not hold: other work",
}


class Trial(msgspec.Struct, frozen=True):
    """One step. `confirms`: the longer one at the end. `crowded`: the share of the service's core that other work
    had, None where it is not ours.
    """

    rate: float
    reason: Reason
    confirms: bool
    crowded: float | None
    outcome: Outcome

    def __str__(self) -> str:
        one = self.outcome
        return (
            f"{self.rate:10,.0f}/s  p50 {one.latency.p50:9.3f} ms  p99 {one.latency.p99:9.3f} ms"
            f"  errors {one.errors:6,}  driver busy {one.driver.busy:4.0%}, late {one.driver.lag.p99:7.3f} ms"
            f"  crowded {_share(self.crowded):>4}  {_words(self)}"
        )


class Search(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A search from its first step to its answer. `load` is that of a step, whatever its rate says."""

    load: Load
    p99_ms: float
    limit: Limit
    trials: Sequence[Trial]


def told(search: Search) -> str:
    """The answer in a sentence or two."""
    load, rate = search.load, search.limit.rate
    held = f"{rate:,.0f} requests a second" if rate else "no rate"
    return (
        f"{load.scenario} ({load.shape.entities} x {load.shape.features}, {load.connections} connections):"
        f" {held} with p99 <= {search.p99_ms:g} ms and no errors. {WHOSE[search.limit.why]}"
    )


def kept(search: Search) -> Kept:
    """What is kept of it."""
    document = {"kind": "find-limit", **msgspec.to_builtins(search)}
    return Kept(f"limit-{search.load.scenario}", document, [_chart(search.trials)], partial(_markdown, search))


def _markdown(search: Search, known: dict[str, Any], chart: str) -> str:
    lines = [
        f"# The limit of {search.load.scenario}",
        "",
        told(search),
        "",
        f"{where(known)}.",
        "",
        f"![p99 by rate]({chart})",
        "",
        "| rate | p50, ms | p99, ms | p99.9, ms | errors | driver busy | late by, ms | crowded | |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---|",
        *map(_row, search.trials),
        "",
        "Late by: how late the driver itself was, at p99. Crowded: the share of the service's core that other",
        "work on this machine had.",
        "",
        f"    {' '.join(known['command'])}",
        "",
    ]
    return "\n".join(lines)


def _row(trial: Trial) -> str:
    one = trial.outcome
    latencies = f"{one.latency.p50:.3f} | {one.latency.p99:.3f} | {one.latency.p999:.3f}"
    doubts = f"{one.driver.busy:.0%} | {one.driver.lag.p99:.3f} | {_share(trial.crowded)}"
    return f"| {trial.rate:,.0f} | {latencies} | {one.errors:,} | {doubts} | {_words(trial)} |"


def _words(trial: Trial) -> str:
    return WORDS[trial.reason] + (" (confirmation)" if trial.confirms else "")


def _share(part: float | None) -> str:
    return "" if part is None else f"{part:.0%}"


def _chart(trials: Sequence[Trial]) -> Chart:
    ordered = sorted(trials, key=lambda trial: trial.rate)
    rates = [trial.rate for trial in ordered]
    step = (rates[-1] - rates[0]) / 8
    ticks = [(rates[0] + step * number, f"{rates[0] + step * number:,.0f}") for number in range(9)]
    lines = [
        Series("p50", [(trial.rate, trial.outcome.latency.p50) for trial in ordered]),
        Series("p99", [(trial.rate, trial.outcome.latency.p99) for trial in ordered]),
    ]
    return Chart("Latency by rate", "requests a second", "ms", ticks, lines)
