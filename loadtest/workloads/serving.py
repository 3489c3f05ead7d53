"""Reads of the latest values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from loadtest.machine.messages import post
from loadtest.workloads.asks import Ask
from loadtest.workloads.shape import Shape, feature_id, value


def serve(shape: Shape, entities: Sequence[int], exact: bool) -> Ask:
    """The latest of so many features; `exact` where nobody writes meanwhile."""
    ids = [shape.entity_id(entity) for entity in entities]
    features = [feature_id(feature) for feature in range(shape.features)]
    request = post("/features/serve", {"entityIds": ids, "features": features})
    return Ask("serve", request, partial(_served, shape, entities, exact))


def _served(shape: Shape, entities: Sequence[int], exact: bool, body: bytes) -> bool:
    """Whether there is a result for each entity in its place, with the values written; any, where not exact."""
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
