"""Validates changes of entity types, services, training sets and promoted versions. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from actors.catalogue import ENTITY, SERVICE, TRAINING_SET
from actors.domain import (
    ROW_FIELDS,
    EntityType,
    FeatureService,
    KeptTrainingSet,
    Record,
    ServiceFeature,
    check_name,
    check_record,
)
from actors.errors import Conflict, InvalidInput, NotFound
from actors.registry import FeatureRegistry, check_count
from actors.settings import MAX_ENTITY_KEYS, MAX_VERSION
from actors.storage.entries import Catalogued, Registered, Uncatalogued

R = TypeVar("R", bound=Record)


def declaration(registry: FeatureRegistry, asked: EntityType, now: int) -> tuple[Catalogued, bool]:
    """The entry that declares or updates an entity type, and whether it had not been declared.

    Raises InvalidInput for invalid names, Conflict for other keys than the type has while features are of it.
    """
    check_name(asked.name, "name")
    if not 1 <= len(asked.keys) <= MAX_ENTITY_KEYS:
        raise InvalidInput.at("keys", f"an entity type has from 1 to {MAX_ENTITY_KEYS} keys")
    for key in asked.keys:
        check_name(key, "keys")
    if len(set(asked.keys)) < len(asked.keys):
        raise InvalidInput.at("keys", "names a key twice")
    before = registry.catalogue.keys(asked.name)
    if asked.keys != before and (taken := set(ROW_FIELDS).intersection(asked.keys)):
        raise InvalidInput.at("keys", f"{min(taken)!r} is a field of every row: give the key another name")
    if asked.keys != before and (count := registry.entity_types.get(asked.name)):
        raise Conflict(
            f"entity type {asked.name!r} has the keys {', '.join(before)}, and {count} features are of it"
        )
    old = registry.catalogue.entity_types.get(asked.name)
    return _kept("the entity type", asked, old, now), old is None


def undeclaration(registry: FeatureRegistry, name: str) -> Uncatalogued:
    """The entry that deletes an entity type. Raises NotFound, Conflict while features are of it."""
    if count := registry.entity_types.get(name):
        raise Conflict(f"{count} features are of entity type {name!r}: delete them first")
    if name not in registry.catalogue.entity_types:
        raise NotFound(f"unknown entity type {name!r}")
    return Uncatalogued(ENTITY, name)


def offer(registry: FeatureRegistry, asked: FeatureService, now: int) -> tuple[Catalogued, bool]:
    """The entry that creates or updates a version of a service, and whether it is new. References become ids.

    Raises InvalidInput, NotFound, Conflict as `FeatureRegistry.selected` does; Conflict if the version has other
    features.
    """
    check_name(asked.name, "name")
    if not 1 <= asked.version <= MAX_VERSION:
        raise InvalidInput.at("version", f"must be an integer from 1 to {MAX_VERSION}")
    check_count(len(asked.features))
    if not asked.features:
        raise InvalidInput.at("features", "a service needs at least one feature")
    if len({one.name for one in asked.features}) < len(asked.features):
        raise InvalidInput.at("features", "two columns have the same name; tell them apart with `as`")
    pinned = tuple(_pinned(registry, one) for one in asked.features)
    old = registry.catalogue.services.get(asked.key)
    if old is None and (taken := {one.name for one in pinned}.intersection(ROW_FIELDS)):
        reason = f"{min(taken)!r} is a field of every row of a training set: name the column with `as`"
        raise InvalidInput.at("features", reason)
    if old is not None:
        _check_same(registry, old, pinned)
    return _kept("the service", msgspec.structs.replace(asked, features=pinned), old, now), old is None


def _pinned(registry: FeatureRegistry, asked: ServiceFeature) -> ServiceFeature:
    feature = registry.selected(asked).feature
    return ServiceFeature(feature.id, asked.name, asked.key, feature.created)


def _check_same(registry: FeatureRegistry, old: FeatureService, pinned: Sequence[ServiceFeature]) -> None:
    """Raise Conflict unless a version of a service has these very features."""
    instead = f"make version {_next(registry, old.name)}"
    if [_unpinned(one) for one in old.features] != [_unpinned(one) for one in pinned]:
        raise Conflict(f"service {old.key!r} reads other features; {instead}")
    for before, one in zip(old.features, pinned, strict=True):
        if before.created not in (0, one.created):
            raise Conflict(f"service {old.key!r} reads another {one.feature!r}, which has been deleted; {instead}")


def _unpinned(one: ServiceFeature) -> ServiceFeature:
    return msgspec.structs.replace(one, created=0)


def _next(registry: FeatureRegistry, name: str) -> int:
    return registry.catalogue.service(name).version + 1


def withdrawal(registry: FeatureRegistry, reference: str) -> Uncatalogued:
    """The entry that deletes one version of a service. Raises NotFound unless `reference` is `name.vN`."""
    if reference not in registry.catalogue.services:
        raise NotFound(f"unknown service {reference!r}; name one version to delete, name.vN")
    return Uncatalogued(SERVICE, reference)


def keeping(registry: FeatureRegistry, asked: KeptTrainingSet, now: int) -> Catalogued:
    """The entry that keeps a training set.

    Raises InvalidInput for its name, Conflict if there is one like it, NotFound if a feature has gone meanwhile.
    """
    check_name(asked.name, "name")
    for id_, created in asked.pinned:
        registry.pinned(id_, created, f"training set {asked.name!r}")
    if asked.name in registry.catalogue.training_sets:
        raise Conflict(f"there is a training set {asked.name!r}; delete it first, or choose another name")
    return _kept("the training set", asked, None, now)


def discarding(registry: FeatureRegistry, name: str) -> Uncatalogued:
    """The entry that deletes a kept training set. Raises NotFound."""
    return Uncatalogued(TRAINING_SET, registry.catalogue.training_set(name).name)


def promotion(registry: FeatureRegistry, id_: str, now: int) -> Registered:
    """The entry by which a feature's name may mean this version. Raises NotFound unless it is a feature's id."""
    feature = registry.features.get(id_)
    if feature is None:
        raise NotFound(f"unknown feature {id_!r}; name one version to promote, entity.name.vN")
    return Registered(msgspec.structs.replace(feature, promoted=True, updated=now))


def _kept(what: str, asked: R, old: R | None, now: int) -> Catalogued:
    record = msgspec.structs.replace(asked, created=now if old is None else old.created, updated=now)
    check_record(what, record)
    return Catalogued(record)
