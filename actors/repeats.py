"""The idempotency keys of writes that are under way in this process: a repeat waits for the first, in any lane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import trio


class Repeats:
    """A write may be committed in slices, of which the last alone has the key: no repeat may come in between."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def one(self, key: str) -> AsyncIterator[None]:
        """One write at a time of a key."""
        async with self._locks.setdefault(key, trio.Lock()):
            yield
