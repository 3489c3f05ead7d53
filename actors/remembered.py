"""A cache of what was computed for a request, for the next equal one. Its size is bounded in bytes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from actors.settings import REMEMBERED_BYTES

V = TypeVar("V")


class Remembered(Generic[V]):
    """A dictionary that is emptied when it would become too large."""

    def __init__(self, most_bytes: int = REMEMBERED_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._made: dict[Hashable, V] = {}

    def get(self, question: Hashable) -> V | None:
        """The value kept for `question`, or None."""
        return self._made.get(question)

    def keep(self, question: Hashable, made: V, size: int) -> V:
        """Keep `made`, of about `size` bytes, unless it alone takes a quarter of the cache; returns `made`."""
        if size > self._most // 4:
            return made
        if self._bytes + size > self._most:
            self.clear()
        self._bytes += size
        self._made[question] = made
        return made

    def clear(self) -> None:
        """Remove everything."""
        self._made, self._bytes = {}, 0
