"""Writes: the values before a run, single values, and batches. Those of a run are observed now."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice, product

import msgspec
import numpy as np

from loadtest.machine import requests
from loadtest.workloads.asks import Ask
from loadtest.workloads.shape import ENTITY, Shape, feature_id, value

FILL_VALUES = 10_000


def registrations(shape: Shape) -> list[bytes]:
    kept = {"values": shape.retention}
    return [requests.register(f"f{feature:02}", ENTITY, retention=kept) for feature in range(shape.features)]


def fillings(shape: Shape) -> Iterator[bytes]:
    """Requests that write every observation of the shape, the oldest first."""
    pairs = [*product(range(shape.population), range(shape.features))]
    rows = (
        _observation(shape, entity, feature, value(entity, feature, position), moment)
        for position, moment in enumerate(map(shape.moment, range(shape.observations)))
        for entity, feature in pairs
    )
    while batch := list(islice(rows, FILL_VALUES)):
        yield requests.write_batch(batch)


def _observation(
    shape: Shape, entity: int, feature: int, number: float, moment: str | None = None
) -> requests.Observation:
    return requests.observation(feature_id(feature), shape.entity_id(entity), number, moment)


def write(shape: Shape, entity: int, feature: int, number: float) -> Ask:
    return Ask("write", requests.write(_observation(shape, entity, feature, number)), _acknowledged)


def _acknowledged(body: bytes) -> bool:
    return bool(msgspec.json.decode(body) == {"success": True})


def batch(shape: Shape, random: np.random.Generator) -> Ask:
    """`batch_values` values of entities and features at random."""
    entities = random.integers(0, shape.population, shape.batch_values).tolist()
    features = random.integers(0, shape.features, shape.batch_values).tolist()
    numbers = (random.random(shape.batch_values) * 1_000).tolist()
    rows = [_observation(shape, *one) for one in zip(entities, features, numbers, strict=True)]
    answer = {"success": True, "count": len(rows)}
    if overwritten := len(rows) - len(set(zip(entities, features, strict=True))):
        answer["overwritten"] = overwritten  # all have the time of the request
    return Ask("write-batch", requests.write_batch(rows), partial(_answered, answer))


def _answered(answer: dict[str, int], body: bytes) -> bool:
    return bool(msgspec.json.decode(body) == answer)
