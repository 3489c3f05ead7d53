"""The layout of the history: observations as Arrow tables.

There is one row for each accepted observation, including corrected ones:

    feature string   entity_id string   event_timestamp, arrived_at timestamp[us, UTC]
    number double    integer int64    string, json utf8    boolean bool    timestamp timestamp[us, UTC]
    vector list<float>

A value is in the column named after its feature's type; the other six are null, and all seven for a written null.
Within a run, rows are sorted by (feature, entity_id, event_timestamp), and equal ones are in order of arrival, so
that the statistics of a row group tell which entities it can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.domain import Feature
from actors.settings import IDS_AT_ONCE
from actors.stats.summary import Accepted
from actors.storage.protocol import LoadedRows
from actors.table.batch import Batch, Column, Table, concatenated
from actors.table.columns import Indices
from actors.table.ids import Entities, Ids
from actors.table.index import Index
from actors.table.rows import Rows, order
from actors.timestamps import FOREVER, NEVER
from actors.types.type import Array, Nulls
from actors.types.values import TYPES, empty, type_of

MOMENT = pa.timestamp("us", "UTC")
KEYS = pa.schema(
    [
        pa.field("feature", pa.string()),
        pa.field("entity_id", pa.string()),
        pa.field("event_timestamp", MOMENT),
        pa.field("arrived_at", MOMENT),
    ]
)
SCHEMA = pa.schema([*KEYS, *(pa.field(name, type_.arrow) for name, type_ in TYPES.items())])


Keep = Callable[[pa.RecordBatch], Nulls]
"""Selects the rows of a part of a run that are kept: bool[n]. A function, as a filter expression for Arrow would
be nested one level for each feature, and ten thousand levels overflow the stack."""


def stretches(batch: pa.RecordBatch) -> Iterator[tuple[str, slice]]:
    """The features in a part of a run, each with the slice of its rows."""
    names = batch["feature"].dictionary_encode()
    codes = names.indices.to_numpy()
    edges = np.flatnonzero(np.diff(codes, prepend=-1, append=-1)).tolist()
    for begin, end in pairwise(edges):
        yield names.dictionary[int(codes[begin])].as_py(), slice(begin, end)


def only(batch: pa.RecordBatch, keep: Keep) -> pa.RecordBatch:
    """Filter a batch: the rows that are kept."""
    mask = keep(batch)
    return batch if mask.all() else batch.filter(pa.array(mask))


def live_rows(features: Mapping[str, Feature], now: int) -> Keep:
    """Keeps the rows that are not past their feature's retention age."""
    ages = {feature.id: feature.kept_age for feature in features.values() if feature.kept_age is not None}

    def keep(batch: pa.RecordBatch) -> Nulls:
        kept, times = np.ones(len(batch), np.bool_), micros(batch["event_timestamp"])
        for feature, own in stretches(batch) if ages else ():
            if feature in ages:
                kept[own] = times[own] >= max(now - ages[feature], NEVER)
        return kept

    return keep


def rows_of_others(gone: Sequence[Feature], features: Mapping[str, Feature]) -> Keep:
    """Keeps all rows except those of deleted features, which may have been registered again since."""
    again = {one.id: features[one.id].created if one.id in features else FOREVER for one in gone}

    def keep(batch: pa.RecordBatch) -> Nulls:
        kept, arrived = np.ones(len(batch), np.bool_), micros(batch["arrived_at"])
        for feature, own in stretches(batch):
            if feature in again:
                kept[own] = arrived[own] >= again[feature]
        return kept

    return keep


def moment(micros: int) -> pa.Scalar:
    """A timestamp for comparison with a column."""
    return pa.scalar(max(micros, -(2**62)), pa.int64()).cast(MOMENT)


# Writing tables


def to_table(batches: Sequence[tuple[int, Batch]], features: Mapping[str, Feature]) -> pa.Table:
    """Convert batches of the journal to one sorted table, without columns of features that have been deleted."""
    by_feature: dict[str, list[tuple[int, Table, Column]]] = {}
    ranks = _Ranks([table.entities.ids for _, batch in batches for table in batch])
    for arrived, batch in batches:
        for table in batch:
            for column in table.columns:
                feature = features.get(column.feature)
                if feature is not None and feature.created == column.created:
                    by_feature.setdefault(column.feature, []).append((arrived, table, column))
    tables = [_feature_table(features[name], by_feature[name], ranks) for name in sorted(by_feature)]
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


