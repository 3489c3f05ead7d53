"""Pending erasures: hide the rows of erased entities until these have been removed from the files.

An erasure is durable, and hides everything at once. The rows are removed from journal and history by the next
checkpoint, which may be interrupted; until that is done, everything that is read is filtered here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import Damaged
from actors.storage.embedded import layout
from actors.storage.embedded.runs import Run
from actors.storage.entries import Erased
from actors.table.batch import Batch, Table
from actors.table.columns import Times
from actors.timestamps import NEVER
from actors.types.type import Nulls


class Erasures:
    """The pending erasures, which rows are looked up in."""

    def __init__(self, pending: Iterable[Erased] = ()) -> None:
        self._until: dict[str, dict[str, int]] = {}
        for erased in pending:
            self._until.setdefault(erased.entity_type, {})[erased.entity_id] = erased.arrived
        self._ids = {type_: pa.array(until, pa.string()) for type_, until in self._until.items()}
        # One more place, for ids that were not erased.
        self._latest = {type_: np.array([*until.values(), NEVER]) for type_, until in self._until.items()}

    def __bool__(self) -> bool:
        return bool(self._until)

    def any_erased(self) -> pc.Expression:
        """A filter for rows of a history file with an id erased in any entity type. There must be an erasure."""
        return layout.of_ids([id_ for until in self._until.values() for id_ in until])

    def ids_of(self, entity_type: str) -> pa.Array | None:
        """The erased ids of an entity type; None if there are none."""
        return self._ids.get(entity_type)

    def gone(self, feature: str, ids: pa.Array, arrived: Times) -> Nulls | None:
        """Which rows of a feature are of erased entities: bool[n]; None if none can be."""
        known = self._ids.get(entity_type := feature.partition(".")[0])
        if known is None:
            return None
        places = pc.fill_null(pc.index_in(ids, value_set=known), -1).to_numpy(zero_copy_only=False)
        found: Nulls = arrived <= self._latest[entity_type][places]
        return found

    def kept(self, batch: pa.RecordBatch) -> Nulls:
        """Which rows of a part of a run are not of erased entities: bool[n]."""
        kept, arrived = np.ones(len(batch), np.bool_), layout.micros(batch["arrived_at"])
        for feature, own in layout.stretches(batch):
            gone = self.gone(feature, batch["entity_id"][own], arrived[own])
            if gone is not None:
                kept[own] = ~gone
        return kept

    def counted(self, runs: Iterable[Run], ready: Sequence[Erased]) -> Mapping[Erased, Mapping[str, int]]:
        """Count the rows of each feature that the erasures in `ready` will remove from the runs."""
        counts: dict[tuple[str, str], Counter[str]] = {one[:2]: Counter() for one in ready}
        for run in runs:
            with suppress(Damaged):  # found again, and reported, when the run is to be rewritten
                for batch in run.scan(layout.KEYS.names, self.any_erased()):
                    self._count(batch, counts)
        return {one: counts[one[:2]] for one in ready}

    def _count(self, batch: pa.RecordBatch, counts: Mapping[tuple[str, str], Counter[str]]) -> None:
        gone = layout.only(batch, lambda batch: ~self.kept(batch))
        for feature, own in layout.stretches(gone):
            for id_, count in Counter(gone["entity_id"][own].to_pylist()).items():
                counts[feature.partition(".")[0], id_][feature] += count

    def only(self, feature: str, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Filter a batch of one feature: without the rows of erased entities."""
        gone = self.gone(feature, batch["entity_id"], layout.micros(batch["arrived_at"]))
        return batch if gone is None or not gone.any() else batch.filter(pa.array(~gone))

    def without(self, arrived: int, batch: Batch) -> list[Table]:
        """Filter a batch of the journal: without the rows of erased entities."""
        return [self._without(arrived, table) for table in batch]

    def _without(self, arrived: int, table: Table) -> Table:
        until = self._until.get(table.entity_type)
        if until is None:
            return table
        texts = table.entities.ids.texts
        kept = np.fromiter((arrived > until.get(text, NEVER) for text in texts), np.bool_, len(texts))
        rows = np.flatnonzero(kept[table.entities.codes])
        return table if len(rows) == table.rows else table.take(rows)
