"""Validates Arrow tables and turns them into batches: one value per row (long), or one column per feature (wide).

Long: `featureId, entityId, value, timestamp?`; a null or NaN is written as null. Wide: `entityId, timestamp?` and
a column for each feature reference; there a null or NaN means that nothing is written, unless nulls are asked for.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from actors.domain import Feature
from actors.errors import Fault, InvalidInput, RequestError
from actors.ingest.arrow_keys import coded, entities_of_arrow, judged_times, settled
from actors.ingest.sent import MOST_FAULTS_NAMED, Ingested, refused_rows
from actors.registry import FeatureRegistry
from actors.table.batch import Column, Tables, observations
from actors.table.columns import Indices, Times, rows_of_codes
from actors.table.ids import Entities
from actors.types.constraints import constrain_arrow
from actors.types.type import Coerced, Nulls, is_text, lean_nulls
from actors.types.values import convert_arrow
from timewell.arrow_plain import plain

FEATURE, ENTITY, VALUE, TIMESTAMP = "featureId", "entityId", "value", "timestamp"


class _Rows(NamedTuple):
    """The entities and event times of all rows, which rows are valid so far, and the tables being built."""

    entities: Entities
    times: Times
    good: Nulls
    tables: Tables


def ingest_table(registry: FeatureRegistry, table: pa.Table, now: int, nulls: bool = False) -> Ingested:
    """Validate a table in either form. Raises InvalidInput for unsuitable columns.

    `now`: the event time of rows without one; `nulls`: whether to write the nulls of a wide table.
    """
    names = table.column_names
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidInput.at(name, "the table has two columns of this name")
    faults: list[Fault] = []
    sent = _rows(table, now, faults)
    if FEATURE in table.column_names:
        _long(registry, table, sent, faults)
    else:
        _wide(registry, table, sent, faults, nulls)
    faults.sort(key=lambda fault: fault.index or 0)
    named = faults[:MOST_FAULTS_NAMED]
    batch = sent.tables.made
    return Ingested(batch, observations(batch), named, len(faults) - len(named))


def _rows(table: pa.Table, now: int, faults: list[Fault]) -> _Rows:
    entities = entities_of_arrow(_needed(table, ENTITY), ENTITY)
    good = np.ones(len(entities), np.bool_)
    for index, reason in refused_rows(entities):
        faults.append(Fault(ENTITY, reason, index))
        good[index] = False
    if TIMESTAMP not in table.column_names:
        return _Rows(entities, np.full(len(entities), now, np.int64), good, Tables())
    given = settled(table[TIMESTAMP])
    missing = np.asarray(given.is_null().to_numpy(), np.bool_)
    times, wrong = judged_times(given, TIMESTAMP)
    faults += wrong
    for fault in wrong:
        good[fault.index] = False
    return _Rows(entities, np.where(missing, now, times), good, Tables())


def _needed(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise InvalidInput.at(name, "the table has no such column")
    return table[name]


def _long(registry: FeatureRegistry, table: pa.Table, sent: _Rows, faults: list[Fault]) -> None:
    for name in table.column_names:
        if name not in (FEATURE, ENTITY, VALUE, TIMESTAMP):
            raise InvalidInput.at(name, "is not a column of the long form")
    values = _one_chunk(_needed(table, VALUE))
    features: dict[str, Feature] = {}
    rows_of: dict[str, list[Indices]] = {}
    for reference, rows in _by_reference(table[FEATURE]):
        try:
            feature = registry.resolve(reference)
        except RequestError as error:
            faults += [Fault(FEATURE, error.detail, row) for row in rows.tolist()]
            continue
        features[feature.id] = feature
        rows_of.setdefault(feature.id, []).append(rows)
    for id_, parts in rows_of.items():
        rows = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
        column = convert_arrow(features[id_], values.take(pa.array(rows)), VALUE)
        _take(features[id_], column, rows, sent, VALUE, faults)


def _by_reference(column: pa.ChunkedArray) -> list[tuple[str, Indices]]:
    """Each distinct reference in a column with its rows in ascending order; nulls count as empty strings."""
    column = settled(column)
    if not (is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise InvalidInput.at(FEATURE, f"must be strings, not {column.type}")
    names, codes = coded(column)
    texts = ["" if name is None else str(name) for name in names.to_pylist()]
    return list(zip(texts, rows_of_codes(codes, len(texts)), strict=True))


def _wide(registry: FeatureRegistry, table: pa.Table, sent: _Rows, faults: list[Fault], nulls: bool) -> None:
    names = [name for name in table.column_names if name not in (ENTITY, TIMESTAMP)]
    if not names:
        raise InvalidInput("the table has no column for a feature")
    rows = np.arange(len(sent.times))
    for name in names:
        feature = registry.resolve(name)
        column = convert_arrow(feature, _one_chunk(table[name]), name)
        written = np.ones(len(rows), np.bool_) if nulls else ~column.nulls
        written[[position for position, _ in column.refused]] = True  # reported by _take
        chosen = np.flatnonzero(written)
        whole = len(chosen) == len(rows)
        _take(feature, column if whole else _picked(column, chosen), chosen, sent, name, faults)


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
