"""The service under load: our own in a child process, or one that is already running on this machine."""

from __future__ import annotations

import argparse
import ipaddress
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

from loadtest.machine.cores import Cores, core_seconds
from loadtest.machine.messages import Address
from loadtest.machine.processes import child, processor_seconds, resident_bytes

START_SECONDS = 60.0
_LISTENING = re.compile(r"serving on http://([\d.]+):(\d+)")
_GLANCE_SECONDS = 0.002
ANYWHERE = Cores(frozenset())


class NotHere(argparse.ArgumentTypeError):
    """An address that is not on this machine's loopback."""


class Footprint(NamedTuple):
    """A process `at` an instant (of time.monotonic): processor seconds so far, resident bytes.

    `core_seconds`: busy time of its core so far, for any process; None if it is not pinned.
    """

    at: float
    processor_seconds: float
    resident_bytes: int
    core_seconds: float | None


def crowded_share(before: Footprint | None, after: Footprint | None) -> float | None:
    """The share of the time in between during which other processes used its core; None if unknown."""
    if before is None or after is None or before.core_seconds is None or after.core_seconds is None:
        return None
    own = after.processor_seconds - before.processor_seconds
    return max(0.0, after.core_seconds - before.core_seconds - own) / (after.at - before.at)


class Service(NamedTuple):
    """Its address; its process, None if we did not start it; the core it is pinned to."""

    address: Address
    process: subprocess.Popen[bytes] | None = None
    core: int | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def footprint(self) -> Footprint | None:
        """None if we did not start the process or its figures cannot be read."""
        if self.process is None or (spent := processor_seconds(self.process.pid)) is None:
            return None
        try:
            busy = None if self.core is None else core_seconds(self.core)
        except OSError:
            return None
        return Footprint(time.monotonic(), spent, resident_bytes([self.process.pid]), busy)

    @property
    def alive(self) -> bool:
        """Whether we started the process and it is running."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Kill it with SIGKILL, without a shutdown. Only for a process that we started."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def running(url: str) -> Service:
    """A service that is already running. Raises NotHere unless it is on this machine's loopback."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    host = "127.0.0.1" if parts.hostname in (None, "localhost") else str(parts.hostname)
    try:
        if ipaddress.ip_address(host).is_loopback:
            return Service((host, parts.port or 3001))
    except ValueError:
        pass
    raise NotHere(f"{url}: only services on this machine's loopback are put under load")


@contextmanager
def temporary(cores: Cores = ANYWHERE, module: Sequence[str] = ("web",), **settings: str) -> Iterator[Service]:
    """A service of our own on a free port, its data in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="timewell-load-") as directory:
        with started(Path(directory), cores, module, **settings) as service:
            yield service


@contextmanager
def started(
    directory: Path, cores: Cores = ANYWHERE, module: Sequence[str] = ("web",), **settings: str
) -> Iterator[Service]:
    """A service of our own over `directory`, pinned to the server's core, ended when the context is left.

    Its output goes to a file there, since a full pipe that nobody reads would block it.
    """
    fixed = {"HOST": "127.0.0.1", "PORT": "0", "STORAGE_TYPE": "embedded", "DATA_DIR": str(directory / "data")}
    words = directory / "words"
    words.unlink(missing_ok=True)
    command = [sys.executable, "-m", *module]
    with child(command, cores.server, words, {**fixed, **settings}) as process:
        yield Service(_address(process, words), process, min(cores.server) if cores.apart else None)


def _address(process: subprocess.Popen[bytes], words: Path) -> Address:
    """Waits until it listens. Raises RuntimeError with its output if it does not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := _LISTENING.search(words.read_text(errors="replace")):
            return found[1], int(found[2])
        time.sleep(_GLANCE_SECONDS)
    raise RuntimeError(f"the service did not start: {words.read_text(errors='replace')}")
