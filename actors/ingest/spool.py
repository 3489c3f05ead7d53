"""Judged batches set aside until a stream has been read to its end: one bad value refuses all of it.

Up to some MB in memory, then in a file that is gone when the process is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from actors.table.batch import Batch, Table
from actors.table.packing import pack, unpack

IN_MEMORY_BYTES = 16 * 1024 * 1024


class Spool:
    """First in, first out. A context manager; its methods block where the file is used."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
        self._sizes: list[int] = []

    def put(self, batch: Batch) -> None:
        """Set aside."""
        packed = pack(batch)
        self._file.write(packed)
        self._sizes.append(len(packed))

    def take_all(self) -> Iterator[list[Table]]:
        """Everything that was put, lot by lot."""
        self._file.seek(0)
        for size in self._sizes:
            yield unpack(self._file.read(size))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()
