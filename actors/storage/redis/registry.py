"""The registry in Redis, as of the version that this process last read, and the election of a leader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from actors.domain import Feature, Group, record_of
from actors.storage.entries import Deleted, Entry, Registered, Together
from actors.storage.protocol import Recovered, Versions
from actors.storage.redis.functions import ROOT, VERSIONS
from actors.storage.redis.link import Command, RedisLink
from actors.storage.redis.stored_rows import LAST_ARRIVAL, last_arrival, lives_of
from actors.storage.redis.summaries import Writers
from actors.timestamps import SECOND

REGISTRY = Command(ROOT, ("HGET", VERSIONS, "registry"))
"""Asks for the version of the registry."""


class RedisRegistry:
    """See `SharedRegistry`."""

    def __init__(self, link: RedisLink, writers: Writers) -> None:
        self.versions_seen = 0
        self.features: dict[str, Feature] = {}
        """The features by id, as of `versions_seen`."""
        self.leads = writers.leads
        self._link = link
        self._writers = writers
        self._aged: set[str] = set()
        self._lives: dict[str, int | None] | None = None
        """The result of `lives_of` for `features` and `_aged`; None if they have changed since."""

    def registered(self) -> Recovered:
        """Read what is registered, as of one moment."""
        hashes = [("HVALS", ROOT + name) for name in (b":features", b":groups", b":catalogue", b":writers")]
        hashes.append(("HKEYS", ROOT + b":aged"))
        # Not in one transaction, which fails while their slot is moving; instead repeated if the version changed.
        asked = [REGISTRY, *(Command(ROOT, one) for one in hashes), LAST_ARRIVAL, Command(ROOT, ("TIME",))]
        while True:
            version, records, groups, catalogued, positions, aged, last, (seconds, micros) = self._link.ask(asked)
            if self._link.ask([REGISTRY]) == [version]:
                break
        features = [msgspec.msgpack.decode(record, type=Feature) for record in records]
        found = [msgspec.msgpack.decode(record, type=Group) for record in groups]
        catalogue = [record_of(record) for record in catalogued]
        self.features = {feature.id: feature for feature in features}
        self._aged, self._lives = {entity_type.decode() for entity_type in aged}, None
        self.versions_seen = int(version or 0)
        marks = [
            *map(int, positions),
            *(one.updated for one in features),
            *(one.updated for one in found),
            *(one.updated for one in catalogue),
            last_arrival(last),
        ]
        arrived = max(marks)
        moment = min(arrived, int(seconds) * SECOND + int(micros))
        return Recovered(features, found, arrived, 0, moment, catalogue)

    def versions_now(self) -> Versions:
        """Read the versions; also renews the lease of this process's writer."""
        self._writers.renew()
        asked = Command(ROOT, ("HMGET", VERSIONS, "registry", "notes")), LAST_ARRIVAL
        (registry, notes), arrived = self._link.ask(asked)
        return Versions(int(registry or 0), int(notes or 0), last_arrival(arrived))

    def lives(self) -> Mapping[str, int | None]:
        """How long the values of an entity are kept at most, see `lives_of`."""
        if self._lives is None:
            self._lives = lives_of(self.features.values(), self._aged)
        return self._lives

    def note(self, entry: Entry, version: int) -> None:
        """Note a change by this process, which has created this version."""
        self.versions_seen = version
        match entry:
            case Registered(feature):
                self.features[feature.id], self._lives = feature, None
                if feature.kept_age is not None:
                    self._aged.add(feature.entity)
            case Deleted(feature):
                self.features.pop(feature.id, None)
                self._lives = None
            case Together(changes):
                for one in changes:
                    self.note(one, version)

    def created_now(self, ids: Sequence[str] | None = None) -> dict[str, int]:
        """When the features registered now were created, by id: those of some ids, or all."""
        asked = ("HVALS", ROOT + b":features") if ids is None else ("HMGET", ROOT + b":features", *ids)
        (records,) = self._link.ask([Command(ROOT, asked)])
        features = [msgspec.msgpack.decode(record, type=Feature) for record in records if record is not None]
        return {feature.id: feature.created for feature in features}
