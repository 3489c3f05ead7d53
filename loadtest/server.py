"""The service under load: one of our own in a child process, or one that runs on this machine already."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from loadtest.micro.client import Address
from loadtest.micro.process import PATIENCE_SECONDS, ROOT, processor_seconds

START_SECONDS = 60.0
_LISTENING = re.compile(r"serving on http://([\d.]+):(\d+)")
_GLANCE_SECONDS = 0.02


class NotHere(ValueError):
    """An address that is not this machine's own."""


class Footprint(NamedTuple):
    """Of a process: `at` an instant (of time.monotonic), processor seconds so far, bytes in RAM.

    `core_seconds`: how long its core has been at work for whomever so far; None where it is not kept to one.
    """

    at: float
    processor_seconds: float
    resident_bytes: int
    core_seconds: float | None


def crowded_share(before: Footprint | None, after: Footprint | None) -> float | None:
    """The share of the time in between that others had its core for; None where that is not known."""
    if before is None or after is None or before.core_seconds is None or after.core_seconds is None:
        return None
    own = after.processor_seconds - before.processor_seconds
    return max(0.0, after.core_seconds - before.core_seconds - own) / (after.at - before.at)


class Server(NamedTuple):
    """Where it listens; its process, None where that is not ours; the core that it is kept to."""

    address: Address
    process: subprocess.Popen[bytes] | None = None
    core: int | None = None

    def footprint(self) -> Footprint | None:
        """None where the process is not ours or the system does not say."""
        if self.process is None or (spent := processor_seconds(self.process.pid)) is None:
            return None
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
            busy = None if self.core is None else _core_seconds(self.core)
        except OSError:
            return None
        return Footprint(time.monotonic(), spent, pages * os.sysconf("SC_PAGE_SIZE"), busy)

    @property
    def alive(self) -> bool:
        """Whether the process is ours and has not ended."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL: nothing is said, nothing is finished. Only for a process of ours."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def running(url: str) -> Server:
    """A service that runs already. Raises NotHere unless it is on this machine's loopback."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    host = "127.0.0.1" if parts.hostname in (None, "localhost") else str(parts.hostname)
    try:
        if ipaddress.ip_address(host).is_loopback:
            return Server((host, parts.port or 3001))
    except ValueError:
        pass
    raise NotHere(f"{url}: only services on this machine's loopback are put under load")


@contextmanager
def temporary(core: int | None, **settings: str) -> Iterator[Server]:
    """Our own on a free port, its data in a directory that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="timewell-load-") as directory:
        with started(Path(directory), core, **settings) as server:
            yield server


@contextmanager
def started(directory: Path, core: int | None, **settings: str) -> Iterator[Server]:
    """Our own over `directory`, kept to one core, ended when the context is left.

    What it says goes to a file there, since a pipe that nobody reads would stop it once it is full.
    """
    fixed = {"HOST": "127.0.0.1", "PORT": "0", "STORAGE_TYPE": "embedded", "DATA_DIR": str(directory / "data")}
    words = directory / "server.log"
    with words.open("wb") as log, _on(core):
        process = subprocess.Popen(
            [sys.executable, "-m", "web"],
            cwd=ROOT,
            env={**os.environ, **fixed, **settings},
            stderr=log,
        )
    try:
        yield Server(_address(process, words), process, core)
    finally:
        end(process)


def _core_seconds(core: int) -> float:
    """Time at work, and time that the machine below took. Raises OSError where the system does not say.

    Interrupts do not count: they are mostly our own packets.
    """
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, *_, steal = map(int, fields[:8])
            return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")
    raise OSError(f"/proc/stat has no core {core}")


@contextmanager
def _on(core: int | None) -> Iterator[None]:
    """What is started meanwhile stays on this core."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _address(process: subprocess.Popen[bytes], words: Path) -> Address:
    """Waits until it listens. Raises RuntimeError with its words if it does not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := _LISTENING.search(words.read_text(errors="replace")):
            return found[1], int(found[2])
        time.sleep(_GLANCE_SECONDS)
    raise RuntimeError(f"the service did not start: {words.read_text(errors='replace')}")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then make it."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Cores(NamedTuple):
    """Who runs where; None: wherever the system likes."""

    server: int | None
    drivers: Sequence[int | None]

    @property
    def apart(self) -> bool:
        """Whether a driver may spin without taking time from the service."""
        return self.server is not None


def cores(processes: int) -> Cores:
    """The first core for the service and the others for so many drivers, where there are two or more."""
    there = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(there) < 2:
        return Cores(None, [None] * processes)
    return Cores(there[0], [there[1 + number % (len(there) - 1)] for number in range(processes)])
