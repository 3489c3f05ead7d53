"""Requests to the service with JSON bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadtest.machine.messages import post

WRITE_BATCH = "/features/write-batch"
Observation = dict[str, Any]


def register(name: str, entity: str, value_type: str = "number", **rest: Any) -> bytes:
    return post("/features/register", {"name": name, "entity": entity, "valueType": value_type, **rest})


def observation(feature_id: str, entity_id: str, value: Any, timestamp: str | None = None) -> Observation:
    """A value to write, observed at a time or, without one, now."""
    at = {} if timestamp is None else {"timestamp": timestamp}
    return {"featureId": feature_id, "entityId": entity_id, "value": value, **at}


def write(one: Observation) -> bytes:
    return post("/features/write", one)


def write_batch(observations: Sequence[Observation]) -> bytes:
    return post(WRITE_BATCH, {"values": observations})


def serve(entity_ids: Sequence[str], features: Sequence[str]) -> bytes:
    return post("/features/serve", {"entityIds": entity_ids, "features": features})
