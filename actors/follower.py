"""Follower: what other processes change in a shared store reaches this one.

A few times a second the store is asked how often the registry and the monitor's notes have been changed, and where
they have, they are read. That also tells whether the store can be reached, and whether this process is the one
that runs checks.
"""

from __future__ import annotations

import logging

import trio

from actors.clock import ArrivalClock
from actors.errors import TimewellError
from actors.journal import JournalActor
from actors.mailbox import Mailbox
from actors.messages import Refresh
from actors.registry import FeatureRegistry
from actors.schedule import Schedule
from actors.settings import REGISTRY_POLL_SECONDS
from actors.storage.protocol import SharedStorage
from actors.watch import Watch

log = logging.getLogger("timewell.follower")


class Follower:
    """Looks at a shared store every REGISTRY_POLL_SECONDS."""

    def __init__(
        self, storage: SharedStorage, registry: FeatureRegistry, journal: JournalActor, clock: ArrivalClock
    ) -> None:
        self.reached = True
        """Whether the store answered when it was asked last."""
        self.leads = False
        """Whether this process is the one of all that runs checks and raises alerts."""
        self.watch: Watch | None = None
        self.schedule: Schedule | None = None
        self._storage = storage
        self._registry = registry
        self._journal = journal
        self._clock = clock
        self._notes: int | None = None

    async def take_over(self) -> None:
        """Take over the registry as it is in the store. To be called by the RegistryActor alone."""
        found = await trio.to_thread.run_sync(self._storage.registered)
        self._clock.start_after(found.last_arrived)
        self._registry.replace(found.features, found.groups)
        self._journal.note_registry()

    async def look_at_the_clock(self) -> None:
        """Have a present that is not before what any process has acknowledged."""
        self._clock.start_after((await trio.to_thread.run_sync(self._storage.versions_now)).arrived)

    async def run(self, registrar: Mailbox) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self._look(registrar)
            except Exception as error:  # whatever it is, serving may still work, and looking again may
                if self.reached:
                    known = isinstance(error, TimewellError)
                    log.error("the shared store is out of reach: %s", error, exc_info=None if known else error)
                self.reached = self.leads = False
            else:
                if not self.reached:
                    log.warning("the shared store is back")
                self.reached = True
            await trio.sleep(REGISTRY_POLL_SECONDS)

    async def _look(self, registrar: Mailbox) -> None:
        now = await trio.to_thread.run_sync(self._storage.versions_now)
        self._clock.start_after(now.arrived)
        if now.registry != self._storage.versions_seen:
            await registrar.ask(Refresh())
        if self.watch is not None:
            self.leads = await trio.to_thread.run_sync(self._storage.leads)
            if now.notes != self._notes:
                await trio.to_thread.run_sync(self.watch.load, not self.leads)
                if self.schedule is not None and not self.leads:
                    self.schedule.load(dict(await trio.to_thread.run_sync(self._storage.notes, "score")))
            self._notes = now.notes
