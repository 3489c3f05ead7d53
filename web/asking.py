"""What a read asks for: features with options, and entities of the type that they are of."""

from __future__ import annotations

from collections.abc import Sequence

from actors.derive.on_demand import Computed
from actors.domain import ServiceFeature
from actors.errors import InvalidInput
from actors.ingest.composite import checking_parts
from actors.registry import FeatureRegistry
from actors.settings import MAX_COLUMN_NAME_CHARACTERS
from actors.table.selection import Selection
from actors.turns import by_turns
from timewell.wire import FeatureEntry


def references_of(entries: Sequence[str | FeatureEntry], field: str = "features") -> list[str | ServiceFeature]:
    """The entries of a list of features, as the registry takes them. Raises InvalidInput for an invalid `as`."""
    return [
        entry if isinstance(entry, str) else service_feature(entry, f"{field}[{place}]")
        for place, entry in enumerate(entries)
    ]


def service_feature(entry: str | FeatureEntry, field: str) -> ServiceFeature:
    """A reference with its options, as the registry takes it. Raises InvalidInput for an invalid `as`."""
    if isinstance(entry, str):
        return ServiceFeature(entry, entry)
    name = entry.ref if entry.name is None else entry.name
    if entry.name is not None and not 1 <= len(name) <= MAX_COLUMN_NAME_CHARACTERS:
        raise InvalidInput.at(f"{field}.as", f"must have from 1 to {MAX_COLUMN_NAME_CHARACTERS} characters")
    key = tuple(sorted(entry.key.items())) if isinstance(entry.key, dict) else entry.key
    return ServiceFeature(entry.ref, name, key)


def check_one_type(selected: Selection, field: str, rows: bool) -> None:
    """Raise InvalidInput if one entity id cannot say which entities the features are of.

    `rows`: whether the route takes rows instead.
    """
    roles = selected.roles
    if isinstance(selected, Computed) and (selected.request or not roles):
        example = ", ".join(
            f'"{name}": ...' for name in [*selected.fields, *(field for field, _ in selected.request)]
        )
        raise InvalidInput.at(field, f"some features are computed from rows: send rows, such as [{{{example}}}]")
    if len(roles) == 1:
        return
    types = sorted({role.entity_type for role in roles})
    about = f"of several entity types, {' and '.join(types)}" if len(types) > 1 else "of several entities of a row"
    instead = "ask for those of each entity type in a request of their own"
    if rows:
        example = ", ".join(f'"{name}": ...' for name in selected.fields)
        instead = f"send rows in place of entityIds, such as [{{{example}}}]"
    raise InvalidInput.at(field, f"the features are {about}: {instead}")


def check_stored(selected: Selection) -> None:
    """Raise InvalidInput if some of the features are computed, so that there are no observations of them."""
    for name, feature in selected.by_reference.items():
        if feature.definition is not None:
            raise InvalidInput.at("features", f"{name} is computed when it is read: no values of it are kept")


async def check_parts(registry: FeatureRegistry, entity_type: str, entities: Sequence[str], field: str) -> None:
    """Raise InvalidInput for ids that are not ids of a composite entity type."""
    keys = registry.catalogue.keys(entity_type)
    if len(keys) > 1:
        await by_turns(checking_parts(entities, keys, field))
