"""Rows of SQLite with a checksum each, and what the journal notes of batches that are lost.

SQLite finds a page that makes no sense, but takes a value with another bit in it for the value. So each row has a
seal over all its columns, its table among them, and whoever reads it looks at the seal.
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
    """The event times, both included, of which a feature may have had observations."""

    feature: str
    created: int
    start: int
    end: int

    @property
    def range(self) -> tuple[str, int, int]:
        """Without the creation, for people."""
        return self.feature, self.start, self.end


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What a batch holds, told apart from it. `previous`: the arrival of the one before; `sum`: its checksum."""

    arrived: int
    previous: int
    count: int
    sum: int
    spans: tuple[FeatureSpan, ...]


class Lost(msgspec.Struct, frozen=True):
    """A batch that is damaged: where it stands, what it held, and who has its observations nevertheless.

    `kept`: the history; `counted`: the statistics. Both where it is forgotten: nobody is to miss it.
    `count`: of its observations, where that is known.
    """

    place: int
    spans: tuple[FeatureSpan, ...]
    kept: bool
    counted: bool
    count: int | None = None

    def concerns(self, feature: Feature, start: int, end: int) -> FeatureSpan | None:
        """What of it lies within a closed range of event time of a feature."""
        for span in self.spans:
            if span[:2] == (feature.id, feature.created) and span.start <= end and start <= span.end:
                return span
        return None


def seal(table: str, *columns: object) -> int:
    """The checksum of a row."""
    return crc32(_ENCODE((table, *columns)))


def put(database: sqlite3.Connection, table: str, *columns: object) -> None:
    """Write a row, in the place of one with its key."""
    marks = ",".join("?" * len(columns))
    query = f"INSERT OR REPLACE INTO {table} VALUES ({marks},?)"
    database.execute(query, (*columns, seal(table, *columns)))


def sound(path: str, table: str, rows: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """Whole rows without their seals. Raises Damaged that names the first whose seal is not its own."""
    found: list[Sequence[Any]] = []
    for *columns, mark in rows:
        if not is_sound(table, (*columns, mark)):
            raise Damaged(f"{path} is damaged: in {table}, the row of {columns[0]!r}")
        found.append(columns)
    return found


def is_sound(table: str, row: Sequence[Any]) -> bool:
    """Whether a row is the one that was written."""
    try:
        return bool(seal(table, *row[:-1]) == row[-1])
    except (TypeError, ValueError, OverflowError):  # text that is none
        return False


def readable(text: object) -> str:
    """A text that was read as bytes: what is damaged of it may be none."""
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
    """With its own checksum before it."""
    data = _ENCODE(held)
    return crc32(data).to_bytes(4, "little") + data


def unpacked(data: object) -> Held | None:
    """What was packed; None where that is damaged."""
    if not isinstance(data, bytes) or crc32(data[4:]) != int.from_bytes(data[_SEAL], "little"):
        return None
    try:
        return msgspec.msgpack.decode(data[4:], type=Held)
    except msgspec.MsgspecError:
        return None


def everything(known: Mapping[str, int]) -> tuple[FeatureSpan, ...]:
    """What a batch may have held of which nothing is known. `known`: features with their creation."""
    return tuple(FeatureSpan(feature, created, NEVER, FOREVER) for feature, created in known.items())


def counted(number: int | None, what: str = "observation") -> str:
    """How many, in words."""
    if number is None:
        return f"nobody knows how many {what}s"
    return f"{number:,} {what if number == 1 else f'{what}s'}"


def told(feature: str, start: int, end: int) -> str:
    """The range in words."""
    if start == NEVER:
        return f"values of {feature}"
    return f"values of {feature} from {format_timestamp(start)} to {format_timestamp(end)}"
