"""Validates the registration of a feature, and creates the resulting feature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from actors.derive.on_demand import defined, meaning
from actors.domain import Feature, FeatureChange, check_record, feature_id
from actors.errors import Conflict, InvalidInput
from actors.settings import MAX_RETENTION_VALUES
from actors.timestamps import parse_duration
from actors.types.constraints import check_schema

_UPDATABLE = ("description", "tags", "owner", "schema", "max_age", "retention", "promoted")
_GIVEN = ("entity", "name", "value_type", "version", "group", *_UPDATABLE)


class KnownFeatures(Protocol):
    """What is registered; see `FeatureRegistry`."""

    @property
    def features(self) -> Mapping[str, Feature]:
        """All features by id."""

    def resolve(self, reference: str) -> Feature:
        """The feature of a reference. Raises NotFound, Conflict."""


def created(change: FeatureChange, known: KnownFeatures, now: int) -> Feature:
    """A new feature. Raises InvalidInput, NotFound, Conflict for an invalid definition."""
    given: dict[str, Any] = {name: getattr(change, name) for name in _GIVEN if getattr(change, name) is not UNSET}
    if change.expression is not UNSET:
        made = defined(change.expression, change, lambda _, reference: known.resolve(reference), known.features)
        if change.value_type not in (UNSET, made.value_type):
            raise InvalidInput.at("valueType", f"the expression gives {made.value_type}")
        given |= made._asdict()
    id_ = feature_id(change.entity, change.name, change.version)
    return Feature(id=id_, created=now, updated=now, **given)


def updated(old: Feature, change: FeatureChange, known: KnownFeatures, now: int) -> Feature:
    """A feature with what the change gives. Raises Conflict if it gives another value type or definition."""
    if change.value_type not in (UNSET, old.value_type):
        raise Conflict(
            f"feature {old.id!r} has valueType {old.value_type!r}; register {change.value_type!r} as a new version"
        )
    if change.expression is UNSET:
        if old.definition is not None:
            raise Conflict(
                f"feature {old.id!r} is computed by an expression: give that as well, or register a new version"
            )
    else:
        mean = meaning(old, known.resolve, known.features)
        asked = defined(change.expression, change, mean, known.features)
        if asked.definition != old.definition:
            raise Conflict(f"feature {old.id!r} is defined otherwise; register a new version")
    given = {name: getattr(change, name) for name in _UPDATABLE if getattr(change, name) is not UNSET}
    return msgspec.structs.replace(old, **given, updated=now)


def check_feature(feature: Feature) -> None:
    """Raise InvalidInput for a schema, a maximal age or a retention that does not fit, TooLarge for its size."""
    of_values = ("schema", feature.schema), ("maxAge", feature.max_age), ("retention", feature.retention)
    for field, given in of_values:
        if feature.definition is not None and given is not None:
            raise InvalidInput.at(field, "makes no sense for a feature that is computed, as it keeps no values")
    if feature.definition is None:
        check_schema(feature.value_type, feature.schema)
    if feature.max_age is not None:
        parse_duration(feature.max_age, "maxAge")
    if feature.retention is not None:
        if not 1 <= feature.retention.values <= MAX_RETENTION_VALUES:
            raise InvalidInput.at("retention.values", f"must be from 1 to {MAX_RETENTION_VALUES}")
        if feature.retention.age is not None:
            parse_duration(feature.retention.age, "retention.age")
    check_record("the feature", feature)


def check_compatible(old: Feature, new: Feature) -> None:
    """Raise Conflict for a change of dimension."""
    before, after = (feature.schema.dimension if feature.schema else None for feature in (old, new))
    if before != after:
        raise Conflict(f"feature {old.id!r} has dimension {before}; register dimension {after} as a new version")
