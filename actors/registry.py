"""FeatureRegistry: the registered features and groups, and what a reference means."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

import msgspec

from actors.catalogue import Catalogue
from actors.derive.on_demand import features_over, reads_of, selection_of
from actors.domain import (
    Feature,
    FeatureChange,
    Group,
    Record,
    ServiceFeature,
    check_name,
    check_record,
    feature_id,
    parse_reference,
)
from actors.errors import Conflict, InvalidInput, NotFound, TooLarge
from actors.registering import check_compatible, check_feature, created, updated
from actors.remembered import Remembered
from actors.settings import MAX_FEATURES_PER_READ, MAX_VERSION
from actors.storage.entries import (
    Catalogued,
    Deleted,
    Grouped,
    Registered,
    RegistryChange,
    Together,
    Uncatalogued,
    Ungrouped,
)
from actors.table.selection import Key, SelectedFeature, Selection, fields_of
from actors.types.patterns import Unusable, instructions_of

log = logging.getLogger("timewell.registry")
_MOST_REMEMBERED = 100_000
_BYTES_OF_A_SELECTION = 400
"""The approximate size of a Selection, and again for each feature in it: lists, arrays, what stores cache of
it."""


def check_count(references: int) -> None:
    """Raise TooLarge for more features than one read may name. Called before any of them is looked up."""
    if references > MAX_FEATURES_PER_READ:
        raise TooLarge(f"features: {references} features, at most {MAX_FEATURES_PER_READ} are read at once")


class FeatureRegistry:
    """Features, their versions and groups, and what a reference means."""

    def __init__(
        self,
        features: Iterable[Feature] = (),
        groups: Iterable[Group] = (),
        version: int = 0,
        catalogue: Iterable[Record] = (),
    ) -> None:
        self.version = version
        """The version of the registry in the shared store that this one is a copy of."""
        self._features = {feature.id: feature for feature in features}
        self._groups = {group.name: group for group in groups}
        self.catalogue = Catalogue(catalogue)
        """The declared entity types, the feature services and the kept training sets."""
        self._index()

    def copy(self) -> FeatureRegistry:
        """A registry with the same content, to try changes on. It shares what is replaced and never changed."""
        made = copy.copy(self)
        made._features, made._groups = self._features.copy(), self._groups.copy()
        made._versions, made._entities = self._versions.copy(), self._entities.copy()
        made._counts = self._counts.copy()
        made.catalogue = self.catalogue.copy()
        made._forget_answers()
        return made

    def _index(self) -> None:
        """Rebuild the derived indices. A thread that reads them meanwhile finds the old ones or the new ones."""
        versions: dict[tuple[str, str], list[Feature]] = {}
        entities: dict[str, set[str]] = {}
        for feature in sorted(self._features.values(), key=lambda feature: feature.version):
            versions.setdefault((feature.entity, feature.name), []).append(feature)
            entities.setdefault(feature.name, set()).add(feature.entity)
        self._versions, self._entities = versions, entities
        self._counts = Counter(feature.entity for feature in self._features.values())
        self.pattern_instructions = max(map(_instructions, self._features.values()), default=0)
        """The instructions of the largest pattern in any schema: matching costs at most this many steps a byte."""
        self._forget_answers()

    def _forget_answers(self) -> None:
        # New objects: a thread that has looked something up before must not store it as valid now.
        self._resolved: dict[str, Feature] = {}
        self._selected = Remembered[Selection]()

    def _index_one(self, feature: Feature) -> None:
        versions = self._versions.get((feature.entity, feature.name), [])
        kept = [*(other for other in versions if other.id != feature.id), feature]
        self._counts[feature.entity] += len(kept) - len(versions)
        self._versions[feature.entity, feature.name] = sorted(kept, key=lambda version: version.version)
        self._entities[feature.name] = self._entities.get(feature.name, set()) | {feature.entity}
        self.pattern_instructions = max(self.pattern_instructions, _instructions(feature))

    def replace(
        self,
        features: Iterable[Feature],
        groups: Iterable[Group],
        version: int = 0,
        catalogue: Iterable[Record] = (),
    ) -> None:
        """Replace everything: another process has changed the registry."""
        fresh = {feature.id: feature for feature in features}
        named = {group.name: group for group in groups}
        for id_ in self._features.keys() - fresh.keys():
            del self._features[id_]
        self._features.update(fresh)  # in place, and never without what stays: others hold this very dict
        for name in self._groups.keys() - named.keys():
            del self._groups[name]
        self._groups.update(named)
        self.catalogue = Catalogue(catalogue)
        self._index()
        self.version = version

    @property
    def features(self) -> Mapping[str, Feature]:
        """All features by id."""
        return MappingProxyType(self._features)

    def known(self) -> Mapping[str, Feature]:
        """A copy of the features by id. Safe in any thread: copying a dict is atomic in CPython."""
        return self._features.copy()

    @property
    def groups(self) -> Mapping[str, Group]:
        """All groups by name."""
        return MappingProxyType(self._groups)

    # What a reference means

    def resolve(self, reference: str) -> Feature:
        """The feature that an id, `entity.name` or bare name refers to; without a version, the highest promoted.

        Raises NotFound, or Conflict if a bare name is used by several entity types.
        """
        resolved = self._resolved
        found = resolved.get(reference)
        if found is None:
            found = self._look_up(reference)
            if len(resolved) > _MOST_REMEMBERED:
                resolved.clear()
            resolved[reference] = found
        return found

    def stored(self, reference: str) -> Feature:
        """The same, for a feature of which values are stored. Raises InvalidInput for a computed one."""
        feature = self.resolve(reference)
        if feature.definition is not None:
            raise InvalidInput(f"{feature.id} is computed when it is read: no values of it are written or kept")
        return feature

    def _look_up(self, reference: str) -> Feature:
        exact = self._features.get(reference)
        if exact is not None:
            return exact
        versions = self.versions(reference)
        promoted = [version for version in versions if version.promoted]
        if not promoted:
            ids = ", ".join(version.id for version in versions)
            raise NotFound(f"no version of {reference!r} is promoted: promote one, or ask for {ids}")
        return promoted[-1]

    def _entity_of(self, name: str) -> str:
        entities = sorted(self._entities.get(name, ()))
        if len(entities) > 1:
            candidates = ", ".join(f"{entity}.{name}" for entity in entities)
            raise Conflict(f"{name!r} could be any of {candidates}")
        return entities[0] if entities else ""

    def versions(self, reference: str) -> Sequence[Feature]:
        """All versions of the feature that `entity.name` or a bare name refers to, lowest first.

        Raises NotFound if there is none, Conflict if a bare name is used by several entity types.
        """
        parts = parse_reference(reference)
        if parts is None or parts.version is not None:
            raise NotFound(f"unknown feature {reference!r}")
        entity = self._entity_of(reference) if parts.entity is None else parts.entity
        found = self._versions.get((entity, parts.name))
        if not found:
            raise NotFound(f"unknown feature {reference!r}")
        return found

    def group(self, name: str) -> Group:
        """A group by name. Raises NotFound."""
        found = self._groups.get(name)
        if found is None:
            raise NotFound(f"unknown group {name!r}")
        return found

    def resolve_in(self, group: Group, reference: str) -> Feature:
        """The feature that a group's reference means: in a group, a bare name is of the group's entity type."""
        return self.resolve(reference if "." in reference else f"{group.entity}.{reference}")

    @property
    def entity_types(self) -> Mapping[str, int]:
        """How many features there are of each entity type, declared or not."""
        declared = dict.fromkeys(self.catalogue.entity_types, 0)
        return declared | {name: count for name, count in self._counts.items() if count}

    def members(self, name: str) -> set[str]:
        """The ids of the features that a group reads; empty for an unknown group."""
        group = self._groups.get(name)
        return {feature.id for _, feature in self._features_of(group)} if group else set()

    def _features_of(self, group: Group) -> list[tuple[str, Feature]]:
        """The features that a group reads, under the names that it gives them."""
        if not group.ids:  # of an earlier version of Timewell, which did not keep what its references meant
            return [(reference, self.resolve_in(group, reference)) for reference in group.features]
        return [(name, self.resolve(id_)) for name, id_ in zip(group.features, group.ids, strict=True)]

    def select(
        self,
        asked: Sequence[str | ServiceFeature] | None,
        group: str | None = None,
        service: str | None = None,
    ) -> Selection:
        """The features that a read asks for, by name: those of the service or the group first, then `asked`.

        A ServiceFeature is a reference with options, whose `feature` need not be an id. Raises what `resolve` and
        `group` do, InvalidInput if no feature is named or a name occurs twice, TooLarge for too many.
        """
        if asked is not None:
            check_count(len(asked))
        key = None if asked is None else tuple(asked), group, service
        found = self._selected.get(key)
        if found is None:
            found = self._select(asked or (), group, service)
            names = [*(one if isinstance(one, str) else one.name for one in asked or ()), *found.references]
            size = _BYTES_OF_A_SELECTION * (1 + len(names)) + sum(map(len, names))
            self._selected.keep(key, found, size)
        return found

    def _select(self, asked: Sequence[str | ServiceFeature], group: str | None, service: str | None) -> Selection:
        features: dict[str, SelectedFeature] = {}
        if service is not None:
            offered = self.catalogue.service(service)
            for pinned in offered.features:
                self.pinned(pinned.feature, pinned.created, f"service {offered.key!r}")
                features[pinned.name] = self.selected(pinned)
        if group is not None:
            for name, feature in self._features_of(self.group(group)):
                features[name] = self._selected_as(name, feature, None)
        given = dict(features)
        for one in asked:
            if isinstance(one, str) and one in given and self.pins(given[one], one):
                continue
            chosen = self.selected(one)
            before = features.get(chosen.name)
            if before is not None and before != chosen:
                raise InvalidInput.at(
                    "features", f"two columns are named {chosen.name!r}; tell them apart with `as`"
                )
            features[chosen.name] = chosen
        if not features:
            raise InvalidInput.at("features", "name at least one feature, or a group that has some")
        return selection_of(list(features.values()), self.pinned, self.catalogue.keys)

    def pins(self, column: SelectedFeature, reference: str) -> bool:
        """Whether a column of a group or service has pinned what a reference means: the same feature and role."""
        feature, parts = column.feature, parse_reference(reference)
        named = parts is not None and (
            parts.name == feature.name
            and parts.entity in (None, feature.entity)
            and parts.version in (None, feature.version)
        )
        return named and column.fields == self.catalogue.keys(feature.entity)

    def selected(self, asked: str | ServiceFeature) -> SelectedFeature:
        """The feature that one reference asks for.

        Raises what `resolve` does, InvalidInput for a `key` that its entity type does not have.
        """
        if isinstance(asked, str):
            return self._selected_as(asked, self.resolve(asked), None)
        return self._selected_as(asked.name, self.resolve(asked.feature), asked.key)

    def _selected_as(self, name: str, feature: Feature, key: Key) -> SelectedFeature:
        if key is not None and not reads_of(feature, feature.entity, self._features):
            raise InvalidInput.at("key", f"{feature.id} is not computed from any feature of {feature.entity!r}")
        return SelectedFeature(name, feature, fields_of(feature, self.catalogue.keys(feature.entity), key))

    def pinned(self, id_: str, created: int, reader: str) -> Feature:
        """The feature that `reader` has pinned, with the `created` that it had; 0 stands for any.

        Raises NotFound if it has been deleted, whatever has been registered under its id since.
        """
        feature = self._features.get(id_)
        if feature is None:
            raise NotFound(f"{reader} reads {id_!r}, which has been deleted")
        if created not in (0, feature.created):
            raise NotFound(
                f"{reader} reads {id_!r}, which has been deleted; what has this id now is another feature"
            )
        return feature

    # Validating a change; nothing is changed here

    def registration(self, change: FeatureChange, now: int) -> tuple[Registered, bool]:
        """The entry that registers or updates a feature as asked for, and whether the feature is new.

        Raises InvalidInput for an invalid name or schema, Conflict for a change of value type or dimension.
        """
        check_name(change.entity, "entity")
        check_name(change.name, "name")
        if not 1 <= change.version <= MAX_VERSION:
            raise InvalidInput.at("version", f"must be an integer from 1 to {MAX_VERSION}")
        old = self._features.get(feature_id(change.entity, change.name, change.version))
        feature = updated(old, change, self, now) if old else created(change, self, now)
        check_feature(feature)
        if old is not None:
            check_compatible(old, feature)
            return Registered(feature), False
        return Registered(feature, self._joined(feature, now)), True

    def _joined(self, feature: Feature, now: int) -> list[Group]:
        """The group that a new feature names with the feature added, as a list; empty if nothing changes."""
        if feature.group is None:
            return []
        check_name(feature.group, "group")
        group = self._groups.get(feature.group)
        if group is None:
            return [
                Group(
                    name=feature.group,
                    entity=feature.entity,
                    features=(feature.id,),
                    ids=(feature.id,),
                    created=now,
                    updated=now,
                )
            ]
        if group.entity != feature.entity:
            raise Conflict(f"group {group.name!r} is of entity type {group.entity!r}, not {feature.entity!r}")
        if feature.id in group.features:
            return []
        ids = (*(one.id for _, one in self._features_of(group)), feature.id)
        return [msgspec.structs.replace(group, features=(*group.features, feature.id), ids=ids, updated=now)]

    def deletion(self, id_: str, now: int, force: bool = False) -> Deleted:
        """The entry that deletes a feature.

        Raises NotFound; Conflict if a group, service or training set reads it, unless `force`: then it leaves the
        groups, and the others keep its id and answer that it is gone.
        """
        feature = self._features.get(id_)
        if feature is None:
            raise NotFound(f"unknown feature {id_!r}")
        groups = self.groups_with(id_)
        names = [f"group {group.name!r}" for group in groups]
        names += [f"service {one.key!r}" for one in self.catalogue.services_with(feature)]
        names += [f"training set {one.name!r}" for one in self.catalogue.training_sets_with(feature)]
        names += [f"feature {over!r}" for over in self.features_over(feature)]
        if names and not force:
            raise Conflict(f"feature {id_!r} is read by {', '.join(names)}; ?force=true deletes it all the same")
        return Deleted(feature, [self._without(group, id_, now) for group in groups])

    def features_over(self, feature: Feature) -> list[str]:
        """The ids of the features that are computed from a feature, sorted."""
        return features_over(feature, self._features)

    def groups_with(self, id_: str) -> list[Group]:
        """The groups that read a feature, by name."""
        found = [group for group in self._groups.values() if self._reads(group, id_)]
        return sorted(found, key=lambda group: group.name)

    def _reads(self, group: Group, id_: str) -> bool:
        if group.ids:
            return id_ in group.ids
        with suppress(NotFound):  # a reference of which no version is promoted any more
            return id_ in self.members(group.name)
        return False

    def _without(self, group: Group, id_: str, now: int) -> Group:
        kept = [(name, feature.id) for name, feature in self._features_of(group) if feature.id != id_]
        names, ids = tuple(name for name, _ in kept), tuple(own for _, own in kept)
        return msgspec.structs.replace(group, features=names, ids=ids, updated=now)

    def grouping(self, group: Group, now: int) -> tuple[Grouped, bool]:
        """The entry that creates or replaces a group, and whether the group is new.

        Raises InvalidInput, NotFound for an unknown feature, Conflict for features of another entity type.
        """
        check_name(group.name, "name")
        check_name(group.entity, "entity")
        if not group.features:
            raise InvalidInput.at("features", "a group needs at least one feature")
        if len(set(group.features)) < len(group.features):
            raise InvalidInput.at("features", "names a feature twice")
        features = [self.resolve_in(group, reference) for reference in group.features]
        for feature in features:
            if feature.entity != group.entity:
                raise Conflict(
                    f"feature {feature.id!r} is of entity type {feature.entity!r}, not {group.entity!r}"
                )
        old = self._groups.get(group.name)
        if old is not None and old.entity != group.entity:
            raise Conflict(f"group {group.name!r} is of entity type {old.entity!r}, not {group.entity!r}")
        ids = tuple(feature.id for feature in features)
        kept = msgspec.structs.replace(group, created=old.created if old else now, updated=now, ids=ids)
        check_record("the group", kept)
        return Grouped(kept), old is None

    # Applying a change that is durable

    def apply(self, change: RegistryChange) -> None:
        """Make a durable change visible."""
        for one in change.changes if isinstance(change, Together) else (change,):
            self._apply(one)
        self._forget_answers()

    def _apply(self, change: RegistryChange) -> None:
        match change:
            case Registered(feature, groups):
                self._features[feature.id] = feature
                self._index_one(feature)
                self._groups.update((group.name, group) for group in groups)
            case Deleted(feature, groups):
                self._features.pop(feature.id, None)
                self._index()
                self._groups.update((group.name, group) for group in groups)
            case Grouped(group):
                self._groups[group.name] = group
            case Ungrouped(name):
                self._groups.pop(name, None)
            case Catalogued(record):
                self.catalogue.put(record)
            case Uncatalogued(kind, key):
                self.catalogue.drop(kind, key)


def _instructions(feature: Feature) -> int:
    if feature.schema is None or feature.schema.pattern is None:
        return 0
    try:
        return instructions_of(feature.schema.pattern)
    except Unusable as error:  # accepted by an earlier version of Timewell
        log.warning("%s: the pattern of its schema %s; its values are refused", feature.id, error)
        return 0
