"""A batch: tables of values that were written together, from decoding to the journal and back.

Decoding a million JSON values a second is only worthwhile if no Python object is created per value afterwards, so
everything below the front end works on these arrays.
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
from actors.types.type import Array, Nulls, known_without_nulls, no_nulls


class Column(NamedTuple):
    """The values of one feature in a table. `created`: that of the feature which they were written for.

    values: of the feature's dtype, shape (n,) or (n, dimension); nulls: bool[n].
    """

    feature: str
    created: int
    values: Array
    nulls: Nulls

    def take(self, rows: Indices | Nulls | slice) -> Column:
        """The rows at these positions, in this order."""
        values = self.values[rows]
        nulls = no_nulls(len(values)) if known_without_nulls(self.nulls) else self.nulls[rows]
        return Column(self.feature, self.created, values, nulls)

    @property
    def width(self) -> int:
        """The dimension of vectors; 0 for other types."""
        return self.values.shape[1] if self.values.ndim == 2 else 0


class Table:
    """Values that were written together: entities and event times (int64[n], microseconds) of n rows in order of
    arrival, and a column for each feature.

    Work on the rows is done once for all columns. Tables are compared by identity, so a dict can keep results by
    table.
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
        """The number of rows."""
        return len(self.times)

    @property
    def observations(self) -> int:
        """The number of values, including nulls."""
        return len(self.times) * len(self.columns)

    @property
    def bounds(self) -> tuple[int, int]:
        """The earliest and the latest event time. The table must have a row."""
        if self._bounds is None:
            times = self.times
            one = len(times) == 1
            self._bounds = (int(times[0]),) * 2 if one else (int(times.min()), int(times.max()))
        return self._bounds

    def take(self, rows: Indices) -> Table:
        """The rows at these positions, in this order."""
        return at_once(self.taking(rows))

    def taking(self, rows: Indices) -> Steps[Table]:
        """Do what `take` does, in steps."""
        part, done = Table(self.entity_type, self.entities.take(rows), self.times[rows], []), 0
        for column in self.columns:
            done += len(rows)
            if done > ROWS_PER_TURN:
                yield
                done = len(rows)
            part.columns.append(column.take(rows))
        return part

    def cut(self, start: int, count: int) -> Table:
        """`count` rows from `start` on."""
        rows = slice(start, start + count)
        columns = [column.take(rows) for column in self.columns]
        return Table(self.entity_type, self.entities[rows].compact(), self.times[rows], columns)

    def only(self, columns: list[Column]) -> Table:
        """A table of the same rows with these columns."""
        return Table(self.entity_type, self.entities, self.times, columns)


Batch = Sequence[Table]
"""What one commit entry writes. Of several values for one feature, entity and event time the last one counts."""


def observations(batch: Batch) -> int:
    """The number of values in a batch, including nulls."""
    return sum(table.observations for table in batch)


def columns_of(batch: Batch) -> Iterator[Column]:
    """The columns of all tables of a batch."""
    return chain.from_iterable(table.columns for table in batch)


class Tables:
    """Collects decoded columns into tables: columns with the same entities and times into the same one."""

    def __init__(self) -> None:
        self.made: list[Table] = []
        self._last: dict[tuple[str, int, int, int, int], Table] = {}
        """The last table by properties that are quick to compare."""

    def add_rows(self, entity_type: str, entities: Entities, times: Times, rows: Indices, column: Column) -> None:
        """Add a column of the rows at these positions, ascending. Does nothing if there are none."""
        if len(rows) == 0:
            return
        if len(rows) < len(times):
            entities, times = entities.take(rows), times[rows]
        self.add(entity_type, entities, times, column)

    def add(self, entity_type: str, entities: Entities, times: Times, column: Column) -> None:
        """Add a column with at least one row, of a feature that was not added before."""
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
    """A batch for the monitor: the same tables, but without entity ids."""
    nobody = Entities(Ids([]), np.zeros(0, np.int64))
    return [Table(table.entity_type, nobody, table.times, table.columns) for table in batch]


def joined(batch: Batch) -> list[Table]:
    """Join tables so that each feature has a single column, in order of arrival, and all share one list of ids."""
    return at_once(joining(batch))


def joining(batch: Batch) -> Steps[list[Table]]:
    """Do what `joined` does, in steps."""
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
        origins = tuple(table for table, _ in parts)
        if origins not in together:
            whole = np.concatenate([codes[table] for table in origins])
            together[origins] = Entities(union.ids, whole), np.concatenate([table.times for table in origins])
        tables.add(origins[0].entity_type, *together[origins], concatenated([column for _, column in parts]))
        yield
    return tables.made


def concatenated(columns: Sequence[Column]) -> Column:
    """Concatenate columns of one feature."""
    first = columns[0]
    values = np.concatenate([column.values for column in columns])
    return Column(first.feature, first.created, values, concatenated_nulls(columns))


def concatenated_nulls(columns: Iterable[Column]) -> Nulls:
    """Concatenate the null masks of columns."""
    parts = [column.nulls for column in columns]
    return no_nulls(sum(map(len, parts))) if all(map(known_without_nulls, parts)) else np.concatenate(parts)
