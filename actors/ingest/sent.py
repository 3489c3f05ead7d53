"""Validates rows and turns them into tables: references, ids, timestamps, values, schemas.

Everything here works on whole columns, and row by row only to report invalid rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from actors.domain import Feature
from actors.errors import Fault, InvalidInput, RequestError
from actors.ingest.composite import refused_parts
from actors.ingest.entity_ids import MOST_FAULTS_NAMED, refused_rows
from actors.registry import FeatureRegistry
from actors.settings import ROWS_PER_TURN
from actors.table.batch import Column, Table, Tables, observations
from actors.table.columns import Indices, Times, grouping_rows, picked
from actors.table.ids import Entities, numbering
from actors.timestamps import parse_timestamp, parse_timestamps
from actors.turns import STRETCH_SECONDS, Steps, at_once
from actors.types.constraints import coerce
from actors.types.type import FEW, Coerced, Nulls, joined
from actors.types.values import type_of, width_of

SLOW_ROWS_PER_TURN = 500
"""The same as ROWS_PER_TURN for rows that take microseconds each: JSON, timestamps, patterns, invalid rows."""
TIMES_PER_TURN = 50
"""Of timestamps that are parsed one by one, at some 10 us each."""
SLOW_ROWS_AT_FIRST = 8
"""Such rows in the first step, when it is not known yet how long they take."""
WORTH_PARSING_TOGETHER = 16
"""Fewer timestamps than this are parsed faster one by one."""


class Sent(NamedTuple):
    """Rows as parallel lists. A timestamp of None means now; a version of None means that of the reference."""

    references: Sequence[str]
    entities: Sequence[str]
    values: Sequence[Any]
    timestamps: Sequence[str | None]
    versions: Sequence[int | None]


class Ingested(NamedTuple):
    """The result of validation: a batch of the valid values, their number, and the faults of the others by index.

    `more`: how many faults there are beyond those listed.
    """

    batch: list[Table]
    accepted: int
    faults: list[Fault]
    more: int = 0


def ingest(registry: FeatureRegistry, sent: Sent, now: int) -> Ingested:
    """Validate every row. Valid rows go into the batch in order, the others into the faults."""
    return at_once(judging(registry, sent, now))


def judging(registry: FeatureRegistry, sent: Sent, now: int) -> Steps[Ingested]:
    """Do what `ingest` does, in steps."""
    count = len(sent.references)
    if count == 0:
        return Ingested([], 0, [])
    entities = yield from numbering(sent.entities)
    faults = [Fault("entityId", why, row) for row, why in refused_rows(entities)]
    if count > ROWS_PER_TURN:
        yield
    good = np.ones(count, np.bool_)
    times = yield from _times(sent.timestamps, now, faults)
    plan = yield from _by_feature(registry, sent, faults)
    for fault in faults:
        good[fault.index] = False
    yield from refusing_parts(registry, plan, entities, good, faults)
    tables, done = Tables(), ROWS_PER_TURN if count > ROWS_PER_TURN else 0
    for feature, rows in plan:
        done += len(rows)
        if done > ROWS_PER_TURN:
            yield
            done = len(rows)
        column, kept = yield from _column(feature, rows, sent, good, faults)
        tables.add_rows(feature.entity, entities, times, kept, column)
    faults.sort(key=lambda fault: fault.index or 0)
    named = faults[:MOST_FAULTS_NAMED]
    return Ingested(tables.made, observations(tables.made), named, len(faults) - len(named))


def refusing_parts(
    registry: FeatureRegistry,
    plan: Sequence[tuple[Feature, Indices]],
    entities: Entities,
    good: Nulls,
    faults: list[Fault],
) -> Steps[None]:
    """Find the good rows whose entity id is not one of their feature's composite type; they are good no more.

    `plan`: features with their rows. Takes no time for types with one key.
    """
    rows_of: dict[str, list[Indices]] = {}
    for feature, rows in plan:
        if len(registry.catalogue.keys(feature.entity)) > 1:
            rows_of.setdefault(feature.entity, []).append(rows)
    for entity_type, parts in rows_of.items():
        chosen = np.zeros(len(good), np.bool_)
        for rows in parts:
            chosen[rows] = True
        keys = registry.catalogue.keys(entity_type)
        wrong = yield from refused_parts(entities, np.flatnonzero(chosen & good), keys)
        for row, reason in wrong:
            faults.append(Fault("entityId", reason, row))
            good[row] = False


def _times(timestamps: Sequence[str | None], now: int, faults: list[Fault]) -> Steps[Times]:
    count = len(timestamps)
    if timestamps.count(None) == count:
        return np.full(count, now, np.int64)
    if count <= ROWS_PER_TURN:
        return (yield from _part_of_times(timestamps, 0, now, faults))
    times = np.empty(count, np.int64)
    for start in range(0, count, ROWS_PER_TURN):
        part = timestamps[start : start + ROWS_PER_TURN]
        times[start : start + len(part)] = yield from _part_of_times(part, start, now, faults)
        yield
    return times


def _part_of_times(timestamps: Sequence[str | None], first: int, now: int, faults: list[Fault]) -> Steps[Times]:
    texts: list[str] = [text for text in timestamps if text is not None]
    parsed = parse_timestamps(texts) if len(texts) == len(timestamps) >= WORTH_PARSING_TOGETHER else None
    if parsed is not None:
        return parsed
    times = np.full(len(timestamps), now, np.int64)
    for index, text in enumerate(timestamps):
        if text is not None:
            try:
                times[index] = parse_timestamp(text)
            except InvalidInput as error:
                faults.append(Fault("timestamp", error.faults[0].message, first + index))
        if index % TIMES_PER_TURN == TIMES_PER_TURN - 1:
            yield
    return times


def _by_feature(
    registry: FeatureRegistry, sent: Sent, faults: list[Fault]
) -> Steps[list[tuple[Feature, Indices]]]:
    """Each feature that is written, with the positions of its rows in ascending order."""
    plain = sent.versions.count(None) == len(sent.versions)
    keys: Sequence[Any] = sent.references if plain else list(zip(sent.references, sent.versions, strict=True))
    rows_of: dict[str, list[Indices]] = {}
    features: dict[str, Feature] = {}
    for key, rows in (yield from grouping_rows(keys)):
        reference, version = (key, None) if plain else key
        try:
            feature = resolve_version(registry, reference, version)
        except RequestError as error:
            field = error.faults[0].field if error.faults else "featureId"
            faults += [Fault(field, error.detail, row) for row in rows.tolist()]
            continue
        features[feature.id] = feature
        rows_of.setdefault(feature.id, []).append(rows)
    return [(features[id_], _ascending(parts)) for id_, parts in rows_of.items()]


def _ascending(parts: Sequence[Indices]) -> Indices:
    return parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))


def resolve_version(registry: FeatureRegistry, reference: str, version: int | None) -> Feature:
    """The feature that a reference and a separately given version refer to.

    Raises InvalidInput if the reference has another version, NotFound or Conflict like `FeatureRegistry.resolve`.
    """
    feature = registry.stored(reference)
    if version is None or version == feature.version:
        return feature
    if reference == feature.id:
        raise InvalidInput(
            f"version {version} differs from that of {reference!r}",
            [Fault("version", f"differs from that of {reference!r}")],
        )
    return registry.stored(f"{feature.entity}.{feature.name}.v{version}")


def _column(
    feature: Feature, rows: Indices, sent: Sent, good: Nulls, faults: list[Fault]
) -> Steps[tuple[Column, Indices]]:
    """The valid values of one feature, and their rows."""
    coerced = yield from _coerced(feature, picked(sent.values, rows))
    for position, reason in coerced.refused:
        row = int(rows[position])
        faults.append(Fault("value", reason, row))
        good[row] = False
    column = Column(feature.id, feature.created, coerced.values, coerced.nulls)
    if not faults or (kept := good[rows]).all():
        return column, rows
    return column.take(kept), rows[kept]


def _coerced(feature: Feature, given: Sequence[Any]) -> Steps[Coerced]:
    slow = feature.schema is not None or type_of(feature).slow
    most = max(1, (SLOW_ROWS_PER_TURN if slow else ROWS_PER_TURN) // (1 + width_of(feature) // FEW))
    rows = min(most, SLOW_ROWS_AT_FIRST) if slow else most
    if len(given) <= rows:
        return coerce(feature, given)
    parts, start = list[Coerced](), 0
    while start < len(given):
        began = time.perf_counter()
        parts.append(coerce(feature, given[start : start + rows]))
        start += rows
        if slow:  # values may be long: adapt the size of the next step so that it takes about half a millisecond
            took = time.perf_counter() - began
            rows = min(most, 1 + int(rows * STRETCH_SECONDS / max(took, 1e-9)))
        yield
    return joined(parts)
