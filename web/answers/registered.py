"""Features and groups in the contract's form."""

from __future__ import annotations

from typing import Any

from actors.catalogue import Catalogue
from actors.domain import Feature, FeatureService, Group, OnDemand
from actors.timestamps import format_timestamp
from timewell.wire import (
    EntityTypeAnswer,
    FeatureAnswer,
    FeatureDetails,
    GroupAnswer,
    ServiceAnswer,
    ServiceFeatureAnswer,
    UsedBy,
)


def feature_answer(feature: Feature) -> FeatureAnswer:
    """A feature in the contract's form."""
    return FeatureAnswer(**_of_feature(feature))


def feature_details(feature: Feature, used_by: UsedBy) -> FeatureDetails:
    """A feature with what uses it."""
    return FeatureDetails(**_of_feature(feature), used_by=used_by)


def _of_feature(feature: Feature) -> dict[str, Any]:
    definition = feature.definition
    computed = {} if definition is None else _of_definition(definition)
    return computed | {
        "id": feature.id,
        "name": feature.name,
        "description": feature.description,
        "value_type": feature.value_type,
        "entity": feature.entity,
        "version": feature.version,
        "tags": feature.tags,
        "created_at": format_timestamp(feature.created),
        "updated_at": format_timestamp(feature.updated),
        "owner": feature.owner,
        "group": feature.group,
        "schema": feature.schema,
        "max_age": feature.max_age,
        "retention": feature.retention,
        "promoted": feature.promoted,
    }


def _of_definition(definition: OnDemand) -> dict[str, Any]:
    return {
        "expression": definition.expression,
        "features": {name: pinned.id for name, pinned in definition.features},
        "request": dict(definition.request),
    }


def group_answer(group: Group) -> GroupAnswer:
    """A group in the contract's form."""
    return GroupAnswer(
        name=group.name,
        entity=group.entity,
        description=group.description,
        features=group.features,
        tags=group.tags,
        created_at=format_timestamp(group.created),
        updated_at=format_timestamp(group.updated),
        feature_ids=group.ids,
    )


def entity_type_answer(name: str, catalogue: Catalogue, features: int) -> EntityTypeAnswer:
    """An entity type in the contract's form, whether it is declared or not. `features`: how many are of it."""
    declared = catalogue.entity_types.get(name)
    if declared is None:
        return EntityTypeAnswer(name, catalogue.keys(name), "", (), features)
    return EntityTypeAnswer(
        name=name,
        keys=declared.keys,
        description=declared.description,
        tags=declared.tags,
        features=features,
        owner=declared.owner,
        created_at=format_timestamp(declared.created),
        updated_at=format_timestamp(declared.updated),
    )


def service_answer(service: FeatureService) -> ServiceAnswer:
    """A version of a service in the contract's form."""
    features = [
        ServiceFeatureAnswer(one.feature, one.name, dict(one.key) if isinstance(one.key, tuple) else one.key)
        for one in service.features
    ]
    return ServiceAnswer(
        id=service.key,
        name=service.name,
        version=service.version,
        description=service.description,
        features=features,
        tags=service.tags,
        created_at=format_timestamp(service.created),
        updated_at=format_timestamp(service.updated),
        owner=service.owner,
    )
