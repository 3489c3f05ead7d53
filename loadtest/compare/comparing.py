"""The order of things: one peer after the other, each beside a Timewell of its own, workload by workload."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import trio

from loadtest.compare.comparison import of_sizes
from loadtest.compare.data import Data
from loadtest.compare.peers.lineup import STORES, Place
from loadtest.compare.peers.timewell import Timewell
from loadtest.compare.report import Document
from loadtest.compare.rounds import Contest
from loadtest.compare.stores import Store
from loadtest.compare.work import Memory, NotHad, Peer, Serve, Write
from loadtest.compare.workloads import Workload
from loadtest.machine.cores import Cores
from loadtest.machine.processes import at_rest, resident_bytes

LOADING_PATIENCE_SECONDS = 60.0
WARMING_PARTS = 10
"""The first tenth is loaded before the memory is looked at: what comes with the first values counts for none."""
Maker = Callable[[Place], Peer]


class Room(NamedTuple):
    """Cores, the directory of the environments, and the most seconds that a round of a peer may take."""

    cores: Cores
    environments: Path
    limit_seconds: float


class Comparing:
    """What is found goes into the document as soon as it is there."""

    def __init__(self, document: Document, data: Data, workloads: Sequence[Workload], room: Room) -> None:
        self._document, self._data, self._workloads, self._room = document, data, workloads, room

    async def all(self, makers: Mapping[str, Maker]) -> None:
        """Every peer. One that cannot be had is noted, and so is its reason."""
        for name, make in makers.items():
            with tempfile.TemporaryDirectory(prefix="timewell-peer-", ignore_cleanup_errors=True) as directory:
                try:
                    with STORES[name](self._room.cores) if name in STORES else nullcontext() as store:
                        await self._beside(make, Path(directory), store)
                except NotHad as why:
                    tell(f"{name} cannot be had: {why}")
                    self._document.missing[name] = str(why)

    async def _beside(self, make: Maker, directory: Path, store: Store | None) -> None:
        places = [directory / name for name in ("timewell", "peer")]
        for place in places:
            place.mkdir()
        ours = Timewell(places[0], self._room.cores, self._document.settings, store)
        peer = make(Place(places[1], self._room.cores, self._room.environments, store))
        workloads = [one for one in self._workloads if isinstance(one.work, peer.kinds)]
        if not workloads:
            return
        tell(f"{peer.name}: starting")
        async with started(peer), started(ours):
            for one in (ours, peer):
                self._document.versions[one.name] = await one.versions()
            sizes = await self._loaded(ours, peer, workloads)
            contest = Contest(ours, peer, self._data, self._room.limit_seconds, tell, directory / "rows.parquet")
            for workload in workloads:
                if isinstance(workload.work, Memory):
                    found = of_sizes(workload, peer.name, *sizes)
                else:
                    found = await contest.compare(workload)
                self._document.comparisons.append(found)

    async def _loaded(self, ours: Peer, peer: Peer, workloads: Sequence[Workload]) -> tuple[float, float]:
        """What a value adds to the memory of each, in bytes; nothing is loaded where nobody needs it."""
        if not any(isinstance(one.work, Serve | Write | Memory) for one in workloads):
            return 0.0, 0.0
        tell(f"loading {self._data.values.size:,} values into Timewell and {peer.name}")
        return await _bytes_a_value(ours, self._data), await _bytes_a_value(peer, self._data)


async def _bytes_a_value(peer: Peer, data: Data) -> float:
    first = len(data.entities) // WARMING_PARTS
    await peer.load(data, slice(0, first))
    before = await _resident_bytes(peer, data)
    values = await peer.load(data, slice(first, None))
    return (await _resident_bytes(peer, data) - before) / max(1, values)


async def _resident_bytes(peer: Peer, data: Data) -> int:
    if data.scale.rests:
        await at_rest(peer.processes(), LOADING_PATIENCE_SECONDS)
    return resident_bytes(peer.processes())


@asynccontextmanager
async def started(peer: Peer) -> AsyncIterator[None]:
    """A peer that runs, and ends however the context is left."""
    try:
        await peer.start()
        yield
    finally:
        with trio.CancelScope(shield=True):
            await peer.stop()


def tell(words: str) -> None:
    """Progress."""
    print(f"  {words}", file=sys.stderr, flush=True)
