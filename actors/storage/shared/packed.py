"""The format of rows in a shared store: values written together for one entity and event time are one row.

The features that are columns of one table make up a shape, and a row of that shape has all their values in one
payload:

    numbers, integers, booleans, timestamps, vectors    a bit for each feature (1: null), then little-endian values
    a string or a json feature, always on its own       one byte (0: null, 1: not), then UTF-8

A long vector is stored on its own as well. So a group of twenty features takes one row and one index entry, rather
than twenty.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.domain import Feature
from actors.settings import MAX_PAYLOAD_BYTES, MAX_TOGETHER_BYTES
from actors.table.batch import Batch, Column, Table, columns_of, joined
from actors.table.columns import Indices, Times
from actors.table.ids import Entities
from actors.table.rows import last_of_each, order
from actors.types.type import Array, Nulls

_TEXT = "text"
_ROW_HEAD = struct.Struct(">hii")
_LENGTH = struct.Struct(">i")
_TAIL = struct.Struct(">iqiqi")


class Shape(NamedTuple):
    """Features that are stored in one row. `members`: their `created`, which identifies them.

    `kinds`: for each member "text", or dtype and dimension of its values, as in "<f8" and "<f4:3".
    """

    members: tuple[int, ...]
    kinds: tuple[str, ...]

    @property
    def of_text(self) -> bool:
        """Whether this is a shape of a single feature whose values are texts."""
        return self.kinds[0] == _TEXT

    @property
    def most_bytes(self) -> int:
        """The greatest length of a payload in bytes."""
        return MAX_PAYLOAD_BYTES if self.of_text else self.dtype().itemsize

    def dtype(self) -> np.dtype[Any]:
        """The dtype of a payload, except for texts."""
        fields: list[Any] = [("nulls", "u1", ((len(self.kinds) + 7) // 8,))]
        for place, kind in enumerate(self.kinds):
            name, _, width = kind.partition(":")
            fields.append((f"f{place}", name, (int(width),) if width else ()))
        return np.dtype(fields)


class PackedColumns(NamedTuple):
    """Columns of a table that are stored in one row, in the order of their shape's members."""

    shape: Shape
    table: Table
    columns: Sequence[Column]

    def apart(self) -> list[PackedColumns]:
        """Split into groups of one column each."""
        return [_together(self.table, [column]) for column in self.columns]


def _together(table: Table, columns: Sequence[Column]) -> PackedColumns:
    shape = Shape(tuple(column.created for column in columns), tuple(_kind(column.values) for column in columns))
    return PackedColumns(shape, table, columns)


def together(batch: Batch) -> list[PackedColumns]:
    """Group columns that can share rows. Several columns of one feature are joined first, in order."""
    features = [column.feature for column in columns_of(batch)]
    if len(set(features)) < len(features):
        batch = joined(batch)
    found: list[PackedColumns] = []
    for table in batch:
        if table.rows == 0:
            continue
        group = list[Column]()
        for column in table.columns:
            if column.values.dtype == object or column.values[:1].nbytes > MAX_TOGETHER_BYTES:
                found.append(_together(table, [column]))
            else:
                group.append(column)
        group.sort(key=lambda column: column.created)
        found += [_together(table, part) for part in _short(group)]
    return found


def _short(group: Sequence[Column]) -> Iterator[list[Column]]:
    """Split columns so that no payload is too long."""
    part, size = list[Column](), 0
    for column in group:
        of_column = 1 + column.values[:1].nbytes
        if part and size + of_column > MAX_PAYLOAD_BYTES:
            yield part
            part, size = [], 0
        part.append(column)
        size += of_column
    if part:
        yield part


def placed(batch: Batch, number: Callable[[str, Shape], int | None]) -> Iterator[tuple[PackedColumns, int]]:
    """Group columns that can share rows, each group with the number of its shape.

    `number`: returns the number of an entity type's shape, or None if it may not have more; the columns are then
    stored separately.
    """
    for group in together(batch):
        entity_type = group.table.entity_type
        known = number(entity_type, group.shape)
        if known is not None:
            yield group, known
            continue
        for single in group.apart():
            of_single = number(entity_type, single.shape)
            assert of_single is not None, "there may be any number of shapes of one feature"
            yield single, of_single


def _kind(values: Array) -> str:
    if values.dtype == object:
        return _TEXT
    width = f":{values.shape[1]}" if values.ndim == 2 else ""
    return values.dtype.newbyteorder("<").str + width


# Writing rows, in PostgreSQL's binary COPY format


def copy_header() -> bytes:
    """The header of a COPY stream."""
    return b"PGCOPY\n\xff\r\n\0" + bytes(8)


