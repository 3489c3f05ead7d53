"""Features that are computed when they are read, from other features and from fields of the request's rows.

A definition is an expression in which names stand for features, which may be computed themselves, and for fields
of a row. It is checked and pinned when it is registered: its features must exist by then, and it never changes, so
definitions cannot form a cycle. For a read, what is asked for is taken apart into the features that are stored,
which are read as any others, and formulas over their columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from msgspec import UNSET

from actors.derive.expressions.parsing import Expression, parse
from actors.derive.expressions.scanning import Name, scanned
from actors.domain import Feature, FeatureChange, OnDemand, Pinned, ValueType, check_name
from actors.errors import InvalidInput
from actors.settings import MAX_DEFINITION_DEPTH, MAX_DEFINITION_NAMES
from actors.table.selection import SelectedFeature, Selection

REQUEST = "request"
"""The entity type under which a feature is listed that is registered without one."""
FIELD_TYPES: tuple[ValueType, ...] = ("number", "integer", "string", "boolean", "timestamp")
"""The value types that a field of a row may have."""


# Registering


class Defined(NamedTuple):
    """A definition that has been checked, and the value type of the feature."""

    definition: OnDemand
    value_type: ValueType


def defined(
    text: str, change: FeatureChange, resolve: Callable[[str], Feature], features: Mapping[str, Feature]
) -> Defined:
    """Check a definition, whose expression is `text`, and pin its features.

    `resolve`: finds the feature of a reference; raises NotFound, Conflict. Raises InvalidInput for everything else
    that is wrong with it.
    """
    references = _references(text, change)
    request = {} if change.request is UNSET else change.request
    _check_names(references, request)
    if (depth := _depth(change, references, resolve, features)) > MAX_DEFINITION_DEPTH:
        reason = f"are computed over {depth} levels, at most {MAX_DEFINITION_DEPTH} may stand on each other"
        raise InvalidInput.at("features", reason)
    read = {name: resolve(reference) for name, reference in references.items()}
    types = {name: feature.value_type for name, feature in read.items()} | dict(request)
    expression = _parsed(text, tuple(sorted(types.items())))
    unused = sorted(types.keys() - set(expression.names))
    if unused:
        field = "features" if unused[0] in references else "request"
        raise InvalidInput.at(f"{field}.{unused[0]}", "does not occur in the expression")
    pinned = tuple((name, Pinned(one.id, one.created)) for name, one in sorted(read.items()))
    return Defined(OnDemand(expression.text, pinned, tuple(sorted(request.items()))), expression.type)


def _references(text: str, change: FeatureChange) -> dict[str, str]:
    """The reference of each name that stands for a feature; a name with a dot that is not given is one itself."""
    given = {} if change.features is UNSET else change.features
    names = [one.name for one in scanned(text, "expression").letters.values() if isinstance(one, Name)]
    return {name: name for name in names if "." in name} | dict(given)


def meaning(
    old: Feature, resolve: Callable[[str], Feature], features: Mapping[str, Feature]
) -> Callable[[str], Feature]:
    """What references mean when the definition of `old` is given again: what it has pinned, whatever is promoted
    by now."""
    definition = old.definition
    pinned = [features[one.id] for _, one in definition.features if one.id in features] if definition else []
    named: dict[str, Feature] = {}
    for feature in sorted(pinned, key=lambda feature: feature.version):
        name = f"{feature.entity}.{feature.name}"
        named |= {feature.name: feature, name: feature, feature.id: feature}

    def mean(reference: str) -> Feature:
        return named.get(reference) or resolve(reference)

    return mean


def _check_names(references: Mapping[str, str], request: Mapping[str, ValueType]) -> None:
    if len(references) + len(request) > MAX_DEFINITION_NAMES:
        raise InvalidInput.at("features", f"an expression may name at most {MAX_DEFINITION_NAMES} things")
    for field, names in (("features", references), ("request", request)):
        for name in names:
            for part in name.split(".") if field == "features" else [name]:
                check_name(part, f"{field}.{name}")
    for name, value_type in request.items():
        if name in references:
            raise InvalidInput.at(f"request.{name}", "is the name of a feature as well")
        if value_type not in FIELD_TYPES:
            raise InvalidInput.at(f"request.{name}", f"a field of a row is one of {', '.join(FIELD_TYPES)}")


def _depth(
    change: FeatureChange,
    references: Mapping[str, str],
    resolve: Callable[[str], Feature],
    features: Mapping[str, Feature],
) -> int:
    """How many levels of definitions stand on each other. Raises InvalidInput for one that stands on itself."""
    levels = 1
    for name, reference in references.items():
        feature = resolve(reference)
        if (feature.entity, feature.name, feature.version) == (change.entity, change.name, change.version):
            raise InvalidInput.at(f"features.{name}", f"{feature.id} would be computed from itself")
        levels = max(levels, 1 + levels_of(feature, features))
    return levels


def levels_of(feature: Feature, features: Mapping[str, Feature]) -> int:
    """How many levels of definitions a feature stands on; 0 if it is stored."""
    if feature.definition is None:
        return 0
    read = [features[pinned.id] for _, pinned in feature.definition.features if pinned.id in features]
    return 1 + max((levels_of(one, features) for one in read), default=0)


@lru_cache(maxsize=1_024)
def _parsed(text: str, types: tuple[tuple[str, ValueType], ...]) -> Expression:
    return parse(text, dict(types))


def features_over(id_: str, features: Mapping[str, Feature]) -> list[str]:
    """The ids of the features that are computed from a feature, sorted."""
    return sorted(
        feature.id
        for feature in features.values()
        if feature.definition is not None and any(pinned.id == id_ for _, pinned in feature.definition.features)
    )


def reads_of(feature: Feature, entity_type: str, features: Mapping[str, Feature]) -> bool:
    """Whether a feature is of an entity type, or computed from a stored one that is."""
    if feature.definition is None:
        return feature.entity == entity_type
    read = (features.get(pinned.id) for _, pinned in feature.definition.features)
    return any(one is not None and reads_of(one, entity_type, features) for one in read)


# Reading


class Formula(NamedTuple):
    """A column to compute. `asked`: the column of the request that needs it, for messages.

    `features`: for each name in the expression its column: the number of a stored one, or ~n for the nth formula.
    """

    asked: str
    feature: Feature
    expression: Expression
    features: Mapping[str, int]
    request: Sequence[tuple[str, ValueType]]


class Taking:
    """Takes features apart into stored ones and formulas. `formulas`: each after those that it needs."""

    def __init__(
        self,
        pinned: Callable[[str, int, str], Feature],
        keys: Callable[[str], tuple[str, ...]],
        stored: Callable[[SelectedFeature], int],
    ) -> None:
        """`pinned`: see `FeatureRegistry.pinned`. `keys`: those of an entity type. `stored`: returns the number of
        the column of a stored feature."""
        self.formulas: list[Formula] = []
        self._pinned = pinned
        self._keys = keys
        self._stored = stored
        self._known: dict[tuple[str, tuple[str, ...]], int] = {}

    def column(self, selected: SelectedFeature) -> int:
        """The column of a feature, as in `Formula.features`. Raises NotFound if what it reads is gone."""
        name, feature, fields = selected
        definition = feature.definition
        if definition is None:
            return self._stored(selected)
        known = self._known.get((feature.id, fields))
        if known is not None:
            return known
        types, columns = dict(definition.request), dict[str, int]()
        for alias, pinned in definition.features:
            read = self._pinned(pinned.id, pinned.created, f"feature {feature.id!r}")
            types[alias] = read.value_type
            own = fields if read.entity == feature.entity else self._keys(read.entity)
            columns[alias] = self.column(SelectedFeature(name, read, own))
        expression = _parsed(definition.expression, tuple(sorted(types.items())))
        self.formulas.append(Formula(name, feature, expression, columns, definition.request))
        number = self._known[feature.id, fields] = ~(len(self.formulas) - 1)
        return number


class Computed(Selection):
    """A selection in which some features are computed.

    `stored`: the features that are read for it, of which there may be none. `columns`: for each feature its
    column, as in `Formula.features`.
    """

    def __init__(
        self,
        selected: Sequence[SelectedFeature],
        stored: Selection,
        formulas: Sequence[Formula],
        columns: Sequence[int],
    ) -> None:
        super().__init__(selected)
        self._stored = stored
        self.formulas = formulas
        self.columns = columns
        self.roles = stored.roles
        self.fields = stored.fields
        self.request = _request(formulas)

    @property
    def stored(self) -> Selection:
        """The features that are read for it."""
        return self._stored

    @property
    def width(self) -> int:
        """How many values are read or computed for each row."""
        return len(self._stored.features) + len(self.formulas)

    @property
    def read(self) -> list[Feature]:
        """All features that are read or computed for it."""
        return [*self._stored.features, *(formula.feature for formula in self.formulas)]


def _request(formulas: Sequence[Formula]) -> Mapping[tuple[str, ValueType], str]:
    """The fields of a row that formulas need, by name and type, each with the column that needs it."""
    needed: dict[tuple[str, ValueType], str] = {}
    for formula in formulas:
        for field in formula.request:
            needed.setdefault(field, formula.asked)
    return needed


def selection_of(
    selected: Sequence[SelectedFeature],
    pinned: Callable[[str, int, str], Feature],
    keys: Callable[[str], tuple[str, ...]],
) -> Selection:
    """The selection of features, some of which may be computed. Raises NotFound."""
    if all(one.feature.definition is None for one in selected):
        return Selection(selected)
    stored: dict[tuple[str, tuple[str, ...]], int] = {}
    read = list[SelectedFeature]()

    def column(one: SelectedFeature) -> int:
        number = stored.setdefault((one.feature.id, one.fields), len(read))
        if number == len(read):
            read.append(one)
        return number

    taking = Taking(pinned, keys, column)
    columns = [taking.column(one) for one in selected]
    return Computed(selected, Selection(read), taking.formulas, columns)


# The order of several registrations


def in_order(changes: Sequence[tuple[str, FeatureChange]]) -> Iterator[tuple[str, FeatureChange]]:
    """Registrations, each with its place in the request, such that each comes after those that it refers to.

    Raises InvalidInput for those that refer to each other.
    """
    waiting = dict(changes)
    while waiting:
        places: dict[str, set[str]] = {}
        for place, change in waiting.items():
            for name in _names(change):
                places.setdefault(name, set()).add(place)
        ready = [(place, one) for place, one in waiting.items() if not _waits(place, one, places)]
        if not ready:
            others = ", ".join(f"{one.entity}.{one.name}" for one in waiting.values())
            reason = f"these are computed from each other: {others}"
            raise InvalidInput.at(f"{next(iter(waiting))}.features", reason)
        for place, change in ready:
            del waiting[place]
            yield place, change


def _names(change: FeatureChange) -> tuple[str, str, str]:
    name = f"{change.entity}.{change.name}"
    return change.name, name, f"{name}.v{change.version}"


def _waits(place: str, change: FeatureChange, places: Mapping[str, set[str]]) -> bool:
    """Whether a registration refers to another one that is still to be made."""
    references = () if change.features is UNSET else change.features.values()
    return any(places.get(reference, set()) - {place} for reference in references)
