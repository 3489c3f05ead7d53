"""Answers that wait for slow clients: bounds on the time of each and on the bytes of all.

What a client does not take is held in memory. A client that takes next to nothing for STALLED_SECONDS is given up.
If the waiting bytes of all exceed ANSWER_BYTES_UNTAKEN, the client that has made no progress for longest is given
up.

It could go if Hypercorn gave up sends that make no progress, and bounded what waits to be sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from actors.settings import ANSWER_BYTES_UNTAKEN


class Sending:
    """An answer, or a part of one, that is being sent. `size`: its bytes not yet taken."""

    def __init__(self, untaken: Untaken, size: int) -> None:
        self.scope = trio.CancelScope()
        self.size = 0
        self._untaken = untaken
        untaken.change(self, size)

    def took(self, size: int) -> None:
        """Note that the client has taken `size` bytes."""
        self._untaken.change(self, -min(size, self.size))


class Untaken:
    """All answers that are being sent, on both lanes, ordered by their last progress, longest ago first."""

    def __init__(self, seconds: float) -> None:
        self.total = 0
        self._seconds = seconds
        self._waiting: dict[Sending, None] = {}

    @contextmanager
    def taking(self, size: int) -> Iterator[Sending]:
        """Send inside this block and report progress. Raises BrokenResourceError if the client is given up."""
        taking = Sending(self, size)
        try:
            with taking.scope:
                yield taking
        finally:
            self.total -= taking.size
            self._waiting.pop(taking, None)
        if taking.scope.cancelled_caught:
            raise trio.BrokenResourceError("the client does not take its answer")

    def change(self, taking: Sending, by: int) -> None:
        """Add to (or subtract from) the waiting bytes of an answer, and restart its time."""
        taking.size += by
        self.total += by
        self._waiting.pop(taking, None)
        self._waiting[taking] = None
        taking.scope.deadline = trio.current_time() + self._seconds
        while self.total > ANSWER_BYTES_UNTAKEN and (oldest := next(iter(self._waiting))) is not taking:
            self._give_up(oldest)  # the only answer is never too large

    def _give_up(self, taking: Sending) -> None:
        """Cancel the sending. Its bytes stop counting at once, else more clients would be given up for them."""
        taking.scope.cancel()
        self.total -= taking.size
        taking.size = 0
        del self._waiting[taking]