def copy_rows(number: int, group: PackedColumns, arrived: int | Times) -> tuple[bytes, int]:
    """The rows (shape, entity, time, arrived, payload) of a group, and their last arrival.

    `arrived`: one arrival for all rows, in which case repeated rows of an entity and time get an arrival a
    microsecond after the one before; or int64[n].
    """
    entities, times = group.table.entities, group.table.times
    arrivals = arrived + _ranks(entities, times) if isinstance(arrived, int) else arrived
    names = [_LENGTH.pack(len(id_)) + id_ for id_ in map(str.encode, entities.ids.texts)]
    ids = map(names.__getitem__, entities.codes.tolist())
    if group.shape.of_text:
        tails: Iterator[bytes] = _text_tails(times, payloads_of(group), arrivals)
    else:
        tails = _fixed_tails(group, arrivals)
    head = _ROW_HEAD.pack(5, 4, number)
    return b"".join(chain.from_iterable(zip(repeat(head), ids, tails, strict=False))), int(arrivals.max())


def _ranks(entities: Entities, times: Times) -> Indices:
    """For each row, how many earlier rows have the same entity and time: int64[n]."""
    ranks = np.zeros(len(times), np.int64)
    ordered = order(entities.codes, times)
    last = last_of_each(entities.codes[ordered], times[ordered])
    if not last.all():
        first = np.append(True, last[:-1])
        begins = np.maximum.accumulate(np.where(first, np.arange(len(times)), 0))
        ranks[ordered] = np.arange(len(times)) - begins
    return ranks


def payloads_of(group: PackedColumns) -> Sequence[bytes]:
    """The payload of each row."""
    if group.shape.of_text:
        return [b"\0" if value is None else b"\1" + value.encode() for value in group.columns[0].values.tolist()]
    rows = _fixed(group)
    data, step = rows.tobytes(), rows.dtype.itemsize
    return [data[start : start + step] for start in range(0, len(data), step)]


def _fixed(group: PackedColumns) -> NDArray[Any]:
    rows = np.zeros(group.table.rows, group.shape.dtype())
    rows["nulls"] = np.packbits(np.stack([column.nulls for column in group.columns], axis=1), axis=1)
    for place, column in enumerate(group.columns):
        rows[f"f{place}"] = column.values
    return rows


def _text_tails(times: Times, payloads: Sequence[bytes], arrivals: Times) -> Iterator[bytes]:
    rows = zip(times.tolist(), arrivals.tolist(), payloads, strict=True)
    return (_TAIL.pack(8, time, 8, arrived, len(payload)) + payload for time, arrived, payload in rows)


def _fixed_tails(group: PackedColumns, arrivals: Times) -> Iterator[bytes]:
    payloads = _fixed(group)
    size = payloads.dtype.itemsize
    fields = [
        ("t", ">i4"),
        ("time", ">i8"),
        ("a", ">i4"),
        ("arrived", ">i8"),
        ("p", ">i4"),
        ("payload", f"V{size}"),
    ]
    tails = np.zeros(len(arrivals), np.dtype(fields))
    tails["t"], tails["time"], tails["a"], tails["arrived"] = 8, group.table.times, 8, arrivals
    tails["p"], tails["payload"] = size, payloads.view(f"V{size}")
    data, step = tails.tobytes(), tails.dtype.itemsize
    return (data[start : start + step] for start in range(0, len(data), step))


# Reading rows


class Payloads(NamedTuple):
    """The values of some rows of one shape, by `created` of the feature."""

    columns: Mapping[int, tuple[Array, Nulls]]


def unpacked(shape: Shape, payloads: Sequence[bytes], wanted: set[int]) -> Payloads:
    """The columns of the wanted features: values in their stored form, and null masks."""
    if shape.of_text:
        texts = np.empty(len(payloads), object)
        texts[:] = [payload[1:].decode() if payload[0] else None for payload in payloads]
        nulls = np.array([payload[0] == 0 for payload in payloads], np.bool_)
        return Payloads({shape.members[0]: (texts, nulls)})
    rows = np.frombuffer(b"".join(payloads), shape.dtype())
    bits = np.unpackbits(rows["nulls"], axis=1, count=len(shape.members)).view(np.bool_)
    return Payloads(
        {
            created: (rows[f"f{place}"], bits[:, place])
            for place, created in enumerate(shape.members)
            if created in wanted
        }
    )


def restored(shape: Shape, payloads: Sequence[bytes], features: Mapping[int, Feature]) -> list[Column]:
    """The columns of these features. `features`: by their `created`."""
    columns = unpacked(shape, payloads, set(features)).columns
    return [Column(features[one].id, one, *column) for one, column in columns.items() if one in features]
