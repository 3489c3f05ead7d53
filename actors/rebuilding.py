"""Rebuilding the partitions of an embedded storage from its history and journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from actors.storage.protocol import Known, OwnHistory, OwnLog, Trimmed
from actors.table.batch import Table
from actors.table.columns import Indices
from actors.table.loading import Loading
from actors.table.partition import Partition
from actors.table.sharding import shards_of, split


def rebuild(
    log: OwnLog, history: OwnHistory, known: Known, shards: int, wanted: Sequence[int], budget: int
) -> dict[int, Partition]:
    """Rebuild the partitions of the wanted shards from history and journal. Blocks; for a worker thread.

    `budget`: how many observations all shards together may keep in memory.
    """
    while True:
        plan, features = history.plan(budget), known()
        partitions = {shard: Partition(plan.base_floor, plan.position, plan.floors) for shard in wanted}
        loading = {shard: Loading(partition) for shard, partition in partitions.items()}
        for table, arrived in history.load(plan, features):
            for shard, rows in _owned(table, shards, partitions):
                loading[shard].add(table.take(rows) if len(rows) < table.rows else table, arrived[rows])
        for one in loading.values():
            one.end()
        kept_values = {feature.id: feature.kept_values for feature in features.values()}
        for partition in partitions.values():
            partition.trim(kept_values)
        try:
            for arrived_at, batch in log.replay(plan.position):
                for shard, tables in split(batch, shards).items():
                    if shard in partitions:
                        partitions[shard].apply(arrived_at, tables)
        except Trimmed:
            continue  # there was a checkpoint in between: start again, as the history has more now
        return partitions


def _owned(table: Table, shards: int, wanted: Mapping[int, Partition]) -> list[tuple[int, Indices]]:
    owners = shards_of(table.entity_type, table.entities.ids.texts, shards)[table.entities.codes]
    found = ((shard, np.flatnonzero(owners == shard)) for shard in wanted)
    return [(shard, rows) for shard, rows in found if len(rows)]


def replayed(log: OwnLog, shards: int, shard: int, after: int) -> list[tuple[int, list[Table]]]:
    """The parts that one shard owns of the journal's batches later than `after`. Blocks; for a worker thread."""
    return [
        (arrived, parts[shard]) for arrived, batch in log.replay(after) if shard in (parts := split(batch, shards))
    ]
