"""Idempotency keys: writes with the same key run one at a time, and a repeat is answered like the first.

Within a process a lock per key ensures this. Over a shared store the first write may be in another process: if a
write is a single commit, the store itself detects the repeat; a write of several commits claims its key there.
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
    """An answer that was given before for the same idempotency key."""


class Repeats:
    """Runs writes with idempotency keys; see the module docstring."""

    def __init__(self, log: Log, clock: ArrivalClock, claims: Claims | None = None) -> None:
        """`claims`: those of a shared store, None for a storage of this process alone."""
        self._log = log
        self._claims = claims
        self._clock = clock
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    async def answered(self, key: str) -> bytes | None:
        """The answer to a write with this key within the last IDEMPOTENCY_HOURS, or None."""
        since = self._clock.steady() - IDEMPOTENCY_HOURS * 3_600 * SECOND
        answers = await trio.to_thread.run_sync(self._log.answers, [key], since)
        return answers.get(key)

    async def once(self, key: str, write: Callable[[], Awaitable[bytes]]) -> bytes:
        """The answer given before to a write with this key (Repeated), or else that of `write`.

        A repeat waits for the first. Raises UnderWay if that runs in another process for UNDER_WAY_SECONDS or
        more.
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
        """Claim a key, so that no other process writes under it while this one writes in several commits.

        Yields a function to call before each commit, which renews the claim. Both raise UnderWay if another
        process holds the claim, or has finished the write.
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
