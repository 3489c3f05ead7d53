"""What may be asked of an actor: frozen data, no behaviour. One message concerns many entities.

RegistryActor  Register, DeleteFeature, PutGroup, DeleteGroup
JournalActor   Write, ChangeRegistry
StoreActor     Apply, Forget, Flushed, Latest, Between, Scan, CountRows
MonitorActor   Apply, Forget, Describe, Snapshot
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from actors.columns import Block, Times
from actors.domain import Feature, FeatureChange, Group
from actors.grid import Kind
from actors.partition import DiskRows
from actors.storage.protocol import Deleted, Grouped, Registered, Ungrouped
from actors.values import Array, Nulls


class Register(msgspec.Struct, frozen=True):
    """Make or update a feature. Answered with (Feature, whether it is new)."""

    change: FeatureChange


class DeleteFeature(msgspec.Struct, frozen=True):
    """Delete a feature by its id, and its values with it. Answered with None."""

    feature_id: str


class PutGroup(msgspec.Struct, frozen=True):
    """Make or replace a group; the times in it are not looked at. Answered with (Group, whether it is new)."""

    group: Group


class DeleteGroup(msgspec.Struct, frozen=True):
    """Delete a group; its features stay. Answered with None."""

    name: str


class Write(msgspec.Struct, frozen=True):
    """Make blocks durable and visible. Answered with the bytes to say.

    `answer` is what to say for an idempotency `key` that comes back.
    """

    blocks: Sequence[Block]
    count: int
    answer: bytes
    key: str | None = None


class ChangeRegistry(msgspec.Struct, frozen=True):
    """Make a change of the registry durable, in order with the writes around it. Answered with None."""

    change: Registered | Deleted | Grouped | Ungrouped


class Apply(msgspec.Struct, frozen=True):
    """Batches made durable, with their arrival, as far as they concern the receiver. Not answered."""

    batches: Sequence[tuple[int, Sequence[Block]]]


class Forget(msgspec.Struct, frozen=True):
    """A feature was deleted. Not answered."""

    feature: Feature


class Flushed(msgspec.Struct, frozen=True):
    """The history files reach `position`. `kept_values`: by feature id, how many rows stay in memory."""

    position: int
    kept_values: Mapping[str, int]


class Latest(msgspec.Struct, frozen=True):
    """The newest values with event time <= at. Answered with a `Grid`.

    With `disk`, rows by feature id that a first answer found missing; `install` takes them into memory.
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


class Between(msgspec.Struct, frozen=True):
    """Aggregates of the observations with start <= event time <= end. Answered with `Aggregated`."""

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


class Aggregated(msgspec.Struct, frozen=True):
    """One value per entity and window, entities outermost; or the entities (positions) still to be read."""

    values: Array
    nulls: Nulls
    value_type: str
    cold: Sequence[int] = ()


class Scan(msgspec.Struct, frozen=True):
    """The observations of one entity, in time order. Answered with `Scanned`."""

    entity: str
    feature: Feature
    start: int
    end: int
    limit: int
    descending: bool
    disk: DiskRows | None = None


class Scanned(msgspec.Struct, frozen=True):
    """Up to `limit` observations, and whether there are more; or `cold` where the disk must be asked."""

    times: Times
    values: Array
    nulls: Nulls
    more: bool
    cold: bool = False


class CountRows(msgspec.Struct, frozen=True):
    """How many observations a store holds in memory. Answered with an int."""


class Describe(msgspec.Struct, frozen=True):
    """The statistics of a feature. Answered with `Figures`."""

    feature: Feature


class Snapshot(msgspec.Struct, frozen=True):
    """The monitor's state to keep. Answered with (position, bytes)."""
