"""Starts the storage and all actors in the right order, and stops them in reverse.

The front end, which runs inside the `with`, stops first, then the actors, then the storage.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import trio

from actors import timestamps
from actors.checkpoint import Checkpointer, FilingCheckpointer
from actors.clock import ArrivalClock
from actors.completing import HistoryReader
from actors.errors import StartupError, StorageDown, Unavailable
from actors.follower import Follower
from actors.journal import JournalActor
from actors.listing import Listing, let_go_unused
from actors.mailbox import Mailbox
from actors.messages import Write
from actors.monitoring.alerts import Policy
from actors.monitoring.events import Events
from actors.monitoring.monitor import MonitorActor
from actors.monitoring.schedule import Schedule
from actors.monitoring.statistics import Statistics
from actors.monitoring.watch import Watch
from actors.monitoring.webhook import Webhook
from actors.observed import Observations
from actors.rebuilding import rebuild
from actors.registrar import RegistryActor
from actors.registry import FeatureRegistry
from actors.repeats import Repeats
from actors.router import Monitoring, Router
from actors.serving import FeatureServingEngine
from actors.settings import (
    FLUSH_VALUES,
    MERGE_SECONDS,
    SHUTDOWN_COMMIT_SECONDS,
    Settings,
)
from actors.shared_store import SharedStoreActor
from actors.storage.embedded.local import LocalStorage, MemoryStorage
from actors.storage.embedded.on_disk import EmbeddedStorage
from actors.storage.listed import KeptIds
from actors.storage.protocol import OwnStorage, Recovered, SharedStorage, Storage
from actors.store import StoreActor
from actors.supervisor import Actor, supervise
from actors.timestamps import SECOND
from actors.training import TrainingSets

log = logging.getLogger("timewell.opening")
AnyStorage = LocalStorage | SharedStorage


def make_storage(settings: Settings) -> AnyStorage:
    """The storage that the settings name, not yet opened. Raises StartupError for settings that do not fit."""
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
    settings: Settings, storage: AnyStorage | None = None, now: Callable[[], int] = timestamps.now
) -> AsyncIterator[Router]:
    """Open the storage, start the actors and yield the router; on leaving, commit what is pending and close.

    `storage`: by default the one that the settings name; `now`: the wall clock in microseconds. Raises
    StartupError if the storage cannot be opened.
    """
    storage = storage or make_storage(settings)
    try:
        async with _actors(settings, storage, now) as router:
            yield router
    except BaseExceptionGroup as group:
        raise unwrapped(group) from None
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(storage.close)


class _Opened(NamedTuple):
    """What is built on an open storage; how differs between a storage of one process and a shared store."""

    storage: Storage
    clock: ArrivalClock
    registry: FeatureRegistry
    journal: JournalActor
    stores: Sequence[StoreActor | SharedStoreActor]
    monitor: MonitorActor | None
    checkpointer: Checkpointer
    repeats: Repeats
    damaged: Callable[[], Sequence[str]]
    uncounted: Callable[[], Mapping[str, str]]
    follower: Follower | None = None
    kept_ids: KeptIds | None = None


@asynccontextmanager
async def _actors(settings: Settings, storage: AnyStorage, now: Callable[[], int]) -> AsyncIterator[Router]:
    if isinstance(storage, LocalStorage):
        opened = await _open_own(settings, storage, now)
    else:
        opened = await _open_shared(settings, storage, now)
    clock, registry, journal, follower = opened.clock, opened.registry, opened.journal, opened.follower
    stores, monitor = opened.stores, opened.monitor
    registrar = RegistryActor(registry, journal.mailbox, clock, follower)
    journal.monitor = monitor.mailbox if monitor else None
    actors: list[Actor] = [*stores, *([monitor] if monitor else []), journal, registrar]
    webhook = Webhook(settings.webhook_url, settings.webhook_secret)
    monitoring = None if monitor is None else await _monitoring(settings, opened, monitor, webhook)
    async with trio.open_nursery() as nursery:
        for actor in actors:
            await nursery.start(supervise, actor)
        nursery.start_soon(opened.checkpointer.run)
        listing = Listing(opened.storage.ids)
        if opened.kept_ids is not None:
            nursery.start_soon(let_go_unused, opened.kept_ids)
        if follower is not None:
            nursery.start_soon(follower.run, registrar.mailbox)
        if monitoring is not None:
            nursery.start_soon(monitoring.schedule.run)
            nursery.start_soon(webhook.run)
        mailboxes = {actor.mailbox.name: actor.mailbox for actor in actors}
        try:
            yield _router(settings, opened, mailboxes, listing, monitoring)
        finally:
            if monitoring is not None:
                monitoring.watch.events.close()
            if not nursery.cancel_scope.cancel_called:  # else an actor has failed for good, perhaps the journal
                await _drain(journal.mailbox)
            nursery.cancel_scope.cancel()


async def _open_own(settings: Settings, storage: OwnStorage, now: Callable[[], int]) -> _Opened:
    """Open a storage that belongs to this process: memory is filled from it, checkpoints fill its files."""
    recovered = await trio.to_thread.run_sync(storage.open)
    clock = _clock(now, recovered)
    registry = FeatureRegistry(recovered.features, recovered.groups, catalogue=recovered.catalogue)
    journal = _journal(settings, storage, clock, registry, recovered)
    stores = await _stores(settings, storage, registry, clock.steady())
    journal.stores = [store.mailbox for store in stores]
    damage = storage.damage
    monitor = _monitor(settings, storage, registry, damage.uncounted, journal)
    checkpointer = FilingCheckpointer(
        storage,
        journal,
        journal.stores,
        monitor.mailbox if monitor else None,
        registry,
        settings.checkpoint_seconds,
        clock.steady,
    )
    repeats = Repeats(storage.log, clock)
    return _Opened(
        storage,
        clock,
        registry,
        journal,
        stores,
        monitor,
        checkpointer,
        repeats,
        damage.words,
        damage.uncounted,
        kept_ids=storage.ids,
    )


async def _open_shared(settings: Settings, storage: SharedStorage, now: Callable[[], int]) -> _Opened:
    """Open a shared store, which is asked at every read and whose registry other processes change.

    Detecting damage is left to its server.
    """
    # The server may be slow to start; shutting down does not wait for it.
    recovered = await trio.to_thread.run_sync(storage.open, abandon_on_cancel=True)
    clock = _clock(now, recovered)
    registry = FeatureRegistry(
        recovered.features, recovered.groups, storage.registry.versions_seen, recovered.catalogue
    )
    journal = _journal(settings, storage, clock, registry, recovered)
    follower = Follower(storage.registry, storage.notes, registry, journal, clock)
    values, most_bytes = storage.values, settings.max_answer_bytes
    stores = [SharedStoreActor(shard, values, most_bytes) for shard in range(settings.shards)]
    monitor = _monitor(settings, storage, registry, dict, journal)
    seconds = min(settings.checkpoint_seconds, MERGE_SECONDS)
    mailbox = monitor.mailbox if monitor else None
    checkpointer = Checkpointer(
        storage, journal, mailbox, registry, seconds, clock.steady, storage.log.last_erasure
    )
    repeats = Repeats(storage.log, clock, storage.claims)
    return _Opened(
        storage, clock, registry, journal, stores, monitor, checkpointer, repeats, tuple, dict, follower
    )


def _clock(now: Callable[[], int], recovered: Recovered) -> ArrivalClock:
    clock = ArrivalClock(now)
    clock.begin_after(recovered.last_arrived, recovered.moment)
    return clock


def _journal(
    settings: Settings, storage: Storage, clock: ArrivalClock, registry: FeatureRegistry, recovered: Recovered
) -> JournalActor:
    checkpoint_values = min(FLUSH_VALUES, max(settings.cache_size // 4, 10_000))
    return JournalActor(storage.log, clock, registry.features, recovered.unflushed, checkpoint_values)


def _router(
    settings: Settings,
    opened: _Opened,
    mailboxes: dict[str, Mailbox],
    listing: Listing,
    monitoring: Monitoring | None,
) -> Router:
    sample = settings.agreement_sample if monitoring is not None else 0.0
    history = opened.storage.history
    stores = [store.mailbox for store in opened.stores]
    reader = HistoryReader(history, settings.max_read_bytes)
    serving = FeatureServingEngine(stores, reader, sample)
    return Router(
        opened.registry,
        serving,
        opened.clock,
        mailboxes,
        opened.checkpointer,
        opened.repeats,
        TrainingSets(serving, history),
        opened.damaged,
        opened.journal,
        listing,
        Observations(listing, history, reader.readers, settings.max_read_bytes),
        monitoring,
        opened.follower,
    )


def _monitor(
    settings: Settings,
    storage: Storage,
    registry: FeatureRegistry,
    uncounted: Callable[[], Mapping[str, str]],
    journal: JournalActor,
) -> MonitorActor | None:
    window = int(settings.drift_window_seconds * SECOND)
    if not settings.enable_monitoring:
        return None

    def checkpoint() -> None:
        journal.wants_checkpoint.set()

    return MonitorActor(storage.log, storage.summaries, registry.features, uncounted, window, checkpoint)


async def _monitoring(settings: Settings, opened: _Opened, monitor: MonitorActor, webhook: Webhook) -> Monitoring:
    storage, registry, clock, follower = opened.storage, opened.registry, opened.clock, opened.follower
    window = int(settings.drift_window_seconds * SECOND)
    statistics = Statistics(monitor.mailbox, storage.summaries, storage.history)
    watch = Watch(
        storage.notes,
        storage.history,
        statistics,
        opened.uncounted,
        registry,
        opened.journal.mailbox,
        monitor.mailbox,
        Events(clock),
        window,
        clock,
    )
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


async def _stores(
    settings: Settings, storage: OwnStorage, registry: FeatureRegistry, now: int
) -> list[StoreActor]:
    """The stores, whose partitions are filled in one pass over the storage. `now` is kept for the next start."""
    with suppress(StorageDown):  # on a full disk reads still work, and a later checkpoint keeps the moment
        await trio.to_thread.run_sync(storage.log.trim, 0, now)
    shards, budget = settings.shards, max(1, settings.cache_size // settings.shards)
    log, history = storage.log, storage.history
    partitions = await trio.to_thread.run_sync(
        rebuild, log, history, registry.known, shards, range(shards), settings.cache_size
    )
    return [
        StoreActor(shard, shards, budget, log, history, registry.known, partitions[shard])
        for shard in range(shards)
    ]


async def _drain(journal: Mailbox) -> None:
    """Wait at most SHUTDOWN_COMMIT_SECONDS until the journal has committed and answered all it was sent."""
    with trio.move_on_after(SHUTDOWN_COMMIT_SECONDS, shield=True) as patience, suppress(Unavailable):
        await journal.ask(Write((), 0, b""))
    if patience.cancelled_caught:
        log.error("the last commit took more than %.0f s and was given up", SHUTDOWN_COMMIT_SECONDS)


def unwrapped(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The only exception in the group, or its StartupError, or else the group: nurseries wrap what they raise."""
    if len(group.exceptions) == 1:
        alone = group.exceptions[0]
        return unwrapped(alone) if isinstance(alone, BaseExceptionGroup) else alone
    for error in group.exceptions:
        if isinstance(error, StartupError):
            return error
    return group
