"""A batch: tables of what was written together, from the moment it is decoded to the journal and back.

Decoding a million JSON values a second only pays if no Python object is made per stored value afterwards,
so everything below the front end works on these arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from actors.settings import ROWS_PER_TURN
from actors.table.columns import Codes, Indices, Times, same
from actors.table.ids import Entities, Ids, Union
from actors.turns import Steps, at_once
from actors.types.type import Array, Nulls, all_there, no_nulls


class Column(NamedTuple):
    """What was written of one feature. `created` is that of the feature it was written for.

    values: the feature's dtype, shape (n,) or (n, dimension); nulls: bool[n].
    """

    feature: str
    created: int
    values: Array
    nulls: Nulls

    def take(self, rows: Indices | Nulls | slice) -> Column:
        """Some of it, in the order given."""
        values = self.values[rows]
        nulls = no_nulls(len(values)) if all_there(self.nulls) else self.nulls[rows]
        return Column(self.feature, self.created, values, nulls)

    @property
    def width(self) -> int:
        """The dimension of vectors, 0 for single values."""
        return self.values.shape[1] if self.values.ndim == 2 else 0


class Table:
    """What was written together: entities and event times (int64[n], microseconds) of n rows in order of arrival,
    and a column for each feature.

    Whoever needs something of the rows does so once for all columns, and may keep it in a dict by the table: no
    two are the same key, whatever they say.
    """

    __slots__ = ("_bounds", "columns", "entities", "entity_type", "times")

    def __init__(self, entity_type: str, entities: Entities, times: Times, columns: list[Column]) -> None:
        self.entity_type = entity_type
        self.entities = entities
        self.times = times
        self.columns = columns
        self._bounds: tuple[int, int] | None = None

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.times)

    @property
    def observations(self) -> int:
        """How many values there are, nulls among them."""
        return len(self.times) * len(self.columns)

    @property
    def bounds(self) -> tuple[int, int]:
        """The earliest and the latest event time; there must be one."""
        if self._bounds is None:
            times = self.times
            one = len(times) == 1
            self._bounds = (int(times[0]),) * 2 if one else (int(times.min()), int(times.max()))
        return self._bounds

    def take(self, rows: Indices) -> Table:
        """Some of the rows, in the order given."""
        return at_once(self.taking(rows))

    def taking(self, rows: Indices) -> Steps[Table]:
        """The same in steps."""
        part, done = Table(self.entity_type, self.entities.take(rows), self.times[rows], []), 0
        for column in self.columns:
            done += len(rows)
            if done > ROWS_PER_TURN:
                yield
                done = len(rows)
            part.columns.append(column.take(rows))
        return part

    def cut(self, start: int, count: int) -> Table:
        """So many of the rows from one on."""
        some = slice(start, start + count)
        columns = [column.take(some) for column in self.columns]
        return Table(self.entity_type, self.entities[some].compact(), self.times[some], columns)

    def only(self, columns: list[Column]) -> Table:
        """The same rows with other columns."""
        return Table(self.entity_type, self.entities, self.times, columns)


Batch = Sequence[Table]
"""What is accepted at once. Of rows of one feature, entity and event time the last one counts."""


def observations(batch: Batch) -> int:
    """How many there are."""
    return sum(table.observations for table in batch)


def columns_of(batch: Batch) -> Iterator[Column]:
    """Those of all tables."""
    return chain.from_iterable(table.columns for table in batch)


class Tables:
    """Puts columns into tables, where rows are taken in: into one those with the same entities and times."""

    def __init__(self) -> None:
        self.made: list[Table] = []
        self._last: dict[tuple[str, int, int, int, int], Table] = {}
        """By what is told of them at a glance."""

    def add_rows(self, entity_type: str, entities: Entities, times: Times, rows: Indices, column: Column) -> None:
        """Take in a column of some of all rows, ascending; none where there are none."""
        if len(rows) == 0:
            return
        if len(rows) < len(times):
            entities, times = entities.take(rows), times[rows]
        self.add(entity_type, entities, times, column)

    def add(self, entity_type: str, entities: Entities, times: Times, column: Column) -> None:
        """Take in a column with at least one row, of a feature that has not been there."""
        codes = entities.codes
        glance = entity_type, len(codes), int(codes[-1]), int(times[0]), int(times[-1])
        table = self._last.get(glance)
        if table is None or not _same_rows(table, entities, times):
            table = self._last[glance] = Table(entity_type, entities, times, [])
            self.made.append(table)
        table.columns.append(column)


def _same_rows(table: Table, entities: Entities, times: Times) -> bool:
    if table.entities.ids is not entities.ids:
        return False
    return same(table.times, times) and same(table.entities.codes, entities.codes)


def without_ids(batch: Batch) -> list[Table]:
    """The same for those who ask nothing of the ids."""
    nobody = Entities(Ids([]), np.zeros(0, np.int64))
    return [Table(table.entity_type, nobody, table.times, table.columns) for table in batch]


def joined(batch: Batch) -> list[Table]:
    """All rows of a feature in one column, in order of arrival, and one list of ids for all tables."""
    return at_once(joining(batch))


def joining(batch: Batch) -> Steps[list[Table]]:
    """The same in steps."""
    union, codes = Union(), dict[Table, Codes]()
    of_feature: dict[tuple[str, int], list[tuple[Table, Column]]] = {}
    for table in batch:
        if table.rows:
            codes[table] = (yield from union.placing(table.entities.ids))[table.entities.codes]
            for column in table.columns:
                of_feature.setdefault((column.feature, column.created), []).append((table, column))
    tables = Tables()
    together: dict[tuple[Table, ...], tuple[Entities, Times]] = {}
    for parts in of_feature.values():
        own = tuple(table for table, _ in parts)
        if own not in together:
            whole = np.concatenate([codes[table] for table in own])
            together[own] = Entities(union.ids, whole), np.concatenate([table.times for table in own])
        tables.add(own[0].entity_type, *together[own], concatenated([column for _, column in parts]))
        yield
    return tables.made


def concatenated(columns: Sequence[Column]) -> Column:
    """Parts of a feature one after the other."""
    first = columns[0]
    values = np.concatenate([column.values for column in columns])
    return Column(first.feature, first.created, values, concatenated_nulls(columns))


def concatenated_nulls(columns: Iterable[Column]) -> Nulls:
    """Those of parts one after the other."""
    parts = [column.nulls for column in columns]
    return no_nulls(sum(map(len, parts))) if all(map(all_there, parts)) else np.concatenate(parts)
