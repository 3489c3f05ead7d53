"""A batch as columns: one block per feature, from the moment it is decoded to the journal and back.

Decoding a million JSON values a second only pays if no Python object is made per stored value afterwards,
so everything below the front end works on these arrays.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import repeat
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.values import Array, Nulls

Times = NDArray[np.int64]
Indices = NDArray[np.int64]


class Block(NamedTuple):
    """Observations of one feature: parallel columns in order of arrival.

    entities: list of n entity ids; times: int64[n] event time in microseconds; values: the feature's dtype,
    shape (n,) or (n, dimension); nulls: bool[n]. `created` is that of the feature they were written for.
    """

    feature: str
    created: int
    entities: list[str]
    times: Times
    values: Array
    nulls: Nulls

    def take(self, rows: Indices) -> Block:
        """The block of some of its rows, in the order given."""
        picked = rows.tolist()
        entities = [self.entities[row] for row in picked]
        return self._replace(
            entities=entities, times=self.times[rows], values=self.values[rows], nulls=self.nulls[rows]
        )

    def cut(self, start: int, count: int) -> Block:
        """So many of its rows from one on."""
        some = slice(start, start + count)
        return Block(*self[:2], self.entities[some], self.times[some], self.values[some], self.nulls[some])


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    feature: str
    created: int
    entities: list[str] | int
    """The ids, or the position of an earlier block that has the same ones."""
    times: bytes
    dtype: str
    width: int
    values: bytes | list[str | None]
    nulls: bytes


_PACK = msgspec.msgpack.Encoder()
_UNPACK = msgspec.msgpack.Decoder(list[_Packed])


def pack(blocks: Sequence[Block]) -> bytes:
    """The blocks as MessagePack: ids as strings, columns as little-endian bytes."""
    first: dict[int, int] = {}
    packed = []
    for position, block in enumerate(blocks):
        before = first.setdefault(id(block.entities), position)
        packed.append(_pack_block(block, block.entities if before == position else before))
    return _PACK.encode(packed)


def unpack(data: bytes) -> list[Block]:
    """The blocks that `pack` packed. The arrays are read-only views of the decoded bytes."""
    blocks: list[Block] = []
    for packed in _UNPACK.decode(data):
        entities = blocks[packed.entities].entities if isinstance(packed.entities, int) else packed.entities
        blocks.append(_unpack_block(packed, entities))
    return blocks


def _pack_block(block: Block, entities: list[str] | int) -> _Packed:
    values = block.values
    body = values.tolist() if values.dtype == object else values.tobytes()
    width = values.shape[1] if values.ndim == 2 else 0
    return _Packed(
        block.feature,
        block.created,
        entities,
        block.times.tobytes(),
        values.dtype.str,
        width,
        body,
        np.packbits(block.nulls).tobytes() if block.nulls.any() else b"",
    )


def _unpack_block(packed: _Packed, entities: list[str]) -> Block:
    count = len(entities)
    if isinstance(packed.values, list):
        values: Array = np.empty(count, object)
        values[:] = packed.values
    else:
        values = np.frombuffer(packed.values, np.dtype(packed.dtype))
    if packed.width:
        values = values.reshape(count, packed.width)
    nulls = np.zeros(count, np.bool_)
    if packed.nulls:
        nulls = np.unpackbits(np.frombuffer(packed.nulls, np.uint8), count=count).view(np.bool_)
    return Block(packed.feature, packed.created, entities, np.frombuffer(packed.times, np.int64), values, nulls)


def shard_of(entity_type: str, entity_id: str, shards: int) -> int:
    """Which store owns an entity: the same in every process and after every restart."""
    return zlib.crc32(entity_id.encode(), zlib.crc32(entity_type.encode())) % shards


def shards_of(entity_type: str, entity_ids: Sequence[str], shards: int) -> Indices:
    """`shard_of` for many ids: int64[n]."""
    seed = zlib.crc32(entity_type.encode())
    hashes = map(zlib.crc32, map(str.encode, entity_ids), repeat(seed))
    return np.fromiter(hashes, np.int64, len(entity_ids)) % shards


def split(blocks: Sequence[Block], shards: int) -> dict[int, list[Block]]:
    """The parts of the blocks by the store that owns them, order of arrival kept.

    Blocks of one list of entities, as a table of many features has them, are looked at once.
    """
    parts: dict[int, list[Block]] = {}
    seen: dict[tuple[int, str], list[_Share]] = {}
    for block in blocks:
        entity_type = block.feature.partition(".")[0]
        if len(block.entities) == 1 or shards == 1:
            parts.setdefault(shard_of(entity_type, block.entities[0], shards), []).append(block)
            continue
        key = id(block.entities), entity_type
        if key not in seen:
            seen[key] = _shares(entity_type, block.entities, shards)
        for shard, rows, entities in seen[key]:
            own = Block(*block[:2], entities, block.times[rows], block.values[rows], block.nulls[rows])
            parts.setdefault(shard, []).append(own)
    return parts


class _Share(NamedTuple):
    """What one store owns of a list of entities."""

    shard: int
    rows: Indices
    entities: list[str]


def _shares(entity_type: str, entities: list[str], shards: int) -> list[_Share]:
    owners = shards_of(entity_type, entities, shards)
    rows = ((shard, np.flatnonzero(owners == shard)) for shard in range(shards))
    return [_Share(shard, own, [entities[row] for row in own.tolist()]) for shard, own in rows if len(own)]


class Numbering(dict[Any, int]):
    """key -> number; a key looked up for the first time gets the next number, from 1 on."""

    def __missing__(self, key: Any) -> int:
        number = self[key] = len(self) + 1
        return number


def group_rows(keys: Sequence[Any]) -> list[tuple[Any, Indices]]:
    """The positions of each distinct key, keys in order of first appearance, positions ascending."""
    codes = Numbering()
    coded = np.fromiter(map(codes.__getitem__, keys), np.int32, len(keys))
    order = np.argsort(coded, kind="stable")
    bounds = np.searchsorted(coded[order], np.arange(1, len(codes) + 2))
    return [(key, order[begin:end]) for key, begin, end in zip(codes, bounds[:-1], bounds[1:], strict=True)]
