"""A batch as columns: one block per feature, from the moment it is decoded to the journal and back.

Decoding a million JSON values a second only pays if no Python object is made per stored value afterwards,
so everything below the front end works on these arrays.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple, cast, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.settings import ROWS_PER_TURN
from actors.turns import Steps, at_once
from actors.types.type import Array, Nulls

Times = NDArray[np.int64]
Indices = NDArray[np.int64]
Codes = NDArray[np.integer[Any]]


class Entities(Sequence[str]):
    """Entity ids with repeats, each distinct one kept once, so that what is looked up by id is so once a batch.

    names: the distinct ids, in one list for all blocks of a batch, whatever of it a block has; codes: integer[n],
    the place of each id in `names`.
    """

    __slots__ = ("codes", "names")

    def __init__(self, names: list[str], codes: Codes) -> None:
        self.names = names
        self.codes = codes

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        return map(self.names.__getitem__, self.codes.tolist())

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> Entities: ...

    def __getitem__(self, place: int | slice) -> str | Entities:
        if isinstance(place, slice):
            return Entities(self.names, self.codes[place])
        return self.names[int(self.codes[place])]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Entities | list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def compact(self) -> Entities:
        """The same ids without names that none of them has."""
        used = np.zeros(len(self.names), np.bool_)
        used[self.codes] = True
        if used.all():
            return self
        return Entities(picked(self.names, np.flatnonzero(used)), (np.cumsum(used) - 1)[self.codes])


class Names:
    """Numbers for ids, from 0 on, in order of first appearance."""

    def __init__(self) -> None:
        self.distinct: list[str] = []
        self._codes: dict[str, int] = {}

    def codes(self, ids: Sequence[str]) -> Codes:
        """The number of each id: int32[n]."""
        known, start = self._codes, len(self._codes)
        distinct = dict.fromkeys(ids)
        fresh = [one for one in distinct if one not in known] if known else list(distinct)
        known.update(zip(fresh, range(start, start + len(fresh)), strict=True))
        self.distinct += fresh
        return np.fromiter(map(known.__getitem__, ids), np.int32, len(ids))


def numbered(ids: Sequence[str]) -> Entities:
    """The same ids, each distinct one once."""
    return at_once(numbering(ids))


def numbering(ids: Sequence[str]) -> Steps[Entities]:
    """The same in steps."""
    last = dict(zip(ids, range(len(ids)), strict=True))  # in order of first appearance; where each came last
    yield
    names = list(last)
    if len(names) == len(ids):
        return Entities(names, np.arange(len(names)))
    codes = np.empty(len(ids), np.int32)
    codes[np.fromiter(last.values(), np.int64, len(last))] = np.arange(len(last))
    yield
    return Entities(names, codes[np.fromiter(map(last.__getitem__, ids), np.int64, len(ids))])


def picked(items: Sequence[Any], rows: Indices) -> list[Any]:
    """Some of a list, in the order given."""
    if len(rows) < 2:
        return [items[row] for row in rows.tolist()]
    return list(itemgetter(*rows.tolist())(items))


class Block(NamedTuple):
    """Observations of one feature: parallel columns in order of arrival.

    entities: n entity ids; times: int64[n] event time in microseconds; values: the feature's dtype,
    shape (n,) or (n, dimension); nulls: bool[n]. `created` is that of the feature they were written for.
    """

    feature: str
    created: int
    entities: Sequence[str]
    times: Times
    values: Array
    nulls: Nulls

    def take(self, rows: Indices) -> Block:
        """The block of some of its rows, in the order given."""
        return Block(*self[:2], ids_at(self.entities, rows), self.times[rows], self.values[rows], self.nulls[rows])

    def cut(self, start: int, count: int) -> Block:
        """So many of its rows from one on."""
        some = slice(start, start + count)
        entities = self.entities[some]
        if isinstance(entities, Entities):
            entities = entities.compact()
        return Block(*self[:2], entities, self.times[some], self.values[some], self.nulls[some])


def joined(blocks: Sequence[Block]) -> list[Block]:
    """All rows of a feature in one block, in order of arrival, and one list of names for all blocks."""
    return at_once(joining(blocks))


def joining(blocks: Sequence[Block]) -> Steps[list[Block]]:
    """The same in steps."""
    names, places = Names(), dict[int, Codes]()
    of_feature: dict[tuple[str, int], list[tuple[Codes, Block]]] = {}
    for block in blocks:
        codes = yield from _renumbered(block.entities, names, places)
        of_feature.setdefault((block.feature, block.created), []).append((codes, block))
    whole = []
    for parts in of_feature.values():
        whole.append(_one(names.distinct, parts))
        yield
    return whole


def _renumbered(entities: Sequence[str], names: Names, places: dict[int, Codes]) -> Steps[Codes]:
    if not isinstance(entities, Entities):
        return (yield from _codes(entities, names))
    if id(entities.names) not in places:
        places[id(entities.names)] = yield from _codes(entities.names, names)
    return places[id(entities.names)][entities.codes]


def _codes(ids: Sequence[str], names: Names) -> Steps[Codes]:
    codes = np.empty(len(ids), np.int32)
    for start in range(0, len(ids), ROWS_PER_TURN):
        some = ids[start : start + ROWS_PER_TURN]
        codes[start : start + len(some)] = names.codes(some)
        yield
    return codes


def _one(names: list[str], parts: Sequence[tuple[Codes, Block]]) -> Block:
    entities = Entities(names, np.concatenate([codes for codes, _ in parts]))
    times, values, nulls = map(np.concatenate, zip(*(block[3:] for _, block in parts), strict=True))
    return Block(*parts[0][1][:2], entities, times, values, nulls)


def names_of(entities: Sequence[str]) -> list[str]:
    """The list of ids that a block may have in common with others."""
    return entities.names if isinstance(entities, Entities) else cast(list[str], entities)


def ids_at(entities: Sequence[str], rows: Indices) -> Sequence[str]:
    """Some of a block's ids, in the order given."""
    if isinstance(entities, Entities):
        return Entities(entities.names, entities.codes[rows])
    return picked(entities, rows)


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    """An int where a column would be: the position of an earlier block that has the very same."""

    feature: str
    created: int
    names: list[str] | int
    times: bytes | int
    dtype: str
    width: int
    values: bytes | list[str | None]
    nulls: bytes
    codes: bytes | int | None = None
    """The place of each id in `names`, in the least unsigned integers that do; None: the names are the ids."""


