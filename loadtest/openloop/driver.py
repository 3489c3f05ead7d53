"""`python -m loadtest.openloop.driver`: one driver process.

It reads its part as a line of JSON from standard input, prints `ready` once it is connected, reads the instant to
start at (seconds of the system's monotonic clock, which all processes share) and prints the result at the end.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path

import msgspec
import trio

from loadtest.machine.wire import connect
from loadtest.openloop.drive import Drive, Lane, OpenLoop
from loadtest.openloop.outcome import MOST_FAULTS
from loadtest.openloop.recording import READY, Part, PartDone, opened
from loadtest.openloop.slow_reader import Sipped, large_read, read_slowly
from loadtest.workloads.asks import Work, fault
from loadtest.workloads.scenarios import SCENARIOS


def main() -> int:
    """Exit code 0: the run is over, whatever the answers."""
    part = msgspec.json.decode(sys.stdin.buffer.readline(), type=Part)
    if part.core is not None:
        os.sched_setaffinity(0, {part.core})
    recording = opened(Path(part.recording))
    work = SCENARIOS[part.scenario].work(part.shape, len(recording))
    loop = OpenLoop(recording, lambda row: work.ask(row).request, Lane(part.first, part.step), spins=part.spins)
    sipped = Sipped()
    gc.collect()
    gc.freeze()  # what exists now stays: the collector need not visit it again during the run
    drive = trio.run(_drive, part, loop, sipped)
    sys.stdout.buffer.write(msgspec.json.encode(_done(drive, work, sipped)))
    return 0


async def _drive(part: Part, loop: OpenLoop, sipped: Sipped) -> Drive:
    wires = [await connect(part.host, part.port) for _ in range(part.connections)]
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    start = float(sys.stdin.buffer.readline())
    began = trio.current_time() + start - time.perf_counter()
    async with trio.open_nursery() as beside:
        if part.slow_readers:
            beside.start_soon(_slow_readers, part, began + part.slow_from, sipped)
        drive = await loop.run([wire.ask for wire in wires], began)
        beside.cancel_scope.cancel()
    for wire in wires:
        await wire.aclose()
    return drive


async def _slow_readers(part: Part, start: float, sipped: Sipped) -> None:
    request = large_read(part.shape)
    await trio.sleep_until(start)
    async with trio.open_nursery() as nursery:
        for _ in range(part.slow_readers):
            nursery.start_soon(read_slowly, part.host, part.port, request, sipped)


def _done(drive: Drive, work: Work, sipped: Sipped) -> PartDone:
    found = [fault(work.ask(row), body) for row, body in drive.samples]
    faults = [one for one in found if one is not None]
    return PartDone(
        busy=drive.busy,
        held_up=drive.held_up,
        longest=drive.longest,
        sampled=len(found),
        wrong=len(faults),
        faults=faults[:MOST_FAULTS],
        sipped=sipped,
    )


if __name__ == "__main__":
    sys.exit(main())
