"""Functions for migrations: grouping observations into rows and batches, and fingerprints to compare storages."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.storage.entries import Written
from actors.storage.protocol import LoadedRows
from actors.table.batch import Column, Table, concatenated, joined
from actors.table.columns import Codes, Indices, Times
from actors.table.ids import Entities, Ids, Union

_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
_Hashes = NDArray[np.uint64]


class Fingerprint(NamedTuple):
    """A fingerprint of observations in any order: their count, and the sum of their hashes modulo 2**64."""

    observations: int
    total: int


def fingerprints(parts: Iterable[LoadedRows], known: Mapping[str, Fingerprint]) -> dict[str, Fingerprint]:
    """The fingerprints in `known`, by feature id, extended by the observations in `parts`."""
    found = dict(known)
    for table, arrived in parts:
        keys = _key_hashes(table, arrived)
        for column in table.columns:
            before = found.get(column.feature, Fingerprint(0, 0))
            hashes = _mixed(keys, _value_hashes(column), _MIX[3])
            total = (before.total + int(hashes.sum())) % 2**64
            found[column.feature] = Fingerprint(before.observations + len(hashes), total)
    return found


def _key_hashes(table: Table, arrived: Times) -> _Hashes:
    ids = table.entities.ids
    of_ids = np.fromiter((zlib.crc32(text.encode()) for text in ids.texts), np.uint64, len(ids))
    parts = [of_ids[table.entities.codes], table.times.astype(np.uint64), arrived.astype(np.uint64)]
    hashes = np.zeros(len(arrived), np.uint64)
    for part, odd in zip(parts, _MIX[:3], strict=True):
        hashes = _mixed(hashes, part, odd)
    return hashes


def _mixed(hashes: _Hashes, part: _Hashes, odd: int) -> _Hashes:
    mixed = (hashes ^ part) * np.uint64(odd)
    return mixed ^ (mixed >> np.uint64(29))


def _value_hashes(column: Column) -> _Hashes:
    values: NDArray[Any] = column.values
    if values.dtype == object:
        texts = [0 if one is None else 1 + zlib.crc32(one.encode()) for one in values.tolist()]
        return np.array(texts, np.uint64)
    rows = np.ascontiguousarray(values).reshape(len(values), -1)
    words = rows.view(np.uint8).reshape(len(values), -1).astype(np.uint64)
    weights = np.arange(1, 2 * words.shape[1], 2, dtype=np.uint64) * np.uint64(_MIX[0])
    return np.where(column.nulls, np.uint64(1), (words * weights).sum(axis=1) + np.uint64(2))


def by_row(parts: Sequence[LoadedRows]) -> list[LoadedRows]:
    """Regroup observations: one table for each set of features that have the same rows."""
    of_type: dict[str, list[LoadedRows]] = {}
    for part in parts:
        of_type.setdefault(part.table.entity_type, []).append(part)
    return list(chain.from_iterable(map(_by_row, of_type.values())))


def _by_row(parts: Sequence[LoadedRows]) -> list[LoadedRows]:
    keys = _keyed(parts)
    random = np.random.default_rng(0)
    features = {column.feature for table, _ in parts for column in table.columns}
    tokens = {id_: random.integers(1, 2**63, dtype=np.uint64) for id_ in features}
    # The set of features that a row has is identified by the sum of their random tokens.
    sums = np.zeros(keys.number, np.uint64)
    for (table, _), keys_of_rows in zip(parts, keys.of_part, strict=True):
        for column in table.columns:
            np.add.at(sums, keys_of_rows, tokens[column.feature])
    kinds, kind_of = np.unique(sums, return_inverse=True)
    found: list[dict[str, list[tuple[Indices, Column]]]] = [{} for _ in kinds]
    for (table, _), keys_of_rows in zip(parts, keys.of_part, strict=True):
        kind = kind_of[keys_of_rows]
        for one in np.unique(kind).tolist():
            rows = np.flatnonzero(kind == one)
            for column in table.columns:
                found[one].setdefault(column.feature, []).append((keys_of_rows[rows], column.take(rows)))
    return [keys.loaded(list(pieces.values())) for pieces in found]


def by_arrival(parts: Sequence[LoadedRows]) -> list[Written]:
    """Regroup observations into the batches that they arrived in, oldest first."""
    batches: dict[int, list[Table]] = {}
    for table, arrived in parts:
        ordered = np.argsort(arrived, kind="stable")
        edges = np.flatnonzero(np.diff(arrived[ordered], prepend=-1)).tolist()
        for begin, end in pairwise([*edges, len(ordered)]):
            rows = ordered[begin:end]
            batches.setdefault(int(arrived[rows[0]]), []).append(table.take(rows))
    return [Written(arrived, batch, None, b"") for arrived, batch in sorted(batches.items(), key=itemgetter(0))]


class _Keys(NamedTuple):
    """The distinct (entity, time, arrival) of some parts, numbered in this order.

    `of_part`: for each part, the numbers of its rows (int64[n]).
    """

    number: int
    entity_type: str
    ids: Ids
    codes: Codes
    times: Times
    arrived: Times
    of_part: list[Indices]

    def loaded(self, features: Sequence[Sequence[tuple[Indices, Column]]]) -> LoadedRows:
        """Join pieces of features that have the same rows into a table, in the order of the keys."""
        rows: Indices = np.zeros(0, np.int64)
        columns = []
        for pieces in features:
            numbers = np.concatenate([part for part, _ in pieces])
            ordered = np.argsort(numbers, kind="stable")
            rows = numbers[ordered]
            columns.append(concatenated([column for _, column in pieces]).take(ordered))
        table = Table(self.entity_type, Entities(self.ids, self.codes[rows]), self.times[rows], columns)
        return LoadedRows(table, self.arrived[rows])


def _keyed(parts: Sequence[LoadedRows]) -> _Keys:
    union = Union()
    codes = np.concatenate([union.entities(table.entities).codes for table, _ in parts]).astype(np.int64)
    times = np.concatenate([table.times for table, _ in parts])
    arrived = np.concatenate([arrived for _, arrived in parts])
    ordered = np.lexsort((arrived, times, codes))
    columns = codes[ordered], times[ordered], arrived[ordered]
    fresh = np.ones(len(codes), np.bool_)
    fresh[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    numbers = np.empty(len(codes), np.int64)
    numbers[ordered] = np.cumsum(fresh) - 1
    ends = np.cumsum([table.rows for table, _ in parts])[:-1]
    own, moments, arrivals = (column[fresh] for column in columns)
    entity_type = parts[0].table.entity_type
    return _Keys(int(fresh.sum()), entity_type, union.ids, own, moments, arrivals, np.split(numbers, ends))


def whole(parts: Iterable[LoadedRows]) -> list[LoadedRows]:
    """Join the rows of each feature into one part.

    A batch may have several rows of one entity and event time. Each of them gets an arrival one microsecond after
    the one before, so that no two rows have the same key.
    """
    of_feature: dict[str, list[LoadedRows]] = {}
    for table, arrived in parts:
        for column in table.columns:
            of_feature.setdefault(column.feature, []).append(LoadedRows(table.only([column]), arrived))
    found = []
    for of_one in of_feature.values():
        (table,) = joined([part.table for part in of_one])
        found.append(LoadedRows(table, _apart(table, np.concatenate([part.arrived for part in of_one]))))
    return found


def _apart(table: Table, arrived: Times) -> Times:
    ordered = np.lexsort((arrived, table.times, table.entities.codes))
    codes, times, apart = table.entities.codes[ordered], table.times[ordered], arrived[ordered]
    same = (codes[1:] == codes[:-1]) & (times[1:] == times[:-1])
    while (late := np.flatnonzero(same & (apart[1:] <= apart[:-1]))).size:
        apart[late + 1] = apart[late] + 1
    found = np.empty_like(arrived)
    found[ordered] = apart
    return found
