"""Batches as tests write and read them: one feature after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from actors.table.batch import Batch, Column, Table
from actors.table.columns import Times
from actors.table.ids import Entities, numbered
from actors.types.type import Array, Nulls


class OneFeature(NamedTuple):
    """What a batch has of one feature."""

    feature: str
    created: int
    entities: list[str]
    times: Times
    values: Array
    nulls: Nulls


def a_table(
    feature: str, created: int, entities: Sequence[str], times: Times, values: Array, nulls: Nulls
) -> Table:
    """Of one feature."""
    who = entities if isinstance(entities, Entities) else numbered(list(entities))
    column = Column(feature, created, values, nulls)
    return Table(feature.partition(".")[0], who, np.asarray(times, np.int64), [column])


def flat(batch: Batch) -> list[OneFeature]:
    """What a batch has of each feature, in order."""
    return [
        OneFeature(column.feature, column.created, list(table.entities), table.times, column.values, column.nulls)
        for table in batch
        for column in table.columns
    ]


def tables_of(features: Sequence[OneFeature]) -> list[Table]:
    """One for each, though they may say the same."""
    return [a_table(*one) for one in features]
