"""Follower: what other processes change in a shared store reaches this one.

A few times a second the store is asked how often the registry and the monitor's notes have been changed, and where
they have, they are read. That also tells whether the store can be reached, and whether this process is the one
that runs checks.

Who may not answer by less than what others have been told was done (`catch_up`) has the store asked at once. All
who wait for that share one visit, so that many of them cost no more than one.
"""

from __future__ import annotations

import logging

import trio

from actors.clock import ArrivalClock
from actors.errors import StorageDown, TimewellError
from actors.journal import JournalActor
from actors.mailbox import Mailbox, Reply
from actors.messages import Refresh
from actors.monitoring.schedule import Schedule
from actors.monitoring.watch import Watch
from actors.registry import FeatureRegistry
from actors.settings import REGISTRY_POLL_SECONDS
from actors.storage.protocol import ReadNotes, SharedRegistry, Versions

log = logging.getLogger("timewell.follower")


class Follower:
    """Looks at a shared store every REGISTRY_POLL_SECONDS, and whenever it is asked to."""

    def __init__(
        self,
        shared: SharedRegistry,
        notes: ReadNotes,
        registry: FeatureRegistry,
        journal: JournalActor,
        clock: ArrivalClock,
    ) -> None:
        """`shared`: what is registered in the store; `registry`: what this process knows of it."""
        self.reached = True
        """Whether the store answered when it was asked last."""
        self.leads = False
        """Whether this process is the one of all that runs checks and raises alerts."""
        self.watch: Watch | None = None
        self.schedule: Schedule | None = None
        self._shared = shared
        self._notes = notes
        self._registry = registry
        self._journal = journal
        self._clock = clock
        self._noted: int | None = None
        self._one_at_a_time = trio.Lock()
        self._next = Reply[Versions]()
        """The answer to those who want a look that has not begun yet."""
        self._wanted = trio.Event()

    # For the RegistryActor alone

    @property
    def version(self) -> int:
        """That of the registry which has been read or made last."""
        return self._shared.versions_seen

    async def take_over(self) -> bool:
        """Have the registry as it is in the store; whether it was another."""
        if (await self._versions()).registry == self._registry.version:
            return False
        found = await trio.to_thread.run_sync(self._shared.registered)
        self._clock.start_after(found.last_arrived)
        self._registry.replace(found.features, found.groups, self.version)
        self._journal.note_registry()
        return True

    # For those who answer requests

    async def catch_up(self) -> Versions:
        """Have registry and clock at least as they are now, whoever has changed them. Raises Unavailable."""
        self._wanted.set()
        found: Versions = await self._next.wait()
        return found

    async def catch_up_notes(self) -> None:
        """Have checks, pinned references, alerts and the registry as they are now. Raises Unavailable."""
        now = await self.catch_up()
        if now.notes != self._noted:
            async with self._one_at_a_time:
                if now.notes != self._noted:
                    await self._load_notes(now.notes, self.leads)

    async def _versions(self) -> Versions:
        return await trio.to_thread.run_sync(self._shared.versions_now)

    async def run(self, registrar: Mailbox) -> None:
        """Look until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look, registrar)
            while True:
                try:
                    await self._follow()
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
        while True:
            await self._wanted.wait()
            look = self._begun()
            try:
                now = await self._versions()
                self._clock.start_after(now.arrived)
                if now.registry != self._registry.version:
                    await registrar.ask(Refresh())
            except Exception as error:
                refusal = error if isinstance(error, TimewellError) else StorageDown(f"the shared store: {error}")
                look.fail(refusal)
                if self._wanted.is_set():
                    self._begun().fail(refusal)  # who came meanwhile has waited long enough
            else:
                look.answer(now)

    def _begun(self) -> Reply[Versions]:
        look, self._next, self._wanted = self._next, Reply[Versions](), trio.Event()
        return look

    async def _follow(self) -> None:
        now = await self.catch_up()
        if self.watch is None:
            return
        leads = await trio.to_thread.run_sync(self._shared.leads)
        async with self._one_at_a_time:
            if now.notes != self._noted:
                await self._load_notes(now.notes, self.leads and leads)
        self.leads = leads

    async def _load_notes(self, version: int, leads: bool) -> None:
        """Alerts and scores are this process's own while it `leads`, and are known from the others' until then."""
        if self.watch is None:
            return
        with self.watch.noting():
            noted = await trio.to_thread.run_sync(self.watch.noted)
            await self.catch_up()  # else a check may seem to be of a feature that there is not
            self.watch.take_over(noted, alerts=not leads)
        if self.schedule is not None and not leads:
            self.schedule.load(dict(await trio.to_thread.run_sync(self._notes, "score")))
        self._noted = version
