"""Bounds on how many rows and bytes a query reads, holds or answers with, counted as they are read.

A query that exceeds them as a whole may succeed in smaller lots: see `in_lots`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from actors.errors import TooLarge, TooMuchAtOnce
from actors.settings import INDEX_BYTES
from actors.table.rows import Rows
from actors.types.type import Array

T = TypeVar("T")
UNCOUNTED = 2**62


class Amount:
    """Counts the rows and bytes read so far against a limit of each. Not thread-safe."""

    def __init__(self, about: str, most_rows: int, most_bytes: int) -> None:
        """`about`: what is being read, for the error message."""
        self._about = about
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._rows = 0
        self._bytes = 0

    def add(self, rows: int, size: int) -> None:
        """Count `rows` more rows whose values take `size` bytes. Raises TooMuchAtOnce when over a limit."""
        self._rows += rows
        self._bytes += size + rows * INDEX_BYTES
        if self._rows > self._most_rows:
            words = f"more than {self._most_rows} observations of {self._about}"
            raise TooMuchAtOnce(f"{words}: ask for less at once")
        if self._bytes > self._most_bytes:
            words = f"observations of {self._about} with more than {self._most_bytes} bytes (MAX_READ_BYTES)"
            raise TooMuchAtOnce(f"{words}: ask for less at once")

    def add_rows(self, rows: Rows) -> None:
        """Count rows that are in memory already. Raises TooMuchAtOnce when over a limit."""
        self.add(rows.size, bytes_of(rows.values))


def check_answer(size: int, most: int) -> None:
    """Raise TooLarge if an answer of about `size` bytes has more than `most`."""
    if size > most:
        words = f"the answer would have about {size} bytes or more, at most {most} are given at once"
        raise TooLarge(f"{words}: ask for fewer entities, features or windows")


async def in_lots(count: int, most: int, ask: Callable[[slice], Awaitable[T]]) -> AsyncIterator[tuple[slice, T]]:
    """Query `count` items in order, at most `most` at a time, and yield each slice of them with its answer.

    The lot size is halved whenever `ask` raises TooMuchAtOnce, which is passed on if it does so for a single item.
    """
    start = 0
    while start < count:
        cut = slice(start, min(start + most, count))
        try:
            answer = await ask(cut)
        except TooMuchAtOnce:
            most = (cut.stop - cut.start) // 2
            if most == 0:
                raise
        else:
            yield cut, answer
            start = cut.stop


def bytes_of(values: Array) -> int:
    """The approximate size in bytes of a column of any type; strings count one byte a character."""
    if values.dtype != object:
        return values.nbytes
    return sum(len(one) for one in values.ravel().tolist() if type(one) is str)
