"""Removes the rows of an erased entity from the kept training sets that were given them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from actors.catalogue import Catalogue
from actors.ingest.composite import composed
from actors.storage.entries import Catalogued, Together
from actors.turns import Steps

_ENTITY = "entityId"


def forgetting(catalogue: Catalogue, entity_type: str, entity_id: str, now: int) -> Steps[Together | None]:
    """The change that takes the rows of an entity out of all kept training sets, in steps; None if none are."""
    changes, keys = list[Catalogued](), catalogue.keys(entity_type)
    for kept in list(catalogue.training_sets.values()):
        yield
        definition = msgspec.json.decode(kept.definition)
        rows = definition.get("rows") or ()
        places = _places(definition["features"], entity_type, keys)
        left = [row for row in rows if not any(_id_in(row, fields) == entity_id for fields in places)]
        if len(left) < len(rows):
            text = msgspec.json.encode({**definition, "rows": left}).decode()
            changes.append(Catalogued(msgspec.structs.replace(kept, definition=text, updated=now)))
    return Together(changes) if changes else None


def _places(
    features: Sequence[Mapping[str, Any]], entity_type: str, keys: tuple[str, ...]
) -> Sequence[tuple[str, ...]]:
    """The fields in which rows hold ids of an entity type, for each role that it has in them."""
    roles = dict.fromkeys((one["ref"].partition(".")[0], _fields(one["key"])) for one in features)
    places = [fields for of_type, fields in roles if of_type == entity_type]
    return [*places, (_ENTITY,)] if list(roles) == [(entity_type, keys)] else places


def _fields(key: str | Mapping[str, str]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else tuple(key.values())


def _id_in(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The id that a row holds in some fields; no id is empty."""
    parts = [row.get(field) for field in fields]
    if None in parts:
        return ""
    texts = [str(part) for part in parts]
    return texts[0] if len(texts) == 1 else composed(texts)