class _Ranks:
    """The distinct entity ids of many lists, in byte order."""

    def __init__(self, lists: Sequence[Ids]) -> None:
        lists = list(dict.fromkeys(lists))
        self.distinct, ranks = _ranked(pa.chunked_array(_as_arrow(lists), pa.string()))
        ends = np.cumsum([len(ids) for ids in lists])
        self._of = dict(zip(lists, np.split(ranks, ends[:-1]), strict=True)) if lists else {}

    def of(self, entities: Entities) -> Indices:
        """The position of each row's id in `distinct`: int64[n]."""
        return self._of[entities.ids][entities.codes]


def _as_arrow(lists: Sequence[Ids]) -> Iterator[pa.Array]:
    """Their texts, some at a time: no other thread runs while Arrow converts a list."""
    for ids in lists:
        for start in range(0, len(ids), IDS_AT_ONCE):
            yield pa.array(ids.texts[start : start + IDS_AT_ONCE], pa.string())


def _feature_table(feature: Feature, parts: Sequence[tuple[int, Table, Column]], known: _Ranks) -> pa.Table:
    ranks = np.concatenate([known.of(table.entities) for _, table, _ in parts])
    times = np.concatenate([table.times for _, table, _ in parts])
    _, _, values, nulls = concatenated([column for *_, column in parts])
    arrived = np.repeat([arrived for arrived, _, _ in parts], [table.rows for _, table, _ in parts])
    rows = order(ranks, times)
    columns = {name: pa.nulls(len(rows), type_.arrow) for name, type_ in TYPES.items()}
    columns[feature.value_type] = type_of(feature).to_arrow(values[rows], nulls[rows])
    keys = [pa.repeat(pa.scalar(feature.id, pa.string()), len(rows)), known.distinct.take(pa.array(ranks[rows]))]
    keys += [pa.array(times[rows]).cast(MOMENT), pa.array(arrived[rows]).cast(MOMENT)]
    return pa.Table.from_arrays([*keys, *columns.values()], schema=SCHEMA)


def _ranked(column: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, Indices]:
    """The distinct strings in byte order, and each string's position among them: int64[n]."""
    encoded = column.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    sorted_places = pc.sort_indices(encoded.dictionary)
    places = np.empty(len(sorted_places), np.int64)
    places[sorted_places.to_numpy()] = np.arange(len(sorted_places))
    return encoded.dictionary.take(sorted_places), places[encoded.indices.to_numpy()]


def merge_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """Merge tables, given in order of arrival, into a sorted one."""
    table = pa.concat_tables(tables)
    distinct, entities = _ranked(table["entity_id"])
    major = _ranked(table["feature"])[1] * max(len(distinct), 1) + entities
    return table.take(pa.array(order(major, micros(table["event_timestamp"]))))


# Reading tables


