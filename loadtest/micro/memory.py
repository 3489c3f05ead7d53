"""Group `memory`: what ten million observations take, and how soon a process has them again."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from loadtest.machine.measure import Result, at_most
from loadtest.machine.processes import child
from loadtest.micro.filling import Filled, Reopened

RESTARTS = 3
T = TypeVar("T")


def run() -> Iterator[Result]:
    """Fill a process, then start others on what it left."""
    with tempfile.TemporaryDirectory(prefix="timewell-bench-") as directory:
        filled, _ = _child("fill", directory, Filled)
        yield Result("memory: per observation, 10 million stored", "bytes", [filled.bytes_each], at_most(40))
        yield Result("memory: the same without monitoring", "bytes", [_without_monitoring().bytes_each])
        then = (filled.resident_then - filled.resident_before) / filled.observations
        yield Result("memory: the same right after the checkpoint", "bytes", [then])
        rate = filled.observations / filled.write_seconds
        yield Result("memory: writing them through the actors", "values/s", [rate])
        yield Result("memory: the checkpoint at the end", "s", [filled.checkpoint_seconds])
        restarts = [_child("reopen", directory, Reopened) for _ in range(RESTARTS)]
    took = [seconds for _, seconds in restarts]
    yield Result("memory: restart with them, from process start", "s", took, at_most(10))
    each = [reopened.resident / filled.observations for reopened, _ in restarts]
    yield Result("memory: whole process after it, per observation", "bytes", each)


def _without_monitoring() -> Filled:
    with tempfile.TemporaryDirectory(prefix="timewell-bench-") as directory:
        filled, _ = _child("fill", directory, Filled, ENABLE_MONITORING="false")
    return filled


def _child(command: str, directory: str, kind: type[T], **settings: str) -> tuple[T, float]:
    """What the child said, and the seconds from its start until it said it. Raises RuntimeError if it fails."""
    began = time.perf_counter()
    words = [sys.executable, "-m", "loadtest.micro.filling", command, directory]
    with child(words, environment=settings, pipes=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - began
    if not line:
        raise RuntimeError(f"{command} failed; what it says is above")
    print(f"  {line.decode().strip()}", file=sys.stderr, flush=True)
    return msgspec.json.decode(line, type=kind), took
