"""Group `beside-writes`: how long small reads take while half a million values a second are written.

Reads keep to a schedule and are timed from it, so that one that waits for another counts; batches keep to one too,
on a connection and thread of their own. The driver's threads spend their time in the system, not in each other's
way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from loadtest.micro import data
from loadtest.micro.client import Address, Connection, post
from loadtest.micro.http import FEATURES, register
from loadtest.micro.lanes import wide_bodies
from loadtest.micro.measure import Result, at_least, at_most
from loadtest.micro.service import timewell

READS_PER_SECOND = 200
SECONDS = 8.0
WARM_UP_SECONDS = 2.0
ROUNDS = 3
VALUES_PER_SECOND = 500_000
BATCH = 10_000
"""Values of a batch: 500 rows of 20 features."""


def run() -> Iterator[Result]:
    """Idle, then beside writes, and again."""
    random = np.random.default_rng(8)
    bodies = wide_bodies(random, BATCH)
    request = post("/features/serve", {"entityIds": data.entity_ids([7]), "features": FEATURES[:2]})
    idle, busy, rates = list[float](), list[float](), list[float]()
    with timewell() as service:
        register(service.address)
        with _writing(service.address, bodies):
            time.sleep(WARM_UP_SECONDS)
        for _ in range(ROUNDS):
            idle.append(_p99(service.address, request))
            with _writing(service.address, bodies) as written:
                busy.append(_p99(service.address, request))
            rates.append(written())
    yield Result("beside writes: p99 of serve 1x2, idle", "ms", [one * 1e3 for one in idle])
    yield Result("beside writes: the same beside them", "ms", [one * 1e3 for one in busy])
    yield Result("beside writes: values written a second", "values/s", rates, at_least(0.98 * VALUES_PER_SECOND))
    ratios = [beside / alone for alone, beside in zip(idle, busy, strict=True)]
    yield Result("beside writes: p99 beside them to idle", "x", ratios, at_most(3))


def _p99(address: Address, request: bytes) -> float:
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
def _writing(address: Address, bodies: Sequence[bytes]) -> Iterator[Callable[[], float]]:
    """Write meanwhile. What it gives says afterwards how many values a second that were."""
    over, rates = threading.Event(), list[float]()

    def write() -> None:
        with Connection(address) as connection:
            began, sent = time.perf_counter(), 0
            while not over.is_set():
                _wait_until(began + sent * BATCH / VALUES_PER_SECOND)
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
