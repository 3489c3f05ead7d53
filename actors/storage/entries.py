"""What is committed to the log of a storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from actors.domain import Feature, Group, Record
from actors.table.batch import Batch, observations


class Noted(NamedTuple):
    """Stores a record (a check, a pinned reference, an alert, the position in a stream); None deletes it.

    `new`: a shared store answers Conflict if there is one with this key.
    """

    kind: str
    key: str
    record: bytes | None
    new: bool = False


class Written(NamedTuple):
    """A batch of observations, with the answer to repeat if its idempotency key is used again.

    `judged`: the version of the registry that it was validated with. A shared store with another version refuses
    it as `Stale`; if this is None, only if one of its features is no longer registered. `repeated`: the batch has
    not been recorded, and `answer` is that to the first write with its key, which another process accepted.

    `notes` become durable in the same transaction, so that a position in a stream never differs from what was
    written. A Redis Cluster has no such transactions: there notes are written last, so that a crash can leave the
    batch without its notes, but never notes without their batch. Other processes are not told of these notes, and
    `Noted.new` is ignored. In Redis, a batch with notes but not `judged` may be `Stale` as the registry changes.
    """

    arrived: int
    batch: Batch
    key: str | None
    answer: bytes
    judged: int | None = None
    repeated: bool = False
    notes: Sequence[Noted] = ()

    @property
    def observations(self) -> int:
        """How many observations the batch has."""
        return observations(self.batch)


class Registered(NamedTuple):
    """A feature was registered or updated; `groups` changed with it."""

    feature: Feature
    groups: Sequence[Group] = ()


class Deleted(NamedTuple):
    """A feature was deleted, and removed from `groups`."""

    feature: Feature
    groups: Sequence[Group] = ()


class Grouped(NamedTuple):
    """A group was created or replaced."""

    group: Group


class Ungrouped(NamedTuple):
    """A group was deleted."""

    name: str


class Catalogued(NamedTuple):
    """An entity type, a feature service or a kept training set was made or updated."""

    record: Record


class Uncatalogued(NamedTuple):
    """An entity type, a feature service or a kept training set was deleted."""

    kind: str
    key: str


class Together(NamedTuple):
    """Registrations that are made in one commit, or none of them."""

    changes: Sequence[Registered | Grouped | Catalogued]


class Removed(NamedTuple):
    """How many observations of an erased entity were removed, and of how many features."""

    observations: int
    features: int


class Erased(NamedTuple):
    """An entity was erased: everything of it that had arrived by `arrived`."""

    entity_type: str
    entity_id: str
    arrived: int
    removed: Removed | None = None
    """What a shared store removed in the commit; None if files have yet to be rewritten."""
    before: bytes = b""
    """The last erasure when this was asked for (see `protocol.SharedLog`): what others removed since is its as
    well."""


RegistryChange = Registered | Deleted | Grouped | Ungrouped | Catalogued | Uncatalogued | Together
"""A change of what is registered, by which a shared store counts the versions of its registry."""
Entry = Written | RegistryChange | Noted | Erased
