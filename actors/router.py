"""Router: the interface of `actors` for the front end: typed async methods. `opening.py` creates it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from actors.checkpoint import Checkpointer
from actors.clock import ArrivalClock
from actors.derive.on_demand import Computed
from actors.domain import EntityType, Feature, FeatureChange, FeatureService, Group, KeptTrainingSet
from actors.errors import InvalidInput, NotFound, Overloaded, RequestError, Unavailable
from actors.follower import Follower
from actors.ingest.composite import wrong_parts
from actors.ingest.entity_ids import check_entity_id
from actors.ingest.sent import Ingested
from actors.journal import JournalActor
from actors.judge import Judge
from actors.listing import Listing
from actors.looking_back import scanned
from actors.mailbox import Mailbox
from actors.messages import (
    Declare,
    DeleteFeature,
    DeleteGroup,
    Discard,
    ForgetRows,
    Keep,
    Offer,
    Outcome,
    Promote,
    PutGroup,
    Register,
    RegisterTogether,
    Registration,
    Scanned,
    Undeclare,
    Withdraw,
    Write,
)
from actors.monitoring.schedule import Schedule
from actors.monitoring.watch import Watch
from actors.observed import Observations, ObservedLot, Whole
from actors.registry import FeatureRegistry
from actors.repeats import Repeats
from actors.serving import FeatureServingEngine, Span
from actors.settings import PENDING_VALUES
from actors.stats.summary import Summary
from actors.storage.entries import Erased, Noted, Removed
from actors.storage.listed import IdsPage, IdsQuestion, page_of
from actors.storage.protocol import Stale
from actors.table.aggregates import Aggregate
from actors.table.grid import Grid
from actors.table.selection import Selection
from actors.timestamps import FOREVER, NEVER
from actors.training import Filled, Spine, TrainingSets, Wanted, blank_column

T = TypeVar("T")


class Monitoring(NamedTuple):
    """The monitoring of the write stream."""

    watch: Watch
    schedule: Schedule


class Router:
    """Everything the front end may call. Every method may raise the errors of `actors.errors`."""

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
        listing: Listing,
        observations: Observations,
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
        """The wall clock, by which ages are measured."""
        self.clock = clock
        self.repeats = repeats
        self.judge = Judge(registry, clock, follower)
        self.damaged = damaged
        """The known damage to files on disk. Reading a damaged part fails with Damaged; the rest is served."""
        self.erasures = 0
        """How many entities have been erased through this process."""
        self._journal = journal
        self._listing = listing
        self._observations = observations
        self._mailboxes = mailboxes
        self._pending = 0
        self._monitoring = monitoring

    @property
    def monitoring(self) -> Monitoring:
        """The monitoring. Raises NotFound if it is off."""
        if self._monitoring is None:
            raise NotFound("monitoring is off (ENABLE_MONITORING=false)")
        return self._monitoring

    def end_event_streams(self) -> None:
        """End all event streams, as the process is stopping."""
        if self._monitoring is not None:
            self._monitoring.watch.events.close()

    @property
    def monitored(self) -> bool:
        """Whether monitoring is on."""
        return self._monitoring is not None

    @property
    def pending(self) -> int:
        """How many observations wait to be committed."""
        return self._pending

    @property
    def unflushed(self) -> int:
        """How many observations the history files do not have yet."""
        return self._journal.unflushed

    @property
    def values_written(self) -> int:
        """How many observations this process has committed."""
        return self._journal.values_written

    def committed(self) -> int:
        """The arrival of the newest batch."""
        return self._journal.newest

    def unready(self) -> list[str]:
        """The names of actors that are being rebuilt, and the shared store if it is out of reach."""
        away = ["the shared store"] if self._follower is not None and not self._follower.reached else []
        return [*away, *(name for name, mailbox in self._mailboxes.items() if mailbox.refusing)]

    # Catching up with other processes

    async def registered(self) -> FeatureRegistry:
        """The registry, including every change acknowledged by any process. Raises Unavailable."""
        if self._follower is not None:
            await self._follower.catch_up()
        return self.registry

    async def watching(self) -> Monitoring:
        """The monitoring, including every change acknowledged by any process. Raises NotFound, Unavailable."""
        if self._follower is not None:
            await self._follower.catch_up_notes()
        return self.monitoring

    async def settled(self, answer: Callable[[int | None], Awaitable[T]]) -> T:
        """Run `answer` against an up-to-date registry, without asking the shared store first.

        `answer` is called with the version of the registry that this process has, which is nearly always the
        current one. If it refuses the request, or the store has another version (Stale), this process catches up
        and calls it again with None: changes from now on are concurrent with the request and need not be seen.
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
        """Whether the registry is no longer of this version, whichever process has changed it."""
        return version is not None and (await self.registered()).version != version

    # Registry

    async def register(self, change: FeatureChange) -> tuple[Feature, bool]:
        """Register or update a feature; returns it and whether it is new."""
        feature, new = await self._mailboxes["registry"].ask(Register(change))
        return feature, new

    async def register_together(self, asked: Sequence[Registration], dry: bool) -> list[Outcome]:
        """Register all or nothing, or with `dry` only tell what would become of it."""
        return await self._mailboxes["registry"].ask(RegisterTogether(asked, dry))

    async def promote(self, id_: str) -> Feature:
        """Let the name of a feature mean this version, given by its id; returns the feature."""
        return await self._mailboxes["registry"].ask(Promote(id_))

    async def delete_feature(self, id_: str, force: bool = False) -> None:
        """Delete a feature and its values; with `force` even if something registered reads it."""
        await self._mailboxes["registry"].ask(DeleteFeature(id_, force))

    async def declare(self, entity_type: EntityType) -> tuple[EntityType, bool]:
        """Declare or update an entity type; returns it and whether it had not been declared."""
        return await self._mailboxes["registry"].ask(Declare(entity_type))

    async def undeclare(self, name: str) -> None:
        """Delete an entity type of which there are no features."""
        await self._mailboxes["registry"].ask(Undeclare(name))

    async def offer(self, service: FeatureService) -> tuple[FeatureService, bool]:
        """Create or update a version of a service; returns it, with its features pinned, and whether it is new."""
        return await self._mailboxes["registry"].ask(Offer(service))

    async def withdraw(self, reference: str) -> None:
        """Delete a version of a service."""
        await self._mailboxes["registry"].ask(Withdraw(reference))

    async def keep(self, training_set: KeptTrainingSet, erasures: int) -> KeptTrainingSet:
        """Keep a training set; returns it. Raises InvalidInput, Conflict if there is one of its name.

        `erasures`: their number before it was made; Unavailable if there are more now, which may be in its rows.
        """
        if erasures != self.erasures:
            raise Unavailable("an entity was erased while the training set was made")
        return await self._mailboxes["registry"].ask(Keep(training_set))

    async def discard(self, name: str) -> None:
        """Delete a kept training set. Raises NotFound."""
        await self._mailboxes["registry"].ask(Discard(name))

    def known_by_now(self) -> int:
        """An arrival up to which everything has been committed: no other batch gets it, or an earlier one."""
        return self.committed() if self._follower is None else self.now()

    async def put_group(self, group: Group) -> tuple[Group, bool]:
        """Create or replace a group; returns it and whether it is new."""
        stored, new = await self._mailboxes["registry"].ask(PutGroup(group))
        return stored, new

    async def delete_group(self, name: str) -> None:
        """Delete a group; its features stay."""
        await self._mailboxes["registry"].ask(DeleteGroup(name))

    # Writing

    async def repeated(self, key: str) -> bytes | None:
        """The answer to a write with this idempotency key within the last IDEMPOTENCY_HOURS, or None."""
        return await self.repeats.answered(key)

    async def write(
        self,
        ingested: Ingested,
        answer: bytes,
        key: str | None = None,
        judged: int | None = None,
        notes: Sequence[Noted] = (),
    ) -> bytes:
        """Write validated rows, together with `notes`. Returns once they are durable and visible to the next read.

        Returns `answer`, or the first answer (Repeated) if the idempotency key has been used before. Raises Stale
        if a shared store's registry is not of the version `judged`.
        """
        if self._pending and self._pending + ingested.accepted > PENDING_VALUES:
            raise Overloaded("too many values wait for their commit")
        self._pending += ingested.accepted
        try:
            said: bytes = await self._mailboxes["journal"].ask(
                Write(ingested.batch, ingested.accepted, answer, key, judged, notes)
            )
            return said
        finally:
            self._pending -= ingested.accepted

    async def erase(self, entity_type: str, entity_id: str) -> tuple[Erased, Removed]:
        """Erase an entity from journal, memory and history. What is written of it afterwards is kept.

        Raises NotFound for an entity type without features, InvalidInput for an id that is none of its type.
        """
        registry = await self.registered()
        if not any(feature.entity == entity_type for feature in registry.features.values()):
            raise NotFound(f"no feature is of the entity type {entity_type!r}")
        reason = check_entity_id(entity_id) or wrong_parts(entity_id, registry.catalogue.keys(entity_type))
        if reason is not None:
            raise InvalidInput.at("entityId", reason)

        async def forget() -> None:
            await self._mailboxes["registry"].ask(ForgetRows(entity_type, entity_id))

        erased = await self.checkpointer.erase(entity_type, entity_id, forget)
        self.erasures += 1
        await forget()  # in sets that were kept meanwhile
        return erased

    # Reading

    async def latest(
        self,
        entities: Sequence[str],
        selected: Selection,
        at: int,
        current: bool = False,
        judged: int | None = None,
    ) -> Grid:
        """The latest value with event time <= at of each feature for each entity, in the orders given.

        The selection has one role. `current`: whether `at` is the present, so that what is read counts as used.
        Raises Stale as `write` does.
        """
        return await self.latest_of_rows([entities], selected, at, current, judged)

    async def latest_of_rows(
        self,
        ids: Sequence[Sequence[str]],
        selected: Selection,
        at: int,
        current: bool = False,
        judged: int | None = None,
    ) -> Grid:
        """The same for rows that name several entities. `ids`: for each role of the selection, an id per row."""
        return await self.serving.latest(ids, selected, at, self.wall(), current, judged)

    async def aggregate(
        self, entities: Sequence[str], feature: Feature, aggregation: str, span: Span
    ) -> Aggregate:
        """One aggregate per entity and window, entities outermost."""
        return await self.serving.aggregate(entities, feature, aggregation, span, self.wall())

    async def ids(self, entity_type: str, prefix: str, after: str, limit: int, made: Callable[[IdsPage], T]) -> T:
        """The ids of entities that anything is known of, later than `after`, in the order of code points.

        Returns what `made` makes of them in a worker thread.

        Raises NotFound for an entity type without features that is not declared either.
        """
        registry = await self.registered()
        of_type = [feature for feature in registry.features.values() if feature.entity == entity_type]
        if not of_type and entity_type not in registry.catalogue.entity_types:
            raise NotFound(f"no feature is of the entity type {entity_type!r}")
        if not of_type:
            return made(page_of([], None))
        return await self._listing.page(IdsQuestion(entity_type, of_type, prefix, after, limit), made)

    def observed(
        self,
        features: Sequence[Feature],
        start: int = NEVER,
        end: int = FOREVER,
        entities: Sequence[str] | None = None,
        known: int = FOREVER,
    ) -> AsyncIterator[ObservedLot]:
        """All observations of features of one entity type with start <= event time <= end, in lots.

        `entities`: whose, in this order; None for all, in the order of their ids. `known`: the last arrival that
        counts. Raises TooMuchAtOnce, StorageDown, Damaged.
        """
        return self._observations.lots(Whole(features, start, end, self.wall(), known, entities))

    async def observations(
        self, entity: str, feature: Feature, span: Span, limit: int, descending: bool
    ) -> Scanned:
        """The observations of one entity in time order; of a computed feature, see `looking_back.py`."""

        def scan(one: Feature) -> Awaitable[Scanned]:
            return self.serving.scan(entity, one, span, limit, descending, self.wall())

        selected = None if feature.definition is None else self.registry.select([feature.id])
        if isinstance(selected, Computed):
            return await scanned(selected, entity, limit, descending, scan, self.fill)
        return await scan(feature)

    async def fill(self, spine: Spine, wanted: Sequence[Wanted]) -> list[Filled]:
        """The columns of a training set for the rows of `spine`."""
        if len(spine.at) == 0:
            return [blank_column(column) for column in wanted]
        return await self.training.fill(spine, wanted, self.wall())

    async def statistics(self, feature: Feature, start: int = NEVER, end: int = FOREVER) -> Summary:
        """The statistics of a feature's stream, by default all of it, or for event times in [start, end].

        Raises NotFound if monitoring is off.
        """
        statistics = self.monitoring.watch.statistics
        if start == NEVER and end == FOREVER:
            return await statistics.whole(feature)
        return await statistics.period(feature, start, end)
