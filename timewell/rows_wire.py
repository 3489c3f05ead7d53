"""Exports and kept training sets, in the contract's form."""

from __future__ import annotations

from typing import Any

import msgspec

from timewell.wire import Body, FeatureEntry, Reference, Timestamp


class Export(Body):
    """`POST /features/export`: of which entities, all by default, and between which event times.

    `entity`: only the features of this entity type, where a service or a list has those of several.
    """

    features: list[Reference | FeatureEntry] | None = None
    group: str | None = None
    service: str | None = None
    entity: str | None = None
    entity_ids: list[str] | None = None
    start_time: Timestamp | None = None
    end_time: Timestamp | None = None


class ExportAnswer(msgspec.Struct):
    """`POST /features/export`: a row per entity and event timestamp, with the value of each feature then."""

    results: list[dict[str, Any]]


MOST_KEPT_BYTES = 256 * 1024
"""How large the rows may be that a training set is kept with, as JSON."""


class TrainingSetRecord(msgspec.Struct, rename="camel", omit_defaults=True):
    """A kept training set: what is asked for, its features pinned by id; what had arrived by `known_at` counts.

    `content_hash`: the SHA-256 of its rows as NDJSON.
    """

    name: str
    definition: dict[str, Any]
    known_at: str
    rows: int
    content_hash: str
    description: str
    tags: tuple[str, ...]
    created_at: str
    owner: str | None = None


class TrainingSetsAnswer(msgspec.Struct):
    """`GET /training-sets`"""

    training_sets: list[TrainingSetRecord] = msgspec.field(name="trainingSets")
