"""Judged blocks set aside until a stream has been read to its end: one bad value refuses all of it.

Up to some MB stay as they are, the rest goes into a file that is gone when the process is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import IO, Self

from actors.columns import Block, pack, unpack

IN_MEMORY_BYTES = 16 * 1024 * 1024


class Spool:
    """First in, first out. A context manager."""

    def __init__(self) -> None:
        self._room = IN_MEMORY_BYTES
        self._kept: list[list[Block]] = []
        self._file: IO[bytes] | None = None
        self._sizes: list[int] = []

    def keep(self, blocks: list[Block], size: int) -> bool:
        """Set aside in memory; False where there is no room. `size`: bytes of what the blocks were made of."""
        if self._file is not None or size > self._room:
            return False
        self._room -= size
        self._kept.append(blocks)
        return True

    def put(self, blocks: Sequence[Block]) -> None:
        """Set aside in the file. Blocks the thread."""
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        packed = pack(blocks)
        self._file.write(packed)
        self._sizes.append(len(packed))

    def take_all(self) -> Iterator[list[Block]]:
        """Everything that was set aside, lot by lot. Blocks the thread where the file is read."""
        yield from self._kept
        if self._file is not None:
            self._file.seek(0)
            for size in self._sizes:
                yield unpack(self._file.read(size))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
