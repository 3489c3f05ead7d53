"""Long work a step at a time, so that others take their turns in between.

The work is a generator that yields wherever it may be interrupted and returns what comes of it. The same work is
done at once where nobody waits, by turns on the event loop, or behind whatever else there is to do.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

import trio
from trio.testing import wait_all_tasks_blocked

PATIENCE_SECONDS = 0.005
"""Work that can wait gives way so long: where the others never rest it has a sixth of the time."""
STRETCH_SECONDS = 0.0005
"""How long it then goes on. A read passes through the event loop three times and meets one stretch, not three."""

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


async def behind(steps: Steps[T]) -> T:
    """Take all the steps, some whenever nobody else has anything to do, and some where that never is so."""
    try:
        while True:
            await others_rest()
            until = time.perf_counter() + STRETCH_SECONDS
            while time.perf_counter() < until:
                next(steps)
    except StopIteration as done:
        result: Any = done.value
        return result  # type: ignore[no-any-return]
    finally:
        steps.close()


async def others_rest() -> None:
    """Let the others run until they all wait for something, though not forever."""
    with trio.move_on_after(PATIENCE_SECONDS):
        await wait_all_tasks_blocked()
