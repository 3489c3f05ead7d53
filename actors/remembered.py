"""What was made for a question, kept for the next one that is the same: bounded in bytes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from actors.settings import REMEMBERED_BYTES

V = TypeVar("V")


class Remembered(Generic[V]):
    """A dictionary that begins anew where it would become too large."""

    def __init__(self, most_bytes: int = REMEMBERED_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._made: dict[Hashable, V] = {}

    def get(self, question: Hashable) -> V | None:
        """What was made for it, None where nothing is known of that."""
        return self._made.get(question)

    def keep(self, question: Hashable, made: V, size: int) -> V:
        """Remember what was made, of about so many bytes; what alone would be too much is not. Returns it."""
        if size > self._most // 4:
            return made
        if self._bytes + size > self._most:
            self.clear()
        self._bytes += size
        self._made[question] = made
        return made

    def clear(self) -> None:
        """Begin anew."""
        self._made, self._bytes = {}, 0
