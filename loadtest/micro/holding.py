"""Group `holding`: for how long a batch of 10,000 values keeps all others from the event loop, at the longest.

It is the processor time of the longest step of any task between a batch and its answer. Event times are spread
over a month, as in the group `lanes`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import trio

from actors.settings import from_environment
from loadtest.machine.connection import Connection
from loadtest.machine.measure import Result, at_most
from loadtest.machine.messages import Address
from loadtest.machine.service import started
from loadtest.micro.beside_writes import BATCH
from loadtest.micro.http import register
from loadtest.micro.lanes import json_bodies, line_bodies, long_bodies, wide_bodies
from web import logs
from web.process import serve

LANES = {"JSON": json_bodies, "NDJSON": line_bodies, "Arrow wide": wide_bodies, "Arrow long": long_bodies}
BATCHES = 120
WARM_UP = 30
NOTED_SECONDS = 0.0002
PAUSE_SECONDS = 0.05
"""Between two batches: what the service does behind one is not to be in the next."""


def run() -> Iterator[Result]:
    """Each lane on a service of its own."""
    for name, bodies in LANES.items():
        with tempfile.TemporaryDirectory(prefix="timewell-bench-") as directory:
            file = Path(directory, "steps")
            with started(Path(directory), module=["loadtest.micro.holding", str(file)]) as service:
                register(service.address)
                sent = _sent(service.address, bodies(np.random.default_rng(8), BATCH))
            steps = msgspec.json.Decoder(tuple[float, float]).decode_lines(file.read_bytes())
        longest = [max((took for end, took in steps if a <= end <= b), default=0.0) for a, b in sent]
        yield Result(f"holding: {name}, the longest step", "ms", [one * 1e3 for one in longest], at_most(1))


def _sent(address: Address, bodies: Sequence[bytes]) -> list[tuple[float, float]]:
    """When each batch was sent and answered."""
    sent = []
    with Connection(address) as connection:
        for number in range(WARM_UP + BATCHES):
            began = time.monotonic()
            connection.ask(bodies[number % len(bodies)])
            sent.append((began, time.monotonic()))
            time.sleep(PAUSE_SECONDS)
    return sent[WARM_UP:]


# The service, which notes how long its tasks hold the event loop: `python -m loadtest.micro.holding FILE`


class Steps(trio.abc.Instrument):
    """When each step of a task ended by the system's monotonic clock, and its processor time, both in seconds.

    That leaves out waiting for the interpreter or for a core.
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
    """Serve until told to stop, then write a line of JSON for each step that took a while."""
    settings = from_environment(os.environ, {})
    logs.configure(settings)
    steps = Steps()
    trio.run(serve, settings, instruments=[steps])
    Path(file).write_bytes(msgspec.json.Encoder().encode_lines(steps.noted))


if __name__ == "__main__":
    main(sys.argv[1])
