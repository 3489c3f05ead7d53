"""Serializes a batch: as MessagePack, ids as strings, columns as little-endian bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from actors.table.batch import Batch, Column, Table
from actors.table.ids import Entities, Ids, numbered
from actors.types.type import Array, known_without_nulls, no_nulls


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    """A column with its rows. An int in place of `ids`, `times` or `codes` is the position of an earlier column
    that has the same."""

    feature: str
    created: int
    ids: list[str] | int
    times: bytes | int
    dtype: str
    width: int
    values: bytes | list[str | None]
    nulls: bytes
    codes: bytes | int | None = None
    """The position of each row's id in `ids`, as the smallest unsigned integers that fit. None: `ids` has one id
    per row, possibly repeated, as earlier versions wrote small batches. No list is used in both ways."""


_PACK = msgspec.msgpack.Encoder()
_UNPACK = msgspec.msgpack.Decoder(list[_Packed])


def pack(batch: Batch) -> bytes:
    """Serialize a batch."""
    packed, lists = list[_Packed](), dict[Ids, int]()
    for table in batch:
        ids, place = table.entities.ids, len(packed)
        listed = lists.setdefault(ids, place)
        codes = table.entities.codes.astype(_least(ids)).tobytes()
        rows: tuple[Any, Any, Any] = (ids.texts if listed == place else listed), table.times.tobytes(), codes
        for column in table.columns:
            packed.append(_packed(column, *rows))
            rows = listed, place, place
    return _PACK.encode(packed)


def _packed(column: Column, ids: list[str] | int, times: bytes | int, codes: bytes | int) -> _Packed:
    values, nulls = column.values, column.nulls
    return _Packed(
        column.feature,
        column.created,
        ids,
        times,
        values.dtype.str,
        column.width,
        values.tolist() if values.dtype == object else values.tobytes(),
        b"" if known_without_nulls(nulls) or not nulls.any() else np.packbits(nulls).tobytes(),
        codes,
    )


def _least(ids: Ids) -> str:
    """The smallest dtype for positions in `ids`."""
    return "u1" if len(ids) <= 2**8 else "<u2" if len(ids) <= 2**16 else "<u4"


def unpack(data: bytes) -> list[Table]:
    """Deserialize a batch. Its arrays are read-only views of the bytes."""
    unpacking = _Unpacking()
    for packed in _UNPACK.decode(data):
        unpacking.take(packed)
    return unpacking.tables


class _Unpacking:
    """Reassembles columns into tables."""

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self._of_place: list[Table] = []
        self._features: set[str] = set()

    def take(self, packed: _Packed) -> None:
        """Add the next column."""
        table = self._table(packed)
        if not table.columns:
            self.tables.append(table)
        self._of_place.append(table)
        table.columns.append(_column(packed, table.rows))
        self._features.add(packed.feature)

    def _table(self, packed: _Packed) -> Table:
        entity_type, entities, times = packed.feature.partition(".")[0], self._entities(packed), packed.times
        if not isinstance(times, int):
            return Table(entity_type, entities, np.frombuffer(times, np.int64), [])
        before = self._of_place[times]
        # A feature that occurs twice has to stay behind its earlier column.
        in_order = before is self.tables[-1] or packed.feature not in self._features
        if in_order and entities is before.entities and entity_type == before.entity_type:
            return before
        return Table(entity_type, entities, before.times, [])

    def _entities(self, packed: _Packed) -> Entities:
        if isinstance(packed.codes, int):
            return self._of_place[packed.codes].entities
        if isinstance(packed.ids, int):
            before = self._of_place[packed.ids].entities
            return before if packed.codes is None else Entities(before.ids, _codes(packed.codes, before.ids))
        if packed.codes is None:
            return numbered(packed.ids)
        ids = Ids(packed.ids)
        return Entities(ids, _codes(packed.codes, ids))


def _codes(data: bytes, ids: Ids) -> np.ndarray[tuple[int], np.dtype[Any]]:
    return np.frombuffer(data, _least(ids))


def _column(packed: _Packed, count: int) -> Column:
    if isinstance(packed.values, list):
        values: Array = np.empty(count, object)
        values[:] = packed.values
    else:
        values = np.frombuffer(packed.values, np.dtype(packed.dtype))
    if packed.width:
        values = values.reshape(count, packed.width)
    nulls = no_nulls(count)
    if packed.nulls:
        nulls = np.unpackbits(np.frombuffer(packed.nulls, np.uint8), count=count).view(np.bool_)
    return Column(packed.feature, packed.created, values, nulls)
