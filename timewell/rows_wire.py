"""Exports and training sets, in the contract's form."""

from __future__ import annotations

from typing import Any

import msgspec

from timewell.wire import Body, Duration, FeatureEntry, Reference, Timestamp


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


class TrainingEntry(FeatureEntry, omit_defaults=True):
    """A reference with options. Its column is named by `as`, by default `ref`.

    `key`: the field of a row that holds the entity id, or a mapping from keys of a composite type to fields. The
    other options take the place of those of the request.
    """

    aggregation: str | None = None
    window: Duration | None = None
    lookback: Duration | None = None


class SpineRequest(Body, omit_defaults=True):
    """A spine: a row for every observation of a feature between two event times, in the order of ids and times."""

    feature: Reference
    start_time: Timestamp | None = None
    end_time: Timestamp | None = None


class TrainingSet(Body, omit_defaults=True):
    """`POST /features/training-set`: either `rows` or a `spine`.

    A row has a `timestamp`, and the keys of all entity types that the features need, or `entityId` where they are
    of one. Its other fields are labels, which come back unchanged.
    """

    rows: list[dict[str, Any]] | None = None
    spine: SpineRequest | None = None
    features: list[Reference | TrainingEntry] | None = None
    group: str | None = None
    service: str | None = None
    lookback: Duration | None = None
    aggregation: str | None = None
    window: Duration | None = None
    known_at: str | None = None


class KeepTrainingSet(TrainingSet, kw_only=True):
    """`POST /training-sets`: a training set to keep under a name, with its rows or the spine that makes them."""

    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str | None = None


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
