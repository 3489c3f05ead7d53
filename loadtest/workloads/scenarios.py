"""The scenarios by name: their requests, data and rhythm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from loadtest.workloads.asks import Ask, Ring, Work
from loadtest.workloads.reading import looking_back, serve
from loadtest.workloads.shape import Shape
from loadtest.workloads.soaking import Soaking
from loadtest.workloads.writing import batch, write

RING = 4_093
"""How many requests are prepared and sent repeatedly. A prime, so that it is in step with no other period."""
RING_BYTES = 32 * 1024 * 1024
"""Large requests are fewer."""
HOT_EXPONENT = 2.0
"""The exponent of Zipf's law: three requests of five are for the first entity."""


class Scenario(NamedTuple):
    """`work` makes the requests of a run from its shape and their number; `defaults` are fields of the shape."""

    about: str
    work: Callable[[Shape, int], Work]
    defaults: Mapping[str, Any] = {}
    rhythm: Literal["constant", "bursts"] = "constant"
    slow_readers: bool = False
    least_features: int = 1


def _serve(shape: Shape, random: np.random.Generator) -> Ask:
    return serve(shape, random.integers(0, shape.population, shape.entities).tolist(), exact=True)


def _write(shape: Shape, random: np.random.Generator) -> Ask:
    entity, feature = random.integers(shape.population), random.integers(shape.features)
    return write(shape, int(entity), int(feature), float(random.random()))


def _mixed(shape: Shape, random: np.random.Generator) -> Ask:
    chance = random.random()
    if chance < shape.batches:
        return batch(shape, random)
    if chance < shape.batches + shape.writes:
        return _write(shape, random)
    return serve(shape, random.integers(0, shape.population, shape.entities).tolist(), exact=False)


def _hot(shape: Shape, random: np.random.Generator) -> Ask:
    entities = (random.zipf(HOT_EXPONENT, shape.entities) - 1) % shape.population
    if random.random() < shape.writes:
        return write(shape, int(entities[0]), int(random.integers(shape.features)), float(random.random()))
    return serve(shape, entities.tolist(), exact=False)


def _ring(ask: Callable[[Shape, np.random.Generator], Ask]) -> Callable[[Shape, int], Work]:
    """A ring of random requests, the same in every process."""

    def work(shape: Shape, count: int) -> Work:
        random = np.random.default_rng(1)
        asks: list[Ask] = []
        size = 0
        while len(asks) < min(count, RING) and size < RING_BYTES:
            asks.append(ask(shape, random))
            size += len(asks[-1].request)
        return Ring(asks)

    return work


_PAST = {"entities": 10, "population": 500, "observations": 200}
_SOAK = {"population": 200, "batch_values": 50, "retention": 100}
SCENARIOS: dict[str, Scenario] = {
    "serve": Scenario("the latest values, 1 entity x 2 features by default", _ring(_serve)),
    "write": Scenario("one value each, durable when answered", _ring(_write)),
    "mixed": Scenario("reads, with a share of writes and one of batches", _ring(_mixed)),
    "historical": Scenario("aggregates over ranges, windows, pages of observations", _ring(looking_back), _PAST),
    "burst": Scenario("reads: nothing, then many times the rate, and again", _ring(_serve), rhythm="bursts"),
    "hot-entity": Scenario("reads and writes, most of them of one entity (Zipf)", _ring(_hot)),
    "slow-client": Scenario(
        "reads, in the second half with connections that read slowly", _ring(_serve), slow_readers=True
    ),
    "soak": Scenario(
        "writes, reads of the latest values and of history, statistics; every write is different",
        Soaking,
        _SOAK,
        least_features=2,
    ),
}
