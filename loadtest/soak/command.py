"""`python -m loadtest soak`: a mixed load for minutes, then verifies every acknowledged value.

A service that we started is then loaded again, killed during that, started again on the same directory, and
everything is verified once more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loadtest.machine.cores import Cores, cores
from loadtest.machine.facts import ending, facts, where
from loadtest.machine.service import running, started
from loadtest.openloop.load import Load, add_load_arguments, load_of, positive
from loadtest.openloop.outcome import Outcome, outcome
from loadtest.openloop.report import by_part, by_time, conclude
from loadtest.soak.stage import Stage
from loadtest.soak.trend import Verdict, memory, slower

SETTINGS = {"CHECKPOINT_SECONDS": "10", "MONITOR_SECONDS": "10"}
"""Many checkpoints and rounds of the monitor."""
MOST_TOLD = 5
FIRST, LAST = "first third", "last third"


class Soaked(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A soak. `memory`: (seconds, resident bytes); `settings`: those that our own service was started with.

    `crowded`: the share of its core that other work used.
    """

    load: Load
    outcome: Outcome
    settings: Mapping[str, str]
    memory: Sequence[tuple[float, int]]
    crowded: float | None
    written: int
    verdicts: Sequence[Verdict]
    discrepancies: Sequence[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--minutes", type=positive, default=10.0, metavar="M", help="measured (default: 10)")
    add("--rate", type=positive, default=200.0, metavar="N", help="requests a second (default: 200)")
    add_load_arguments(parser)
    parser.set_defaults(scenario="soak", warm_up=5.0)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: nothing lost, nothing grown. 1: something was. Raises as `openloop.command.run`."""
    load, known = load_of(arguments, arguments.rate, arguments.minutes * 60), facts()
    stage = _soaked(load, arguments.url, cores())
    soaked = _summed_up(load, stage, {} if arguments.url else SETTINGS)
    document = {**known, "kind": "soak", **msgspec.to_builtins(soaked)}
    conclude(arguments, "soak", document, report(soaked, known))
    for one in soaked.discrepancies[:MOST_TOLD]:
        print(f"loadtest: {one}", file=sys.stderr)
    return 1 if any(one.passed is False for one in soaked.verdicts) else 0


def _soaked(load: Load, url: str | None, here: Cores) -> Stage:
    stage = Stage(load, here)
    if url is not None:
        stage.soak(running(url))
        return stage
    with tempfile.TemporaryDirectory(prefix="timewell-soak-") as directory:
        with started(Path(directory), here, **SETTINGS) as server:
            stage.soak(server)
            stage.kill_under_load(server)
        with started(Path(directory), here, **SETTINGS) as server:
            stage.look_again(server)
    return stage


def _summed_up(load: Load, stage: Stage, settings: dict[str, str]) -> Soaked:
    third = load.seconds / 3
    thirds = {FIRST: (load.warm_up, load.warm_up + third), LAST: (load.end - third, load.end)}
    frame = msgspec.structs.replace(load.frame(), phases=thirds)
    found = outcome(stage.driven.recording, frame, stage.driven.parts)
    least = stage.books[0].ledger.least.values()
    return Soaked(
        load=load,
        outcome=found,
        settings=settings,
        memory=stage.memory,
        crowded=stage.crowded,
        written=int(sum(np.sum(one.counts) for one in least)),
        verdicts=_verdicts(load, stage, found),
        discrepancies=[one for _, missed in stage.looks for one in missed],
    )


def _verdicts(load: Load, stage: Stage, found: Outcome) -> list[Verdict]:
    refused, wrong = found.errors, found.content.wrong
    return [
        *(
            Verdict(name, not missed, f"{len(missed)} differences in counts, sums, latest values and statistics")
            for name, missed in stage.looks
        ),
        Verdict("answers", not (refused or wrong), f"{refused} not 2xx, {wrong} with wrong content"),
        memory(stage.memory, load.warm_up, load.end),
        slower(found.phases[FIRST], found.phases[LAST], load.seconds),
    ]


def report(soaked: Soaked, known: Mapping[str, Any]) -> str:
    """The verdicts, and the figures behind them."""
    found, settings = soaked.outcome, ", ".join(f"{name}={value}" for name, value in soaked.settings.items())
    statuses = ", ".join(f"{count:,} x {status}" for status, count in found.statuses.items())
    return "\n".join(
        [
            "# Soak",
            "",
            f"{found.asked:,.0f}/s for {soaked.load.seconds / 60:g} minutes: {statuses}; {soaked.written:,} values"
            f" acknowledged. {where(known)}.",
            "",
            *(f"- {one}" for one in soaked.verdicts),
            *([] if soaked.crowded is None else [f"- other work used {soaked.crowded:.0%} of the service's core"]),
            "",
            by_part(found.kinds),
            "",
            by_time(found.timeline, soaked.memory),
            "",
            f"The service ran with {settings}." if settings else "The service was running already.",
            *ending(known),
        ]
    )
