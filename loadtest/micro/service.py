"""A service in a child process on a free port."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from loadtest.micro.client import Address
from loadtest.micro.process import child

_LISTENING = re.compile(r"serving on http://([\d.]+):(\d+)")


class Service(NamedTuple):
    """Where it listens, and its process id."""

    address: Address
    pid: int


@contextmanager
def timewell(**settings: str) -> Iterator[Service]:
    """The product itself, embedded storage in a directory of its own that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="timewell-bench-") as directory:
        fixed = {"HOST": "127.0.0.1", "PORT": "0", "STORAGE_TYPE": "embedded", "DATA_DIR": directory}
        with listening(["web"], **{**fixed, **settings}) as service:
            yield service


@contextmanager
def bare(answer_bytes: int) -> Iterator[Service]:
    """The same web framework and server with a handler that does nothing."""
    with listening(["loadtest.micro.bare", str(answer_bytes)]) as service:
        yield service


@contextmanager
def listening(arguments: Sequence[str], **environment: str) -> Iterator[Service]:
    """A module as a child process that says on standard error where it serves."""
    with child(arguments, environment) as process:
        yield Service(_address(process), process.pid)


def _address(process: subprocess.Popen[str]) -> Address:
    """Waits until the child listens. Raises RuntimeError with its words if it ends instead."""
    assert process.stderr is not None
    words = ""
    for line in process.stderr:
        words += line
        if found := _LISTENING.search(line):
            return found[1], int(found[2])
    raise RuntimeError(f"the service did not start: {words}")
