"""`python -m loadtest run`: one run at one rate."""

from __future__ import annotations

import argparse
import sys

from loadtest.machine.cores import cores
from loadtest.machine.facts import facts
from loadtest.openloop.load import add_load_arguments, add_scenario, load_of, positive, target
from loadtest.openloop.parent import drive, measured, prepare
from loadtest.openloop.report import Told, conclude, document, report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=positive, required=True, metavar="N", help="requests a second")
    parser.add_argument("--seconds", type=positive, default=10.0, metavar="S", help="measured (default: 10)")
    add_scenario(parser)
    add_load_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """0: measured. 1: every request failed, or a checked answer is wrong.

    Raises AbsurdLoad, NotHere, and RuntimeError or OSError.
    """
    load, here = load_of(arguments, arguments.rate, arguments.seconds), cores()
    with target(arguments, here) as server:
        prepare(server, load.shape)
        before = server.footprint()
        found = measured(load, drive(server, load, here))
        told = Told(load=load, outcome=found, cores=here, before=before, after=server.footprint())
    known = facts()
    conclude(arguments, load.scenario, document(told, known), report(told, known))
    for one in found.content.faults:
        print(f"loadtest: {one}", file=sys.stderr)
    return 1 if found.content.wrong or found.errors == found.requests else 0
