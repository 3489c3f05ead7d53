"""Group `memory`: the memory of ten million observations, and the time of a restart with them.

`python -m loadtest.micro.memory fill|reopen DIRECTORY` is the child, which prints its figures as a line of JSON.

fill     stores 20 number features x 10,000 entities x 50 timestamps through the actors, then checkpoints;
         the memory before is measured with one day stored and checkpointed, so that fixed costs are in it
reopen   starts on that directory again

Settings come from the environment: ENABLE_MONITORING=false shows the share of the monitor.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.abc import MetaPathFinder
from itertools import islice
from typing import TypeVar

import msgspec
import numpy as np
import trio

from actors.domain import Feature, FeatureChange
from actors.ingest.sent import Ingested
from actors.memory import keep_for_reuse
from actors.opening import open_router
from actors.router import Router
from actors.settings import Settings, from_environment
from actors.table.batch import Column, Table
from actors.table.ids import numbered
from actors.timestamps import SECOND
from loadtest.machine.measure import Result, at_most
from loadtest.machine.processes import child, resident_bytes
from loadtest.micro import data

FEATURES = 20
TIMESTAMPS = 50
FEATURES_A_BATCH = 5
BATCH = FEATURES_A_BATCH * data.ENTITIES
RESTARTS = 3
REST_SECONDS = 16.0
REST_CHECKPOINTS = 8
T = TypeVar("T")
OBSERVATIONS = FEATURES * data.ENTITIES * TIMESTAMPS


class Filled(msgspec.Struct, rename="camel"):
    """Memory in bytes, time in seconds. `resident_then`: right after the checkpoint; `after`: at rest."""

    observations: int
    resident_before: int
    resident_then: int
    resident_after: int
    write_seconds: float
    checkpoint_seconds: float

    @property
    def bytes_each(self) -> float:
        return (self.resident_after - self.resident_before) / self.observations


class Reopened(msgspec.Struct, rename="camel"):
    """Memory in bytes, time in seconds."""

    open_seconds: float
    resident: int


# The group


def run() -> Iterator[Result]:
    """Fill a process, then start others on its files."""
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
    """The figures of the child, and the seconds from its start to them. Raises RuntimeError if it fails."""
    began = time.perf_counter()
    words = [sys.executable, "-m", "loadtest.micro.memory", command, directory]
    with child(words, environment=settings, pipes=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - began
    if not line:
        raise RuntimeError(f"{command} failed; see its output above")
    print(f"  {line.decode().strip()}", file=sys.stderr, flush=True)
    return msgspec.json.decode(line, type=kind), took


# The child


def settled_bytes() -> int:
    """Memory of this process after unused memory has been returned to the system."""
    gc.collect()
    with suppress(AttributeError, OSError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)
    return resident_bytes([os.getpid()])


async def fill(directory: str) -> Filled:
    """Store everything, checkpoint, and measure the memory."""
    keep_for_reuse()
    async with open_router(_settings(directory)) as router:
        batches = _batches(await _register(router))
        await _write(router, islice(batches, FEATURES // FEATURES_A_BATCH))
        before = await _at_rest(router)
        began = time.perf_counter()
        await _write(router, batches)
        written = time.perf_counter()
        await router.checkpointer.checkpoint()
        finished = time.perf_counter()
        then = settled_bytes()
        added = OBSERVATIONS - FEATURES * data.ENTITIES
        return Filled(added, before, then, await _at_rest(router), written - began, finished - written)


def _settings(directory: str) -> Settings:
    return from_environment(os.environ, {"data_dir": directory})


async def _write(router: Router, batches: Iterator[list[Table]]) -> None:
    for batch in batches:
        await router.write(Ingested(batch, BATCH, []), b"")


async def _register(router: Router) -> list[Feature]:
    changes = [
        FeatureChange(entity=data.ENTITY, name=f"f{index:02}", value_type="number") for index in range(FEATURES)
    ]
    return [(await router.register(change))[0] for change in changes]


def _batches(features: list[Feature]) -> Iterator[list[Table]]:
    """A day's value of every entity for five features at a time."""
    random = np.random.default_rng(3)
    nulls = np.zeros(data.ENTITIES, np.bool_)
    for day in range(TIMESTAMPS, 0, -1):
        times = np.full(data.ENTITIES, data.STARTED - day * 86_400 * SECOND)
        for start in range(0, FEATURES, FEATURES_A_BATCH):
            columns = [
                Column(feature.id, feature.created, random.random(data.ENTITIES), nulls)
                for feature in features[start : start + FEATURES_A_BATCH]
            ]
            yield [Table(data.ENTITY, numbered(data.entity_ids(range(data.ENTITIES))), times, columns)]


async def _at_rest(router: Router) -> int:
    """Memory in bytes once the allocators of the libraries have returned what they keep for a while.

    They do so when they are next used, so idle checkpoints continue, as they do in a service. Nothing is measured
    before the first checkpoint, which loads libraries of 50 MB.
    """
    found = []
    for _ in range(REST_CHECKPOINTS):
        await trio.sleep(REST_SECONDS / REST_CHECKPOINTS)
        await router.checkpointer.checkpoint()
        found.append(settled_bytes())
    return min(found)


async def reopen(directory: str) -> Reopened:
    began = time.perf_counter()
    async with open_router(_settings(directory)):
        took = time.perf_counter() - began
        return Reopened(took, settled_bytes())


class _WithoutPandas(MetaPathFinder):
    """Hides pandas, which is here for the tests but not in a service: pyarrow loads it if it is installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def main(command: str, directory: str) -> None:
    sys.meta_path.insert(0, _WithoutPandas())
    found = trio.run(fill if command == "fill" else reopen, directory)
    print(msgspec.json.encode(found).decode(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
