"""Long work a step at a time, so that others take their turns in between.

The work is a generator that yields wherever it may be interrupted and returns what comes of it. The same work is
done at once where nobody waits, or by turns on the event loop.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import trio

T = TypeVar("T")
Steps = Generator[None, None, T]


def at_once(steps: Steps[T]) -> T:
    """Take all the steps."""
    try:
        while True:
            next(steps)
    except StopIteration as done:
        result: Any = done.value
        return result  # type: ignore[no-any-return]


async def by_turns(steps: Steps[T]) -> T:
    """Take all the steps, others running in between."""
    try:
        while True:
            next(steps)
            await trio.lowlevel.checkpoint()
    except StopIteration as done:
        result: Any = done.value
        return result  # type: ignore[no-any-return]
    finally:
        steps.close()
