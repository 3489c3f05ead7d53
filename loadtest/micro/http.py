"""Group `http`: a real service in a child process, driven over loopback from this one."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from loadtest.machine.connection import Connection, together
from loadtest.machine.measure import Result, at_least, at_most, seconds
from loadtest.machine.messages import Address, get, post
from loadtest.machine.requests import serve
from loadtest.machine.service import temporary
from loadtest.micro import data
from loadtest.micro.bodies import BATCH, as_json, register

BATCHES = 40
ROUNDS = 12
STARTS = 5
ROUND_REQUESTS = 150


def run() -> Iterator[Result]:
    random = np.random.default_rng(2)
    batches = [as_json(random, BATCH) for _ in range(BATCHES)]
    with temporary() as service:
        register(service.address)
        together([service.address], batches[:3], 1)
        rates = [BATCH * BATCHES / together([service.address], batches, 4) for _ in range(3)]
    name = "http: write-batch of 10,000, four connections, checkpoints included"
    yield Result(name, "values/s", rates)
    with temporary(CHECKPOINT_SECONDS="3600") as service:  # no background work during reads
        register(service.address)
        together([service.address], batches[:20], 1)
        yield from _serve(service.address, random)
        yield from _against_noop(service.address)
    took = [_started() for _ in range(STARTS)]
    yield Result("http: start of an empty service until it is ready", "s", took, at_most(1))


def _serve(address: Address, random: np.random.Generator) -> Iterator[Result]:
    requests = [serve(data.random_entities(random, 100), data.IDS) for _ in range(200)]
    for connections, name in ((1, "one connection"), (8, "eight connections")):
        together([address], requests[:50], connections)
        rates = [len(requests) / together([address], requests, connections) for _ in range(ROUNDS)]
        yield Result(f"http: serve 100 entities x 20 features, {name}", "requests/s", rates, at_least(600))


def _against_noop(address: Address) -> Iterator[Result]:
    """Beside Hypercorn with an application that only answers as many bytes."""
    request = serve(data.entity_ids([7]), data.IDS[:2])
    with Connection(address) as ours, temporary(module=["loadtest.machine.noop", "0"]) as noop:
        empty = post(f"/{len(ours.ask(request))}", {"entityIds": data.entity_ids([7]), "features": data.IDS[:2]})
        with Connection(noop.address) as theirs:
            pairs = [(_round(ours, request), _round(theirs, empty)) for _ in range(2 * ROUNDS + 1)][1:]
    yield Result("http: serve 1 entity x 2 features", "us", [one * 1e6 for one, _ in pairs])
    yield Result("http: an application that does nothing", "us", [one * 1e6 for _, one in pairs])
    ratios = [nothing / serve for serve, nothing in pairs]
    yield Result("http: speed of serve beside it", "x", ratios, at_least(0.85))


def _round(connection: Connection, request: bytes) -> float:
    return seconds(lambda: [connection.ask(request) for _ in range(ROUND_REQUESTS)]) / ROUND_REQUESTS


def _started() -> float:
    began = time.perf_counter()
    with temporary() as service, Connection(service.address) as connection:
        connection.ask(get("/health/ready"))
        return time.perf_counter() - began
