"""Seals: a checksum for each row in SQLite; and the journal's records of lost batches.

SQLite detects a malformed page, but not a flipped bit in a value. So each row has a seal, a checksum over the name
of its table and all its columns, which is verified when the row is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from actors.domain import Feature
from actors.errors import Damaged
from actors.table.batch import Batch
from actors.timestamps import FOREVER, NEVER, format_timestamp

_SEAL = slice(0, 4)
_ENCODE = msgspec.msgpack.Encoder().encode


class FeatureSpan(NamedTuple):
    """A closed range of event time in which a feature may have had observations."""

    feature: str
    created: int
    start: int
    end: int

    @property
    def range(self) -> tuple[str, int, int]:
        """Feature, start and end, for messages."""
        return self.feature, self.start, self.end


class Held(msgspec.Struct, frozen=True, array_like=True):
    """The description of a batch, stored separately from it. `previous`: the arrival of the batch before; `sum`:
    the checksum of the batch."""

    arrived: int
    previous: int
    count: int
    sum: int
    spans: tuple[FeatureSpan, ...]


class Lost(msgspec.Struct, frozen=True):
    """A damaged batch: its key in the journal (`place`), what it held, and whether its observations are elsewhere.

    `kept`: in the history; `counted`: in the statistics; both are also set when the batch has been given up.
    `count`: the number of observations, if known.
    """

    place: int
    spans: tuple[FeatureSpan, ...]
    kept: bool
    counted: bool
    count: int | None = None

    def concerns(self, feature: Feature, start: int, end: int) -> FeatureSpan | None:
        """The span of this batch that overlaps event times [start, end] of a feature, if any."""
        for span in self.spans:
            if span[:2] == (feature.id, feature.created) and span.start <= end and start <= span.end:
                return span
        return None


def seal(table: str, *columns: object) -> int:
    """The checksum of a row."""
    return crc32(_ENCODE((table, *columns)))


def put(database: sqlite3.Connection, table: str, *columns: object) -> None:
    """Write a row with its seal, replacing one with the same key."""
    marks = ",".join("?" * len(columns))
    query = f"INSERT OR REPLACE INTO {table} VALUES ({marks},?)"
    database.execute(query, (*columns, seal(table, *columns)))


def sound(path: str, table: str, rows: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """Verify rows, and return them without their seals. Raises Damaged, naming the first with a wrong seal."""
    found: list[Sequence[Any]] = []
    for *columns, mark in rows:
        if not is_sound(table, (*columns, mark)):
            raise Damaged(f"{path} is damaged: in {table}, the row of {columns[0]!r}")
        found.append(columns)
    return found


def is_sound(table: str, row: Sequence[Any]) -> bool:
    """Whether the seal of a row is right."""
    try:
        return bool(seal(table, *row[:-1]) == row[-1])
    except (TypeError, ValueError, OverflowError):  # for example text that is not valid UTF-8
        return False


def readable(text: object) -> str:
    """Decode text that was read as bytes, as damaged text may not be valid UTF-8."""
    return text.decode(errors="replace") if isinstance(text, bytes) else ""


def spans_of(batch: Batch) -> tuple[FeatureSpan, ...]:
    """What a batch holds."""
    return tuple(
        FeatureSpan(column.feature, column.created, *table.bounds)
        for table in batch
        if table.rows
        for column in table.columns
    )


def packed(held: Held) -> bytes:
    """Serialize a Held, prefixed with a checksum."""
    data = _ENCODE(held)
    return crc32(data).to_bytes(4, "little") + data


def unpacked(data: object) -> Held | None:
    """Deserialize a Held; None if it is damaged."""
    if not isinstance(data, bytes) or crc32(data[4:]) != int.from_bytes(data[_SEAL], "little"):
        return None
    try:
        return msgspec.msgpack.decode(data[4:], type=Held)
    except msgspec.MsgspecError:
        return None


def everything(known: Mapping[str, int]) -> tuple[FeatureSpan, ...]:
    """The spans of a batch of which nothing is known: all of every feature. `known`: creation by feature id."""
    return tuple(FeatureSpan(feature, created, NEVER, FOREVER) for feature, created in known.items())


def counted(number: int | None, what: str = "observation") -> str:
    """A number of things in words."""
    if number is None:
        return f"nobody knows how many {what}s"
    return f"{number:,} {what if number == 1 else f'{what}s'}"


def told(feature: str, start: int, end: int) -> str:
    """A range of values in words."""
    if start == NEVER:
        return f"values of {feature}"
    return f"values of {feature} from {format_timestamp(start)} to {format_timestamp(end)}"
