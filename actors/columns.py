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


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    feature: str
    created: int
    entities: list[str]
    times: bytes
    dtype: str
    width: int
    values: bytes | list[str | None]
    nulls: bytes


_PACK = msgspec.msgpack.Encoder()
_UNPACK = msgspec.msgpack.Decoder(list[_Packed])


def pack(blocks: Sequence[Block]) -> bytes:
    """The blocks as MessagePack: ids as strings, columns as little-endian bytes."""
    return _PACK.encode([_pack_block(block) for block in blocks])


def unpack(data: bytes) -> list[Block]:
    """The blocks that `pack` packed. The arrays are read-only views of the decoded bytes."""
    return [_unpack_block(packed) for packed in _UNPACK.decode(data)]


def _pack_block(block: Block) -> _Packed:
    values = block.values
    body = values.tolist() if values.dtype == object else values.tobytes()
    width = values.shape[1] if values.ndim == 2 else 0
    return _Packed(
        block.feature,
        block.created,
        block.entities,
        block.times.tobytes(),
        values.dtype.str,
        width,
        body,
        np.packbits(block.nulls).tobytes() if block.nulls.any() else b"",
    )


def _unpack_block(packed: _Packed) -> Block:
    count = len(packed.entities)
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
    return Block(
        packed.feature, packed.created, packed.entities, np.frombuffer(packed.times, np.int64), values, nulls
    )


def shard_of(entity_type: str, entity_id: str, shards: int) -> int:
    """Which store owns an entity: the same in every process and after every restart."""
    return zlib.crc32(entity_id.encode(), zlib.crc32(entity_type.encode())) % shards


def shards_of(entity_type: str, entity_ids: Sequence[str], shards: int) -> Indices:
    """`shard_of` for many ids: int64[n]."""
    seed = zlib.crc32(entity_type.encode())
    hashes = map(zlib.crc32, map(str.encode, entity_ids), repeat(seed))
    return np.fromiter(hashes, np.int64, len(entity_ids)) % shards


def split(blocks: Sequence[Block], shards: int) -> dict[int, list[Block]]:
    """The parts of the blocks by the store that owns them, order of arrival kept."""
    parts: dict[int, list[Block]] = {}
    for block in blocks:
        for shard, own in _split_one(block, shards):
            parts.setdefault(shard, []).append(own)
    return parts


def _split_one(block: Block, shards: int) -> list[tuple[int, Block]]:
    entity_type = block.feature.partition(".")[0]
    if len(block.entities) == 1 or shards == 1:
        return [(shard_of(entity_type, block.entities[0], shards), block)]
    owners = shards_of(entity_type, block.entities, shards)
    rows = ((shard, np.flatnonzero(owners == shard)) for shard in range(shards))
    return [(shard, block.take(own)) for shard, own in rows if len(own)]


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
