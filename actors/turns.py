"""Long work a step at a time, so that others take their turns in between.

The work is a generator that yields wherever it may be interrupted and returns what comes of it. The same work is
done at once where nobody waits, by turns on the event loop, behind whatever else there is to do, or aside in
worker threads, where it is numpy's and that lets go of the interpreter.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

import trio

STRETCH_SECONDS = 0.0005
"""How long work that has given way goes on before it does so again."""
VISIT_SECONDS = 0.02
"""So long a worker thread goes on with the work of one asker before it may be that of another."""

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


async def behind(steps: Steps[T], rest: Callable[[], Awaitable[None]]) -> T:
    """Take all the steps, some after each rest: see `Mailbox.rest`."""
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
    """Take all the steps in worker threads. Who is cancelled waits for the step under way, and takes no more."""
    try:
        while (done := await trio.to_thread.run_sync(_visit, steps, limiter=limiter)) is None:
            pass
        return done[0]
    finally:
        steps.close()


def _visit(steps: Steps[T]) -> tuple[T] | None:
    """Some steps; what came of them where they were the last."""
    until = time.perf_counter() + VISIT_SECONDS
    try:
        next(steps)
        while time.perf_counter() < until:
            next(steps)
    except StopIteration as done:
        return (done.value,)
    return None
