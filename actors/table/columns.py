"""A batch as columns: one block per feature, from the moment it is decoded to the journal and back. Blocks of what
was written together have the same keys: entities and event times.

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
from actors.types.type import Array, Nulls, all_there, no_nulls

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


class Keys:
    """Whose and of when rows are: n entity ids, in order of arrival, and int64[n] event time in microseconds.

    One object for all columns of a batch that were written together, made where rows are taken in: whoever needs
    something of it does so once for all that have it.
    """

    __slots__ = ("_bounds", "entities", "times")

    def __init__(self, entities: Sequence[str], times: Times) -> None:
        self.entities = entities
        self.times = times
        self._bounds: tuple[int, int] | None = None

    @property
    def bounds(self) -> tuple[int, int]:
        """The earliest and the latest event time; there must be one."""
        if self._bounds is None:
            first = int(self.times[0])
            self._bounds = (first, first) if len(self) == 1 else (int(self.times.min()), int(self.times.max()))
        return self._bounds

    def __len__(self) -> int:
        return len(self.times)

    def take(self, rows: Indices) -> Keys:
        """Those of some rows, in the order given."""
        return Keys(ids_at(self.entities, rows), self.times[rows])


class Alike:
    """Tells, where rows are taken in, which columns have the same entities and times: they get the same keys."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, int, int], Keys] = {}

    def one(self, block: Block) -> Block:
        """The block, with the keys of one before it where these are the same."""
        own, times = block.keys, block.keys.times
        keys = self._last.get(glance := (len(times), int(times[0]), int(times[-1])), own)
        if keys is not own and same(keys.times, times) and _same_ids(keys.entities, own.entities):
            return block._replace(keys=keys)
        self._last[glance] = own
        return block


def same(one: Array, other: Array) -> bool:
    """Whether two arrays of one dtype have the same numbers. As bytes, which is faster while they are small."""
    return one is other or (len(one) == len(other) and one.tobytes() == other.tobytes())


def _same_ids(one: object, other: object) -> bool:
    if isinstance(one, Entities) and isinstance(other, Entities):
        return one.names is other.names and same(one.codes, other.codes)
    return type(one) is type(other) and one == other


class Block(NamedTuple):
    """Observations of one feature: parallel columns in order of arrival, and their keys.

    values: the feature's dtype, shape (n,) or (n, dimension); nulls: bool[n]. `created` is that of the feature
    they were written for.
    """

    feature: str
    created: int
    keys: Keys
    values: Array
    nulls: Nulls

    @property
    def entity_type(self) -> str:
        return self.feature.partition(".")[0]

    @property
    def entities(self) -> Sequence[str]:
        return self.keys.entities

    @property
    def times(self) -> Times:
        return self.keys.times

    def take(self, rows: Indices) -> Block:
        """The block of some of its rows, in the order given."""
        return self.of(self.keys.take(rows), rows)

    def of(self, keys: Keys, rows: Indices | slice) -> Block:
        """Some of its rows, whose keys are at hand."""
        nulls = no_nulls(len(keys)) if all_there(self.nulls) else self.nulls[rows]
        return Block(self.feature, self.created, keys, self.values[rows], nulls)

    def cut(self, start: int, count: int) -> Block:
        """So many of its rows from one on."""
        some = slice(start, start + count)
        entities = self.entities[some]
        if isinstance(entities, Entities):
            entities = entities.compact()
        return self.of(Keys(entities, self.times[some]), some)


def without_ids(blocks: Sequence[Block]) -> list[Block]:
    """The same for those who ask nothing of the ids. Keys that blocks have in common still are."""
    bare = {block.keys: Keys([], block.times) for block in blocks}
    return [block._replace(keys=bare[block.keys]) for block in blocks]


def joined(blocks: Sequence[Block]) -> list[Block]:
    """All rows of a feature in one block, in order of arrival, and one list of names for all blocks."""
    return at_once(joining(blocks))


def joining(blocks: Sequence[Block]) -> Steps[list[Block]]:
    """The same in steps."""
    names, places, codes = Names(), dict[int, Codes](), dict[Keys, Codes]()
    of_feature: dict[tuple[str, int], list[Block]] = {}
    for block in blocks:
        if block.keys not in codes:
            codes[block.keys] = yield from _renumbered(block.entities, names, places)
        of_feature.setdefault((block.feature, block.created), []).append(block)
    whole, together = list[Block](), dict[tuple[Keys, ...], Keys]()
    for parts in of_feature.values():
        own = tuple(part.keys for part in parts)
        if own not in together:
            entities = Entities(names.distinct, np.concatenate([codes[keys] for keys in own]))
            together[own] = Keys(entities, np.concatenate([keys.times for keys in own]))
        values, nulls = map(np.concatenate, zip(*(block[3:] for block in parts), strict=True))
        whole.append(Block(*parts[0][:2], together[own], values, nulls))
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
    first: dict[Keys, int] = {}
    lists: dict[int, int] = {}  # by `id`: they are alive in the blocks
    return _PACK.encode([_pack_block(block, place, first, lists) for place, block in enumerate(blocks)])


def _pack_block(block: Block, place: int, first: dict[Keys, int], lists: dict[int, int]) -> _Packed:
    values, names = block.values, names_of(block.entities)
    before, listed = first.setdefault(block.keys, place), lists.setdefault(id(names), place)
    codes: bytes | int | None = None
    if isinstance(block.entities, Entities):
        codes = before if before < place else block.entities.codes.astype(_least(names)).tobytes()
    return _Packed(
        block.feature,
        block.created,
        listed if listed < place else names,
        before if before < place else block.times.tobytes(),
        values.dtype.str,
        values.shape[1] if values.ndim == 2 else 0,
        values.tolist() if values.dtype == object else values.tobytes(),
        np.packbits(block.nulls).tobytes() if not all_there(block.nulls) and block.nulls.any() else b"",
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
    keys = _keys(packed, before)
    count = len(keys)
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
    return Block(packed.feature, packed.created, keys, values, nulls)


def _keys(packed: _Packed, before: Sequence[Block]) -> Keys:
    entities, times = _ids(packed, before), packed.times
    if not isinstance(times, int):
        return Keys(entities, np.frombuffer(times, np.int64))
    keys = before[times].keys
    return keys if entities is keys.entities else Keys(entities, keys.times)


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

    Keys that blocks have in common are looked at once, and so are the names that keys have.
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
        if len(block.entities) == 1 or shards == 1:
            parts.setdefault(shard_of(block.entity_type, block.entities[0], shards), []).append(block)
            continue
        for share in (yield from owners.shares(block.entity_type, block.keys)):
            parts.setdefault(share.shard, []).append(block.of(share.keys, share.rows))
    return parts


class _Share(NamedTuple):
    """What one store owns of some rows."""

    shard: int
    rows: Indices
    keys: Keys


class _Owners:
    """Who owns the rows of the blocks seen so far."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._shares: dict[tuple[Keys, str], list[_Share]] = {}
        self._of_names: dict[tuple[int, str], Indices] = {}

    def shares(self, entity_type: str, keys: Keys) -> Steps[list[_Share]]:
        key = keys, entity_type
        if key not in self._shares:
            owners = yield from self._owners(entity_type, keys.entities)
            rows = ((shard, np.flatnonzero(owners == shard)) for shard in range(self._shards))
            self._shares[key] = [_Share(shard, own, keys.take(own)) for shard, own in rows if len(own)]
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
