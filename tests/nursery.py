"""A process that has imported the service once, and from which the tests' servers are forked.

Importing takes a second of processor time, starting what has been imported a tenth. A server is forked twice, so
that it belongs to nobody; as its reaper (`prctl`, of Linux) the tests' process can wait for it all the same.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

_PR_SET_CHILD_SUBREAPER = 36
_LONGEST_MESSAGE_BYTES = 1_000_000
_LONGEST_LIFE_SECONDS = 3_600.0
_OF_THE_INTERPRETER = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")
"""Beginnings of the names of variables that are looked at before anything is imported."""


_IMPORTED = (
    "actors.opening",
    "actors.storage.postgres.storage",
    "actors.storage.redis.storage",
    "psycopg_pool",
    "pyarrow.dataset",
    "web.cli",
    "web.process",
)


class Process(Protocol):
    """What a Popen is to the tests."""

    pid: int
    stderr: IO[str] | None
    returncode: Any

    def poll(self) -> int | None:
        """The exit code, None while it runs."""

    def send_signal(self, signal: int) -> None:
        """Send it."""

    def communicate(self, *, timeout: float | None = None) -> tuple[Any, str]:
        """The rest of its words, when it has ended."""


class Forked:
    """A server that was forked."""

    def __init__(self, pid: int, stderr: IO[str]) -> None:
        self.pid = pid
        self.stderr: IO[str] | None = stderr
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, signal: int) -> None:
        """Send it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal)

    def communicate(self, *, timeout: float | None = None) -> tuple[None, str]:
        """The rest of its words, when it has ended. Raises TimeoutExpired."""
        assert self.stderr is not None
        until, later = time.monotonic() + (timeout or _LONGEST_LIFE_SECONDS), list[bytes]()
        with self.stderr:
            # Nothing is opened here: a thread that still waits at a socket of the number would not be woken.
            while select.select([self.stderr], [], [], max(0.0, until - time.monotonic()))[0]:
                later.append(os.read(self.stderr.fileno(), 65_536))
                if not later[-1]:
                    self.returncode = self._waited() if self.returncode is None else self.returncode
                    return None, self.stderr.read() + b"".join(later).decode()
        raise subprocess.TimeoutExpired("a server", timeout or 0.0)

    def _waited(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Nursery:
    """Starts servers. The process that they are forked from is started for the first, and ends with this one."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None

    def start(self, directory: Path, environment: Mapping[str, str]) -> Process:
        """`python -m web` with this environment."""
        if any(name.startswith(_OF_THE_INTERPRETER) for name in environment.keys() ^ os.environ.keys()):
            return _started(directory, environment)
        channel = self._channel or self._opened(directory)
        if channel is None:
            return _started(directory, environment)
        words, theirs = os.pipe()
        socket.send_fds(channel, [json.dumps(dict(environment)).encode()], [theirs])
        os.close(theirs)
        return Forked(int(channel.recv(_LONGEST_MESSAGE_BYTES)), os.fdopen(words))

    def _opened(self, directory: Path) -> socket.socket | None:
        libc = ctypes.CDLL(None)
        if not hasattr(libc, "prctl") or libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            return None
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.nursery", str(theirs.fileno())]
            self._mother = subprocess.Popen(command, cwd=directory, pass_fds=[theirs.fileno()])
        return self._channel


def _started(directory: Path, environment: Mapping[str, str]) -> Process:
    return subprocess.Popen(
        [sys.executable, "-m", "web"], cwd=directory, env=environment, stderr=subprocess.PIPE, text=True
    )


# In the process of its own


def _mother(channel: socket.socket) -> int:
    """Fork as long as there is somebody to ask for it; in a server, its exit code."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, _LONGEST_MESSAGE_BYTES, 1)
        if not message:
            return 0
        told, tell = os.pipe()
        between = os.fork()
        if between == 0:
            born = os.fork()
            if born:
                os.write(tell, str(born).encode())
                os._exit(0)
            for own in (channel.detach(), told, tell):
                os.close(own)
            return _server(json.loads(message), descriptors[0])
        os.waitpid(between, 0)  # only then the server is nobody's
        channel.send(os.read(told, 20))
        for done in (told, tell, descriptors[0]):
            os.close(done)


def _server(environment: Mapping[str, str], words: int) -> int:
    from web.cli import main

    os.dup2(words, 2)
    os.close(words)
    os.environ.clear()
    os.environ.update(environment)
    return main(["serve"])


def _import_what_servers_do() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # so that what is shared is not written to


if __name__ == "__main__":
    _import_what_servers_do()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(_mother(socket.socket(fileno=int(sys.argv[1]))))
