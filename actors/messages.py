"""The messages that actors answer: frozen data without behaviour. One message concerns many entities.

The type of the answer is part of a message's type: a `Message[Grid]` is answered with a Grid. Messages by
receiver:

RegistryActor  Register, Promote, DeleteFeature, PutGroup, DeleteGroup, Declare, Undeclare, Offer,
               Withdraw, Keep, Discard, ForgetRows, RegisterTogether, Refresh
JournalActor   Write, ChangeRegistry, Erase
StoreActor     Apply, Forget, Purge, Flushed, Latest, Past, PastWindow, Between, Scan, Whereabouts, CountRows,
               Agreement
MonitorActor   Apply, Forget, Fresh, NewestTimes, Late, Snapshot, Saved, Status
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from actors.domain import EntityType, Feature, FeatureChange, FeatureService, Group, KeptTrainingSet
from actors.mailbox import Message
from actors.stats.summary import Summary
from actors.storage.entries import Erased, Noted, RegistryChange
from actors.storage.protocol import SavedSummaries, SummaryKey
from actors.table.batch import Batch
from actors.table.columns import Indices, Times
from actors.table.grid import Cells, Features, Grid
from actors.table.partition import DiskRows
from actors.table.ranged import Ranged
from actors.types.type import Array, Nulls


class Register(Message[tuple[Feature, bool]], frozen=True):
    """Register or update a feature. The answer: the feature, and whether it is new."""

    change: FeatureChange


class Promote(Message[Feature], frozen=True):
    """Let the name of a feature mean this version."""

    feature_id: str


class DeleteFeature(Message[None], frozen=True):
    """Delete a feature and its values; with `force` even if something registered reads it."""

    feature_id: str
    force: bool = False


class PutGroup(Message[tuple[Group, bool]], frozen=True):
    """Create or replace a group; its `created` and `updated` are ignored. The answer: the group, and whether it is
    new."""

    group: Group


class DeleteGroup(Message[None], frozen=True):
    """Delete a group; its features stay."""

    name: str


class Declare(Message[tuple[EntityType, bool]], frozen=True):
    """Declare or update an entity type; answered with it and whether it is new. Its times are ignored."""

    entity_type: EntityType


class Undeclare(Message[None], frozen=True):
    """Delete an entity type of which there are no features."""

    name: str


class Offer(Message[tuple[FeatureService, bool]], frozen=True):
    """Create or update a service, whose features may be any references; answered with it and whether it is new."""

    service: FeatureService


class ForgetRows(Message[None], frozen=True):
    """Take the rows of an entity out of the kept training sets that were given them."""

    entity_type: str
    entity_id: str


class Withdraw(Message[None], frozen=True):
    """Delete a version of a service, `name.vN`."""

    reference: str


class Keep(Message[KeptTrainingSet], frozen=True):
    """Keep a training set; answered with it."""

    training_set: KeptTrainingSet


class Discard(Message[None], frozen=True):
    """Delete a kept training set."""

    name: str


class Registration(NamedTuple):
    """What is to be registered, in the form in which it would be alone, and its place in the request."""

    place: str
    asked: EntityType | FeatureChange | Group | FeatureService


class Outcome(NamedTuple):
    """What becomes of a registration; `after` is `before` if nothing changes. `kind`: feature, group, entity or
    service."""

    kind: str
    key: str
    before: Feature | Group | EntityType | FeatureService | None
    after: Feature | Group | EntityType | FeatureService


class RegisterTogether(Message[list[Outcome]], frozen=True):
    """Register all or nothing; `dry`: only tell what would become of it."""

    asked: Sequence[Registration]
    dry: bool


class Refresh(Message[None], frozen=True):
    """Another process has changed the registry in the shared store: load it from there."""


class Write(Message[bytes], frozen=True):
    """Make a batch durable and visible. The answer: the response body.

    That is `answer`, or for an idempotency `key` that has been used before the body returned then. `count`: the
    observations in the batch. `judged` and `notes`: see `Written`.
    """

    batch: Batch
    count: int
    answer: bytes
    key: str | None = None
    judged: int | None = None
    notes: Sequence[Noted] = ()


class ChangeRegistry(Message[None], frozen=True):
    """Make a change of the registry durable, in order with the writes before and after it."""

    change: RegistryChange | Noted


class Apply(Message[None], frozen=True):
    """Apply batches that are durable, each with its arrival, reduced to what concerns the receiver."""

    batches: Sequence[tuple[int, Batch]]


class Erase(Message[Erased], frozen=True):
    """Erase an entity: the observations of all its features. Answered once the erasure is durable."""

    entity_type: str
    entity_id: str
    before: bytes = b""


class Purge(Message[None], frozen=True):
    """An entity was erased. Sent to the store that owns it."""

    erased: Erased


class Forget(Message[None], frozen=True):
    """A feature was deleted."""

    feature: Feature


class Flushed(Message[None], frozen=True):
    """The history files have everything that arrived by `position`.

    `kept_values`: by feature id, how many rows per entity stay in memory.
    """

    position: int
    kept_values: Mapping[str, int]


class About(NamedTuple):
    """What a `Latest` asks about entities of one type.

    `visible_from`, by feature: values with an earlier event time are not visible (retention age).
    """

    entity_type: str
    entities: Sequence[str]
    features: Features
    visible_from: Sequence[int]


class Latest(Message[list[Grid]], frozen=True):
    """Read the latest values with event time <= at. The answer: a grid for each of `asked`.

    `disk`: by feature id, merged rows from disk that an earlier answer lacked; `install` takes them into memory.
    """

    asked: Sequence[About]
    at: int
    current: bool
    """Whether `at` is the present: then the (entity, feature) pairs count as used, and are reloaded into
    memory."""
    disk: Mapping[str, DiskRows] = {}
    verify: bool = False
    """Whether the store compares what it serves with a point-in-time read of the same moment."""
    judged: int | None = None
    """The version of the registry that the features are of; a shared store with another raises Stale."""


class Agreement(Message[Mapping[str, tuple[int, int]]], frozen=True):
    """Get the results of the comparisons for `Latest.verify`, by feature id: values compared, values differing."""


class EntitySlots(NamedTuple):
    """Where entities are in a store's memory: a slot each, int64[n], 0 for those that it does not have.

    `epoch`: for how long; None if they are no more than an order.
    """

    epoch: object | None
    slots: Indices


class Past(Message[list[Cells]], frozen=True):
    """A point-in-time read: for each row i, the value of each feature of entities[owner[i]] as of at[i].

    The answer: one Cells per feature. `visible_from`, by feature: values with an earlier event time are not
    visible; one moment for all rows, or one per row. `disk`: see `Latest`. `places`: those of the entities, which
    spares the store to look them up, if it still has the epoch.
    """

    entity_type: str
    entities: Sequence[str]
    owner: Indices
    at: Times
    features: Sequence[Feature]
    visible_from: Sequence[int | Times]
    disk: Mapping[str, DiskRows] = {}
    places: EntitySlots | None = None


class Aggregated(msgspec.Struct, frozen=True):
    """One value per entity and window, entities outermost. `cold`: positions of entities to be read from disk."""

    values: Array
    nulls: Nulls
    value_type: str
    cold: Sequence[int] = ()


class PastWindow(Message[Aggregated | Ranged], frozen=True):
    """For each row i, an aggregate over the observations of entities[owner[i]] in (start[i], at[i]].

    The answer: see `Between`; its `cold` are positions in `entities`, not rows.
    """

    entities: Sequence[str]
    owner: Indices
    start: Times
    at: Times
    feature: Feature
    aggregation: str
    disk: DiskRows | None = None


class Between(Message[Aggregated | Ranged], frozen=True):
    """For each entity, aggregates of the observations with start <= event time <= end.

    If there are many observations, the answer is a Ranged, from which the caller computes them in a worker thread.
    """

    entities: Sequence[str]
    feature: Feature
    start: int
    end: int
    visible_from: int
    aggregation: str
    window: int = 0
    """Width of the tumbling windows in microseconds; 0 for one window over the whole range."""
    windows: int = 1
    disk: DiskRows | None = None


class Scanned(msgspec.Struct, frozen=True):
    """Up to `limit` observations, and whether there are more; or `cold` if rows have to be read from disk."""

    times: Times
    values: Array
    nulls: Nulls
    more: bool
    cold: bool = False


class Scan(Message[Scanned], frozen=True):
    """Read the observations of one entity, in order of event time."""

    entity: str
    feature: Feature
    start: int
    end: int
    limit: int
    descending: bool
    disk: DiskRows | None = None


class Whereabouts(Message[EntitySlots], frozen=True):
    """Get the places of entities in a store's memory, by which they may be sorted."""

    entity_type: str
    entities: Sequence[str]


