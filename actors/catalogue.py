"""Catalogue: the declared entity types, the feature services and the kept training sets of the registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from actors.domain import EntityType, Feature, FeatureService, KeptTrainingSet, Record
from actors.errors import NotFound

ENTITY, SERVICE, TRAINING_SET = "entity", "service", "training-set"
"""The kinds of records, as stored."""


class Catalogue:
    """A part of the FeatureRegistry, read and changed in the same way."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._entity_types: dict[str, EntityType] = {}
        self._services: dict[str, FeatureService] = {}
        self._newest: dict[str, FeatureService] = {}
        self._training_sets: dict[str, KeptTrainingSet] = {}
        for record in records:
            self.put(record)

    @property
    def entity_types(self) -> Mapping[str, EntityType]:
        """The declared entity types by name."""
        return MappingProxyType(self._entity_types)

    @property
    def services(self) -> Mapping[str, FeatureService]:
        """All versions of all services, by reference (`name.vN`)."""
        return MappingProxyType(self._services)

    def copy(self) -> Catalogue:
        """A catalogue with the same records, to try changes on."""
        return Catalogue([*self._entity_types.values(), *self._services.values(), *self._training_sets.values()])

    @property
    def training_sets(self) -> Mapping[str, KeptTrainingSet]:
        """The kept training sets by name."""
        return MappingProxyType(self._training_sets)

    def training_set(self, name: str) -> KeptTrainingSet:
        """The kept training set of this name. Raises NotFound."""
        found = self._training_sets.get(name)
        if found is None:
            raise NotFound(f"unknown training set {name!r}")
        return found

    def training_sets_with(self, feature: Feature) -> list[KeptTrainingSet]:
        """The kept training sets that read a feature, by name."""
        meant = {(feature.id, feature.created), (feature.id, 0)}
        found = [one for one in self._training_sets.values() if not meant.isdisjoint(one.pinned)]
        return sorted(found, key=lambda one: one.name)

    def keys(self, entity_type: str) -> tuple[str, ...]:
        """The keys of an entity type. A type that is not declared has one key, named like itself."""
        declared = self._entity_types.get(entity_type)
        return (entity_type,) if declared is None else declared.keys

    def service(self, reference: str) -> FeatureService:
        """The service that `name.vN` refers to; `name` refers to its highest version. Raises NotFound."""
        found = self._services.get(reference) or self._newest.get(reference)
        if found is None:
            raise NotFound(f"unknown service {reference!r}")
        return found

    def services_with(self, feature: Feature) -> list[FeatureService]:
        """The services that read a feature, by name and version."""
        found = [one for one in self._services.values() if any(part.means(feature) for part in one.features)]
        return sorted(found, key=lambda service: (service.name, service.version))

    def put(self, record: Record) -> None:
        """Add a record; it replaces the one with the same key."""
        if isinstance(record, EntityType):
            self._entity_types[record.name] = record
        elif isinstance(record, KeptTrainingSet):
            self._training_sets[record.name] = record
        else:
            self._services[record.key] = record
            self._find_newest(record.name)

    def drop(self, kind: str, key: str) -> None:
        """Remove a record, if there is one with this key."""
        if kind == ENTITY:
            self._entity_types.pop(key, None)
        elif kind == TRAINING_SET:
            self._training_sets.pop(key, None)
        elif (gone := self._services.pop(key, None)) is not None:
            self._find_newest(gone.name)

    def _find_newest(self, name: str) -> None:
        versions = [one for one in self._services.values() if one.name == name]
        if versions:
            self._newest[name] = max(versions, key=lambda one: one.version)
        else:
            self._newest.pop(name, None)
