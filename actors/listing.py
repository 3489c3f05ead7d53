"""Lists the ids of entities in worker threads: the stores, which hold only a part of them, are not asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from actors.settings import LISTED_SECONDS, LISTERS
from actors.storage.listed import IdsPage, IdsQuestion, KeptIds, KnownIds

T = TypeVar("T")


class Listing:
    """Lists ids, for at most LISTERS callers at once."""

    def __init__(self, known: KnownIds) -> None:
        self._known = known
        self._listers = trio.CapacityLimiter(LISTERS)

    async def page(self, asked: IdsQuestion, made: Callable[[IdsPage], T]) -> T:
        """What `made` makes of the next ids, in the worker thread. See `KnownIds`."""
        return await trio.to_thread.run_sync(
            lambda: made(self._known.page(asked)), limiter=self._listers, abandon_on_cancel=True
        )


async def let_go_unused(kept: KeptIds) -> None:
    """Free from time to time the ids that are no longer listed, until cancelled."""
    while True:
        await trio.sleep(LISTED_SECONDS)
        await trio.to_thread.run_sync(kept.let_go, LISTED_SECONDS)
