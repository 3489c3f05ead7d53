"""Features and groups in the contract's form."""

from __future__ import annotations

from actors.domain import Feature, Group
from actors.timestamps import format_timestamp
from timewell.wire import FeatureAnswer, GroupAnswer


def feature_answer(feature: Feature) -> FeatureAnswer:
    """A feature in the contract's form."""
    return FeatureAnswer(
        id=feature.id,
        name=feature.name,
        description=feature.description,
        value_type=feature.value_type,
        entity=feature.entity,
        version=feature.version,
        tags=feature.tags,
        created_at=format_timestamp(feature.created),
        updated_at=format_timestamp(feature.updated),
        owner=feature.owner,
        group=feature.group,
        schema=feature.schema,
        max_age=feature.max_age,
        retention=feature.retention,
    )


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
    )
