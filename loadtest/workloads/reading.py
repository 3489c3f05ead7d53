"""Reads: the latest values; of history, aggregates over a range and in windows, and pages of observations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

import msgspec
import numpy as np

from loadtest.machine import requests
from loadtest.machine.messages import encoded, post
from loadtest.workloads.asks import Ask
from loadtest.workloads.shape import STEP_SECONDS, Shape, feature_id, value, values

PAGE = 100
WINDOW_STEPS = 10
ORACLES: dict[str, Callable[[Any], Any]] = {
    "avg": np.mean,
    "sum": np.sum,
    "min": np.min,
    "max": np.max,
    "count": len,
    "latest": lambda column: column[-1],
}


def serve(shape: Shape, entities: Sequence[int], exact: bool) -> Ask:
    """The latest values; `exact`: check values, if nobody writes meanwhile."""
    ids = [shape.entity_id(entity) for entity in entities]
    features = [feature_id(feature) for feature in range(shape.features)]
    return Ask("serve", requests.serve(ids, features), partial(_served, shape, entities, exact))


def _served(shape: Shape, entities: Sequence[int], exact: bool, body: bytes) -> bool:
    """Whether there is a result for each entity in its place, with the values written; any values if not exact."""
    results = msgspec.json.decode(body)["results"]
    if [result["entityId"] for result in results] != [shape.entity_id(entity) for entity in entities]:
        return False
    return all(
        _right(result["features"][feature_id(feature)], value(entity, feature, shape.observations - 1), exact)
        for entity, result in zip(entities, results, strict=True)
        for feature in range(shape.features)
    )


def _right(found: object, written: float, exact: bool) -> bool:
    return found == written if exact else isinstance(found, int | float)


# History


def looking_back(shape: Shape, random: np.random.Generator) -> Ask:
    """Six in ten aggregate a range as a whole, two in windows, two read a page of observations."""
    first, last = sorted(random.integers(0, shape.observations, 2).tolist())
    chance = random.random()
    if chance < 0.2:
        return _page(shape, int(random.integers(shape.population)), first)
    entities = random.integers(0, shape.population, shape.entities).tolist()
    if chance < 0.4:
        return _windows(shape, entities, first, last)
    return _aggregate(shape, entities, first, last, str(random.choice(list(ORACLES))))


def _historical(shape: Shape, entities: Sequence[int], first: int, last: int, **rest: Any) -> bytes:
    body = {
        "entityIds": [shape.entity_id(entity) for entity in entities],
        "features": [feature_id(feature) for feature in range(shape.features)],
        "startTime": shape.moment(first),
        "endTime": shape.moment(last),
        **rest,
    }
    return post("/features/historical", body)


def _aggregate(shape: Shape, entities: Sequence[int], first: int, last: int, aggregation: str) -> Ask:
    request = _historical(shape, entities, first, last, aggregation=aggregation)
    return Ask("aggregate", request, partial(_aggregated, shape, entities, first, last, aggregation))


def _aggregated(
    shape: Shape, entities: Sequence[int], first: int, last: int, aggregation: str, body: bytes
) -> bool:
    results = msgspec.json.decode(body)["results"]
    for entity, result in zip(entities, results, strict=True):
        for feature in range(shape.features):
            expected = ORACLES[aggregation](values(entity, feature, first, last))
            if not math.isclose(result[feature_id(feature)], expected, rel_tol=1e-9):
                return False
    return [result["entityId"] for result in results] == [shape.entity_id(entity) for entity in entities]


def _windows(shape: Shape, entities: Sequence[int], first: int, last: int) -> Ask:
    window = WINDOW_STEPS * STEP_SECONDS
    request = _historical(shape, entities, first, last, aggregation="count", window=window)
    cells = len(entities) * shape.features
    return Ask("windows", request, partial(_windowed, cells * (last - first + 1)))


def _windowed(observations: int, body: bytes) -> bool:
    """Whether the counts of all windows add up to the observations of the range."""
    rows = msgspec.json.decode(body)["results"]
    counts = [count for row in rows for count in row.values() if isinstance(count, int)]
    return sum(counts) == observations


def _page(shape: Shape, entity: int, first: int) -> Ask:
    query = {"entityId": shape.entity_id(entity), "startTime": shape.moment(first), "limit": PAGE}
    request = encoded("GET", f"/features/{feature_id(0)}/history?{urlencode(query)}")
    last = min(first + PAGE, shape.observations) - 1
    return Ask("history", request, partial(_paged, values(entity, 0, first, last).tolist()))


def _paged(expected: list[float], body: bytes) -> bool:
    return [row["value"] for row in msgspec.json.decode(body)["observations"]] == expected
