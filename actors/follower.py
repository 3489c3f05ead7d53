"""Follower: brings changes that other processes make in a shared store into this one.

Every REGISTRY_POLL_SECONDS it asks the shared store for the versions of the registry and of the monitor's notes,
and reads those that have changed. This also tells whether the store can be reached, and whether this process is
the one that runs checks.

A request that must see every change already acknowledged by another process calls `catch_up`, which asks the store
at once. All requests that wait for it share one visit, so that many cost no more than one.
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
    """Polls a shared store for changes every REGISTRY_POLL_SECONDS, and whenever a request asks for it."""

    def __init__(
        self,
        shared: SharedRegistry,
        notes: ReadNotes,
        registry: FeatureRegistry,
        journal: JournalActor,
        clock: ArrivalClock,
    ) -> None:
        """`shared`: the registry in the store; `registry`: this process's copy of it."""
        self.reached = True
        """Whether the store answered when last asked."""
        self.leads = False
        """Whether this is the one process that runs checks and raises alerts."""
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
        """The reply for requests that wait for a visit which has not begun yet."""
        self._wanted = trio.Event()

    # For the RegistryActor alone

    @property
    def version(self) -> int:
        """The version of the registry that this process last read or wrote."""
        return self._shared.versions_seen

    async def take_over(self) -> bool:
        """Replace the registry by the one in the store if their versions differ; returns whether they did."""
        if (await self._versions()).registry == self._registry.version:
            return False
        found = await trio.to_thread.run_sync(self._shared.registered)
        self._clock.start_after(found.last_arrived)
        self._registry.replace(found.features, found.groups, self.version, found.catalogue)
        self._journal.note_registry()
        return True

    # For requests

    async def catch_up(self) -> Versions:
        """Bring registry and clock to the state of the store at this moment or later. Raises Unavailable."""
        self._wanted.set()
        found: Versions = await self._next.wait()
        return found

    async def catch_up_notes(self) -> None:
        """Bring checks, pinned references, alerts and the registry up to date. Raises Unavailable."""
        now = await self.catch_up()
        if now.notes != self._noted:
            async with self._one_at_a_time:
                if now.notes != self._noted:
                    await self._load_notes(now.notes, self.leads)

    async def _versions(self) -> Versions:
        return await trio.to_thread.run_sync(self._shared.versions_now)

    async def run(self, registrar: Mailbox) -> None:
        """Poll until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look, registrar)
            while True:
                try:
                    await self._follow()
                except Exception as error:  # whatever it is: serving may still work, and so may the next poll
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
                    self._begun().fail(refusal)  # requests that came meanwhile have waited long enough
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
        """Read checks and pinned references; alerts and scores too, unless this process `leads` and makes them."""
        if self.watch is None:
            return
        with self.watch.noting():
            noted = await trio.to_thread.run_sync(self.watch.noted)
            await self.catch_up()  # else a check may be of a feature that this process does not know yet
            self.watch.take_over(noted, alerts=not leads)
        if self.schedule is not None and not leads:
            self.schedule.load(dict(await trio.to_thread.run_sync(self._notes, "score")))
        self._noted = version
