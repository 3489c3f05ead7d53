"""Group `http`: a real service in a child process, driven over loopback from this one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from actors.timestamps import format_timestamp
from actors.types.values import render
from loadtest.machine.connection import Connection
from loadtest.machine.measure import Result, at_least, at_most, seconds
from loadtest.machine.messages import Address, get, post
from loadtest.machine.processes import processor_seconds
from loadtest.machine.service import Service, temporary
from loadtest.micro import data

BATCH = 10_000
BATCHES = 40
ROUNDS = 12
STARTS = 5
ROUND_REQUESTS = 150
FEATURES = [feature.id for feature in data.MIXED]


def run() -> Iterator[Result]:
    """Writing, serving, and starting."""
    random = np.random.default_rng(2)
    requests = write_requests(random, BATCHES)
    with temporary() as service:
        register(service.address)
        yield from _write(service, requests)
    with temporary(CHECKPOINT_SECONDS="3600") as service:  # reads are measured without work behind their back
        register(service.address)
        _one_after_another(service.address, requests[:20])
        yield from _serve(service.address, random)
        yield from _against_bare(service.address)
    yield _start()


def write_requests(random: np.random.Generator, count: int) -> list[bytes]:
    """Batches of 10,000 JSON values as requests."""
    return [post("/features/write-batch", {"values": _batch(random)}) for _ in range(count)]


def register(address: Address) -> None:
    """Register the 20 features of the benchmarks."""
    with Connection(address) as connection:
        for feature in data.MIXED:
            body = {"name": feature.name, "entity": feature.entity, "valueType": feature.value_type}
            connection.ask(post("/features/register", body))


# Writing


def _write(service: Service, requests: Sequence[bytes]) -> Iterator[Result]:
    with Connection(service.address) as connection:
        for request in requests[:3]:
            connection.ask(request)
        before = processor_seconds(service.pid)
        took = [seconds(lambda body=request: connection.ask(body)) for request in requests]  # type: ignore[misc]
        after = processor_seconds(service.pid)
    rates = [BATCH / one for one in took]
    yield Result("http: write-batch of 10,000, one connection", "values/s", rates, at_least(500_000))
    if before is not None and after is not None:
        spent = (after - before) / BATCHES * 1e3
        yield Result("http: processor time of the service per batch", "ms", [spent])
    rounds = [BATCH * BATCHES / _together(service.address, requests, 4) for _ in range(3)]
    yield Result("http: the same, four connections, checkpoints included", "values/s", rounds)


def _batch(random: np.random.Generator) -> list[dict[str, Any]]:
    """One value for each of 10,000 entities, the features taking turns, shuffled."""
    each = BATCH // len(data.MIXED)
    columns = [
        render(feature.value_type, data.random_values(random, feature.value_type, each), np.zeros(each, np.bool_))
        for feature in data.MIXED
    ]
    times = data.random_times(random, BATCH).tolist()
    rows = zip(data.entity_ids(random.permutation(BATCH).tolist()), times, strict=True)
    return [
        {
            "featureId": FEATURES[index % len(FEATURES)],
            "entityId": entity,
            "value": columns[index % len(FEATURES)][index // len(FEATURES)],
            "timestamp": format_timestamp(moment),
        }
        for index, (entity, moment) in enumerate(rows)
    ]


# Serving


def _serve(address: Address, random: np.random.Generator) -> Iterator[Result]:
    requests = [_serve_request(data.random_entities(random, 100), FEATURES) for _ in range(200)]
    for connections, name in ((1, "one connection"), (8, "eight connections")):
        _together(address, requests[:50], connections)
        rates = [len(requests) / _together(address, requests, connections) for _ in range(ROUNDS)]
        yield Result(f"http: serve 100 entities x 20 features, {name}", "requests/s", rates, at_least(600))


def _serve_request(entities: Sequence[str], features: Sequence[str]) -> bytes:
    return post("/features/serve", {"entityIds": entities, "features": features})


def _together(address: Address, requests: Sequence[bytes], connections: int) -> float:
    """Seconds until all requests are answered, dealt out to so many connections."""
    hands = [requests[start::connections] for start in range(connections)]
    with ThreadPoolExecutor(connections) as pool:
        began = time.perf_counter()
        for done in [pool.submit(_one_after_another, address, hand) for hand in hands]:
            done.result()
        return time.perf_counter() - began


def _one_after_another(address: Address, requests: Sequence[bytes]) -> None:
    with Connection(address) as connection:
        for request in requests:
            connection.ask(request)


# Against the framework alone


def _against_bare(address: Address) -> Iterator[Result]:
    request = _serve_request(data.entity_ids([7]), FEATURES[:2])
    with Connection(address) as ours:
        answer_bytes = len(ours.ask(request))
        bare = ["loadtest.micro.bare", str(answer_bytes)]
        with temporary(module=bare) as other, Connection(other.address) as theirs:
            pairs = [_pair(ours, theirs, request) for _ in range(2 * ROUNDS + 1)][1:]
    yield Result("http: serve 1 entity x 2 features", "us", [one * 1e6 for one, _ in pairs])
    yield Result("http: an empty handler of the framework", "us", [one * 1e6 for _, one in pairs])
    ratios = [empty / serve for serve, empty in pairs]
    yield Result("http: speed of serve beside the empty handler", "x", ratios, at_least(0.85))


def _pair(ours: Connection, theirs: Connection, request: bytes) -> tuple[float, float]:
    """Seconds a request of each, in rounds that follow each other."""

    def round_of(connection: Connection) -> float:
        return seconds(lambda: [connection.ask(request) for _ in range(ROUND_REQUESTS)]) / ROUND_REQUESTS

    return round_of(ours), round_of(theirs)


# Starting


def _start() -> Result:
    took = [_started() for _ in range(STARTS)]
    return Result("http: start of an empty service until it is ready", "s", took, at_most(1))


def _started() -> float:
    began = time.perf_counter()
    with temporary() as service, Connection(service.address) as connection:
        connection.ask(get("/health/ready"))
        return time.perf_counter() - began
