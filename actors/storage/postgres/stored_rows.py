"""Reads and writes observations in PostgreSQL: shapes and rows, written by COPY and read by entity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from psycopg import Cursor
from psycopg.rows import tuple_row

from actors.amount import Amount
from actors.domain import Feature
from actors.settings import MAX_PAYLOAD_BYTES, MAX_ROWS_FROM_SHARED, MOST_WIDE_SHAPES
from actors.storage.postgres.link import Connection
from actors.storage.protocol import LatestAnswers, LatestQuestion, LoadedRows
from actors.storage.shared.packed import PackedColumns, Shape, copy_header, copy_rows, placed, restored, unpacked
from actors.storage.shared.parts import Part, newest_of, rows_of
from actors.table.batch import Batch, Table
from actors.table.columns import Times
from actors.table.ids import numbered
from actors.table.rows import Rows

_HOLDING = "SELECT number FROM shapes WHERE entity = %(type)s AND members && %(members)s::bigint[]"
_SHAPES = f"({_HOLDING}) AS s"
_ENTITIES = "unnest(%(ids)s::text[]) WITH ORDINALITY AS e(id, n)"
_LATEST = f"""
SELECT found.*, clock.registry FROM clock LEFT JOIN (
    SELECT e.n, s.number, r.time, r.arrived, r.payload FROM {_ENTITIES} CROSS JOIN {_SHAPES} CROSS JOIN LATERAL (
        SELECT time, arrived, payload FROM rows WHERE entity = e.id AND shape = s.number AND time <= %(at)s
        ORDER BY time DESC, arrived DESC LIMIT 1
    ) AS r
) AS found ON true
"""
_PRESENT = _LATEST.replace("%(at)s", "(SELECT greatest(arrived, %(at)s) FROM clock)")
_RANGE = f"""
SELECT e.n, s.number, r.* FROM {_ENTITIES} CROSS JOIN {_SHAPES} CROSS JOIN LATERAL (
    SELECT time, arrived, payload FROM rows
    WHERE entity = e.id AND shape = s.number AND time BETWEEN %(start)s AND %(end)s OFFSET 0
) AS r LIMIT {{}}
"""
_PERIOD = f"""
SELECT 1::bigint AS n, shape AS number, time, arrived, payload FROM rows
WHERE shape = ANY(ARRAY{_SHAPES.removesuffix(" AS s")})
AND time BETWEEN %(start)s AND %(end)s LIMIT {{}}
"""
_COUNTED = """
SELECT n, number, time, arrived, payload FROM (
    SELECT *, sum(octet_length(payload)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(payload) AS before
    FROM ({}) AS r
) AS counted WHERE before <= %(most)s
"""
"""The rows up to the first with which payloads exceed a limit. Counting their length does not read long texts."""
ERASE = """
WITH gone AS (
    DELETE FROM rows
    WHERE entity = %(id)s AND shape = ANY(ARRAY(SELECT number FROM shapes WHERE entity = %(type)s))
    RETURNING shape
) SELECT shape, count(*) FROM gone GROUP BY shape
"""


class Shapes:
    """A cache of shapes, which never change. Thread-safe."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, Shape], int] = {}
        self._shapes: dict[int, Shape] = {}
        self._wide: dict[str, int] = {}

    def number(self, connection: Connection, entity_type: str, shape: Shape) -> int | None:
        """The number of a shape, which is created if it is new; None if the entity type may not have more."""
        known = self._numbers.get((entity_type, shape))
        if known is not None:
            return known
        given = {"type": entity_type, "members": list(shape.members), "kinds": list(shape.kinds)}
        query = "SELECT number FROM shapes WHERE entity = %(type)s AND members = %(members)s::bigint[]"
        query += " AND hash_array_extended(members, 0) = hash_array_extended(%(members)s::bigint[], 0)"
        found = connection.execute(query, given).fetchone()
        if found is None:
            wide = "SELECT count(*) FROM shapes WHERE entity = %(type)s AND cardinality(members) > 1"
            if len(shape.members) > 1 and _one(connection.execute(wide, given).fetchone()) >= MOST_WIDE_SHAPES:
                return None
            insert = "INSERT INTO shapes (entity, members, kinds) VALUES (%(type)s, %(members)s, %(kinds)s)"
            found = connection.execute(insert + " RETURNING number", given).fetchone()
        return _one(found)

    def note(self, entity_type: str, shape: Shape, number: int) -> None:
        """Cache a shape that is durable."""
        self._numbers[entity_type, shape] = number
        self._shapes[number] = shape

    def of(self, connection: Connection, numbers: Iterable[int]) -> Mapping[int, Shape]:
        """A mapping that has the shapes of these numbers, and maybe others."""
        unknown = [number for number in numbers if number not in self._shapes]
        if unknown:
            query = "SELECT number, entity, members, kinds FROM shapes WHERE number = ANY(%s)"
            for number, entity_type, members, kinds in connection.execute(query, (unknown,)).fetchall():
                self.note(entity_type, Shape(tuple(members), tuple(kinds)), number)
        return self._shapes


def _one(row: tuple[Any, ...] | None) -> int:
    assert row is not None
    return int(row[0])


class RowWriter:
    """Collects the rows of one transaction. `made`: shapes to be cached once that has been committed."""

    def __init__(self, connection: Connection, shapes: Shapes) -> None:
        self.made: list[tuple[str, Shape, int]] = []
        self._connection = connection
        self._shapes = shapes
        self._parts: list[bytes] = []

    def add(self, arrived: int, batch: Batch) -> int:
        """Add a batch. Returns the last arrival of its rows."""
        last = arrived
        for place in self._placed(batch):
            last = max(last, self._take(*place, arrived))
        return last

    def add_carried(self, rows: LoadedRows) -> None:
        """Add rows that keep their arrivals."""
        for place in self._placed([rows.table]):
            self._take(*place, rows.arrived)

    def _placed(self, batch: Batch) -> Iterator[tuple[PackedColumns, int]]:
        return placed(batch, partial(self._shapes.number, self._connection))

    def _take(self, group: PackedColumns, number: int, arrived: int | Times) -> int:
        self.made.append((group.table.entity_type, group.shape, number))
        rows, last = copy_rows(number, group, arrived)
        self._parts.append(rows)
        return last

    def write(self) -> None:
        """Send the rows added since the last call."""
        if self._parts:
            with self._connection.cursor().copy("COPY rows FROM STDIN (FORMAT BINARY)") as copy:
                copy.write(b"".join([copy_header(), *self._parts, b"\xff\xff"]))
            self._parts = []


class RowReader:
    """Queries rows and converts them to columns."""

    def __init__(self, connection: Connection, shapes: Shapes, most_bytes: int) -> None:
        """`most_bytes`: the limit for the rows of a range."""
        self._connection = connection
        self._shapes = shapes
        self._most_bytes = most_bytes

    def latest(self, questions: Sequence[LatestQuestion]) -> LatestAnswers:
        """Answer queries for latest values with event time <= at, all in one round trip."""
        if len(questions) == 1:
            cursors = [self._newest(questions[0])]
        else:
            with self._connection.pipeline():
                cursors = [self._newest(question) for question in questions]
        fetched = [cursor.fetchall() for cursor in cursors]
        registry = fetched[0][0][-1]  # there is always a row, with the clock's columns
        return LatestAnswers(
            registry,
            [
                newest_of(question, self._parts(rows if rows[0][0] is not None else [], question.features))
                for question, rows in zip(questions, fetched, strict=True)
            ],
        )

    def ranges(self, features: Sequence[Feature], entities: Sequence[str], start: int, end: int) -> list[Rows]:
        """For each feature every version with start <= event time <= end, in order of arrival.

        Slots are positions in `entities`. Raises TooLarge.
        """
        given = {
            "ids": _askable(entities),
            "type": features[0].entity,
            "members": [feature.created for feature in features],
            "start": start,
            "end": end,
        }
        fetched = self._fetched(_RANGE, given, features[0])
        parts = self._parts(fetched, features)
        return [rows_of(feature, parts[feature.created]) for feature in features]

    def period(self, feature: Feature, start: int, end: int) -> Rows:
        """Every version of the values of all entities with start <= event time <= end. Raises TooLarge."""
        given = {"type": feature.entity, "members": [feature.created], "start": start, "end": end}
        with self._connection.transaction():
            self._connection.execute("SET LOCAL enable_seqscan TO on")
            fetched = self._fetched(_PERIOD, given, feature)
        return rows_of(feature, self._parts(fetched, [feature])[feature.created])

    def loaded(self, fetched: Sequence[tuple[Any, ...]], features: Mapping[int, Feature]) -> list[LoadedRows]:
        """Convert rows (shape, entity, time, arrived, payload). `features`: by their `created`."""
        by_shape: dict[int, list[tuple[Any, ...]]] = {}
        for row in fetched:
            by_shape.setdefault(row[0], []).append(row)
        shapes, found = self._shapes.of(self._connection, by_shape), list[LoadedRows]()
        for number, rows in by_shape.items():
            _, entities, times, arrived, payloads = zip(*rows, strict=True)
            columns = restored(shapes[number], payloads, features)
            if columns:
                keys = numbered(entities), np.array(times, np.int64)
                table = Table(features[columns[0].created].entity, *keys, columns)
                found.append(LoadedRows(table, np.array(arrived, np.int64)))
        return found

    def _newest(self, question: LatestQuestion) -> Cursor[tuple[Any, ...]]:
        return self._asked(_PRESENT if question.current else _LATEST, _given(question))

    def _asked(self, query: str, given: Mapping[str, Any]) -> Cursor[tuple[Any, ...]]:
        return self._connection.cursor(binary=True, row_factory=tuple_row).execute(query.encode(), given)

    def _fetched(self, query: str, given: Mapping[str, Any], about: Feature) -> list[tuple[Any, ...]]:
        few = min(self._most_bytes // (MAX_PAYLOAD_BYTES + 1), MAX_ROWS_FROM_SHARED)
        fetched = self._asked(query.format(few + 1), given).fetchall()
        if len(fetched) > few:
            fetched.clear()
            whole = query.format(MAX_ROWS_FROM_SHARED + 1)
            if self._longest(given) * MAX_ROWS_FROM_SHARED > self._most_bytes:
                whole = _COUNTED.format(whole)  # takes a third longer
            fetched = self._asked(whole, {**given, "most": self._most_bytes}).fetchall()
        amount = Amount(about.id, MAX_ROWS_FROM_SHARED, self._most_bytes)
        amount.add(len(fetched), sum(len(row[4]) for row in fetched))
        return fetched

    def _longest(self, given: Mapping[str, Any]) -> int:
        """The greatest length of a payload that may be read."""
        numbers = [number for (number,) in self._asked(_HOLDING, given).fetchall()]
        shapes = self._shapes.of(self._connection, numbers)
        return max(shapes[number].most_bytes for number in numbers)

    def _parts(self, fetched: Sequence[tuple[Any, ...]], features: Sequence[Feature]) -> dict[int, list[Part]]:
        """Convert fetched rows to parts, by the `created` of their feature."""
        parts: dict[int, list[Part]] = {feature.created: [] for feature in features}
        by_shape: dict[int, list[tuple[Any, ...]]] = {}
        for row in fetched:
            by_shape.setdefault(row[1], []).append(row)
        shapes = self._shapes.of(self._connection, by_shape)
        for number, rows in by_shape.items():
            owners, _, times, arrived, payloads, *_ = zip(*rows, strict=True)
            index = np.array(owners, np.int64) - 1, np.array(times, np.int64), np.array(arrived, np.int64)
            for created, column in unpacked(shapes[number], payloads, set(parts)).columns.items():
                if created in parts:
                    parts[created].append(Part(*index, *column))
        return parts


def _askable(entities: Sequence[str]) -> list[str]:
    """The ids to query. One with a NUL, which PostgreSQL does not allow, becomes empty, which no id is."""
    if "\0" not in "".join(entities):
        return list(entities)
    return ["" if "\0" in entity else entity for entity in entities]


def _given(question: LatestQuestion) -> dict[str, Any]:
    return {
        "ids": _askable(question.entities),
        "type": question.entity_type,
        "members": [feature.created for feature in question.features],
        "at": question.at,
    }
