"""`python -m loadtest soak`: everything at once for minutes, then every acknowledged value is looked for.

A service of our own is then loaded again, killed without warning in the middle of that, started again on the same
directory, and everything is looked for once more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from loadtest.machine.cores import Cores, cores
from loadtest.machine.service import running, started
from loadtest.openloop.load import Load
from loadtest.openloop.options import add_load_arguments, load_of, positive
from loadtest.openloop.outcome import Outcome, outcome
from loadtest.soak.report import Soaked, kept, told
from loadtest.soak.stage import Stage
from loadtest.soak.trend import Verdict, memory, slower

SETTINGS = {"CHECKPOINT_SECONDS": "10", "MONITOR_SECONDS": "10"}
"""Many checkpoints and rounds of the monitor."""
MOST_TOLD = 5
FIRST, LAST = "first third", "last third"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `soak`."""
    parser.add_argument("--minutes", type=positive, default=10.0, metavar="M", help="measured (default: 10)")
    parser.add_argument(
        "--rate", type=positive, default=200.0, metavar="N", help="requests a second (default: 200)"
    )
    add_load_arguments(parser)
    parser.set_defaults(scenario="soak", warm_up=5.0)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: nothing lost, nothing grown. 1: something was. Raises as `openloop.command.run`."""
    load = load_of(arguments, arguments.rate, arguments.minutes * 60)
    stage = _soaked(load, arguments.url, cores())
    soaked = _summed_up(load, stage, {} if arguments.url else SETTINGS)
    print(told(soaked))
    for one in soaked.discrepancies[:MOST_TOLD]:
        print(f"loadtest: {one}", file=sys.stderr)
    print(f"\n{kept(soaked).write(arguments.results, arguments.json)}")
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
    found = _outcome(load, stage)
    least = stage.books[0].ledger.least.values()
    return Soaked(
        load=load,
        outcome=found,
        settings=settings,
        memory=stage.memory,
        crowded=stage.crowded,
        written=int(sum(np.sum(one.counts) for one in least)),
        verdicts=[*_found(stage.looks), *_grown(load, stage, found)],
        discrepancies=[one for _, found in stage.looks for one in found],
    )


def _outcome(load: Load, stage: Stage) -> Outcome:
    third = load.seconds / 3
    thirds = {FIRST: (load.warm_up, load.warm_up + third), LAST: (load.end - third, load.end)}
    frame = msgspec.structs.replace(load.frame(), phases=thirds)
    return outcome(stage.driven.arrays, frame, stage.driven.parts)


def _found(looks: Sequence[tuple[str, list[str]]]) -> list[Verdict]:
    return [
        Verdict(name, not found, f"{len(found)} differences in counts, sums, latest values and statistics")
        for name, found in looks
    ]


def _grown(load: Load, stage: Stage, found: Outcome) -> list[Verdict]:
    content, refused = found.content, found.errors
    return [
        Verdict(
            "answers", not (refused or content.wrong), f"{refused} not 2xx, {content.wrong} with wrong content"
        ),
        memory(stage.memory, load.warm_up, load.end),
        slower(found.phases[FIRST], found.phases[LAST], load.seconds),
    ]
