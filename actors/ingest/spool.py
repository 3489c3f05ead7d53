"""Spools validated batches until a stream has been read to its end, as one invalid value rejects all of it.

Some megabytes are kept in memory, more in a temporary file.
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
    """A FIFO of batches. A context manager; its methods block if a file is used."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
        self._sizes: list[int] = []

    def put(self, batch: Batch) -> None:
        """Append a batch."""
        packed = pack(batch)
        self._file.write(packed)
        self._sizes.append(len(packed))

    def take_all(self) -> Iterator[list[Table]]:
        """Read back all batches in order."""
        self._file.seek(0)
        for size in self._sizes:
            yield unpack(self._file.read(size))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()
