"""The history files: their records in the journal, and reading them with verification.

A file is written once. Each block of 64 KiB has a checksum, which is computed after writing and kept in the
journal with the description of the file. All later reads verify whole blocks, so that footers, statistics and
values are all covered, and reading a few rows costs a few blocks.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import Damaged
from actors.storage.embedded.layout import micros

BLOCK_BYTES = 65_536
_READ_BYTES = 64 * BLOCK_BYTES


class RunFile(msgspec.Struct, frozen=True):
    """The record of a file of a run.

    `features`: by id the least and the greatest event time. `modified` and `removed` (None: in use) are
    milliseconds of the wall clock. `sums`: the checksums, four bytes for each block; empty if they are lost.
    `memory`: the size of its rows uncompressed in bytes, 0 if unknown.
    """

    path: str
    run: int
    rows: int
    size: int
    modified: int
    stats: str
    features: dict[str, tuple[int, int]]
    sums: bytes
    removed: int | None = None
    memory: int = 0


class Change(NamedTuple):
    """A change of the history: the new version, files that were added or removed, and those deleted (`gone`).

    `metadata`: that of a new Delta table; `log`: checksums of files of its log, None for deleted ones.
    """

    version: int
    files: Sequence[RunFile] = ()
    gone: Sequence[str] = ()
    metadata: str | None = None
    log: Sequence[tuple[str, int | None]] = ()


def sums_of(path: Path) -> bytes:
    """The checksums of a file's blocks."""
    sums = []
    with path.open("rb", buffering=0) as file:
        while data := file.read(BLOCK_BYTES):
            sums.append(crc32(data))
    return struct.pack(f"<{len(sums)}I", *sums)


def bounds_of(table: pa.Table) -> dict[str, tuple[int, int]]:
    """For each feature the least and the greatest event time in sorted rows."""
    bounds: dict[str, tuple[int, int]] = {}
    for batch in table.to_batches():
        names = batch["feature"].dictionary_encode()
        times = micros(batch["event_timestamp"])
        edges = np.flatnonzero(np.diff(names.indices.to_numpy(), prepend=-1))
        least, greatest = np.minimum.reduceat(times, edges), np.maximum.reduceat(times, edges)
        for edge, low, high in zip(edges.tolist(), least.tolist(), greatest.tolist(), strict=True):
            name = names.dictionary[names.indices[edge].as_py()].as_py()
            before = bounds.get(name, (low, high))
            bounds[name] = min(low, before[0]), max(high, before[1])
    return bounds


def noted(directory: Path, path: str, run: int, stats: str) -> RunFile:
    """The record of a file written by an earlier version, which kept no records."""
    whole = directory / path
    table = pq.ParquetFile(whole).read(["feature", "event_timestamp"])
    about = whole.stat()
    modified = about.st_mtime_ns // 1_000_000
    return RunFile(path, run, table.num_rows, about.st_size, modified, stats, bounds_of(table), sums_of(whole))


def damage(directory: Path, file: RunFile) -> list[str]:
    """Read all of a file, and return descriptions of its damage."""
    try:
        reader = VerifiedFile(directory, file)
    except FileNotFoundError:
        return [f"the history file {file.path} is damaged: it is gone"]
    except (Damaged, OSError) as error:
        return [str(error)]
    found = []
    with reader:
        for start in range(0, file.size, _READ_BYTES):
            reader.seek(start)
            try:
                reader.read(_READ_BYTES)
            except Damaged as error:
                found.append(str(error))
    return found


class VerifiedFile:
    """A file object for Arrow that verifies checksums, and raises Damaged if they do not match."""

    closed = False

    def __init__(self, directory: Path, file: RunFile) -> None:
        self._noted = file
        self._sums = np.frombuffer(file.sums, np.dtype("<u4"))
        self._file = (directory / file.path).open("rb", buffering=0)
        self._position = 0
        if not file.sums:
            self._file.close()
            raise Damaged(
                f"the history file {file.path} cannot be verified: the note of it in journal.db is damaged"
            )
        if os.fstat(self._file.fileno()).st_size != file.size:
            self._file.close()
            raise Damaged(f"the history file {file.path} is damaged: it has not the {file.size} bytes it had")

    def __enter__(self) -> VerifiedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, count: int = -1) -> bytes:
        """Read `count` bytes, fewer at the end of the file; all of the rest if it is negative."""
        left = self._noted.size - self._position
        count = left if count < 0 else min(count, left)
        first, last = self._position // BLOCK_BYTES, -(-(self._position + count) // BLOCK_BYTES)
        data = os.pread(self._file.fileno(), (last - first) * BLOCK_BYTES, first * BLOCK_BYTES)
        self._look_at(data, first, last)
        begin = self._position - first * BLOCK_BYTES
        self._position += count
        return data[begin : begin + count] if begin or count < len(data) else data

    def _look_at(self, data: bytes, first: int, last: int) -> None:
        view = memoryview(data)
        for block in range(first, last):
            start = (block - first) * BLOCK_BYTES
            if crc32(view[start : start + BLOCK_BYTES]) != self._sums[block]:
                at = block * BLOCK_BYTES
                until = min(at + BLOCK_BYTES, self._noted.size) - 1
                raise Damaged(f"the history file {self._noted.path} is damaged between bytes {at} and {until}")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position of the next read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._noted.size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The position of the next read."""
        return self._position

    def close(self) -> None:
        """Close the file."""
        self.closed = True
        self._file.close()

    def readable(self) -> bool:
        """Whether the file can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether the file supports `seek`: always."""
        return True

    def writable(self) -> bool:
        """Whether the file can be written: never."""
        return False
