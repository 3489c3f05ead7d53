"""How many rows of a batch a later row of the same batch overwrites: of one feature, entity and event time.

The later one is a correction, as between batches. Within one it is more often a timestamp that was left out, so it
is told. Rows are told apart by 64-bit hashes: that two of a hundred million look alike has a chance of 1 in 4,000.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from actors.settings import ROWS_PER_TURN
from actors.table.columns import Block, Entities, Keys, names_of
from actors.turns import Steps, at_once
from actors.types.type import FEW

Hashes = NDArray[np.uint64]

KEYS_IN_MEMORY = 4_000_000
"""So many are sorted at once; those of a longer stream wait in a file."""
_KEY_BYTES = 8


def overwritten(blocks: Sequence[Block]) -> int:
    """How many rows of a batch a later one overwrites."""
    return at_once(counting(blocks))


def counting(blocks: Sequence[Block]) -> Steps[int]:
    """The same in steps."""
    rows = sum(len(block.times) for block in blocks)
    if rows <= FEW:
        distinct = {
            (block.feature, entity, time)
            for block in blocks
            for entity, time in zip(block.entities, block.times.tolist(), strict=True)
        }
        return rows - len(distinct)
    of_feature: dict[str, list[Block]] = {}
    for block in blocks:
        of_feature.setdefault(block.feature, []).append(block)
    names, alike = _Names(), dict[Keys, int]()
    count, since = 0, 0
    for own in of_feature.values():
        since += sum(len(block.times) for block in own)
        if since > ROWS_PER_TURN:
            yield
            since = 0
        keys = own[0].keys
        if len(own) > 1:
            count += _repeated(_keys(own, names))
            continue
        if keys not in alike:  # what was written together has its rows in common
            alike[keys] = 0 if _all_differ(own[0]) else _repeated(_keys(own, names))
        count += alike[keys]
    return count


class Overwriting:
    """The same of a stream of any length. A context manager; its methods block where there is a file."""

    def __init__(self) -> None:
        self._count = 0
        self._file = tempfile.SpooledTemporaryFile(max_size=KEYS_IN_MEMORY * _KEY_BYTES)  # noqa: SIM115

    def add(self, blocks: Sequence[Block]) -> None:
        """Take in a batch."""
        keys = _keys(blocks, _Names())
        self._file.write(keys.tobytes())
        self._count += len(keys)

    def count(self) -> int:
        """How many rows so far a later one overwrites."""
        parts = np.uint64(self._count // KEYS_IN_MEMORY + 1)
        return sum(_repeated(np.concatenate([*self._part(part, parts)])) for part in range(int(parts)))

    def _part(self, part: int, parts: np.uint64) -> Iterator[Hashes]:
        """The keys with a remainder, so that equal ones are together."""
        yield np.empty(0, np.uint64)
        self._file.seek(0)
        while data := self._file.read(KEYS_IN_MEMORY // 4 * _KEY_BYTES):
            keys = np.frombuffer(data, np.uint64)
            yield keys[keys % parts == part]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()


class _Names:
    """The hashes of the ids of blocks, of a list that they have in common made once."""

    def __init__(self) -> None:
        self._of: dict[int, Hashes] = {}

    def hashes(self, entities: Sequence[str]) -> Hashes:
        """uint64[n]"""
        names = names_of(entities)
        if id(names) not in self._of:
            self._of[id(names)] = np.fromiter(map(hash, names), np.int64, len(names)).view(np.uint64)
        found = self._of[id(names)]
        return found[entities.codes] if isinstance(entities, Entities) else found


def _keys(blocks: Sequence[Block], names: _Names) -> Hashes:
    """A hash for each row."""
    keys = [np.empty(0, np.uint64)]
    for block in blocks:
        of_feature = np.int64(hash(block.feature)).view(np.uint64)
        keys.append(_mixed(_mixed(names.hashes(block.entities) ^ of_feature) + block.times.view(np.uint64)))
    return np.concatenate(keys)


def _mixed(keys: Hashes) -> Hashes:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014): each bit of the input reaches every bit."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _repeated(keys: Hashes) -> int:
    keys = np.sort(keys)
    return int(np.count_nonzero(keys[1:] == keys[:-1]))


def _all_differ(block: Block) -> bool:
    """Whether each row is of another entity, as far as that is told at a glance."""
    entities = block.entities
    return isinstance(entities, Entities) and bool((entities.codes[1:] > entities.codes[:-1]).all())