_PACK = msgspec.msgpack.Encoder()
_UNPACK = msgspec.msgpack.Decoder(list[_Packed])


def pack(blocks: Sequence[Block]) -> bytes:
    """The blocks as MessagePack: ids as strings, columns as little-endian bytes."""
    first: dict[int, int] = {}  # `id` of a column: what is shared is alive in its blocks
    return _PACK.encode([_pack_block(block, position, first) for position, block in enumerate(blocks)])


def _pack_block(block: Block, position: int, first: dict[int, int]) -> _Packed:
    entities, times, values = block.entities, block.times, block.values
    names, codes = names_of(entities), None
    if isinstance(entities, Entities):
        before = first.setdefault(id(entities), position)
        codes = before if before < position else entities.codes.astype(_least(names)).tobytes()
    same_names, same_times = first.setdefault(id(names), position), first.setdefault(id(times), position)
    return _Packed(
        block.feature,
        block.created,
        same_names if same_names < position else names,
        same_times if same_times < position else times.tobytes(),
        values.dtype.str,
        values.shape[1] if values.ndim == 2 else 0,
        values.tolist() if values.dtype == object else values.tobytes(),
        np.packbits(block.nulls).tobytes() if block.nulls.any() else b"",
        codes,
    )


def _least(names: Sequence[str]) -> str:
    """The dtype of the places in `names`."""
    return "u1" if len(names) <= 2**8 else "<u2" if len(names) <= 2**16 else "<u4"


def unpack(data: bytes) -> list[Block]:
    """The blocks that `pack` packed. The arrays are read-only views of the decoded bytes."""
    blocks: list[Block] = []
    for packed in _UNPACK.decode(data):
        blocks.append(_unpack_block(packed, blocks))
    return blocks


def _unpack_block(packed: _Packed, before: Sequence[Block]) -> Block:
    entities, times = _ids(packed, before), packed.times
    when = before[times].times if isinstance(times, int) else np.frombuffer(times, np.int64)
    count = len(when)
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
    return Block(packed.feature, packed.created, entities, when, values, nulls)


def _ids(packed: _Packed, before: Sequence[Block]) -> Sequence[str]:
    if isinstance(packed.codes, int):
        return before[packed.codes].entities
    names = names_of(before[packed.names].entities) if isinstance(packed.names, int) else packed.names
    return names if packed.codes is None else Entities(names, np.frombuffer(packed.codes, _least(names)))


def shard_of(entity_type: str, entity_id: str, shards: int) -> int:
    """Which store owns an entity: the same in every process and after every restart."""
    return zlib.crc32(entity_id.encode(), zlib.crc32(entity_type.encode())) % shards


def shards_of(entity_type: str, entity_ids: Sequence[str], shards: int) -> Indices:
    """`shard_of` for many ids: int64[n]."""
    if isinstance(entity_ids, Entities):
        return shards_of(entity_type, entity_ids.names, shards)[entity_ids.codes]
    seed = zlib.crc32(entity_type.encode())
    hashes = map(zlib.crc32, map(str.encode, entity_ids), repeat(seed))
    return np.fromiter(hashes, np.int64, len(entity_ids)) % shards


