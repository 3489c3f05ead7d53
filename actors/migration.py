"""Migration: copies everything in one storage into another, empty one.

The registry and the monitor's notes go first, then the observations in order of arrival, lot by lot, each with a
note of the position reached, so that an interrupted migration resumes there; then the statistics. Finally both
storages are read in full and compared. Nobody else may use either storage meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from actors.domain import Feature
from actors.errors import Conflict, NotFound, TimewellError, Unavailable
from actors.monitoring.monitor import FeatureMonitor
from actors.stats.summary import merge_states, saved
from actors.storage.carrying import Fingerprint, fingerprints
from actors.storage.entries import Catalogued, Entry, Grouped, Noted, Registered
from actors.storage.protocol import Recovered, Storage, SummaryKey
from actors.timestamps import NEVER

KIND = "migration"
NOTES = ("check", "pinned", "alert", "score")
SUMMARIES_AT_ONCE = 500
Tell = Callable[[int, float], None]
"""Reports progress: the observations copied (or compared) so far, and the fraction of all work that is done."""
_CARRYING, _COMPARING = 0.6, 0.2
"""Fractions of the work: copying; comparing, once for the source and once for the target."""


class Migrated(NamedTuple):
    """What the target holds after a migration. `resumed`: whether an interrupted attempt was continued."""

    features: int
    groups: int
    observations: int
    summaries: int
    resumed: bool


def migrate(source: Storage, target: Storage, name: str, tell: Tell) -> Migrated:
    """Copy everything. `name`: the name of the source, by which an interrupted attempt is recognised. Blocks.

    Raises StartupError if a storage cannot be opened, NotFound if the source is empty or does not exist (it is not
    created), Conflict if the target holds anything else, Unavailable if the two differ in the end.
    """
    if not source.there():
        raise NotFound(f"there is no storage in {name}")
    found = source.open()
    try:
        if not (found.features or found.groups or found.catalogue):
            raise NotFound("there is nothing in the source")
        present = target.open()
        try:
            return _carried(source, found, target, present, name, tell)
        finally:
            target.close()
    finally:
        source.close()


def _carried(
    source: Storage, found: Recovered, target: Storage, present: Recovered, name: str, tell: Tell
) -> Migrated:
    features = {feature.id: feature for feature in found.features}
    mark = target.notes(KIND).get(name)
    if mark is None:
        if present.features or present.groups or present.catalogue:
            raise Conflict("the target is not empty: migrate into a new one")
        _register(source, found, target, name)
    after = NEVER if mark is None else msgspec.msgpack.decode(mark, type=int)
    last = _carry_rows(source, target, features, name, after, tell)
    summaries = _carry_statistics(source, target, last)
    counted = _compared(source, target, features, tell)
    _commit(target, [Noted(KIND, name, None)])
    return Migrated(len(features), len(found.groups), counted, summaries, mark is not None)


def _register(source: Storage, found: Recovered, target: Storage, name: str) -> None:
    entries: list[Entry] = [Registered(feature) for feature in found.features]
    entries += [Grouped(group) for group in found.groups]
    entries += [Catalogued(record) for record in found.catalogue]
    entries += [Noted(kind, key, record) for kind in NOTES for key, record in source.notes(kind).items()]
    _commit(target, [*entries, Noted(KIND, name, msgspec.msgpack.encode(NEVER))])


def _commit(target: Storage, entries: list[Entry]) -> None:
    for recorded in target.log.commit(entries):
        if isinstance(recorded, TimewellError):
            raise recorded


def _carry_rows(
    source: Storage, target: Storage, features: Mapping[str, Feature], name: str, after: int, tell: Tell
) -> int:
    """Copy the observations that arrived later than `after`; returns the last arrival in the target."""
    total, done = max(1, source.mover.held(after)), 0
    for lot in source.mover.carried(features, after):
        after = lot.mark
        target.mover.carry(lot, Noted(KIND, name, msgspec.msgpack.encode(lot.mark)))
        done += sum(len(part.arrived) for part in lot.parts)
        tell(done, _CARRYING * min(1.0, done / total))
    return after


def _carry_statistics(source: Storage, target: Storage, last: int) -> int:
    """Copy the statistics, replacing those of an earlier attempt; returns how many summaries there are.

    They cover what arrived by `last`.
    """
    _settle(source)
    position = max(target.summaries.position, last)
    count, parts = 0, dict[SummaryKey, bytes]()
    for key, state in source.summaries.all():
        parts[key] = state
        count += 1
        if len(parts) == SUMMARIES_AT_ONCE:
            target.summaries.save(position, parts, _last)
            parts = {}
    target.summaries.save(position, parts, _last)
    return count


def _last(states: Iterable[bytes]) -> bytes:
    """A `merge` for `Summaries.save` by which the new state replaces the stored one."""
    return list(states)[-1]


def _settle(source: Storage) -> None:
    """Bring the source's statistics up to date with its log."""
    position, totals = source.summaries.totals()
    monitor = FeatureMonitor(position, totals)
    for arrived, batch in source.log.replay(max(position, source.log.trimmed())):
        monitor.apply(arrived, batch)
        for _ in monitor.overdue():
            pass
    for _ in monitor.folding():
        pass
    position, parts = monitor.leave()
    source.summaries.save(position, {key: saved(part) for key, part in parts.items()}, merge_states)


def _compared(source: Storage, target: Storage, features: Mapping[str, Feature], tell: Tell) -> int:
    """Compare the observations of both; returns how many there are. Raises Unavailable if they differ."""
    of_source = _fingerprints(source, features, tell, _CARRYING)
    of_target = _fingerprints(target, features, tell, _CARRYING + _COMPARING)
    for id_ in features:
        there, here = of_source.get(id_), of_target.get(id_)
        if there != here:
            counts = [0 if each is None else each.observations for each in (there, here)]
            raise Unavailable(f"{id_} is not the same: {counts[0]} observations there, {counts[1]} here")
    return sum(each.observations for each in of_source.values())


def _fingerprints(
    storage: Storage, features: Mapping[str, Feature], tell: Tell, share: float
) -> dict[str, Fingerprint]:
    total, found = max(1, storage.mover.held(NEVER)), dict[str, Fingerprint]()
    for lot in storage.mover.carried(features, NEVER):
        found = fingerprints(lot.parts, found)
        done = sum(each.observations for each in found.values())
        tell(done, share + _COMPARING * min(1.0, done / total))
    return found
