"""What an entity id may be."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from actors.settings import IDS_AT_ONCE, MAX_ENTITY_ID_BYTES
from actors.table.ids import Entities

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
MOST_FAULTS_NAMED = 10_000


def check_entity_id(entity: str) -> str | None:
    """Why an entity id is refused; None if it is valid."""
    if not entity:
        return "is empty"
    if len(entity.encode()) > MAX_ENTITY_ID_BYTES:
        return f"is longer than {MAX_ENTITY_ID_BYTES} bytes"
    return "contains a control character" if _CONTROL.search(entity) else None


def check_entity_ids(entities: Sequence[str]) -> list[tuple[int, str]]:
    """The positions of invalid entity ids, ascending, each with the reason."""
    if len(entities) > IDS_AT_ONCE:  # in parts: other threads wait while all ids are checked by one call
        parts = (entities[start : start + IDS_AT_ONCE] for start in range(0, len(entities), IDS_AT_ONCE))
        found = enumerate(map(check_entity_ids, parts))
        return [(part * IDS_AT_ONCE + row, why) for part, refused in found for row, why in refused]
    # UTF-8 takes at most four bytes a character, and printable text has no control characters.
    longest = max(map(len, entities), default=1)
    if longest * 4 <= MAX_ENTITY_ID_BYTES and "" not in entities and "".join(entities).isprintable():
        return []
    return [(index, why) for index, entity in enumerate(entities) if (why := check_entity_id(entity)) is not None]


def refused_rows(entities: Entities) -> list[tuple[int, str]]:
    """The rows with invalid entity ids, ascending, each with the reason."""
    refused = check_entity_ids(entities.ids.texts)
    if not refused:
        return []
    return sorted((row, why) for code, why in refused for row in np.flatnonzero(entities.codes == code).tolist())
