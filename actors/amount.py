"""How much a question brings or holds: counted as it comes, and refused where it is too much.

What is refused as a whole may do in parts: `in_lots`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from actors.errors import TooMuchAtOnce
from actors.settings import INDEX_BYTES
from actors.table.rows import Rows
from actors.types.type import Array

T = TypeVar("T")
UNCOUNTED = 2**62


class Amount:
    """Rows and bytes so far. Not for several threads at once."""

    def __init__(self, about: str, most_rows: int, most_bytes: int) -> None:
        """`about`: what is read, for the one who is refused."""
        self._about = about
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._rows = 0
        self._bytes = 0

    def add(self, rows: int, size: int) -> None:
        """Count some more rows, whose values have so many bytes. Raises TooMuchAtOnce where that is too much."""
        self._rows += rows
        self._bytes += size + rows * INDEX_BYTES
        if self._rows > self._most_rows:
            words = f"more than {self._most_rows} observations of {self._about}"
            raise TooMuchAtOnce(f"{words}: ask for less at once")
        if self._bytes > self._most_bytes:
            words = f"observations of {self._about} with more than {self._most_bytes} bytes (MAX_READ_BYTES)"
            raise TooMuchAtOnce(f"{words}: ask for less at once")

    def add_rows(self, rows: Rows) -> None:
        """The same of rows at hand."""
        self.add(rows.size, bytes_of(rows.values))


async def in_lots(count: int, most: int, ask: Callable[[slice], Awaitable[T]]) -> AsyncIterator[tuple[slice, T]]:
    """What is answered of `count` things in order, `most` at a time, and half as many from where that is too much.

    Raises TooMuchAtOnce where one alone is.
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
    """About how many bytes there are in a column of any type, texts by their characters."""
    if values.dtype != object:
        return values.nbytes
    return sum(len(one) for one in values.ravel().tolist() if type(one) is str)
