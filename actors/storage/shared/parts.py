"""Assembles values from a shared store into answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from actors.domain import Feature
from actors.storage.entries import Removed
from actors.storage.protocol import LatestQuestion
from actors.storage.shared.packed import Shape
from actors.table.columns import Indices, Times
from actors.table.grid import Grid, unfilled
from actors.table.index import Index
from actors.table.rows import Rows, concatenate, order
from actors.timestamps import NEVER
from actors.types.type import Array, Nulls
from actors.types.values import empty


class Part(NamedTuple):
    """Some values of one feature. `owners`: the position of each value's entity in the query: int64[n]."""

    owners: Indices
    times: Times
    arrived: Times
    values: Array
    nulls: Nulls


def newest_of(question: LatestQuestion, parts: Mapping[int, Sequence[Part]]) -> Grid:
    grid = unfilled(question.features.kinds, len(question.entities))
    grid.times[:], grid.nulls[:] = NEVER, False
    for kind, values in zip(question.features.kinds, grid.values, strict=True):
        values[:] = None if values.dtype == object else 0
        for place, member in enumerate(kind.members):
            arrivals = np.full(len(question.entities), NEVER, np.int64)
            times, nulls = grid.times[member], grid.nulls[member]
            for owners, seen, arrived, found, missing in parts[question.features[member].created]:
                newer = (seen > times[owners]) | ((seen == times[owners]) & (arrived > arrivals[owners]))
                places = owners[newer]
                times[places], arrivals[places], nulls[places] = seen[newer], arrived[newer], missing[newer]
                values[place][places] = found[newer]
    return grid


def rows_of(feature: Feature, parts: Sequence[Part]) -> Rows:
    none = np.zeros(0, np.int64)
    found = [
        Rows(Index(part.owners.astype(np.int32), part.times, part.arrived), part.values, part.nulls)
        for part in parts
    ] or [Rows(Index(none.astype(np.int32), none, none), empty(feature, 0), np.zeros(0, np.bool_))]
    rows = concatenate(found)
    return rows.take(np.argsort(rows.arrived, kind="stable"))


def removed(rows: Mapping[Shape, int], registered: set[int]) -> Removed:
    """What an erasure removed, counting only values of registered features. `rows`: the rows removed by shape."""
    members = {shape: registered.intersection(shape.members) for shape, count in rows.items() if count}
    observations = sum(len(present) * rows[shape] for shape, present in members.items())
    return Removed(observations, len(set().union(*members.values())))


def by_time(rows: Rows) -> Rows:
    """Sort rows that are in order of arrival by (slot, event time, arrival)."""
    return rows.take(order(rows.slots, rows.times))


def lots(rows: Rows, size: int) -> Iterator[Rows]:
    """Split rows into parts of `size` rows."""
    for start in range(0, rows.size, size):
        yield rows.take(slice(start, start + size))
