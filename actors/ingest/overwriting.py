"""Counts the rows of a batch that a later row of the same batch overwrites: same feature, entity and event time.

The later row is a correction, as between batches. Within a batch it is more often a sign of a missing timestamp,
so the count is reported. Rows are compared by 64-bit hashes: among a hundred million, two different ones collide
with a probability of 1 in 4,000.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from actors.settings import ROWS_PER_TURN
from actors.table.batch import Batch, Table, columns_of, observations
from actors.table.ids import Ids
from actors.turns import Steps, at_once
from actors.types.type import FEW

Hashes = NDArray[np.uint64]

KEYS_IN_MEMORY = 4_000_000
"""How many hashes are sorted at once; those of a longer stream are kept in a file."""
_KEY_BYTES = 8


def overwritten(batch: Batch) -> int:
    """The number of rows of a batch that a later one overwrites."""
    return at_once(counting(batch))


def counting(batch: Batch) -> Steps[int]:
    """Do what `overwritten` does, in steps."""
    rows = observations(batch)
    if rows <= FEW:
        if len({column.feature for column in columns_of(batch)}) == rows:
            return 0
        distinct = {
            (column.feature, entity, time)
            for table in batch
            for entity, time in zip(table.entities, table.times.tolist(), strict=True)
            for column in table.columns
        }
        return rows - len(distinct)
    of_feature: dict[str, list[Table]] = {}
    for table in batch:
        for column in table.columns:
            of_feature.setdefault(column.feature, []).append(table)
    hashes, alike = _Hashes(), dict[Table, int]()
    count, since = 0, 0
    for feature, tables in of_feature.items():
        since += sum(table.rows for table in tables)
        if since > ROWS_PER_TURN:
            yield
            since = 0
        table = tables[0]
        if len(tables) > 1:
            count += _repeated(np.concatenate([hashes.of_rows(feature, one) for one in tables]))
            continue
        if table not in alike:  # the result is the same for all columns of a table
            alike[table] = 0 if _all_differ(table) else _repeated(hashes.of_rows(feature, table))
        count += alike[table]
    return count


class Overwriting:
    """Counts overwritten rows of a stream of any length. A context manager; methods block if a file is used."""

    def __init__(self) -> None:
        self._count = 0
        self._file = tempfile.SpooledTemporaryFile(max_size=KEYS_IN_MEMORY * _KEY_BYTES)  # noqa: SIM115

    def add(self, batch: Batch) -> None:
        """Add a batch."""
        hashes = _Hashes()
        for table in batch:
            for column in table.columns:
                keys = hashes.of_rows(column.feature, table)
                self._file.write(keys.tobytes())
                self._count += len(keys)

    def count(self) -> int:
        """The number of rows added so far that a later one overwrites."""
        parts = np.uint64(self._count // KEYS_IN_MEMORY + 1)
        return sum(_repeated(np.concatenate([*self._part(part, parts)])) for part in range(int(parts)))

    def _part(self, part: int, parts: np.uint64) -> Iterator[Hashes]:
        """The hashes with the remainder `part`; equal hashes are always in the same part."""
        yield np.empty(0, np.uint64)
        self._file.seek(0)
        while data := self._file.read(KEYS_IN_MEMORY // 4 * _KEY_BYTES):
            keys = np.frombuffer(data, np.uint64)
            yield keys[keys % parts == part]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()


class _Hashes:
    """Hashes of rows. Those of a list of ids are computed once."""

    def __init__(self) -> None:
        self._of: dict[Ids, Hashes] = {}

    def of_rows(self, feature: str, table: Table) -> Hashes:
        """The hash of each row of a feature in a table: uint64[n]."""
        ids = table.entities.ids
        if ids not in self._of:
            self._of[ids] = np.fromiter(map(hash, ids.texts), np.int64, len(ids)).view(np.uint64)
        of_feature = np.int64(hash(feature)).view(np.uint64)
        return _mixed(_mixed(self._of[ids][table.entities.codes] ^ of_feature) + table.times.view(np.uint64))


def _mixed(keys: Hashes) -> Hashes:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014): each bit of the input reaches every bit."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _repeated(keys: Hashes) -> int:
    keys = np.sort(keys)
    return int(np.count_nonzero(keys[1:] == keys[:-1]))


def _all_differ(table: Table) -> bool:
    """Whether each row is of a different entity; may be False if that is not obvious."""
    codes = table.entities.codes
    return bool((codes[1:] > codes[:-1]).all())
