"""Sharding: which store owns an entity, and splitting a batch by store."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import repeat

import numpy as np

from actors.settings import ROWS_PER_TURN
from actors.table.batch import Batch, Table
from actors.table.columns import Indices
from actors.table.ids import Ids
from actors.turns import Steps, at_once


def shard_of(entity_type: str, entity_id: str, shards: int) -> int:
    """Which store owns an entity. The same in every process and after every restart."""
    return zlib.crc32(entity_id.encode(), zlib.crc32(entity_type.encode())) % shards


def shards_of(entity_type: str, entity_ids: Sequence[str], shards: int) -> Indices:
    """`shard_of` for many ids: int64[n]."""
    seed = zlib.crc32(entity_type.encode())
    hashes = map(zlib.crc32, map(str.encode, entity_ids), repeat(seed))
    return np.fromiter(hashes, np.int64, len(entity_ids)) % shards


def finding_shards(entity_type: str, entity_ids: Sequence[str], shards: int) -> Steps[Indices]:
    """Do what `shards_of` does, in steps."""
    if len(entity_ids) <= ROWS_PER_TURN:
        return shards_of(entity_type, entity_ids, shards)
    parts = []
    for start in range(0, len(entity_ids), ROWS_PER_TURN):
        parts.append(shards_of(entity_type, entity_ids[start : start + ROWS_PER_TURN], shards))
        yield
    return np.concatenate(parts)


def split(batch: Batch, shards: int) -> dict[int, list[Table]]:
    """Split the tables of a batch by the store that owns their entities, in order of arrival."""
    return at_once(splitting(batch, shards))


def splitting(batch: Batch, shards: int) -> Steps[dict[int, list[Table]]]:
    """Do what `split` does, in steps."""
    parts: dict[int, list[Table]] = {}
    owners: dict[tuple[Ids, str], Indices] = {}
    done = 0
    for table in batch:
        done += table.observations
        if done > ROWS_PER_TURN:
            yield
            done = 0
        entity_type, entities = table.entity_type, table.entities
        if table.rows == 1 or shards == 1:
            shard = 0 if shards == 1 else shard_of(entity_type, entities[0], shards)
            parts.setdefault(shard, []).append(table)
            continue
        key = entities.ids, entity_type
        if key not in owners:
            owners[key] = yield from finding_shards(entity_type, entities.ids.texts, shards)
        owner = owners[key][entities.codes]
        for shard in range(shards):
            rows = np.flatnonzero(owner == shard)
            if len(rows):
                parts.setdefault(shard, []).append((yield from table.taking(rows)))
    return parts
