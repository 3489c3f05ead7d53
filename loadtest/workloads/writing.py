"""Writes: the values before a run, single values, and batches. Those of a run are observed now."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import msgspec
import numpy as np

from loadtest.machine.messages import post
from loadtest.workloads.asks import Ask
from loadtest.workloads.shape import ENTITY, Shape, feature_id, value

FILL_VALUES = 10_000


def registrations(shape: Shape) -> list[bytes]:
    return [
        post(
            "/features/register",
            {
                "name": f"f{feature:02}",
                "entity": ENTITY,
                "valueType": "number",
                "retention": {"values": shape.retention},
            },
        )
        for feature in range(shape.features)
    ]


def fillings(shape: Shape) -> Iterator[bytes]:
    """Requests that write every observation of the shape, the oldest first."""
    batch = []
    for position in range(shape.observations):
        moment = shape.moment(position)
        for entity, feature in product(range(shape.population), range(shape.features)):
            batch.append(
                {
                    "featureId": feature_id(feature),
                    "entityId": shape.entity_id(entity),
                    "value": value(entity, feature, position),
                    "timestamp": moment,
                }
            )
            if len(batch) == FILL_VALUES:
                yield post("/features/write-batch", {"values": batch})
                batch = []
    if batch:
        yield post("/features/write-batch", {"values": batch})


def write(shape: Shape, entity: int, feature: int, number: float) -> Ask:
    body = {"featureId": feature_id(feature), "entityId": shape.entity_id(entity), "value": number}
    return Ask("write", post("/features/write", body), _acknowledged)


def _acknowledged(body: bytes) -> bool:
    return bool(msgspec.json.decode(body) == {"success": True})


def batch(shape: Shape, random: np.random.Generator) -> Ask:
    """`batch_values` values of entities and features at random."""
    entities = random.integers(0, shape.population, shape.batch_values).tolist()
    features = random.integers(0, shape.features, shape.batch_values).tolist()
    numbers = (random.random(shape.batch_values) * 1_000).tolist()
    rows = [
        {"featureId": feature_id(feature), "entityId": shape.entity_id(entity), "value": number}
        for entity, feature, number in zip(entities, features, numbers, strict=True)
    ]
    answer = {"success": True, "count": len(rows)}
    if overwritten := len(rows) - len(set(zip(entities, features, strict=True))):
        answer["overwritten"] = overwritten  # all have the time of the request
    return Ask("write-batch", post("/features/write-batch", {"values": rows}), partial(_answered, answer))


def _answered(answer: dict[str, int], body: bytes) -> bool:
    return bool(msgspec.json.decode(body) == answer)
