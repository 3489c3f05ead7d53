"""Opens everything in the right order, and ends it in the reverse.

The asker ends first (the front end is inside the `with`), then the inboxes, then the storage.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import trio

from actors import timestamps
from actors.checkpoint import Checkpointer
from actors.clock import ArrivalClock
from actors.completing import History
from actors.errors import StartupError, StorageDown, Unavailable
from actors.follower import Follower
from actors.journal import JournalActor
from actors.mailbox import Mailbox
from actors.messages import Write
from actors.monitoring.alerts import Policy
from actors.monitoring.events import Events
from actors.monitoring.monitor import MonitorActor
from actors.monitoring.schedule import Schedule
from actors.monitoring.watch import Watch
from actors.monitoring.webhook import Webhook
from actors.registry import FeatureRegistry, RegistryActor
from actors.router import Monitoring, Router
from actors.serving import FeatureServingEngine
from actors.settings import (
    FLUSH_VALUES,
    MERGE_SECONDS,
    SHUTDOWN_COMMIT_SECONDS,
    Settings,
)
from actors.shared_store import SharedStoreActor
from actors.storage.embedded.local import MemoryStorage
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.storage.protocol import Storage
from actors.store import StoreActor, rebuild
from actors.supervisor import Actor, supervise
from actors.timestamps import SECOND

log = logging.getLogger("timewell.opening")


def make_storage(settings: Settings) -> Storage:
    """The storage that the settings name."""
    if settings.storage_type == "memory":
        return MemoryStorage(settings.max_read_bytes)
    if settings.storage_type == "embedded":
        return EmbeddedStorage(settings.data_dir, settings.max_read_bytes)
    if not settings.storage_url:
        example = "redis://host" if settings.storage_type == "redis" else "postgresql://host/database"
        raise StartupError(f"STORAGE_TYPE={settings.storage_type} needs STORAGE_URL, as in {example}")
    where = settings.storage_url, settings.storage_timeout_seconds, settings.max_read_bytes
    try:
        if settings.storage_type == "redis":
            from actors.storage.redis.storage import RedisStorage

            return RedisStorage(*where)
        from actors.storage.postgres.storage import PostgresStorage

        return PostgresStorage(*where)
    except ImportError as error:
        extra = f"pip install 'timewell[{settings.storage_type}]'"
        raise StartupError(f"STORAGE_TYPE={settings.storage_type} needs more: {extra} ({error})") from error


@asynccontextmanager
async def open_router(
    settings: Settings, storage: Storage | None = None, now: Callable[[], int] = timestamps.now
) -> AsyncIterator[Router]:
    """Open the storage, start the actors, and yield the router; on leaving, commit what waits and close.

    Raises StartupError where the storage cannot be opened.
    """
    storage = storage or make_storage(settings)
    try:
        async with _actors(settings, storage, now) as router:
            yield router
    except BaseExceptionGroup as group:
        raise only(group) from None
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(storage.close)


@asynccontextmanager
async def _actors(settings: Settings, storage: Storage, now: Callable[[], int]) -> AsyncIterator[Router]:
    # A server may take its time, but nobody has to wait for the end of that.
    recovered = await trio.to_thread.run_sync(storage.open, abandon_on_cancel=storage.shared is not None)
    clock = ArrivalClock(now)
    clock.begin_after(recovered.last_arrived, recovered.moment)
    shared = storage.shared
    registry = FeatureRegistry(recovered.features, recovered.groups, shared.versions_seen if shared else 0)
    checkpoint_values = min(FLUSH_VALUES, max(settings.cache_size // 4, 10_000))
    journal = JournalActor(storage, clock, registry.features, recovered.unflushed, checkpoint_values)
    follower = Follower(shared, registry, journal, clock) if shared is not None else None
    stores: Sequence[StoreActor | SharedStoreActor]
    if shared is not None:
        stores = [SharedStoreActor(shard, shared, settings.max_answer_bytes) for shard in range(settings.shards)]
    else:
        stores = await _stores(settings, storage, registry, clock.steady())
        journal.stores = [store.mailbox for store in stores]
    monitor = _monitor(settings, storage, registry)
    registrar = RegistryActor(registry, journal.mailbox, clock, follower)
    journal.monitor = monitor.mailbox if monitor else None
    actors: list[Actor] = [*stores, *([monitor] if monitor else []), journal, registrar]
    seconds = settings.checkpoint_seconds if shared is None else min(settings.checkpoint_seconds, MERGE_SECONDS)
    checkpointer = Checkpointer(storage, journal, journal.stores, journal.monitor, registry, seconds, clock.steady)
    monitoring, webhook = None, Webhook(settings.webhook_url, settings.webhook_secret)
    if monitor is not None:
        monitoring = await _monitoring(settings, storage, registry, clock, journal, monitor, webhook, follower)
    async with trio.open_nursery() as nursery:
        for actor in actors:
            await nursery.start(supervise, actor)
        nursery.start_soon(checkpointer.run)
        if follower is not None:
            nursery.start_soon(follower.run, registrar.mailbox)
        if monitoring is not None:
            nursery.start_soon(monitoring.schedule.run)
            nursery.start_soon(webhook.run)
        mailboxes = {actor.mailbox.name: actor.mailbox for actor in actors}
        serving = _serving(settings, storage, [store.mailbox for store in stores], monitoring is not None)
        try:
            yield Router(registry, serving, clock, mailboxes, checkpointer, storage, journal, monitoring, follower)
        finally:
            if monitoring is not None:
                monitoring.watch.events.close()
            if not nursery.cancel_scope.cancel_called:  # else an actor has failed for good, maybe the journal
                await _drained(journal.mailbox)
            nursery.cancel_scope.cancel()


def _serving(
    settings: Settings, storage: Storage, stores: Sequence[Mailbox], monitored: bool
) -> FeatureServingEngine:
    sample = settings.agreement_sample if monitored else 0.0
    return FeatureServingEngine(stores, History(storage, settings.max_read_bytes), sample)


def _monitor(settings: Settings, storage: Storage, registry: FeatureRegistry) -> MonitorActor | None:
    window = int(settings.drift_window_seconds * SECOND)
    return MonitorActor(storage, registry.features, window) if settings.enable_monitoring else None


async def _monitoring(
    settings: Settings,
    storage: Storage,
    registry: FeatureRegistry,
    clock: ArrivalClock,
    journal: JournalActor,
    monitor: MonitorActor,
    webhook: Webhook,
    follower: Follower | None,
) -> Monitoring:
    window = int(settings.drift_window_seconds * SECOND)
    watch = Watch(storage, registry, journal.mailbox, monitor.mailbox, Events(clock), window, clock)
    await trio.to_thread.run_sync(watch.load)
    clock.start_after(watch.last_alert)
    policy = Policy(settings.alert_windows, int(settings.alert_cooldown_seconds * SECOND))
    leads = (lambda: follower.leads) if follower is not None else (lambda: True)
    catch_up = follower.catch_up_notes if follower is not None else None
    schedule = Schedule(watch, registry, webhook, policy, settings.monitor_seconds, leads, catch_up)
    schedule.load(dict(await trio.to_thread.run_sync(storage.notes, "score")))
    if follower is not None:
        follower.watch, follower.schedule = watch, schedule
    return Monitoring(watch, schedule)


async def _stores(settings: Settings, storage: Storage, registry: FeatureRegistry, now: int) -> list[StoreActor]:
    """The stores with their partitions, which are read from storage once for all of them. It keeps the moment."""
    with suppress(StorageDown):  # on a full disk reads go on, and a checkpoint keeps it later
        await trio.to_thread.run_sync(storage.trim, 0, now)
    shards, budget = settings.shards, max(1, settings.cache_size // settings.shards)
    partitions = await trio.to_thread.run_sync(
        rebuild, storage, registry.known, shards, range(shards), settings.cache_size
    )
    return [
        StoreActor(shard, shards, budget, storage, registry.known, partitions[shard]) for shard in range(shards)
    ]


async def _drained(journal: Mailbox) -> None:
    """Wait, but not forever, until the journal has committed and answered what was sent."""
    with trio.move_on_after(SHUTDOWN_COMMIT_SECONDS, shield=True) as patience, suppress(Unavailable):
        await journal.ask(Write((), 0, b""))
    if patience.cancelled_caught:
        log.error("the last commit took more than %.0f s and was given up", SHUTDOWN_COMMIT_SECONDS)


def only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """A group of one is that one: nurseries wrap what their callers have no use for."""
    if len(group.exceptions) == 1:
        alone = group.exceptions[0]
        return only(alone) if isinstance(alone, BaseExceptionGroup) else alone
    for error in group.exceptions:
        if isinstance(error, StartupError):
            return error
    return group
