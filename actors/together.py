"""Registrations that are judged as a whole: they may refer to each other, and all are made or none.

Each is judged as it would be alone, against a copy of the registry in which those before it have been made. In
the end, what differs between the copy and the registry is the change. What is refused is in the copy as well, as
far as it has a name, so that nothing is refused only because it refers to something that is.

A reference that a group or a service has pinned keeps its meaning here, and `promoted: false` is how a version
begins: the same list again changes nothing, also when another version has been promoted since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
from msgspec import UNSET

from actors.declaring import declaration, offer
from actors.derive.on_demand import names_of, references_of
from actors.domain import (
    EntityType,
    Feature,
    FeatureChange,
    FeatureService,
    Group,
    Reference,
    ServiceFeature,
    feature_id,
    parse_reference,
)
from actors.errors import Conflict, Fault, InvalidInput, RequestError
from actors.messages import Outcome, Registration
from actors.registry import FeatureRegistry, check_count
from actors.storage.entries import Catalogued, Grouped, Registered, Together
from actors.turns import Steps

_PER_TURN = 5
"""How many registrations are judged before other tasks get a turn."""

Name = tuple[str, str]
"""The kind of what is registered, and what it is registered under."""


def judging(
    registry: FeatureRegistry, asked: Sequence[Registration], tick: Callable[[], int]
) -> Steps[list[Outcome]]:
    """What registering all that is asked would do, in its order; groups that features join come last.

    `tick`: gives the time of each change. Raises a RequestError that has a fault for each part that is refused.
    """
    whole = _Whole(registry, tick)
    for done, registration in enumerate(asked, 1):
        whole.take(registration)
        if done % _PER_TURN == 0:
            yield
    return (yield from whole.outcomes())


def change_of(outcomes: Sequence[Outcome]) -> Together | None:
    """The change by which the outcomes come about; None if nothing changes."""
    changes = [_entry(outcome.after) for outcome in outcomes if outcome.after is not outcome.before]
    return Together(changes) if changes else None


def _entry(made: Feature | Group | EntityType | FeatureService) -> Registered | Grouped | Catalogued:
    if isinstance(made, Feature):
        return Registered(made)
    return Grouped(made) if isinstance(made, Group) else Catalogued(made)


class _Whole:
    """Judges one registration after the other."""

    def __init__(self, registry: FeatureRegistry, tick: Callable[[], int]) -> None:
        self._registry = registry
        self._copy = registry.copy()
        self._tick = tick
        self._places: dict[Name, str] = {}
        self._joined: dict[Name, None] = {}
        self._errors: list[RequestError] = []
        self._untyped = set[str]()
        """References to definitions that were refused, or not judged as they stand on one: of unknown type."""

    def take(self, registration: Registration) -> None:
        """Judge a registration and make it in the copy; note what is wrong with it."""
        place, asked = registration
        name = _name(asked)
        first = self._places.setdefault(name, place)
        if first != place:
            self._errors.append(InvalidInput.at(place, f"{' '.join(name)} is at {first} already"))
            return
        if isinstance(asked, FeatureChange) and self._stands_on_refused(asked):
            self._stand_in(asked)
            return
        try:
            self._copy.apply(self._judged(asked))
        except RequestError as error:
            self._errors.append(_placed(error, place))
            self._stand_in(asked)

    def outcomes(self) -> Steps[list[Outcome]]:
        """What becomes of all that was taken. Raises a RequestError if any of it was refused."""
        if self._errors:
            raise _joined(self._errors)
        outcomes = list[Outcome]()
        for name in dict.fromkeys([*self._places, *self._joined]):
            outcomes.append(self._outcome(name))
            if len(outcomes) % _PER_TURN == 0:
                yield
        return outcomes

    def _judged(
        self, asked: EntityType | FeatureChange | Group | FeatureService
    ) -> Registered | Grouped | Catalogued:
        if isinstance(asked, FeatureChange):
            if asked.promoted is False and _name(asked)[1] in self._registry.features:
                asked = msgspec.structs.replace(asked, promoted=UNSET)
            registered, _ = self._copy.registration(asked, self._tick())
            self._joined.update((("group", group.name), None) for group in registered.groups)
            return registered
        if isinstance(asked, EntityType):
            return declaration(self._copy, asked, self._tick())[0]
        check_count(len(asked.features))
        if isinstance(asked, Group):
            pinned = self._pins_of_group(asked)
            _raise_all(self._refused_of_group(pinned))
            grouped = self._copy.grouping(pinned, self._tick())[0]
            return Grouped(msgspec.structs.replace(grouped.group, features=asked.features))
        service = self._pinned_service(asked)
        _raise_all(self._refused_of_service(service))
        return offer(self._copy, service, self._tick())[0]

    # References that are pinned already

    def _pins_of_group(self, asked: Group) -> Group:
        old = self._registry.groups.get(asked.name)
        if old is None or old.entity != asked.entity:
            return asked
        pins = dict(zip(old.features, old.ids, strict=False))
        meant = [self._still(pins.get(reference), reference) for reference in asked.features]
        return msgspec.structs.replace(asked, features=tuple(meant))

    def _pinned_service(self, asked: FeatureService) -> FeatureService:
        old = self._registry.catalogue.services.get(asked.key)
        if old is None or len(old.features) != len(asked.features):
            return asked
        meant = [
            ServiceFeature(self._still(pin.feature, one.feature), one.name, one.key)
            for pin, one in zip(old.features, asked.features, strict=True)
        ]
        return msgspec.structs.replace(asked, features=tuple(meant))

    def _still(self, pin: str | None, reference: str) -> str:
        """The id that a reference was pinned to, if that is a version of what it names; else the reference."""
        feature, named = self._copy.features.get(pin or ""), parse_reference(reference)
        if feature is None or named is None or named.version is not None:
            return reference
        return feature.id if named in _references_to(feature) else reference

    # Every reference that is at fault

    def _refused_of_group(self, group: Group) -> Iterator[RequestError]:
        for at, reference in enumerate(group.features):
            try:
                feature = self._copy.resolve_in(group, reference)
                if feature.entity != group.entity:
                    raise Conflict(f"{feature.id!r} is of entity type {feature.entity!r}, not {group.entity!r}")
            except RequestError as error:
                yield _placed(error, f"features[{at}]")

    def _refused_of_service(self, service: FeatureService) -> Iterator[RequestError]:
        for at, one in enumerate(service.features):
            try:
                self._copy.selected(one)
            except RequestError as error:
                yield _placed(error, f"features[{at}]")

    def _stands_on_refused(self, asked: FeatureChange) -> bool:
        return bool(self._untyped) and not self._untyped.isdisjoint(references_of(asked))

    def _stand_in(self, asked: EntityType | FeatureChange | Group | FeatureService) -> None:
        """Let others refer to what was refused."""
        if isinstance(asked, EntityType) and asked.keys:
            self._copy.apply(Catalogued(asked))
        elif isinstance(asked, FeatureChange):
            id_ = feature_id(asked.entity, asked.name, asked.version)
            if id_ not in self._copy.features:
                feature = Feature(
                    id=id_,
                    entity=asked.entity,
                    name=asked.name,
                    version=asked.version,
                    value_type="number" if asked.value_type is UNSET else asked.value_type,
                    created=0,
                    updated=0,
                )
                self._copy.apply(Registered(feature))
                if asked.value_type is UNSET:
                    self._untyped.update(names_of(asked))

    def _outcome(self, name: Name) -> Outcome:
        before, after = _found(self._registry, name), _found(self._copy, name)
        assert after is not None
        same = before is not None and msgspec.structs.replace(after, updated=before.updated) == before
        return Outcome(*name, before, before if same and before is not None else after)


def _name(asked: EntityType | FeatureChange | Group | FeatureService) -> Name:
    if isinstance(asked, FeatureChange):
        return "feature", feature_id(asked.entity, asked.name, asked.version)
    if isinstance(asked, Group):
        return "group", asked.name
    return "entity" if isinstance(asked, EntityType) else "service", asked.key


def _found(registry: FeatureRegistry, name: Name) -> Feature | Group | EntityType | FeatureService | None:
    kind, key = name
    match kind:
        case "feature":
            return registry.features.get(key)
        case "group":
            return registry.groups.get(key)
        case "entity":
            return registry.catalogue.entity_types.get(key)
    return registry.catalogue.services.get(key)


def _references_to(feature: Feature) -> tuple[Reference, Reference]:
    return Reference(feature.entity, feature.name, None), Reference(None, feature.name, None)


def _placed(error: RequestError, place: str) -> RequestError:
    """The error, with the place before the fields that it names."""
    faults = error.faults or (Fault("", error.detail),)
    placed = [Fault(f"{place}.{fault.field}" if fault.field else place, fault.message) for fault in faults]
    return type(error)(_words(placed), placed)


def _raise_all(errors: Iterator[RequestError]) -> None:
    if found := list(errors):
        raise _joined(found)


def _joined(errors: Sequence[RequestError]) -> RequestError:
    """One error for all: of their class if they have the same, else InvalidInput."""
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else InvalidInput
    faults = [fault for error in errors for fault in error.faults]
    return kind(_words(faults), faults)


def _words(faults: Sequence[Fault]) -> str:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{faults[0].field}: {faults[0].message}{more}"
