"""Observations as rows of a shared table: the values of one entity at one event time are one row.

What is written together is kept together: features whose blocks have the same entities and times make up a shape,
and a row of it has all their values in one payload:

    numbers, integers, booleans, timestamps, vectors    a bit for each feature (1: null), then little-endian values
    a string or a json feature, always on its own       one byte (0: null, 1: not), then UTF-8

A long vector is on its own as well. A group of twenty features then takes one row and one entry of the index,
where values of their own would take twenty.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.settings import MAX_PAYLOAD_BYTES, MAX_TOGETHER_BYTES
from actors.table.columns import Block, Entities, Indices, Times, joined, numbered
from actors.table.rows import last_of_each, order
from actors.types.type import Array, Nulls

_TEXT = "text"
_ROW_HEAD = struct.Struct(">hii")
_LENGTH = struct.Struct(">i")
_TAIL = struct.Struct(">iqiqi")


class Shape(NamedTuple):
    """Features that are kept in one row. `members`: their `created`, which no two have in common.

    `kinds`: by member "text", or dtype and dimension of its values, as in "<f8" and "<f4:3".
    """

    members: tuple[int, ...]
    kinds: tuple[str, ...]

    @property
    def of_text(self) -> bool:
        """Whether it has one member whose values are texts."""
        return self.kinds[0] == _TEXT

    @property
    def most_bytes(self) -> int:
        """Of a payload."""
        return MAX_PAYLOAD_BYTES if self.of_text else self.dtype().itemsize

    def dtype(self) -> np.dtype[Any]:
        """What a payload consists of, but for texts."""
        fields: list[Any] = [("nulls", "u1", ((len(self.kinds) + 7) // 8,))]
        for place, kind in enumerate(self.kinds):
            name, _, width = kind.partition(":")
            fields.append((f"f{place}", name, (int(width),) if width else ()))
        return np.dtype(fields)


class Together(NamedTuple):
    """Blocks with the same entities and times, in the order of their shape's members."""

    shape: Shape
    blocks: Sequence[Block]

    def apart(self) -> list[Together]:
        """Each block on its own."""
        return [Together(_shape([block]), [block]) for block in self.blocks]


def together(blocks: Sequence[Block]) -> list[Together]:
    """The blocks by what can share a row. Blocks of one feature are put together first, in their order."""
    if len({block.feature for block in blocks}) < len(blocks):
        blocks = joined(blocks)
    found: list[Together] = []
    groups: dict[tuple[Any, ...], list[Block]] = {}
    for block in blocks:
        if len(block.times) == 0:
            continue
        if block.values.dtype == object or block.values[:1].nbytes > MAX_TOGETHER_BYTES:
            found.append(Together(_shape([block]), [block]))
            continue
        groups.setdefault((block.feature.partition(".")[0], *_index(block)), []).append(block)
    for group in groups.values():
        group.sort(key=lambda block: block.created)
        found += [Together(_shape(part), part) for part in _short(group)]
    return found


def _short(group: Sequence[Block]) -> Iterator[list[Block]]:
    """The blocks, as many at a time as make up a payload that is not too long."""
    part, size = list[Block](), 0
    for block in group:
        own = 1 + block.values[:1].nbytes
        if part and size + own > MAX_PAYLOAD_BYTES:
            yield part
            part, size = [], 0
        part.append(block)
        size += own
    yield part


def placed(
    blocks: Sequence[Block], number: Callable[[str, Shape], int | None]
) -> Iterator[tuple[str, Together, int]]:
    """What can share a row, with its entity type and the number of its shape.

    `number` is None for a shape that there shall not be; its blocks are then each on their own.
    """
    for group in together(blocks):
        entity_type = group.blocks[0].feature.partition(".")[0]
        known = number(entity_type, group.shape)
        if known is not None:
            yield entity_type, group, known
            continue
        for one in group.apart():
            own = number(entity_type, one.shape)
            assert own is not None, "there may be any number of shapes of one feature"
            yield entity_type, one, own


