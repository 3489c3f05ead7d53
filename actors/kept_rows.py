"""Removes the rows of an erased entity from the kept training sets that were given them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from actors.domain import KeptTrainingSet
from actors.ingest.composite import composed
from actors.registry import FeatureRegistry
from actors.storage.entries import Catalogued, Together
from actors.turns import Steps
from timewell.rows_wire import TrainingEntry, TrainingSet

_ENTITY = "entityId"


def forgetting(registry: FeatureRegistry, entity_type: str, entity_id: str, now: int) -> Steps[Together | None]:
    """The change that takes the rows of an entity out of all kept training sets, in steps; None if none are."""
    changes = list[Catalogued]()
    for kept in list(registry.catalogue.training_sets.values()):
        yield
        definition = msgspec.json.decode(kept.definition, type=TrainingSet)
        rows = definition.rows or []
        places = _places(registry, kept, definition, entity_type)
        left = [row for row in rows if not any(_id_in(row, fields) == entity_id for fields in places)]
        if len(left) < len(rows):
            text = msgspec.json.encode(msgspec.structs.replace(definition, rows=left)).decode()
            changes.append(Catalogued(msgspec.structs.replace(kept, definition=text, updated=now)))
    return Together(changes) if changes else None


def _places(
    registry: FeatureRegistry, kept: KeptTrainingSet, definition: TrainingSet, entity_type: str
) -> Collection[tuple[str, ...]]:
    """The fields in which rows hold ids of an entity type, for each role that it has in them.

    What computed features read has the fields of the feature if it is of its entity type, else those of its keys.
    A feature that has been deleted is taken for a stored one: rather a row too many is removed than one too few.
    """
    read = [id_ for id_ in kept.reads if not _is_computed(registry, id_)]
    entries = [TrainingEntry(ref=one) if isinstance(one, str) else one for one in definition.features or ()]
    asked = {entry.ref for entry in entries}
    entries += [TrainingEntry(ref=id_) for id_ in read if id_ not in asked]
    types, roles = {_type_of(id_) for id_ in read}, set[tuple[str, tuple[str, ...]]]()
    for entry in entries:
        if (of_type := _type_of(entry.ref)) in types:
            roles.add((of_type, _fields(entry.key, registry.catalogue.keys(of_type))))
    places = {fields for of_type, fields in roles if of_type == entity_type}
    return places | {(_ENTITY,)} if roles == {(entity_type, registry.catalogue.keys(entity_type))} else places


def _is_computed(registry: FeatureRegistry, id_: str) -> bool:
    feature = registry.features.get(id_)
    return feature is not None and feature.definition is not None


def _type_of(id_: str) -> str:
    """The entity type of a feature, which its id begins with."""
    return id_.partition(".")[0]


def _fields(key: str | Mapping[str, str] | None, keys: tuple[str, ...]) -> tuple[str, ...]:
    if key is None:
        return keys
    return (key,) if isinstance(key, str) else tuple(key.values())


def _id_in(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The id that a row holds in some fields; no id is empty."""
    parts = [row.get(field) for field in fields]
    if None in parts:
        return ""
    texts = [str(part) for part in parts]
    return texts[0] if len(texts) == 1 else composed(texts)
