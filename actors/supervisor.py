"""Supervision: an actor that crashes reloads its state and runs again.

An error caused by a request is answered, and stops nothing. Any other exception ends the actor's run: its open
calls are answered with StoreCrashed, it reloads its state from durable storage and runs again. An actor that
crashes more than CRASHES_ALLOWED times within CRASH_WINDOW_SECONDS ends the process: it would crash again on the
same input, and an orchestrator detects a dead process more easily than a failing one. Temporary failures do not
count: a shortage of memory, or a storage that is out of reach while the state is reloaded.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

import trio

from actors.errors import StoreCrashed, Unavailable, shortage
from actors.mailbox import Mailbox
from actors.settings import CRASH_WINDOW_SECONDS, CRASHES_ALLOWED

log = logging.getLogger("timewell.supervisor")


class Actor(Protocol):
    """What `supervise` can run."""

    mailbox: Mailbox

    async def load(self) -> None:
        """Load the state from durable storage."""

    async def run(self) -> None:
        """Handle messages until cancelled."""


async def supervise(actor: Actor, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Load and run an actor until cancelled. Reports `started` once the actor is loaded for the first time."""
    crashes: deque[float] = deque()
    name = actor.mailbox.name
    await actor.load()
    task_status.started()
    while True:
        try:
            await actor.run()
        except Exception as error:
            _note(error, crashes)
            log.exception("%s crashed; rebuilding it", name, exc_info=error)
        await _rebuild(actor, crashes)


async def _rebuild(actor: Actor, crashes: deque[float]) -> None:
    name = actor.mailbox.name
    actor.mailbox.refuse(StoreCrashed(f"the {name} failed and is being rebuilt"))
    while True:
        while crashes and crashes[0] < trio.current_time() - CRASH_WINDOW_SECONDS:
            crashes.popleft()
        if len(crashes) > CRASHES_ALLOWED:
            raise RuntimeError(f"the {name} crashed {len(crashes)} times within {CRASH_WINDOW_SECONDS:.0f} s")
        try:
            await actor.load()
        except Exception as error:
            _note(error, crashes)
            log.exception("the %s could not be rebuilt yet", name, exc_info=error)
            await trio.sleep(1)
        else:
            actor.mailbox.accept()
            log.warning("the %s is back", name)
            return


def _note(error: Exception, crashes: deque[float]) -> None:
    if shortage(error) is None and not isinstance(error, Unavailable):
        crashes.append(trio.current_time())
