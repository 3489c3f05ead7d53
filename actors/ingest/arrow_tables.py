"""Validates Arrow tables and turns them into batches: one value per row (long), or one column per feature (wide).

Long: `featureId, entityId, value, timestamp?`; a null or NaN is written as null. Wide: `entityId, timestamp?` and
a column for each feature reference; there a null or NaN means that nothing is written, unless nulls are asked for.

If the entity type of all features is given, a column for each of its keys may stand in place of `entityId`, and a
bare name means one of its features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from actors.domain import Feature
from actors.errors import Fault, InvalidInput, RequestError
from actors.ingest.arrow_keys import coded, entities_of_arrow, judged_times, settled
from actors.ingest.composite import entities_of_parts
from actors.ingest.entity_ids import MOST_FAULTS_NAMED, refused_rows
from actors.ingest.sent import Ingested, refusing_parts
from actors.registry import FeatureRegistry
from actors.table.batch import Column, Tables, observations
from actors.table.columns import Indices, Times, rows_of_codes
from actors.table.ids import Entities
from actors.turns import at_once
from actors.types.constraints import constrain_arrow
from actors.types.type import Coerced, Nulls, is_text, lean_nulls
from actors.types.values import convert_arrow
from timewell.arrow_plain import plain

FEATURE, ENTITY, VALUE, TIMESTAMP = "featureId", "entityId", "value", "timestamp"
_Columns = tuple[list[tuple[Feature, Indices]], Iterable[tuple[str, Coerced]]]
"""The features of a table with the rows that are written; for each the field to blame and the values of these."""


class _Rows(NamedTuple):
    """The entities and event times of all rows, which rows are valid so far, and the tables being built.

    `keys`: the columns that hold the entity ids.
    """

    keys: Sequence[str]
    entities: Entities
    times: Times
    good: Nulls
    tables: Tables


class _Meaning:
    """What references mean. `entity`: the type that all features are of, if it is given."""

    def __init__(self, registry: FeatureRegistry, entity: str | None) -> None:
        self.registry = registry
        self.entity = entity

    def resolve(self, reference: str) -> Feature:
        """The feature of a reference. Raises what `FeatureRegistry.resolve` does, InvalidInput for another."""
        if self.entity is None:
            return self.registry.stored(reference)
        feature = self.registry.stored(reference if "." in reference else f"{self.entity}.{reference}")
        if feature.entity != self.entity:
            raise InvalidInput.at(reference, f"{feature.id} is not of the entity type {self.entity}")
        return feature

    def keys(self, names: Sequence[str]) -> Sequence[str]:
        """The columns that hold the entity ids. Raises InvalidInput if one is missing."""
        if ENTITY in names:
            return (ENTITY,)
        if self.entity is None:
            about = "the table has no such column; in its place may be those of the keys of ?entity=TYPE"
            raise InvalidInput.at(ENTITY, about)
        keys = self.registry.catalogue.keys(self.entity)
        for key in keys:
            if key not in names:
                raise InvalidInput.at(key, f"the table has no such column, and no {ENTITY} either")
        return keys


def ingest_table(
    registry: FeatureRegistry, table: pa.Table, now: int, nulls: bool = False, entity: str | None = None
) -> Ingested:
    """Validate a table in either form. Raises InvalidInput for unsuitable columns.

    `now`: the event time of rows without one; `nulls`: whether to write the nulls of a wide table; `entity`: the
    type that all features are of.
    """
    names = table.column_names
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidInput.at(name, "the table has two columns of this name")
    faults: list[Fault] = []
    meaning = _Meaning(registry, entity)
    sent = _rows(table, meaning.keys(names), now, faults)
    if FEATURE in names:
        plan, columns = _long(meaning, table, sent, faults)
    else:
        plan, columns = _wide(meaning, table, sent, nulls)
    if sent.keys == (ENTITY,):
        at_once(refusing_parts(registry, plan, sent.entities, sent.good, faults))
    for (feature, rows), (name, column) in zip(plan, columns, strict=True):
        _take(feature, column, rows, sent, name, faults)
    faults.sort(key=lambda fault: fault.index or 0)
    named = faults[:MOST_FAULTS_NAMED]
    batch = sent.tables.made
    return Ingested(batch, observations(batch), named, len(faults) - len(named))


def _rows(table: pa.Table, keys: Sequence[str], now: int, faults: list[Fault]) -> _Rows:
    parts = [entities_of_arrow(table[key], key) for key in keys]
    entities = entities_of_parts(parts)
    good = np.ones(len(entities), np.bool_)
    refused = {row: (key, why) for key, part in zip(keys, parts, strict=True) for row, why in refused_rows(part)}
    if len(parts) > 1:
        about = f"with {', '.join(keys[1:])}: "
        refused = {row: (keys[0], about + why) for row, why in refused_rows(entities)} | refused
    for index, (key, reason) in refused.items():
        faults.append(Fault(key, reason, index))
        good[index] = False
    if TIMESTAMP not in table.column_names:
        return _Rows(keys, entities, np.full(len(entities), now, np.int64), good, Tables())
    given = settled(table[TIMESTAMP])
    missing = np.asarray(given.is_null().to_numpy(), np.bool_)
    times, wrong = judged_times(given, TIMESTAMP)
    faults += wrong
    for fault in wrong:
        good[fault.index] = False
    return _Rows(keys, entities, np.where(missing, now, times), good, Tables())


def _needed(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise InvalidInput.at(name, "the table has no such column")
    return table[name]


def _long(meaning: _Meaning, table: pa.Table, sent: _Rows, faults: list[Fault]) -> _Columns:
    for name in table.column_names:
        if name not in (FEATURE, VALUE, TIMESTAMP, *sent.keys):
            raise InvalidInput.at(name, "is not a column of the long form")
    values = _one_chunk(_needed(table, VALUE))
    features: dict[str, Feature] = {}
    rows_of: dict[str, list[Indices]] = {}
    for reference, rows in _by_reference(table[FEATURE]):
        try:
            feature = meaning.resolve(reference)
        except RequestError as error:
            faults += [Fault(FEATURE, error.detail, row) for row in rows.tolist()]
            continue
        features[feature.id] = feature
        rows_of.setdefault(feature.id, []).append(rows)
    plan = [
        (features[id_], parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts)))
        for id_, parts in rows_of.items()
    ]
    return plan, ((VALUE, convert_arrow(feature, values.take(pa.array(rows)), VALUE)) for feature, rows in plan)


def _by_reference(column: pa.ChunkedArray) -> list[tuple[str, Indices]]:
    """Each distinct reference in a column with its rows in ascending order; nulls count as empty strings."""
    column = settled(column)
    if not (is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise InvalidInput.at(FEATURE, f"must be strings, not {column.type}")
    names, codes = coded(column)
    texts = ["" if name is None else str(name) for name in names.to_pylist()]
    return list(zip(texts, rows_of_codes(codes, len(texts)), strict=True))


def _wide(meaning: _Meaning, table: pa.Table, sent: _Rows, nulls: bool) -> _Columns:
    names = [name for name in table.column_names if name != TIMESTAMP and name not in sent.keys]
    if not names:
        raise InvalidInput("the table has no column for a feature")
    count, plan, columns = len(sent.times), list[tuple[Feature, Indices]](), list[tuple[str, Coerced]]()
    for name in names:
        feature = meaning.resolve(name)
        column = convert_arrow(feature, _one_chunk(table[name]), name)
        written = np.ones(count, np.bool_) if nulls else ~column.nulls
        written[[position for position, _ in column.refused]] = True  # reported by _take
        chosen = np.flatnonzero(written)
        plan.append((feature, chosen))
        columns.append((name, column if len(chosen) == count else _picked(column, chosen)))
    return plan, columns


def _picked(column: Coerced, rows: Indices) -> Coerced:
    """The rows of a column at these positions, among which are the refused ones."""
    places = {row: place for place, row in enumerate(rows.tolist())}
    refused = [one._replace(position=places[one.position]) for one in column.refused]
    return Coerced(column.values[rows], column.nulls[rows], refused)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    column = plain(column)
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _take(feature: Feature, column: Coerced, rows: Indices, sent: _Rows, field: str, faults: list[Fault]) -> None:
    """Add the valid rows of one feature to the tables, if there are any, and the faults of the others."""
    column = constrain_arrow(feature, column)
    good = sent.good[rows]
    for position, reason in column.refused:
        faults.append(Fault(field, reason, int(rows[position])))
        good[position] = False
    written = Column(feature.id, feature.created, column.values, lean_nulls(column.nulls))
    if not good.all():
        written, rows = written.take(good), rows[good]
    sent.tables.add_rows(feature.entity, sent.entities, sent.times, rows, written)
