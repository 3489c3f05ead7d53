"""`python -m loadtest run`: one run at one rate, its result as JSON, Markdown and SVG."""

from __future__ import annotations

import argparse
import sys

from loadtest.machine.cores import cores
from loadtest.openloop.load import Load
from loadtest.openloop.options import add_load_arguments, add_scenario, load_of, positive, target
from loadtest.openloop.outcome import Outcome
from loadtest.openloop.parent import drive, measured, prepare
from loadtest.openloop.progress import View
from loadtest.openloop.report import Told, kept, summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    parser.add_argument("--rate", type=positive, required=True, metavar="N", help="requests a second")
    parser.add_argument("--seconds", type=positive, default=10.0, metavar="S", help="measured (default: 10)")
    add_scenario(parser)
    add_load_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: measured. 1: answers were wrong. Raises AbsurdLoad, NotHere, and RuntimeError or OSError."""
    told = _measured(load_of(arguments, arguments.rate, arguments.seconds), arguments)
    print(summary(told))
    print(f"\n{kept(told).write(arguments.results, arguments.json)}")
    return exit_code(told.outcome)


def _measured(load: Load, arguments: argparse.Namespace) -> Told:
    here = cores()
    with target(arguments, here) as server:
        prepare(server, load.shape)
        before = server.footprint()
        found = measured(load, drive(server, load, here, View(load.scenario, load.end).show))
        return Told(load=load, outcome=found, cores=here, before=before, after=server.footprint())


def exit_code(found: Outcome) -> int:
    """1 where nothing was answered well, or an answer that was looked into is wrong."""
    for one in found.content.faults:
        print(f"loadtest: {one}", file=sys.stderr)
    return 1 if found.content.wrong or found.errors == found.requests else 0
