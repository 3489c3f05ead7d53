"""Crash, reload, run again.

An error of the asker's making is an answer and stops nothing. Any other exception ends the actor's run: its
open calls are answered with StoreCrashed, it reloads its state from what is durable and runs again. An actor
that crashes more than CRASHES_ALLOWED times within CRASH_WINDOW_SECONDS takes the process down: it would
crash again on the same input, and an orchestrator sees a dead process better than a sick one. What is only a want
of memory, or a storage that is out of reach while the state is made anew, does not count: it may end.
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
    """What can be supervised."""

    mailbox: Mailbox

    async def load(self) -> None:
        """Make the state anew from what is durable."""

    async def run(self) -> None:
        """Handle messages until cancelled."""


async def supervise(actor: Actor, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Load and run an actor for as long as the process lives; it counts as started when first loaded."""
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
