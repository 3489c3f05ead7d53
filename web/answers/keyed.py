"""The columns that say what a row is about: which entity, and which moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from actors.ingest.composite import parts_of_all
from actors.table.columns import Indices, Times
from actors.table.ids import Entities, Ids, numbered
from web.answers.lanes import AnswerColumn

ENTITY, TIMESTAMP = "entityId", "timestamp"


def entities_by_key(keys: Sequence[str], entities: Sequence[str], owner: Indices) -> dict[str, Entities]:
    """For each key of an entity type, the part of the id of entities[owner[i]]; with one key the id itself."""
    if len(keys) == 1:
        return {keys[0]: Entities(Ids(list(entities)), owner)}
    parts = parts_of_all(entities, keys)
    return {key: numbered([part[place] for part in parts]).take(owner) for place, key in enumerate(keys)}


def key_columns(by_key: Mapping[str, Entities]) -> list[AnswerColumn]:
    """A column for each key of an entity type; a single one is named `entityId`."""
    names = list(by_key) if len(by_key) > 1 else [ENTITY]
    return [id_column(name, entities) for name, entities in zip(names, by_key.values(), strict=True)]


def id_column(name: str, entities: Entities) -> AnswerColumn:
    """The ids of entities."""
    return AnswerColumn(name, None, pa.array(entities.ids.texts, pa.string()).take(pa.array(entities.codes)))


def moments(at: Times) -> AnswerColumn:
    """The column of event timestamps (int64 microseconds)."""
    return AnswerColumn(TIMESTAMP, "timestamp", at, np.zeros(len(at), np.bool_))
