"""Child processes, each in a session of its own and on cores of its own, and their figures from /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import trio

from loadtest.machine.cores import placed

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 15.0
STILL_SECONDS = 0.25
STILL_PROCESSOR_SECONDS = 0.015
"""Servers that use less than this in that time are idle (the kernel counts in hundredths)."""


@contextmanager
def child(
    command: Sequence[str | Path],
    where: Iterable[int] = (),
    words: Path | None = None,
    environment: Mapping[str, str] | None = None,
    pipes: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child on these cores. Its output is appended to the file `words`, or goes to our own output; with `pipes`,
    only its stderr does.

    Its own session keeps Ctrl-C from it: it ends, with all that it has started, when the context is left.
    """
    channel = subprocess.PIPE if pipes else None
    with nullcontext() if words is None else words.open("ab") as log, placed(where):
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
    """SIGTERM to the group, then SIGKILL, and wait until all of its session have ended."""
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
    """The process ids of a session that are still running: a server and its workers."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with suppress(OSError):  # it has just ended
                fields = (directory / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    found.append(int(directory.name))
    return sorted(found)


def processor_seconds(pid: int) -> float | None:
    """Processor time of all threads so far, user and system; None if the process has ended or without /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def processor_time(processes: Iterable[int]) -> float:
    """Processor time of these processes so far, in seconds."""
    return sum(processor_seconds(process) or 0.0 for process in processes)


def resident_bytes(processes: Iterable[int]) -> int:
    """The resident memory of these processes; shared pages count for each."""
    pages = 0
    for process in processes:
        with suppress(OSError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def at_rest(processes: Sequence[int], patience_seconds: float) -> None:
    """Wait until these are idle, for at most `patience_seconds`, so that one measurement does not overlap
    another's background work."""
    with trio.move_on_after(patience_seconds):
        while True:
            before = processor_time(processes)
            await trio.sleep(STILL_SECONDS)
            if processor_time(processes) - before < STILL_PROCESSOR_SECONDS:
                return
