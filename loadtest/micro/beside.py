"""Groups `beside-writes` and `ids`: latencies of small reads while another client is active.

It writes some hundred thousand values a second, or lists a million ids repeatedly. Reads keep to a schedule and
are timed from it, so that waiting counts; batches keep to one too. The driver's threads spend their time in system
calls and do not hold each other up.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import pyarrow as pa

from loadtest.machine.arrow import post_table
from loadtest.machine.connection import Connection
from loadtest.machine.measure import Result, Target, at_least, at_most, seconds
from loadtest.machine.messages import Address, get
from loadtest.machine.requests import WRITE_BATCH, serve
from loadtest.machine.service import temporary
from loadtest.micro import data
from loadtest.micro.bodies import BATCH, Body, as_json, as_lines, as_long_arrow, as_wide_arrow, register

READS_PER_SECOND = 200
READING_SECONDS = 8.0
WRITING_FIRST_SECONDS = 2.0
ROUNDS = 3
BODIES = 6
"""How many distinct bodies are sent in turn."""
READ = serve(data.entity_ids([7]), data.IDS[:2])
WRITINGS: tuple[tuple[str, Body, int, Target | None], ...] = (
    ("Arrow wide", as_wide_arrow, 500_000, at_most(3)),
    ("Arrow wide", as_wide_arrow, 300_000, None),
    ("Arrow long", as_long_arrow, 300_000, None),
    ("JSON", as_json, 300_000, None),
    ("NDJSON", as_lines, 300_000, None),
)
"""Forms, values a second, and the bound on the ratio of p99 beside them to p99 alone."""
LISTED, PAGE = 1_000_000, 10_000
Work = Callable[[Connection, threading.Event], None]
"""Runs until the event is set."""


def p99_of_reads(address: Address) -> float:
    """The p99 of reads in seconds."""
    took = []
    with Connection(address) as connection:
        began = time.perf_counter()
        for number in range(int(READING_SECONDS * READS_PER_SECOND)):
            due = began + number / READS_PER_SECOND
            _wait_until(due)
            connection.ask(READ)
            took.append(time.perf_counter() - due)
    return float(np.percentile(took, 99))


def _wait_until(due: float) -> None:
    if (left := due - time.perf_counter()) > 0:
        time.sleep(left)


@contextmanager
def meanwhile(work: Work, address: Address) -> Iterator[None]:
    """Runs the work meanwhile, on its own connection and thread."""
    over = threading.Event()

    def run() -> None:
        with Connection(address) as connection:
            work(connection, over)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(run)
        try:
            yield
        finally:
            over.set()
        done.result()


def beside(name: str, work: Work, address: Address, bound: Target | None) -> Iterator[Result]:
    """Reads alone and beside the work, in turns."""
    alone, busy = list[float](), list[float]()
    for _ in range(ROUNDS):
        alone.append(p99_of_reads(address) * 1e3)
        with meanwhile(work, address):
            busy.append(p99_of_reads(address) * 1e3)
    yield Result(f"{name}: p99 of serve 1x2, alone", "ms", alone)
    yield Result(f"{name}: the same beside it", "ms", busy)
    ratios = [beside / idle for idle, beside in zip(alone, busy, strict=True)]
    yield Result(f"{name}: p99 beside it to alone", "x", ratios, bound)


# Writes


def beside_writes() -> Iterator[Result]:
    """Each form on its own service."""
    for name, body, asked, bound in WRITINGS:
        random = np.random.default_rng(8)
        rates = list[float]()
        write = partial(_write, [body(random, BATCH) for _ in range(BODIES)], asked, rates)
        with temporary() as service:
            register(service.address)
            with meanwhile(write, service.address):
                time.sleep(WRITING_FIRST_SECONDS)
            yield from beside(f"beside {name}, {asked:,}/s", write, service.address, bound)
        yield Result("beside   values written a second", "values/s", rates[1:], at_least(0.98 * asked))


def _write(
    bodies: list[bytes], values_per_second: int, rates: list[float], connection: Connection, over: threading.Event
) -> None:
    """Write until the event is set, and append the rate to `rates`."""
    began, sent = time.perf_counter(), 0
    while not over.is_set():
        _wait_until(began + sent * BATCH / values_per_second)
        connection.ask(bodies[sent % len(bodies)])
        sent += 1
    rates.append(sent * BATCH / (time.perf_counter() - began))


# Lists of ids


def ids() -> Iterator[Result]:
    """The first listing, then reads alone and beside listings."""
    took = list[float]()
    order = np.random.default_rng(9).permutation(LISTED).tolist()

    def listing(connection: Connection, over: threading.Event) -> None:
        while not over.is_set():
            took.append(seconds(partial(_list, connection)))

    with temporary() as service, Connection(service.address) as connection:
        register(service.address)
        for start in range(0, LISTED, PAGE):
            named = data.entity_ids(order[start : start + PAGE])
            connection.ask(
                post_table(WRITE_BATCH, pa.table({"entityId": named, data.IDS[0]: np.ones(len(named))}))
            )
        first = seconds(partial(_list, connection))
        yield Result(f"ids: the first listing of {LISTED:,}, pages of {PAGE:,}", "s", [first])
        yield from beside("ids", listing, service.address, at_most(2))
    yield Result("ids: further listings, beside reads", "s", took)


def _list(connection: Connection) -> None:
    cursor, count = "", 0
    while count == 0 or cursor:
        answer = connection.ask(get(f"/entities/user/ids?limit={PAGE}&cursor={cursor}"))
        count += answer.count(b'","') + 1
        end = answer[-1_000:].partition(b'],"nextCursor":')[2]
        cursor = json.loads(end[:-1]) if end else ""
    assert count == LISTED, count
