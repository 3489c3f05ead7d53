"""Arguments, and what is done with the findings."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import trio

from loadtest.compare.comparing import Comparing, Maker, Room
from loadtest.compare.data import FULL, QUICK, Data
from loadtest.compare.environments import cache_directory
from loadtest.compare.peers.lineup import PEERS, chosen
from loadtest.compare.report import Document, facts_here, markdown, rows
from loadtest.compare.workloads import WORKLOADS, Workload
from loadtest.machine.cores import cores, placed
from loadtest.machine.facts import keep
from loadtest.machine.tables import table

RESULTS = Path(__file__).parents[1] / "results"
LIMIT_SECONDS = 180.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    single = "; ".join(f"{family} ({', '.join(peers)})" for family, peers in PEERS.items())
    add = parser.add_argument
    add("--peers", type=_names, default=list(PEERS), metavar="NAMES", help=f"families or single ones of {single}")
    add("--workloads", type=_names, default=list(WORKLOADS), metavar="NAMES", help=f"of {', '.join(WORKLOADS)}")
    add("--quick", action="store_true", help="small counts, to see that it works")
    add("--rounds", type=int, metavar="N", help=f"rounds that count (default: {FULL.rounds})")
    add("--limit", type=float, default=LIMIT_SECONDS, metavar="SECONDS", help="most that a peer's round may take")
    add("--setting", action="append", default=[], metavar="NAME=VALUE", help="a setting of Timewell")
    add("--environments", type=Path, default=cache_directory(), metavar="DIR", help="where peers are installed")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="where the report is kept")
    add("--name", default="compare", help="the report's name (default: compare)")


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def run(arguments: argparse.Namespace) -> int:
    """0: all was measured and the answers agree; 1: some failed or differ; 2: it could not be done."""
    try:
        makers, workloads, settings = _asked(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    scale = QUICK if arguments.quick else FULL
    if arguments.rounds:
        scale = scale._replace(rounds=arguments.rounds)
    document = Document(facts_here(), arguments.quick, scale._asdict(), settings, {}, {}, [])
    where = cores()
    comparing = Comparing(document, Data(scale), workloads, Room(where, arguments.environments, arguments.limit))
    with placed(where.driver):
        if trio.run(_interrupted, comparing, makers):
            document.missing["the rest"] = "interrupted"
    return _conclude(document, arguments.results, arguments.name)


async def _interrupted(comparing: Comparing, makers: Mapping[str, Maker]) -> bool:
    """Compare to the end, or until a signal; all children have ended then. Whether it was a signal."""
    interrupted = True
    async with trio.open_nursery() as nursery:
        await nursery.start(_cancel_on_signal, nursery.cancel_scope)
        await comparing.all(makers)
        interrupted = False
        nursery.cancel_scope.cancel()
    return interrupted


async def _cancel_on_signal(
    scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    ending = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # a script's background is not for the keyboard
        ending.append(signal.SIGINT)
    with trio.open_signal_receiver(*ending) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def _asked(arguments: argparse.Namespace) -> tuple[dict[str, Maker], list[Workload], dict[str, str]]:
    """Raises ValueError for names that there are not."""
    if unknown := set(arguments.workloads) - set(WORKLOADS):
        raise ValueError(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    settings = dict(setting.split("=", 1) for setting in arguments.setting if "=" in setting)
    if len(settings) < len(arguments.setting):
        raise ValueError("--setting takes NAME=VALUE, each name once")
    workloads = [one for name, one in WORKLOADS.items() if name in arguments.workloads]
    return chosen(arguments.peers), workloads, settings


def _conclude(document: Document, results: Path, report: str) -> int:
    """Print and keep what there is."""
    order = list(WORKLOADS)
    document.comparisons.sort(key=lambda one: order.index(one.workload))
    if document.comparisons:
        print(table(rows(document.comparisons), 2))
        kept = keep(results, f"{report}-quick" if document.quick else report, document, markdown(document))
        print(f"\nkept in {kept}")
    for name, why in document.missing.items():
        print(f"{name}: {why}", file=sys.stderr)
    failed = [one for one in document.comparisons if one.failure is not None]
    for one in failed:
        print(f"{one.workload}, {one.peer}: {one.failure}", file=sys.stderr)
    return 1 if failed or document.missing else 0
