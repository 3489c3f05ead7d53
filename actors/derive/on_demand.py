"""Features that are computed when they are read, from other features and from fields of the request's rows.

A definition is an expression in which names stand for features, which may be computed themselves, and for fields
of a row. It is checked and pinned when it is registered: its features must exist by then, and it never changes, so
definitions cannot form a cycle. For a read, what is asked for is taken apart into the features that are stored,
which are read as any others, and formulas over their columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from msgspec import UNSET

from actors.derive.expressions.parsing import Expression, parse
from actors.derive.expressions.scanning import Name, scanned
from actors.domain import Feature, FeatureChange, OnDemand, Pinned, ValueType, check_name
from actors.errors import Fault, InvalidInput, RequestError
from actors.settings import MAX_DEFINITION_DEPTH, MAX_DEFINITION_NAMES, MAX_FEATURES_PER_READ
from actors.table.selection import SelectedFeature, Selection
from actors.turns import Steps

REQUEST = "request"
"""The entity type under which a feature is listed that is registered without one."""
FIELD_TYPES: tuple[ValueType, ...] = ("number", "integer", "string", "boolean", "timestamp")
"""The value types that a field of a row may have."""


# Registering


Meaning = Callable[[str, str], Feature]
"""Finds the feature that a reference means under a name of the expression. Raises NotFound, Conflict."""


class Defined(NamedTuple):
    """A definition that has been checked, and the value type of the feature."""

    definition: OnDemand
    value_type: ValueType


def defined(text: str, change: FeatureChange, mean: Meaning, features: Mapping[str, Feature]) -> Defined:
    """Check a definition, whose expression is `text`, and pin its features.

    Raises InvalidInput, and what `mean` does, all of which name the field.
    """
    references, request = references_in(text, change), {} if change.request is UNSET else change.request
    _check_names(references, request)
    read = {name: _meant(name, reference, change, mean) for name, reference in references.items()}
    _check_levels(change, read, features)
    types = {name: feature.value_type for name, feature in read.items()} | dict(request)
    expression = _parsed(text, tuple(sorted(types.items())))
    unused = sorted(types.keys() - set(expression.names))
    if unused:
        field = "features" if unused[0] in references else "request"
        raise InvalidInput.at(f"{field}.{unused[0]}", "does not occur in the expression")
    pinned = tuple((name, Pinned(one.id, one.created)) for name, one in sorted(read.items()))
    return Defined(OnDemand(expression.text, pinned, tuple(sorted(request.items()))), expression.type)


def references_in(text: str, change: FeatureChange) -> dict[str, str]:
    """The reference of each name in an expression that stands for a feature; a name with a dot that is not given
    is one itself. Raises InvalidInput for what is no expression."""
    given = {} if change.features is UNSET else change.features
    names = [one.name for one in scanned(text, "expression").letters.values() if isinstance(one, Name)]
    return {name: name for name in names if "." in name} | dict(given)


def meaning(old: Feature, resolve: Callable[[str], Feature], features: Mapping[str, Feature]) -> Meaning:
    """What references mean when the definition of `old` is given again: what it has pinned under the same name,
    whatever is promoted by now."""
    pinned = {name: one for name, one in old.definition.features if _is(one, features)} if old.definition else {}

    def mean(name: str, reference: str) -> Feature:
        feature = features[pinned[name].id] if name in pinned else None
        if feature is not None and reference in names_of(feature):
            return feature
        return resolve(reference)

    return mean


def names_of(feature: Feature | FeatureChange) -> tuple[str, str, str]:
    """The references that may mean a feature."""
    name = f"{feature.entity}.{feature.name}"
    return feature.name, name, f"{name}.v{feature.version}"


def _meant(name: str, reference: str, change: FeatureChange, mean: Meaning) -> Feature:
    field = f"features.{name}" if change.features is not UNSET and name in change.features else "expression"
    try:
        feature = mean(name, reference)
    except RequestError as error:
        raise type(error)(f"{field}: {error.detail}", [Fault(field, error.detail)]) from None
    if (feature.entity, feature.name, feature.version) == (change.entity, change.name, change.version):
        raise InvalidInput.at(field, f"{feature.id} would be computed from itself")
    return feature


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


# What stands on what


def _is(pinned: Pinned, features: Mapping[str, Feature]) -> bool:
    """Whether a feature that was pinned is still there; another one may have its id by now."""
    feature = features.get(pinned.id)
    return feature is not None and pinned.created in (0, feature.created)


def _read_by(feature: Feature, features: Mapping[str, Feature]) -> list[Feature]:
    """The features that one is computed from, as far as they are still there."""
    pins = feature.definition.features if feature.definition else ()
    return [features[pinned.id] for _, pinned in pins if _is(pinned, features)]


def _check_levels(change: FeatureChange, read: Mapping[str, Feature], features: Mapping[str, Feature]) -> None:
    """Raise InvalidInput for a definition that stands on too many levels, or on more features than can be read."""
    levels = dict[str, int]()
    depth = 1 + max((_levels(one, features, levels) for one in read.values()), default=0)
    if depth > MAX_DEFINITION_DEPTH:
        reason = f"are nested {depth} levels deep; at most {MAX_DEFINITION_DEPTH} are allowed"
        raise InvalidInput.at("features", reason)


def _levels(feature: Feature, features: Mapping[str, Feature], known: dict[str, int]) -> int:
    """How many levels of definitions a feature stands on; 0 if it is stored. `known`: those of features by id.

    Raises InvalidInput if these are too many.
    """
    if feature.id not in known:
        if len(known) + 1 >= MAX_FEATURES_PER_READ:
            reason = f"and those that they are computed from are more than {MAX_FEATURES_PER_READ - 1}"
            raise InvalidInput.at("features", reason)
        read = [_levels(one, features, known) for one in _read_by(feature, features)]
        known[feature.id] = 0 if feature.definition is None else 1 + max(read, default=0)
    return known[feature.id]


@lru_cache(maxsize=1_024)
def _parsed(text: str, types: tuple[tuple[str, ValueType], ...]) -> Expression:
    return parse(text, dict(types))


def features_over(feature: Feature, features: Mapping[str, Feature]) -> list[str]:
    """The ids of the features that are computed from a feature, sorted."""
    pins = (feature.id, 0), (feature.id, feature.created)
    return sorted(
        one.id
        for one in features.values()
        if one.definition is not None
        and any((pinned.id, pinned.created) in pins for _, pinned in one.definition.features)
    )


def reads_of(feature: Feature, entity_type: str, features: Mapping[str, Feature]) -> bool:
    """Whether a feature is of an entity type, or computed from a stored one that is."""
    waiting, known = [feature], {feature.id}
    while waiting:
        one = waiting.pop()
        if one.definition is None and one.entity == entity_type:
            return True
        further = [each for each in _read_by(one, features) if each.id not in known]
        known.update(each.id for each in further)
        waiting += further
    return False


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


def in_order(changes: Sequence[tuple[str, FeatureChange]]) -> Steps[list[tuple[str, FeatureChange]]]:
    """Registrations, each with its place in the request, such that each comes after those that it refers to,
    in steps.

    Of its own name, a feature refers to lower versions. Raises InvalidInput for those that refer to each other.
    """
    by_place, named = dict(changes), dict[str, dict[str, int]]()
    for place, change in sorted(changes, key=lambda one: one[1].version):
        for name in names_of(change):
            holders = named.setdefault(name, {})
            holders[place] = len(holders)
    order, own = TopologicalSorter[str](), set[str]()
    for place, change in changes:
        order.add(place)
        if change.expression is not UNSET:
            yield
        for reference in references_of(change) & named.keys():
            if place in named[reference]:
                own.add(reference)
                order.add(place, f"{reference} < {named[reference][place]}")
            else:
                order.add(place, reference)
                order.add(reference, *named[reference])
    for name in own:
        for place, number in named[name].items():
            order.add(f"{name} < {number + 1}", place, f"{name} < {number}")
    try:
        return [(place, by_place[place]) for place in order.static_order() if place in by_place]
    except CycleError as error:
        circle = [place for place in error.args[1][:-1] if place in by_place]
        others = ", ".join(f"{by_place[place].entity}.{by_place[place].name}" for place in circle)
        raise InvalidInput.at(f"{circle[0]}.features", f"these are computed from each other: {others}") from None


def references_of(change: FeatureChange) -> set[str]:
    """The references in a definition; none if it has an error, which is told when it is registered."""
    try:
        return set() if change.expression is UNSET else set(references_in(change.expression, change).values())
    except InvalidInput:
        return set()
