"""Worker threads for what is large: a few at once, as each of them takes the interpreter from the requests.

With the forty that trio has by itself a small read would wait for its fortieth part of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from actors.settings import ANSWERS_MADE_AT_ONCE

T = TypeVar("T")
_LIMITER = trio.lowlevel.RunVar[trio.CapacityLimiter]("answers being made")


def places() -> trio.CapacityLimiter:
    """Those of the event loop that runs."""
    try:
        return _LIMITER.get()
    except LookupError:
        _LIMITER.set(limiter := trio.CapacityLimiter(ANSWERS_MADE_AT_ONCE))
        return limiter


async def in_worker(work: Callable[..., T], *about: object) -> T:
    """Have it done in a worker thread, when there is one."""
    return await trio.to_thread.run_sync(work, *about, limiter=places())
