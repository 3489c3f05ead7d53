"""Answers that wait for their clients: how long each may, and how many bytes all of them.

What a client does not take is held in memory. One that takes next to nothing for STALLED_SECONDS is given up;
where all that waits would be too much, so is the one that has taken nothing for longest.

It could go if Hypercorn gave up sends that make no progress, and bounded what waits to be sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from actors.settings import ANSWER_BYTES_UNTAKEN


class Taking:
    """One answer, or a part of it, that is being taken."""

    def __init__(self, untaken: Untaken, size: int) -> None:
        self.scope = trio.CancelScope()
        self.size = 0
        self._untaken = untaken
        untaken.change(self, size)

    def took(self, size: int) -> None:
        """The client has taken so many bytes of it."""
        self._untaken.change(self, -min(size, self.size))


class Untaken:
    """What waits, on whichever lane; that which has waited for longest comes first."""

    def __init__(self, seconds: float) -> None:
        self.total = 0
        self._seconds = seconds
        self._waiting: dict[Taking, None] = {}

    @contextmanager
    def taking(self, size: int) -> Iterator[Taking]:
        """Send within it, and say what was taken. Raises BrokenResourceError where the client is given up."""
        one = Taking(self, size)
        try:
            with one.scope:
                yield one
        finally:
            self.total -= one.size
            self._waiting.pop(one, None)
        if one.scope.cancelled_caught:
            raise trio.BrokenResourceError("the client does not take its answer")

    def change(self, one: Taking, by: int) -> None:
        """So many more bytes wait, or fewer. Its time begins anew."""
        one.size += by
        self.total += by
        self._waiting.pop(one, None)
        self._waiting[one] = None
        one.scope.deadline = trio.current_time() + self._seconds
        while self.total > ANSWER_BYTES_UNTAKEN and (oldest := next(iter(self._waiting))) is not one:
            self._give_up(oldest)  # an answer alone is never too large

    def _give_up(self, one: Taking) -> None:
        """Its bytes count no more from now on, else others would be given up for them until it has ended."""
        one.scope.cancel()
        self.total -= one.size
        one.size = 0
        del self._waiting[one]
