"""The parent of the drivers: starts them at one instant and waits for them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from loadtest.machine.connection import Connection
from loadtest.machine.cores import Cores
from loadtest.machine.processes import child
from loadtest.machine.service import Service
from loadtest.openloop.drive import DRAIN_SECONDS
from loadtest.openloop.load import Load
from loadtest.openloop.outcome import Outcome, outcome
from loadtest.openloop.recording import READY, Part, PartDone, Recording, empty, opened
from loadtest.workloads.shape import Shape
from loadtest.workloads.writing import fillings, registrations

START_SECONDS = 0.1
GLANCE_SECONDS = 0.5
PATIENCE_SECONDS = 30.0
Watch = Callable[[Recording, float], None]
"""Called with the recording so far, and the seconds since the start."""
_Driver = subprocess.Popen[bytes]


def prepare(server: Service, shape: Shape) -> None:
    """Register the features and fill in the values. Raises RuntimeError with the answer that is not 2xx."""
    with Connection(server.address) as connection:
        for request in registrations(shape):
            connection.ask(request)
        for request in fillings(shape):
            connection.ask(request)


class Driven(NamedTuple):
    """The recording, and the results of the drivers."""

    recording: Recording
    parts: Sequence[PartDone]


def drive(server: Service, load: Load, cores: Cores, watch: Watch | None = None) -> Driven:
    """One run to its end, watched. Raises RuntimeError if a driver fails, AbsurdLoad."""
    with _shared_file() as path, ExitStack() as drivers:
        empty(load.instants()).tofile(path)
        recording = opened(path)
        processes = [drivers.enter_context(_driver(part)) for part in _parts(server, load, cores, path)]
        for process in processes:
            _expect_ready(process)
        print(f"{load.scenario}: {load.rate:,.0f}/s for {load.end:g} s", file=sys.stderr, flush=True)
        start = time.perf_counter() + START_SECONDS
        for process in processes:
            _tell(process, f"{start!r}\n".encode())
        _look_on(processes, recording, start, load.end + DRAIN_SECONDS + PATIENCE_SECONDS, watch)
        return Driven(recording, [_result(process) for process in processes])


def measured(load: Load, driven: Driven) -> Outcome:
    return outcome(driven.recording, load.frame(), driven.parts)


@contextmanager
def _shared_file() -> Iterator[Path]:
    """A file for a recording: in memory if possible, so that no driver waits for a disk."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryDirectory(prefix="timewell-load-") as directory:
            yield Path(directory) / "recording"
        return
    descriptor = os.memfd_create("recording")
    try:
        yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _parts(server: Service, load: Load, cores: Cores, recording: Path) -> Iterator[Part]:
    host, port = server.address
    for number in range(load.processes):
        yield Part(
            host=host,
            port=port,
            scenario=load.scenario,
            shape=load.shape,
            recording=str(recording),
            first=number,
            step=load.processes,
            connections=max(1, load.connections // load.processes),
            core=None if server.process is None else cores.of_driver(number),
            spins=cores.apart,
            slow_readers=load.slow_readers if load.mixture.slow_readers and not number else 0,
            slow_from=load.slow_from,
        )


@contextmanager
def _driver(part: Part) -> Iterator[_Driver]:
    """A driver with its part, ended when the context is left."""
    with child([sys.executable, "-m", "loadtest.openloop.driver"], pipes=True) as process:
        _tell(process, msgspec.json.encode(part) + b"\n")
        yield process


def _tell(process: _Driver, words: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(words)
    process.stdin.flush()


def _expect_ready(process: _Driver) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != READY:
        raise RuntimeError("a driver could not connect; see its output above")


def _look_on(
    processes: Sequence[_Driver], recording: Recording, start: float, most: float, watch: Watch | None
) -> None:
    """Call `watch` now and then until all drivers have ended. Raises RuntimeError after `most` seconds."""
    while running := [process for process in processes if process.poll() is None]:
        since = time.perf_counter() - start
        if since > most:
            raise RuntimeError("a driver does not end")
        if watch is not None:
            watch(recording, since)
        with suppress(subprocess.TimeoutExpired):
            running[0].wait(GLANCE_SECONDS)


def _result(process: _Driver) -> PartDone:
    assert process.stdout is not None
    said = process.stdout.read()
    if process.wait() != 0:
        raise RuntimeError("a driver failed; see its output above")
    return msgspec.json.decode(said, type=PartDone)