def micros(column: pa.Array | pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A timestamp column as int64 microseconds."""
    return column.cast(pa.int64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def values_of(feature: Feature, column: pa.Array) -> tuple[Array, Nulls]:
    """Convert a value column to the feature's dtype, and its null mask."""
    nulls = column.is_null().to_numpy(zero_copy_only=False)
    return type_of(feature).restored(feature, column, nulls), nulls


def columns_read(feature: Feature) -> list[str]:
    """The columns with a feature's observations, without the feature's id."""
    return ["entity_id", "event_timestamp", "arrived_at", feature.value_type]


def period_filter(feature: Feature, start: int, end: int) -> pc.Expression:
    """A filter for a feature's rows with event times in [start, end], not those of a deleted feature of its id."""
    when = pc.field("event_timestamp")
    return (
        (pc.field("feature") == feature.id)
        & (when >= moment(start))
        & (when <= moment(min(end, 2**62)))
        & (pc.field("arrived_at") >= moment(feature.created))
    )


def pairs_filter(feature: Feature, entities: Sequence[str], start: int, end: int) -> pc.Expression:
    """A filter for a feature's rows of some entities, see `period_filter`."""
    return period_filter(feature, start, end) & of_ids(entities)


def of_ids(entities: Sequence[str]) -> pc.Expression:
    """A filter for rows with these entity ids. Its bounds let Arrow skip row groups by their statistics."""
    who = pc.field("entity_id")
    bounds = (who >= min(entities, key=str.encode)) & (who <= max(entities, key=str.encode))
    return bounds & who.isin(pa.array(entities, pa.string()))


def to_rows(feature: Feature, entities: Sequence[str] | None, tables: Sequence[pa.Table]) -> Rows:
    """Convert filtered tables, in order of arrival, to rows. Slots are positions in `entities`, or all 0."""
    table = pa.concat_tables(tables).combine_chunks() if tables else None
    if table is None or table.num_rows == 0:
        return nothing(feature)
    chunk = table.to_batches()[0]
    owners = np.zeros(len(chunk), np.int32)
    if entities is not None:
        owners = pc.index_in(chunk["entity_id"], value_set=pa.array(entities, pa.string())).to_numpy()
    values, nulls = values_of(feature, chunk[feature.value_type])
    index = Index(owners.astype(np.int32), micros(chunk["event_timestamp"]), micros(chunk["arrived_at"]))
    return Rows(index, values, nulls)


def nothing(feature: Feature) -> Rows:
    """An empty Rows of the feature's type."""
    none = np.zeros(0, np.int64)
    return Rows(Index(none.astype(np.int32), none, none), empty(feature, 0), np.zeros(0, np.bool_))


def loaded(batch: pa.RecordBatch, features: Mapping[str, Feature]) -> Iterator[LoadedRows]:
    """Split a sorted record batch by feature, without rows of features that have been deleted."""
    for name, cut in stretches(batch):
        feature = features.get(name)
        if feature is not None:
            rows = _loaded_rows(feature, batch.slice(cut.start, cut.stop - cut.start))
            if len(rows.arrived):
                yield rows


def _loaded_rows(feature: Feature, part: pa.RecordBatch) -> LoadedRows:
    arrived = micros(part["arrived_at"])
    if len(arrived) and arrived.min() < feature.created:
        part = part.filter(pa.array(arrived >= feature.created))
        arrived = micros(part["arrived_at"])
    values, nulls = values_of(feature, part[feature.value_type])
    column = Column(feature.id, feature.created, values, nulls)
    times = micros(part["event_timestamp"])
    return LoadedRows(Table(feature.entity, _entities(part["entity_id"]), times, [column]), arrived)


def _entities(column: pa.Array) -> Entities:
    encoded = column.dictionary_encode()
    return Entities(Ids(encoded.dictionary.to_pylist()), encoded.indices.to_numpy())


def greatest_time(table: Any) -> int:
    """The greatest event time in a table; NEVER for an empty one."""
    return int(micros(table["event_timestamp"]).max()) if table.num_rows else NEVER


# Batches of the journal


def later(part: LoadedRows, after: int) -> LoadedRows:
    """The rows of a part that arrived later than `after`."""
    rows = np.flatnonzero(part.arrived > after)
    return part if len(rows) == len(part.arrived) else LoadedRows(part.table.take(rows), part.arrived[rows])


def placed(table: Table, column: Column, arrived: int, places: Mapping[str, int], start: int, end: int) -> Rows:
    """The rows of a column that belong to some entities and have event times in [start, end].

    `places`: the slot of each entity.
    """
    of_ids = np.array([places.get(text, -1) for text in table.entities.ids.texts], np.int32)
    slots = of_ids[table.entities.codes]
    chosen = np.flatnonzero((slots >= 0) & (table.times >= start) & (table.times <= end))
    arrivals = np.full(len(chosen), arrived, np.int64)
    return Rows(Index(slots[chosen], table.times[chosen], arrivals), column.values[chosen], column.nulls[chosen])


def accepted(table: Table, column: Column, arrived: int, inside: Nulls) -> Accepted:
    """The rows of a column that `inside` selects, in the form for statistics."""
    times = table.times[inside]
    return Accepted(times, np.full(len(times), arrived, np.int64), column.values[inside], column.nulls[inside])