class CountRows(Message[int], frozen=True):
    """Count the observations that a store holds in memory."""


class Vitals(msgspec.Struct, frozen=True):
    """The liveness of a feature's stream: observations counted, newest event time, last arrival.

    `newest` leaves out observations whose event time was in the future when they arrived.
    """

    count: int = 0
    newest: int | None = None
    arrived: int | None = None

    def after(self, count: int, newest: int | None, arrived: int) -> Vitals:
        """Vitals that include `count` more observations; `newest` leaves out those in the future."""
        if self.newest is not None:
            newest = self.newest if newest is None else max(newest, self.newest)
        return Vitals(self.count + count, newest, arrived)


class Fresh(Message[SavedSummaries | None], frozen=True):
    """Get the summaries of what arrived of a feature after `position`; None if that is too long ago.

    `whole`: only the summary of the whole stream, not those of its windows.
    """

    feature: Feature
    position: int
    whole: bool = False


class NewestTimes(Message[list[Vitals]], frozen=True):
    """Get the vitals of features, in the order asked."""

    features: Sequence[Feature]


class Late(Message[list[tuple[str, int, int]]], frozen=True):
    """Get drift windows that received observations after they had closed, but none since the moment `settled`.

    The answer: (feature id, start of the window, last arrival), at most `most`, newest first. Each is returned
    once.
    """

    settled: int
    most: int


class Snapshot(Message[tuple[int, dict[SummaryKey, Summary]]], frozen=True):
    """Get what the monitor has to save: its position, and summaries by key."""


class Saved(Message[None], frozen=True):
    """The summaries have been saved up to `position`."""

    position: int


class MonitorStatus(msgspec.Struct, frozen=True):
    """The monitor's position in the journal, observations not yet folded into summaries, and messages waiting."""

    position: int
    rows: int
    inbox: int


class Status(Message[MonitorStatus], frozen=True):
    """Get how far the monitor has read the journal."""
