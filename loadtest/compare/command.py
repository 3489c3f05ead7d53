"""The command: compares each peer with its own Timewell, and keeps the report."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import trio

from loadtest.compare.data import FULL, QUICK, Data
from loadtest.compare.environments import cache_directory
from loadtest.compare.peers.lineup import PEERS, STORES, Maker, chosen
from loadtest.compare.peers.timewell import Timewell
from loadtest.compare.report import Document, facts_here, markdown, rows
from loadtest.compare.rounds import Contest
from loadtest.compare.serving import Place, Store
from loadtest.compare.work import WORKLOADS, Peer, Serve, Unavailable, Workload, Write
from loadtest.machine.cores import Cores, cores, placed
from loadtest.machine.facts import keep
from loadtest.machine.tables import table

RESULTS = Path(__file__).parents[1] / "results"
LIMIT_SECONDS = 180.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    single = "; ".join(f"{family} ({', '.join(peers)})" for family, peers in PEERS.items())
    add = parser.add_argument
    add("--peers", type=_names, default=list(PEERS), metavar="NAMES", help=f"families or single peers: {single}")
    workloads = f"workloads, or their prefixes: {', '.join(WORKLOADS)}"
    add("--workloads", type=_names, default=list(WORKLOADS), metavar="NAMES", help=workloads)
    add("--quick", action="store_true", help="small counts, to see that it works")
    add("--rounds", type=int, metavar="N", help=f"rounds that count (default: {FULL.rounds})")
    add("--limit", type=float, default=LIMIT_SECONDS, metavar="SECONDS", help="time limit of a peer's round")
    add("--setting", action="append", default=[], metavar="NAME=VALUE", help="a setting of Timewell")
    add("--environments", type=Path, default=cache_directory(), metavar="DIR", help="where peers are installed")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="where the report is kept")
    add("--name", default="compare", help="the report's name (default: compare)")


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def run(arguments: argparse.Namespace) -> int:
    """0: all was measured and the answers agree; 1: some failed or differ; 2: bad arguments."""
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
    """Compare to the end or until a signal, and end all children. Whether it was a signal."""
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
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # a background job ignores Ctrl-C
        ending.append(signal.SIGINT)
    with trio.open_signal_receiver(*ending) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def _asked(arguments: argparse.Namespace) -> tuple[dict[str, Maker], list[Workload], dict[str, str]]:
    """Raises ValueError for unknown names."""
    families = {name: name.split("-")[0] for name in WORKLOADS}
    if unknown := set(arguments.workloads) - families.keys() - set(families.values()):
        raise ValueError(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    settings = dict(setting.split("=", 1) for setting in arguments.setting if "=" in setting)
    if len(settings) < len(arguments.setting):
        raise ValueError("--setting takes NAME=VALUE, each name once")
    workloads = [one for name, one in WORKLOADS.items() if {name, families[name]} & set(arguments.workloads)]
    return chosen(arguments.peers), workloads, settings


def _conclude(document: Document, results: Path, report: str) -> int:
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


# One peer after the other


class Room(NamedTuple):
    """Cores, the directory of the environments, and the time limit of a round of a peer."""

    cores: Cores
    environments: Path
    limit_seconds: float


class Comparing:
    """Puts each result into the document as soon as it is there."""

    def __init__(self, document: Document, data: Data, workloads: Sequence[Workload], room: Room) -> None:
        self._document, self._data, self._workloads, self._room = document, data, workloads, room

    async def all(self, makers: Mapping[str, Maker]) -> None:
        """Every peer. A peer that cannot run is recorded with the reason."""
        for name, make in makers.items():
            with tempfile.TemporaryDirectory(prefix="timewell-peer-", ignore_cleanup_errors=True) as directory:
                try:
                    with STORES[name](self._room.cores) if name in STORES else nullcontext() as store:
                        await self._beside(make, Path(directory), store)
                except Unavailable as why:
                    tell(f"{name} cannot run: {why}")
                    self._document.missing[name] = str(why)

    async def _beside(self, make: Maker, directory: Path, store: Store | None) -> None:
        room, places = self._room, [directory / name for name in ("timewell", "peer")]
        for place in places:
            place.mkdir()
        at_timewell, at_peer = (Place(place, room.cores, room.environments, store) for place in places)
        ours, peer = Timewell(self._document.settings, at_timewell), make(at_peer)
        workloads = [one for one in self._workloads if type(one.work) in peer.kinds]
        if not workloads:
            return
        tell(f"{peer.name}: starting")
        async with started(peer), started(ours):
            for one in (ours, peer):
                self._document.versions[one.name] = await one.versions()
            if any(type(one.work) in (Serve, Write) for one in workloads):
                tell(f"loading {self._data.values.size:,} values into Timewell and {peer.name}")
                for one in (ours, peer):
                    await one.load(self._data)
            contest = Contest(ours, peer, self._data, self._room.limit_seconds, tell, directory / "rows.parquet")
            for workload in workloads:
                self._document.comparisons.append(await contest.compare(workload))


@asynccontextmanager
async def started(peer: Peer) -> AsyncIterator[None]:
    """A running peer, stopped when the context is left."""
    try:
        await peer.start()
        yield
    finally:
        with trio.CancelScope(shield=True):
            await peer.stop()


def tell(words: str) -> None:
    print(f"  {words}", file=sys.stderr, flush=True)
