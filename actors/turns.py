"""Long work in steps, so that other tasks run in between.

The work is a generator that yields wherever it may be interrupted, and returns its result. The same generator can
be run in one go (`at_once`), in turns with other tasks on the event loop (`by_turns`), in the background when
other tasks are idle (`behind`), or in worker threads (`aside`), which helps if it is numpy code that releases the
GIL.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any, TypeVar

import trio

STRETCH_SECONDS = 0.0005
"""How long background work runs between two rests."""
VISIT_SECONDS = 0.02
"""How long a worker thread runs one caller's work before another caller may have it."""

T = TypeVar("T")
Steps = Generator[None, None, T]


def slices(count: int, most: int) -> Iterator[slice]:
    """Split `count` items into slices of at most `most`, one for each step; none if there are no items."""
    return (slice(start, min(start + most, count)) for start in range(0, count, most))


def at_once(steps: Steps[T]) -> T:
    """Run all steps without interruption."""
    try:
        while True:
            next(steps)
    except StopIteration as done:
        result: Any = done.value
        return result  # type: ignore[no-any-return]


async def by_turns(steps: Steps[T]) -> T:
    """Run all steps, letting other tasks run between any two."""
    try:
        while True:
            next(steps)
            await trio.lowlevel.checkpoint()
    except StopIteration as done:
        result: Any = done.value
        return result  # type: ignore[no-any-return]
    finally:
        steps.close()


async def behind(steps: Steps[T], rest: Callable[[], Awaitable[None]]) -> T:
    """Run all steps in the background: for STRETCH_SECONDS after each `rest` (see `Mailbox.rest`)."""
    try:
        while True:
            await rest()
            until = time.perf_counter() + STRETCH_SECONDS
            while time.perf_counter() < until:
                next(steps)
    except StopIteration as done:
        result: Any = done.value
        return result  # type: ignore[no-any-return]
    finally:
        steps.close()


async def aside(steps: Steps[T], limiter: trio.CapacityLimiter) -> T:
    """Run all steps in worker threads. A cancelled caller waits for the current visit, and starts no other."""
    try:
        while (done := await trio.to_thread.run_sync(_visit, steps, limiter=limiter)) is None:
            pass
        return done[0]
    finally:
        steps.close()


def _visit(steps: Steps[T]) -> tuple[T] | None:
    """Run steps for VISIT_SECONDS; returns the result, in a tuple, if they were the last, else None."""
    until = time.perf_counter() + VISIT_SECONDS
    try:
        next(steps)
        while time.perf_counter() < until:
            next(steps)
    except StopIteration as done:
        return (done.value,)
    return None
