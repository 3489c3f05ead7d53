"""Kernels for carrying everything to another storage: what belongs into one row, what shows that it arrived."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.storage.protocol import LoadedRows, Written
from actors.table.columns import Block, Codes, Entities, Indices, Keys, Names, Times, joined, names_of

_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
_Hashes = NDArray[np.uint64]


class Fingerprint(NamedTuple):
    """Of observations in any order: how many, and a sum over hashes of all that there is to each, modulo 2**64."""

    observations: int
    total: int


def fingerprints(parts: Iterable[LoadedRows], known: Mapping[str, Fingerprint]) -> dict[str, Fingerprint]:
    """Those by feature, with the rows of some more parts taken in."""
    found = dict(known)
    for block, arrived in parts:
        before = found.get(block.feature, Fingerprint(0, 0))
        hashes = _hashes(block, arrived)
        total = (before.total + int(hashes.sum())) % 2**64
        found[block.feature] = Fingerprint(before.observations + len(hashes), total)
    return found


def _hashes(block: Block, arrived: Times) -> _Hashes:
    names = names_of(block.entities)
    ids = np.fromiter((zlib.crc32(name.encode()) for name in names), np.uint64, len(names))
    if isinstance(block.entities, Entities):
        ids = ids[block.entities.codes]
    parts = [ids, block.times.astype(np.uint64), arrived.astype(np.uint64), _value_hashes(block)]
    mixed = np.zeros(len(arrived), np.uint64)
    for part, odd in zip(parts, _MIX, strict=True):
        mixed = (mixed ^ part) * np.uint64(odd)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _value_hashes(block: Block) -> _Hashes:
    values: NDArray[Any] = block.values
    if values.dtype == object:
        texts = [0 if one is None else 1 + zlib.crc32(one.encode()) for one in values.tolist()]
        return np.array(texts, np.uint64)
    rows = np.ascontiguousarray(values).reshape(len(values), -1)
    words = rows.view(np.uint8).reshape(len(values), -1).astype(np.uint64)
    weights = np.arange(1, 2 * words.shape[1], 2, dtype=np.uint64) * np.uint64(_MIX[0])
    return np.where(block.nulls, np.uint64(1), (words * weights).sum(axis=1) + np.uint64(2))


def by_row(parts: Sequence[LoadedRows]) -> list[list[LoadedRows]]:
    """The same observations by what shares a row: parts of one list have the same entities, times and arrivals."""
    if not parts:
        return []
    keys = _keyed(parts)
    random = np.random.default_rng(0)
    tokens = {id_: random.integers(1, 2**63, dtype=np.uint64) for id_ in {block.feature for block, _ in parts}}
    # What a row has is told by the sum of its features' tokens.
    sums = np.zeros(keys.number, np.uint64)
    for (block, _), own in zip(parts, keys.of_part, strict=True):
        np.add.at(sums, own, tokens[block.feature])
    kinds, kind_of = np.unique(sums, return_inverse=True)
    found: list[dict[str, list[tuple[Indices, Block]]]] = [{} for _ in kinds]
    for (block, _), own in zip(parts, keys.of_part, strict=True):
        kind = kind_of[own]
        for one in np.unique(kind).tolist():
            rows = np.flatnonzero(kind == one)
            found[one].setdefault(block.feature, []).append((own[rows], block.take(rows)))
    return [[_in_order(keys, pieces) for pieces in features.values()] for features in found]


def by_arrival(parts: Sequence[LoadedRows]) -> list[Written]:
    """The same observations as the batches that they arrived in, oldest first."""
    batches: dict[int, list[Block]] = {}
    for block, arrived in parts:
        ordered = np.argsort(arrived, kind="stable")
        edges = np.flatnonzero(np.diff(arrived[ordered], prepend=-1)).tolist()
        for begin, end in pairwise([*edges, len(ordered)]):
            rows = ordered[begin:end]
            batches.setdefault(int(arrived[rows[0]]), []).append(block.take(rows))
    return [Written(arrived, blocks, None, b"") for arrived, blocks in sorted(batches.items(), key=itemgetter(0))]


class _Keys(NamedTuple):
    """Rows numbered by entity, time and arrival: `of_part`, for each part the number of each of its rows."""

    number: int
    names: list[str]
    codes: Codes
    times: Times
    arrived: Times
    of_part: list[Indices]


def _keyed(parts: Sequence[LoadedRows]) -> _Keys:
    names = Names()
    codes = np.concatenate([_codes(names, block.entities) for block, _ in parts]).astype(np.int64)
    times = np.concatenate([block.times for block, _ in parts])
    arrived = np.concatenate([arrived for _, arrived in parts])
    ordered = np.lexsort((arrived, times, codes))
    columns = codes[ordered], times[ordered], arrived[ordered]
    fresh = np.ones(len(codes), np.bool_)
    fresh[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    numbers = np.empty(len(codes), np.int64)
    numbers[ordered] = np.cumsum(fresh) - 1
    ends = np.cumsum([len(block.times) for block, _ in parts])[:-1]
    own, moments, arrivals = (column[fresh] for column in columns)
    return _Keys(int(fresh.sum()), names.distinct, own, moments, arrivals, np.split(numbers, ends))


def _codes(names: Names, entities: Sequence[str]) -> Codes:
    if isinstance(entities, Entities):
        return names.codes(entities.names)[entities.codes]
    return names.codes(entities)


def whole(parts: Iterable[LoadedRows]) -> list[LoadedRows]:
    """The rows of each feature in one part.

    Of rows of one entity, event time and arrival, as one batch may have them, each is said to have arrived a
    microsecond after the one before, so that no two are the same row.
    """
    of_feature: dict[str, list[LoadedRows]] = {}
    for part in parts:
        of_feature.setdefault(part.block.feature, []).append(part)
    found = []
    for own in of_feature.values():
        (block,) = joined([part.block for part in own])
        found.append(LoadedRows(block, _apart(block, np.concatenate([part.arrived for part in own]))))
    return found


def _apart(block: Block, arrived: Times) -> Times:
    codes = _codes(Names(), block.entities)
    ordered = np.lexsort((arrived, block.times, codes))
    codes, times, apart = codes[ordered], block.times[ordered], arrived[ordered]
    same = (codes[1:] == codes[:-1]) & (times[1:] == times[:-1])
    while (late := np.flatnonzero(same & (apart[1:] <= apart[:-1]))).size:
        apart[late + 1] = apart[late] + 1
    found = np.empty_like(arrived)
    found[ordered] = apart
    return found


def _in_order(keys: _Keys, pieces: Sequence[tuple[Indices, Block]]) -> LoadedRows:
    """Pieces of one feature in the order of their keys, which all features of a row have in common."""
    numbers = np.concatenate([own for own, _ in pieces])
    ordered = np.argsort(numbers, kind="stable")
    own = numbers[ordered]
    blocks = [block for _, block in pieces]
    values, nulls = (
        np.concatenate(column)[ordered] for column in zip(*(block[3:] for block in blocks), strict=True)
    )
    entities = Entities(keys.names, keys.codes[own])
    return LoadedRows(Block(*blocks[0][:2], Keys(entities, keys.times[own]), values, nulls), keys.arrived[own])