def _index(block: Block) -> tuple[Any, ...]:
    """The same for blocks whose entities and times are the same and look alike."""
    entities = block.entities
    if isinstance(entities, Entities):
        return id(entities.names), entities.codes.tobytes(), block.times.tobytes()
    return tuple(entities), block.times.tobytes()


def _shape(blocks: Sequence[Block]) -> Shape:
    return Shape(tuple(block.created for block in blocks), tuple(_kind(block.values) for block in blocks))


def _kind(values: Array) -> str:
    if values.dtype == object:
        return _TEXT
    width = f":{values.shape[1]}" if values.ndim == 2 else ""
    return values.dtype.newbyteorder("<").str + width


# Into rows, as the binary form of COPY has them


def copy_header() -> bytes:
    """What a stream of rows begins with."""
    return b"PGCOPY\n\xff\r\n\0" + bytes(8)


def copy_rows(number: int, group: Together, arrived: int | Times) -> tuple[bytes, int]:
    """The rows (shape, entity, time, arrived, payload) of what was written together, and their last arrival.

    `arrived`: of all of them, where rows of one entity and time are each said to have arrived a microsecond after
    the one before; or of each.
    """
    block = group.blocks[0]
    given = block.entities
    entities = given if isinstance(given, Entities) else numbered(given)
    arrivals = arrived + _ranks(entities, block.times) if isinstance(arrived, int) else arrived
    names = [_LENGTH.pack(len(id_)) + id_ for id_ in map(str.encode, entities.names)]
    ids = map(names.__getitem__, entities.codes.tolist())
    if group.shape.of_text:
        tails: Iterator[bytes] = _text_tails(block, payloads_of(group), arrivals)
    else:
        tails = _fixed_tails(group, arrivals)
    head = _ROW_HEAD.pack(5, 4, number)
    return b"".join(chain.from_iterable(zip(repeat(head), ids, tails, strict=False))), int(arrivals.max())


def _ranks(entities: Entities, times: Times) -> Indices:
    """How many rows before it are of the same entity and time, for each row: int64[n]."""
    ranks = np.zeros(len(times), np.int64)
    ordered = order(entities.codes, times)
    last = last_of_each(entities.codes[ordered], times[ordered])
    if not last.all():
        first = np.append(True, last[:-1])
        begins = np.maximum.accumulate(np.where(first, np.arange(len(times)), 0))
        ranks[ordered] = np.arange(len(times)) - begins
    return ranks


def payloads_of(group: Together) -> Sequence[bytes]:
    """The payload of each row."""
    if group.shape.of_text:
        return [b"\0" if value is None else b"\1" + value.encode() for value in group.blocks[0].values.tolist()]
    rows = _fixed(group)
    data, step = rows.tobytes(), rows.dtype.itemsize
    return [data[start : start + step] for start in range(0, len(data), step)]


def _fixed(group: Together) -> NDArray[Any]:
    rows = np.zeros(len(group.blocks[0].times), group.shape.dtype())
    rows["nulls"] = np.packbits(np.stack([block.nulls for block in group.blocks], axis=1), axis=1)
    for place, block in enumerate(group.blocks):
        rows[f"f{place}"] = block.values
    return rows


def _text_tails(block: Block, payloads: Sequence[bytes], arrivals: Times) -> Iterator[bytes]:
    rows = zip(block.times.tolist(), arrivals.tolist(), payloads, strict=True)
    return (_TAIL.pack(8, time, 8, arrived, len(payload)) + payload for time, arrived, payload in rows)


def _fixed_tails(group: Together, arrivals: Times) -> Iterator[bytes]:
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
    tails["t"], tails["time"], tails["a"], tails["arrived"] = 8, group.blocks[0].times, 8, arrivals
    tails["p"], tails["payload"] = size, payloads.view(f"V{size}")
    data, step = tails.tobytes(), tails.dtype.itemsize
    return (data[start : start + step] for start in range(0, len(data), step))


# Out of rows


class Payloads(NamedTuple):
    """The values of some rows of one shape, by `created` of the feature."""

    columns: Mapping[int, tuple[Array, Nulls]]


def unpacked(shape: Shape, payloads: Sequence[bytes], wanted: set[int]) -> Payloads:
    """The columns of the wanted features: values as they are kept, and the null mask."""
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
