"""The service under load: one of our own in a child process, or one that runs on this machine already."""

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


class Service(NamedTuple):
    """Where it listens; its process, None where that is not ours; the core that it is kept to."""

    address: Address
    process: subprocess.Popen[bytes] | None = None
    core: int | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def footprint(self) -> Footprint | None:
        """None where the process is not ours or the system does not say."""
        if self.process is None or (spent := processor_seconds(self.process.pid)) is None:
            return None
        try:
            busy = None if self.core is None else core_seconds(self.core)
        except OSError:
            return None
        return Footprint(time.monotonic(), spent, resident_bytes([self.process.pid]), busy)

    @property
    def alive(self) -> bool:
        """Whether the process is ours and has not ended."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL: nothing is said, nothing is finished. Only for a process of ours."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def running(url: str) -> Service:
    """A service that runs already. Raises NotHere unless it is on this machine's loopback."""
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
    """Our own on a free port, its data in a directory that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="timewell-load-") as directory:
        with started(Path(directory), cores, module, **settings) as service:
            yield service


@contextmanager
def started(
    directory: Path, cores: Cores = ANYWHERE, module: Sequence[str] = ("web",), **settings: str
) -> Iterator[Service]:
    """Our own over `directory`, kept to the server's core, ended when the context is left.

    What it says goes to a file there, since a pipe that nobody reads would stop it once it is full.
    """
    fixed = {"HOST": "127.0.0.1", "PORT": "0", "STORAGE_TYPE": "embedded", "DATA_DIR": str(directory / "data")}
    words = directory / "words"
    words.unlink(missing_ok=True)
    command = [sys.executable, "-m", *module]
    with child(command, cores.server, words, {**fixed, **settings}) as process:
        yield Service(_address(process, words), process, min(cores.server) if cores.apart else None)


def _address(process: subprocess.Popen[bytes], words: Path) -> Address:
    """Waits until it listens. Raises RuntimeError with its words if it does not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := _LISTENING.search(words.read_text(errors="replace")):
            return found[1], int(found[2])
        time.sleep(_GLANCE_SECONDS)
    raise RuntimeError(f"the service did not start: {words.read_text(errors='replace')}")
