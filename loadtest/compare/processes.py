"""Pinned child processes, each in a session of its own, and what the system says of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import trio

from loadtest.micro.process import PATIENCE_SECONDS, ROOT, processor_seconds

STILL_SECONDS = 0.25
STILL_PROCESSOR_SECONDS = 0.015
"""Servers that use less than this in that time are at rest (the system counts hundredths)."""


class Cores(NamedTuple):
    """Who runs where. Both are the same on a machine with one core."""

    server: frozenset[int]
    driver: frozenset[int]

    @property
    def all(self) -> frozenset[int]:
        """Both."""
        return self.server | self.driver


def cores() -> Cores:
    """The first core of this process for servers, the last for drivers. To be asked before anyone is placed."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(frozenset(allowed[:1]), frozenset(allowed[-1:]))


@contextmanager
def placed(where: Iterable[int]) -> Iterator[None]:
    """Run this thread, and with it what it starts, on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, where)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(
    command: Sequence[str | Path],
    where: Iterable[int],
    words: Path,
    environment: Mapping[str, str] | None = None,
    pipes: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child on these cores; its output and errors are added to the file `words`, with `pipes` its errors alone.

    A session of its own keeps Ctrl-C from it: it ends, with whatever it has started, when the context is left.
    """
    channel = subprocess.PIPE if pipes else None
    with words.open("ab") as log:
        with placed(where):
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=channel or subprocess.DEVNULL,
                stdout=channel or log,
                stderr=log,
                start_new_session=True,
            )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask all of the group to end, then make them, and see them gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + PATIENCE_SECONDS
    while session_of(process.pid) and time.monotonic() < until:
        time.sleep(0.005)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def session_of(leader: int) -> list[int]:
    """The process ids of a session, as far as they have not ended: a server and its workers."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with suppress(OSError):  # it has just ended
                fields = (directory / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    found.append(int(directory.name))
    return sorted(found)


def processor_time(processes: Iterable[int]) -> float:
    """Seconds of processor time that these have used so far."""
    return sum(processor_seconds(process) or 0.0 for process in processes)


def resident_bytes(processes: Iterable[int]) -> int:
    """Memory of these that is in RAM; what they share counts for each."""
    pages = 0
    for process in processes:
        with suppress(OSError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port of the loopback that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def at_rest(processes: Sequence[int], patience_seconds: float) -> None:
    """Return when these have stopped working, or after so long: nobody is measured beside another's leftovers."""
    with trio.move_on_after(patience_seconds):
        while True:
            before = processor_time(processes)
            await trio.sleep(STILL_SECONDS)
            if processor_time(processes) - before < STILL_PROCESSOR_SECONDS:
                return
