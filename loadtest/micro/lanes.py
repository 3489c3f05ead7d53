"""Group `lanes`: the forms in which values are written in bulk.

The service is durable, monitors the stream and makes its checkpoints; event times are spread over a month, which
is the more expensive case for the monitor. A rate is that of one request over one connection; background work of
the service (checkpoints, the monitor) slows the following requests, and is in the processor time, which is taken
until the service is idle. The longest step is the processor time for which a batch holds the event loop.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import trio

from actors.settings import from_environment
from loadtest.machine.connection import Connection
from loadtest.machine.measure import Result, Target, at_least, at_most, seconds
from loadtest.machine.messages import Address
from loadtest.machine.processes import at_rest, processor_time
from loadtest.machine.service import Service, started
from loadtest.micro.bodies import BATCH, Body, as_json, as_lines, as_long_arrow, as_wide_arrow, register
from web import logs
from web.process import serve

BODIES = 6
"""How many distinct bodies are sent in turn."""
WARM_UP = 2
REST_PATIENCE_SECONDS = 60.0
WATCHED, WATCHED_WARM_UP = 120, 30
"""Batches whose longest step is measured, after some to warm up."""
PAUSE_SECONDS = 0.05
"""Between batches, so that background work of one is not measured with the next."""
NOTED_SECONDS = 0.0002


class Lane(NamedTuple):
    """A form, the values of a body, and how many bodies are written."""

    name: str
    body: Body
    values: int
    requests: int
    target: Target


LANES = (
    Lane("JSON", as_json, 10_000, 60, at_least(500_000)),
    Lane("NDJSON", as_lines, 100_000, 12, at_least(500_000)),
    Lane("Arrow long", as_long_arrow, 200_000, 15, at_least(3_000_000)),
    Lane("Arrow wide", as_wide_arrow, 200_000, 25, at_least(3_000_000)),
)


def run() -> Iterator[Result]:
    """Each form on its own service."""
    random = np.random.default_rng(6)
    for lane in LANES:
        large, small = ([lane.body(random, values) for _ in range(BODIES)] for values in (lane.values, BATCH))
        with tempfile.TemporaryDirectory(prefix="timewell-bench-") as directory:
            file = Path(directory, "steps")
            with started(Path(directory), module=["loadtest.micro.lanes", str(file)]) as service:
                register(service.address)
                watched = _watched(service.address, small)
                yield from _written(service, lane, large)
            steps = msgspec.json.Decoder(tuple[float, float]).decode_lines(file.read_bytes())
        longest = [max((took for end, took in steps if a <= end <= b), default=0.0) for a, b in watched]
        name = f"lanes:   longest step of a batch of {BATCH:,}"
        yield Result(name, "ms", [one * 1e3 for one in longest], at_most(1))


def _watched(address: Address, bodies: Sequence[bytes]) -> list[tuple[float, float]]:
    """When each batch was sent and answered."""
    sent = []
    with Connection(address) as connection:
        for number in range(WATCHED_WARM_UP + WATCHED):
            began = time.monotonic()
            connection.ask(bodies[number % len(bodies)])
            sent.append((began, time.monotonic()))
            time.sleep(PAUSE_SECONDS)
    return sent[WATCHED_WARM_UP:]


def _written(service: Service, lane: Lane, bodies: Sequence[bytes]) -> Iterator[Result]:
    with Connection(service.address) as connection:
        for body in bodies[:WARM_UP]:
            connection.ask(body)
        trio.run(at_rest, [service.pid], REST_PATIENCE_SECONDS)
        before = processor_time([service.pid])
        sent = [bodies[number % len(bodies)] for number in range(lane.requests)]
        took = [seconds(lambda body=body: connection.ask(body)) for body in sent]  # type: ignore[misc]
        answered = processor_time([service.pid])
        trio.run(at_rest, [service.pid], REST_PATIENCE_SECONDS)
        after = processor_time([service.pid])
    millions = lane.values * lane.requests / 1e6
    rates = [lane.values / one for one in took]
    yield Result(f"lanes: {lane.name}, bodies of {lane.values:,} values", "values/s", rates, lane.target)
    yield Result("lanes:   processor time of a million, answered", "s", [(answered - before) / millions])
    yield Result("lanes:   the same until all is at rest", "s", [(after - before) / millions])


# The service, which records how long its tasks hold the event loop: `python -m loadtest.micro.lanes FILE`


class Steps(trio.abc.Instrument):
    """When each step of a task ended by the system's monotonic clock, and its processor time, both in seconds.

    Processor time excludes waiting for the interpreter lock or a core.
    """

    def __init__(self) -> None:
        self.noted: list[tuple[float, float]] = []
        self._began = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took = time.thread_time() - self._began
        if took > NOTED_SECONDS:
            self.noted.append((time.monotonic(), took))


def main(file: str) -> None:
    """Serve until stopped, then write a line of JSON for each step over NOTED_SECONDS."""
    settings = from_environment(os.environ, {})
    logs.configure(settings)
    steps = Steps()
    trio.run(serve, settings, instruments=[steps])
    Path(file).write_bytes(msgspec.json.Encoder().encode_lines(steps.noted))


if __name__ == "__main__":
    main(sys.argv[1])
