"""Limits for large answers: few worker threads at once, and a bound on the values in memory.

The threads share one interpreter with the event loop. With trio's default of forty busy ones, a small read would
get a fortieth of the time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from actors.errors import Overloaded
from actors.settings import ANSWERS_MADE_AT_ONCE, FEW_VALUES, ROOM_WAIT_SECONDS, VALUES_UNDER_WAY

T = TypeVar("T")
_LIMITER = trio.lowlevel.RunVar[trio.CapacityLimiter]("answers being made")


def places() -> trio.CapacityLimiter:
    """The limiter of the worker threads, one per event loop."""
    try:
        return _LIMITER.get()
    except LookupError:
        _LIMITER.set(limiter := trio.CapacityLimiter(ANSWERS_MADE_AT_ONCE))
        return limiter


async def in_worker(work: Callable[..., T], *about: object) -> T:
    """Call `work(*about)` in a worker thread, once one is free."""
    return await trio.to_thread.run_sync(work, *about, limiter=places())


class Room:
    """A bound on the values of large answers in progress. An answer waits for those that asked before it."""

    def __init__(self, values: int) -> None:
        self._most = self._free = values
        self._turn = trio.Lock()
        self._freed = trio.Event()

    @asynccontextmanager
    async def of(self, values: int) -> AsyncIterator[None]:
        """Hold room for the values of an answer, at most all there is. Raises Overloaded after a long wait."""
        if values <= FEW_VALUES:
            yield
            return
        needed = min(values, self._most)
        with trio.move_on_after(ROOM_WAIT_SECONDS) as patience:
            async with self._turn:
                while self._free < needed:
                    self._freed = trio.Event()
                    await self._freed.wait()
                self._free -= needed
        if patience.cancelled_caught:
            raise Overloaded("too many large answers are being made")
        try:
            yield
        finally:
            self._free += needed
            self._freed.set()


_ROOM = trio.lowlevel.RunVar[Room]("room for large answers")


def room() -> Room:
    """The room for large answers, one per event loop."""
    try:
        return _ROOM.get()
    except LookupError:
        _ROOM.set(made := Room(VALUES_UNDER_WAY))
        return made
