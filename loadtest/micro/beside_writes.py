"""Group `beside-writes`: how long small reads take while some hundred thousand values a second are written.

Reads keep to a schedule and are timed from it, so that one that waits for another counts; batches keep to one too,
on a connection and thread of their own. The driver's threads spend their time in the system, not in each other's
way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from loadtest.machine.connection import Connection
from loadtest.machine.measure import Result, at_least, at_most
from loadtest.machine.messages import Address, post
from loadtest.machine.service import temporary
from loadtest.micro import data
from loadtest.micro.http import FEATURES, register
from loadtest.micro.lanes import json_bodies, line_bodies, long_bodies, wide_bodies

READS_PER_SECOND = 200
SECONDS = 8.0
WARM_UP_SECONDS = 2.0
ROUNDS = 3
BATCH = 10_000
"""Values of a batch: a wide one has 500 rows of 20 features."""


class Writing(NamedTuple):
    """A form, how many values a second come in it, and how many times the idle p99 the one beside them may be."""

    name: str
    bodies: Callable[[np.random.Generator, int], list[bytes]]
    values_per_second: int
    at_most: float | None = None


WRITINGS = (
    Writing("Arrow wide", wide_bodies, 500_000, 3),
    Writing("Arrow wide", wide_bodies, 300_000),
    Writing("Arrow long", long_bodies, 300_000),
    Writing("JSON", json_bodies, 300_000),
    Writing("NDJSON", line_bodies, 300_000),
)


def run() -> Iterator[Result]:
    """Each on a service of its own."""
    for writing in WRITINGS:
        yield from _beside(writing, writing.bodies(np.random.default_rng(8), BATCH))


def _beside(writing: Writing, bodies: Sequence[bytes]) -> Iterator[Result]:
    """Idle, then beside writes, and again."""
    request = post("/features/serve", {"entityIds": data.entity_ids([7]), "features": FEATURES[:2]})
    idle, busy, rates = list[float](), list[float](), list[float]()
    with temporary() as service:
        register(service.address)
        with _writing(service.address, bodies, writing.values_per_second):
            time.sleep(WARM_UP_SECONDS)
        for _ in range(ROUNDS):
            idle.append(p99_of_reads(service.address, request))
            with _writing(service.address, bodies, writing.values_per_second) as written:
                busy.append(p99_of_reads(service.address, request))
            rates.append(written())
    asked = writing.values_per_second
    yield Result(f"beside {writing.name}, {asked:,}/s: p99 of serve 1x2, idle", "ms", [one * 1e3 for one in idle])
    yield Result("beside   the same beside them", "ms", [one * 1e3 for one in busy])
    yield Result("beside   values written a second", "values/s", rates, at_least(0.98 * asked))
    ratios = [beside / alone for alone, beside in zip(idle, busy, strict=True)]
    bound = None if writing.at_most is None else at_most(writing.at_most)
    yield Result("beside   p99 beside them to idle", "x", ratios, bound)


def p99_of_reads(address: Address, request: bytes) -> float:
    """The p99 of a read's time in seconds, measured for SECONDS."""
    took = []
    with Connection(address) as connection:
        began = time.perf_counter()
        for number in range(int(SECONDS * READS_PER_SECOND)):
            due = began + number / READS_PER_SECOND
            _wait_until(due)
            connection.ask(request)
            took.append(time.perf_counter() - due)
    return float(np.percentile(took, 99))


def _wait_until(due: float) -> None:
    if (left := due - time.perf_counter()) > 0:
        time.sleep(left)


@contextmanager
def _writing(address: Address, bodies: Sequence[bytes], values_per_second: int) -> Iterator[Callable[[], float]]:
    """Write meanwhile. What it gives says afterwards how many values a second that were."""
    over, rates = threading.Event(), list[float]()

    def write() -> None:
        with Connection(address) as connection:
            began, sent = time.perf_counter(), 0
            while not over.is_set():
                _wait_until(began + sent * BATCH / values_per_second)
                connection.ask(bodies[sent % len(bodies)])
                sent += 1
            rates.append(sent * BATCH / (time.perf_counter() - began))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield lambda: rates[0]
    finally:
        over.set()
        writer.join()
