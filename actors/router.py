"""Router: the only door to the actors. Typed async methods in, domain errors out. `opening.py` makes one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from actors.checkpoint import Checkpointer
from actors.clock import ArrivalClock
from actors.domain import Feature, FeatureChange, Group
from actors.errors import InvalidInput, NotFound, Overloaded, RequestError
from actors.follower import Follower
from actors.ingest.sent import Ingested, check_entity_id
from actors.journal import JournalActor
from actors.judge import Judge
from actors.mailbox import Mailbox
from actors.messages import DeleteFeature, DeleteGroup, PutGroup, Register, Scanned, Write
from actors.monitoring.schedule import Schedule
from actors.monitoring.watch import Watch
from actors.registry import FeatureRegistry
from actors.repeats import Repeats
from actors.serving import FeatureServingEngine, Span
from actors.settings import (
    PENDING_VALUES,
)
from actors.stats.summary import Summary
from actors.storage.protocol import Erased, Noted, Removed, Stale
from actors.table.aggregates import Aggregate
from actors.table.grid import Grid, stack
from actors.table.selection import Selection
from actors.timestamps import FOREVER, NEVER
from actors.training import Filled, Spine, TrainingSets, Wanted, blank_column

T = TypeVar("T")


class Monitoring(NamedTuple):
    """What watches the stream."""

    watch: Watch
    schedule: Schedule


class Router:
    """What the front end may ask. Every method raises the errors of `actors.errors`."""

    def __init__(
        self,
        registry: FeatureRegistry,
        serving: FeatureServingEngine,
        clock: ArrivalClock,
        mailboxes: dict[str, Mailbox],
        checkpointer: Checkpointer,
        repeats: Repeats,
        training: TrainingSets,
        damaged: Callable[[], Sequence[str]],
        journal: JournalActor,
        monitoring: Monitoring | None,
        follower: Follower | None = None,
    ) -> None:
        self._follower = follower
        self.registry = registry
        self.serving = serving
        self.training = training
        self.checkpointer = checkpointer
        self.now = clock.now
        """The present, which is never before the last arrival."""
        self.wall = clock.wall
        """What ages are told by."""
        self.clock = clock
        self.repeats = repeats
        self.judge = Judge(registry, clock, follower)
        self.damaged = damaged
        """What is known to be damaged on the disk. Who reads it is answered 503; the rest is served."""
        self._journal = journal
        self._mailboxes = mailboxes
        self._pending = 0
        self._monitoring = monitoring

    @property
    def monitoring(self) -> Monitoring:
        """Raises NotFound where monitoring is off."""
        if self._monitoring is None:
            raise NotFound("monitoring is off (ENABLE_MONITORING=false)")
        return self._monitoring

    def end_event_streams(self) -> None:
        """Let go of those who listen to events: the process stops."""
        if self._monitoring is not None:
            self._monitoring.watch.events.close()

    @property
    def monitored(self) -> bool:
        """Whether monitoring is on."""
        return self._monitoring is not None

    @property
    def pending(self) -> int:
        """How many observations wait for their commit."""
        return self._pending

    @property
    def unflushed(self) -> int:
        """How many observations the history files do not have yet."""
        return self._journal.unflushed

    @property
    def values_written(self) -> int:
        """How many observations were committed since the start."""
        return self._journal.values_written

    def committed(self) -> int:
        """The arrival of the newest batch."""
        return self._journal.newest

    def unready(self) -> list[str]:
        """The actors that are being rebuilt at the moment, and a shared store that is out of reach."""
        away = ["the shared store"] if self._follower is not None and not self._follower.reached else []
        return [*away, *(name for name, mailbox in self._mailboxes.items() if mailbox.refusing)]

    # What is registered, where other processes may have changed it

    async def registered(self) -> FeatureRegistry:
        """The registry with all that any process has been told was changed. Raises Unavailable."""
        if self._follower is not None:
            await self._follower.catch_up()
        return self.registry

    async def watching(self) -> Monitoring:
        """Checks, pinned references, alerts and the registry, in the same way. Raises NotFound, Unavailable."""
        if self._follower is not None:
            await self._follower.catch_up_notes()
        return self.monitoring

    async def settled(self, answer: Callable[[int | None], Awaitable[T]]) -> T:
        """What `answer` comes to, whichever process has changed what is registered.

        It goes by what this process knows, which is nearly always all there is, and is called with the version of
        that. Where it refuses, or the store is of another version (Stale), it is called once more after this
        process has caught up, with None: what others change now, they change while the request is under way.
        """
        if self._follower is None:
            return await answer(None)
        version = self.registry.version
        try:
            return await answer(version)
        except (RequestError, Stale) as error:
            await self._follower.catch_up()
            if isinstance(error, RequestError) and self.registry.version == version:
                raise
        return await answer(None)

    async def overtaken(self, version: int | None) -> bool:
        """Whether the registry is not of this version any more, in whichever process it was changed."""
        return version is not None and (await self.registered()).version != version

    # Registry

    async def register(self, change: FeatureChange) -> tuple[Feature, bool]:
        """The feature as it is from now on, and whether it is new."""
        feature, new = await self._mailboxes["registry"].ask(Register(change))
        return feature, new

    async def delete_feature(self, id_: str) -> None:
        """Delete a feature and its values."""
        await self._mailboxes["registry"].ask(DeleteFeature(id_))

    async def put_group(self, group: Group) -> tuple[Group, bool]:
        """The group as it is from now on, and whether it is new."""
        stored, new = await self._mailboxes["registry"].ask(PutGroup(group))
        return stored, new

    async def delete_group(self, name: str) -> None:
        """Delete a group; its features stay."""
        await self._mailboxes["registry"].ask(DeleteGroup(name))

    # Writing

    async def repeated(self, key: str) -> bytes | None:
        """What a write with this idempotency key was answered, None where there was none of late."""
        return await self.repeats.answered(key)

    async def write(
        self,
        ingested: Ingested,
        answer: bytes,
        key: str | None = None,
        judged: int | None = None,
        notes: Sequence[Noted] = (),
    ) -> bytes:
        """Write what was found good. Returns once it is durable, `notes` with it, and visible to the next read.

        Returns `answer`, or what was answered first (Repeated) where the idempotency key comes again. Raises Stale
        where `judged` is not the version of the registry in a shared store.
        """
        if self._pending and self._pending + ingested.accepted > PENDING_VALUES:
            raise Overloaded("too many values wait for their commit")
        self._pending += ingested.accepted
        try:
            said: bytes = await self._mailboxes["journal"].ask(
                Write(ingested.blocks, ingested.accepted, answer, key, judged, notes)
            )
            return said
        finally:
            self._pending -= ingested.accepted

    async def erase(self, entity_type: str, entity_id: str) -> tuple[Erased, Removed]:
        """Erase an entity from every tier; what is written of it afterwards is kept.

        Raises NotFound for an entity type that no feature is of, InvalidInput for an id that cannot be.
        """
        features = (await self.registered()).features.values()
        if not any(feature.entity == entity_type for feature in features):
            raise NotFound(f"no feature is of the entity type {entity_type!r}")
        if (reason := check_entity_id(entity_id)) is not None:
            raise InvalidInput.at("entityId", reason)
        return await self.checkpointer.erase(entity_type, entity_id)

    # Reading

    async def latest(
        self,
        entities: Sequence[str],
        selected: Selection,
        at: int,
        current: bool = False,
        judged: int | None = None,
    ) -> Grid:
        """The newest value of each feature for each entity with event time <= at, in the orders given.

        `current`: `at` is the present, so that what is read counts as used. Raises Stale as `write` does.
        """
        now = self.wall()
        if not selected.by_entity_type:
            return await self.serving.latest(entities, selected, at, now, current, judged)
        owned = selected.by_entity_type
        grids = [await self.serving.latest(entities, own, at, now, current, judged) for _, own in owned]
        return stack(grids, [places for places, _ in owned], selected.features)

    async def aggregate(
        self, entities: Sequence[str], feature: Feature, aggregation: str, span: Span
    ) -> Aggregate:
        """One aggregate per entity and window, entities outermost."""
        return await self.serving.aggregate(entities, feature, aggregation, span, self.wall())

    async def observations(
        self, entity: str, feature: Feature, span: Span, limit: int, descending: bool
    ) -> Scanned:
        """The observations of one entity in time order."""
        return await self.serving.scan(entity, feature, span, limit, descending, self.wall())

    async def fill(self, spine: Spine, wanted: Sequence[Wanted]) -> list[Filled]:
        """The columns of a training set, for some of its rows."""
        if len(spine.at) == 0:
            return [blank_column(column) for column in wanted]
        return await self.training.fill(spine, wanted, self.wall())

    async def statistics(self, feature: Feature, start: int = NEVER, end: int = FOREVER) -> Summary:
        """The statistics of a feature's stream, over a closed range of event time where one is given.

        Raises NotFound where monitoring is off.
        """
        statistics = self.monitoring.watch.statistics
        if start == NEVER and end == FOREVER:
            return await statistics.whole(feature)
        return await statistics.period(feature, start, end)
