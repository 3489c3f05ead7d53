"""What may be asked of an actor: frozen data, no behaviour. One message concerns many entities.

A message says what it is answered with: `Message[Grid]` with a grid.

RegistryActor  Register, DeleteFeature, PutGroup, DeleteGroup, Refresh
JournalActor   Write, ChangeRegistry, Erase
StoreActor     Apply, Forget, Purge, Flushed, Latest, Past, PastWindow, Between, Scan, Whereabouts, CountRows,
               Agreement
MonitorActor   Apply, Forget, Fresh, NewestTimes, Late, Snapshot, Saved, Status
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from actors.domain import Feature, FeatureChange, Group
from actors.mailbox import Message
from actors.stats.summary import Summary
from actors.storage.protocol import (
    Deleted,
    Erased,
    Grouped,
    Noted,
    Registered,
    SavedSummaries,
    SummaryKey,
    Ungrouped,
)
from actors.table.columns import Block, Indices, Times
from actors.table.grid import Cells, Grid, Kind
from actors.table.partition import DiskRows
from actors.table.ranged import Ranged
from actors.types.type import Array, Nulls


class Register(Message[tuple[Feature, bool]], frozen=True):
    """Make or update a feature. The answer: whether it is new, too."""

    change: FeatureChange


class DeleteFeature(Message[None], frozen=True):
    """Delete a feature by its id, and its values with it."""

    feature_id: str


class PutGroup(Message[tuple[Group, bool]], frozen=True):
    """Make or replace a group; the times in it are not looked at. The answer: whether it is new, too."""

    group: Group


class DeleteGroup(Message[None], frozen=True):
    """Delete a group; its features stay."""

    name: str


class Refresh(Message[None], frozen=True):
    """Another process has changed what is registered: take that over."""


class Write(Message[bytes], frozen=True):
    """Make blocks durable and visible. The answer: the bytes to say.

    `answer` is what to say for an idempotency `key` that comes back; `judged` and `notes` as for `Written`.
    """

    blocks: Sequence[Block]
    count: int
    answer: bytes
    key: str | None = None
    judged: int | None = None
    notes: Sequence[Noted] = ()


class ChangeRegistry(Message[None], frozen=True):
    """Make a change of the registry durable, in order with the writes around it."""

    change: Registered | Deleted | Grouped | Ungrouped | Noted


class Apply(Message[None], frozen=True):
    """Batches made durable, with their arrival, as far as they concern the receiver."""

    batches: Sequence[tuple[int, Sequence[Block]]]


class Erase(Message[Erased], frozen=True):
    """Everything of an entity is to go, of all its features. The answer is durable."""

    entity_type: str
    entity_id: str


class Purge(Message[None], frozen=True):
    """An entity was erased: to the store that owns it."""

    erased: Erased


class Forget(Message[None], frozen=True):
    """A feature was deleted."""

    feature: Feature


class Flushed(Message[None], frozen=True):
    """The history files reach `position`. `kept_values`: by feature id, how many rows stay in memory."""

    position: int
    kept_values: Mapping[str, int]


class Latest(Message[Grid], frozen=True):
    """The newest values with event time <= at.

    With `disk`, merged rows by feature id that a first answer found missing; `install` takes them into memory.
    """

    entity_type: str
    entities: Sequence[str]
    features: Sequence[Feature]
    kinds: Sequence[Kind]
    at: int
    current: bool
    """Whether `at` is the present: then the pairs count as used, and come back to memory."""
    visible_from: Sequence[int]
    """By feature: values before it answer nothing (retention age)."""
    disk: Mapping[str, DiskRows] = {}
    verify: bool = False
    """Whether the store compares what it serves with a point-in-time read of the same moment."""
    judged: int | None = None
    """The version of the registry that the features are of; a shared store with another raises Stale."""


class Agreement(Message[Mapping[str, tuple[int, int]]], frozen=True):
    """How such comparisons came out, by feature id: values compared, values that differed."""


class Past(Message[list[Cells]], frozen=True):
    """The value of each feature as of a moment of its own for each question: by feature.

    Question i is about entities[owner[i]] at[i]. `visible_from`, by feature, for all questions or one each: values
    before it answer nothing. `disk` as for `Latest`.
    """

    entity_type: str
    entities: Sequence[str]
    owner: Indices
    at: Times
    features: Sequence[Feature]
    visible_from: Sequence[int | Times]
    disk: Mapping[str, DiskRows] = {}


class Aggregated(msgspec.Struct, frozen=True):
    """One value per entity and window, entities outermost; or the entities (positions) still to be read."""

    values: Array
    nulls: Nulls
    value_type: str
    cold: Sequence[int] = ()


class PastWindow(Message[Aggregated | Ranged], frozen=True):
    """An aggregate over (start, at] for each question. Answered as `Between`; `cold` are entities."""

    entities: Sequence[str]
    owner: Indices
    start: Times
    at: Times
    feature: Feature
    aggregation: str
    disk: DiskRows | None = None


class Between(Message[Aggregated | Ranged], frozen=True):
    """Aggregates of the observations with start <= event time <= end.

    `Ranged` is what makes the answer, where there are many observations.
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
    """Up to `limit` observations, and whether there are more; or `cold` where the disk must be asked."""

    times: Times
    values: Array
    nulls: Nulls
    more: bool
    cold: bool = False


class Scan(Message[Scanned], frozen=True):
    """The observations of one entity, in time order."""

    entity: str
    feature: Feature
    start: int
    end: int
    limit: int
    descending: bool
    disk: DiskRows | None = None


class Whereabouts(Message[Indices], frozen=True):
    """In which order entities lie in a store's memory: int64[n] to sort them by. It may change."""

    entity_type: str
    entities: Sequence[str]


class CountRows(Message[int], frozen=True):
    """How many observations a store holds in memory."""


class Vitals(msgspec.Struct, frozen=True):
    """Of a feature's stream: how many came, the newest event time that was due when it came, the last arrival."""

    count: int = 0
    newest: int | None = None
    arrived: int | None = None

    def after(self, count: int, newest: int | None, arrived: int) -> Vitals:
        """With some more observations; `newest` is of those that were due."""
        if self.newest is not None:
            newest = self.newest if newest is None else max(newest, self.newest)
        return Vitals(self.count + count, newest, arrived)


class Fresh(Message[SavedSummaries | None], frozen=True):
    """What came of a feature after a position, None if `position` is too old.

    `whole`: only of the whole stream, not of its windows.
    """

    feature: Feature
    position: int
    whole: bool = False


class NewestTimes(Message[list[Vitals]], frozen=True):
    """When the newest observations of features came."""

    features: Sequence[Feature]


class Late(Message[list[tuple[str, int, int]]], frozen=True):
    """Windows of drift that had closed when observations of them came, where none has come since `settled`.

    By feature id: start, last arrival; at most `most`, the newest first. They are told once.
    """

    settled: int
    most: int


class Snapshot(Message[tuple[int, dict[SummaryKey, Summary]]], frozen=True):
    """What the monitor has to save: the position, and summaries by key."""


class Saved(Message[None], frozen=True):
    """The saved summaries reach `position`."""

    position: int


class MonitorStatus(msgspec.Struct, frozen=True):
    """The position in the journal, the observations that wait to be folded, the messages in the inbox."""

    position: int
    rows: int
    inbox: int


class Status(Message[MonitorStatus], frozen=True):
    """How far the monitor is."""
