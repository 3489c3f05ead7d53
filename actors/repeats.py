"""Writes with an idempotency key: one at a time of each, and whatever comes again is answered as the first was.

Within this process a lock says so. Over a shared store the first may be in another process: what is written in one
commit is told apart by the store, and what takes several claims its key there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from weakref import WeakValueDictionary

import trio

from actors.clock import ArrivalClock
from actors.errors import Unavailable, UnderWay
from actors.settings import IDEMPOTENCY_HOURS, UNDER_WAY_AGAIN_SECONDS, UNDER_WAY_SECONDS
from actors.storage.protocol import Claims, Log
from actors.timestamps import SECOND


class Repeated(bytes):
    """An answer that was given before, to the same idempotency key."""


class Repeats:
    """See the module."""

    def __init__(self, log: Log, clock: ArrivalClock, claims: Claims | None = None) -> None:
        """`claims`: of a shared store, where the first of several may be in another process."""
        self._log = log
        self._claims = claims
        self._clock = clock
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    async def answered(self, key: str) -> bytes | None:
        """What a write with this key was answered, None where there was none of late."""
        since = self._clock.steady() - IDEMPOTENCY_HOURS * 3_600 * SECOND
        answers = await trio.to_thread.run_sync(self._log.answers, [key], since)
        return answers.get(key)

    async def once(self, key: str, write: Callable[[], Awaitable[bytes]]) -> bytes:
        """What a write with this key was answered before (Repeated), or what `write` answers now.

        A repeat waits for the first. Raises UnderWay where that is in another process and takes long.
        """
        async with self._locks.setdefault(key, trio.Lock()):
            before = await self.answered(key)
            if before is not None:
                return Repeated(before)
            try:
                return await write()
            except UnderWay:
                with trio.move_on_after(UNDER_WAY_SECONDS):
                    while (before := await self.answered(key)) is None:
                        await trio.sleep(UNDER_WAY_AGAIN_SECONDS)
                if before is None:
                    raise
                return Repeated(before)

    @asynccontextmanager
    async def alone(self, key: str | None) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Be the only one of all processes that writes under a key, in several commits.

        Yields what is to be called before each of them. Both raise UnderWay where another process does.
        """
        claims = self._claims
        if claims is None or key is None:
            yield trio.lowlevel.checkpoint
            return

        async def claim() -> None:
            if not await trio.to_thread.run_sync(claims.claim, key):
                raise UnderWay("another process is at work on this Idempotency-Key")

        try:
            await claim()
            if await self.answered(key) is not None:
                raise UnderWay("another process has done what this Idempotency-Key stands for")
            yield claim
        finally:
            with trio.CancelScope(shield=True), suppress(Unavailable):
                await trio.to_thread.run_sync(claims.disclaim, key)