def finding_shards(entity_type: str, entity_ids: Sequence[str], shards: int) -> Steps[Indices]:
    """The same in steps."""
    if len(entity_ids) <= ROWS_PER_TURN:
        return shards_of(entity_type, entity_ids, shards)
    parts = []
    for start in range(0, len(entity_ids), ROWS_PER_TURN):
        parts.append(shards_of(entity_type, entity_ids[start : start + ROWS_PER_TURN], shards))
        yield
    return np.concatenate(parts)


def split(blocks: Sequence[Block], shards: int) -> dict[int, list[Block]]:
    """The parts of the blocks by the store that owns them, order of arrival kept.

    Ids that blocks have in common, as those of a batch and of a table's features are, are looked at once.
    """
    return at_once(splitting(blocks, shards))


def splitting(blocks: Sequence[Block], shards: int) -> Steps[dict[int, list[Block]]]:
    """The same in steps."""
    parts: dict[int, list[Block]] = {}
    owners, done = _Owners(shards), 0
    for block in blocks:
        done += len(block.times)
        if done > ROWS_PER_TURN:
            yield
            done = len(block.times)
        entity_type = block.feature.partition(".")[0]
        if len(block.entities) == 1 or shards == 1:
            parts.setdefault(shard_of(entity_type, block.entities[0], shards), []).append(block)
            continue
        for share in (yield from owners.shares(entity_type, block.entities)):
            rows = share.rows
            times = share.times(block.times)
            own = Block(*block[:2], share.entities, times, block.values[rows], block.nulls[rows])
            parts.setdefault(share.shard, []).append(own)
    return parts


class _Share:
    """What one store owns of some entities."""

    def __init__(self, shard: int, rows: Indices, entities: Sequence[str]) -> None:
        self.shard = shard
        self.rows = rows
        self.entities = entities
        self._times: tuple[Times, Times] | None = None

    def times(self, times: Times) -> Times:
        """Those of its rows: one array for all blocks of a table."""
        if self._times is None or self._times[0] is not times:
            self._times = times, times[self.rows]
        return self._times[1]


class _Owners:
    """Who owns the entities of the blocks seen so far."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._shares: dict[tuple[int, str], list[_Share]] = {}
        self._of_names: dict[tuple[int, str], Indices] = {}

    def shares(self, entity_type: str, entities: Sequence[str]) -> Steps[list[_Share]]:
        key = id(entities), entity_type
        if key not in self._shares:
            owners = yield from self._owners(entity_type, entities)
            rows = ((shard, np.flatnonzero(owners == shard)) for shard in range(self._shards))
            self._shares[key] = [_Share(shard, own, ids_at(entities, own)) for shard, own in rows if len(own)]
        return self._shares[key]

    def _owners(self, entity_type: str, entities: Sequence[str]) -> Steps[Indices]:
        if not isinstance(entities, Entities):
            return (yield from finding_shards(entity_type, entities, self._shards))
        key = id(entities.names), entity_type
        if key not in self._of_names:
            self._of_names[key] = yield from finding_shards(entity_type, entities.names, self._shards)
        return self._of_names[key][entities.codes]


class Numbering(dict[Any, int]):
    """key -> number; a key looked up for the first time gets the next number, from 1 on."""

    def __missing__(self, key: Any) -> int:
        number = self[key] = len(self) + 1
        return number


def group_rows(keys: Sequence[Any]) -> list[tuple[Any, Indices]]:
    """The positions of each distinct key, keys in order of first appearance, positions ascending."""
    return at_once(grouping_rows(keys))


def grouping_rows(keys: Sequence[Any]) -> Steps[list[tuple[Any, Indices]]]:
    """The same in steps."""
    if len(keys) == 1:
        return [(keys[0], np.zeros(1, np.int64))]
    numbers, codes = Numbering(), np.empty(len(keys), np.int32)
    for start in range(0, len(keys), 2 * ROWS_PER_TURN):
        if start:
            yield
        some = keys[start : start + 2 * ROWS_PER_TURN]
        codes[start : start + len(some)] = np.fromiter(map(numbers.__getitem__, some), np.int32, len(some))
    codes -= 1
    return list(zip(numbers, rows_of_codes(codes, len(numbers)), strict=True))


def rows_of_codes(codes: Codes, count: int) -> list[Indices]:
    """The positions of each code below `count`, ascending."""
    # Few codes fit into 16 bits, which numpy sorts without comparing them.
    order = np.argsort(codes.astype(np.min_scalar_type(max(count - 1, 0))), kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=count))
    return np.split(order, ends[:-1]) if count else []
