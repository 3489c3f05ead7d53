"""Entity ids from rows that name several entities, and the ids of composite entity types.

The id of an entity type with several keys is the compact JSON array of its parts, in the order of the keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from actors.errors import Fault, InvalidInput
from actors.ingest.sent import MOST_FAULTS_NAMED, check_entity_id, check_entity_ids
from actors.settings import ROWS_PER_TURN
from actors.table.selection import Role
from actors.turns import Steps

NOBODY = ""
"""Stands for an id that is null. No entity has this id, so everything about it is missing."""
_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(list[str]).decode

Row = Mapping[str, Any]


def composed(parts: Sequence[str]) -> str:
    """The id of an entity of a composite type.

    >>> composed(["u1", "m9"])
    '["u1","m9"]'
    """
    return _ENCODE(parts).decode()


def parts_of(entity_id: str, keys: Sequence[str]) -> list[str]:
    """The parts of an id of a composite type with these keys. Raises ValueError with the reason if it is invalid.

    >>> parts_of('["u1","m9"]', ["user", "merchant"])
    ['u1', 'm9']
    """
    try:
        parts = _DECODE(entity_id)
    except msgspec.MsgspecError:
        parts = []
    if len(parts) != len(keys) or composed(parts) != entity_id:
        example = composed([f"{key} id" for key in keys])
        raise ValueError(f"must be a compact JSON array of {len(keys)} strings, such as {example}")
    for key, part in zip(keys, parts, strict=True):
        if (reason := check_entity_id(part)) is not None:
            raise ValueError(f"its {key} {reason}")
    return parts


def checking_parts(entities: Sequence[str], keys: Sequence[str], field: str) -> Steps[None]:
    """Raise InvalidInput, in steps, for ids that are not of a type with these keys. `field`: what lists them."""
    faults = list[Fault]()
    for index, entity in enumerate(entities):
        if index % ROWS_PER_TURN == ROWS_PER_TURN - 1:
            yield
        try:
            parts_of(entity, keys)
        except ValueError as error:
            faults.append(Fault(field, str(error), index))
            if len(faults) == MOST_FAULTS_NAMED:
                break
    if faults:
        raise InvalidInput(f"{field}[{faults[0].index}]: {faults[0].message}", faults)


def ids_of_rows(rows: Sequence[Row], role: Role) -> Steps[Sequence[str]]:
    """For each row, the id of the entity that it names in a role; NOBODY if one of its fields is null. In steps.

    Raises InvalidInput that names row, field and feature if a field is missing or is not an id.
    """
    ids, faults = list[str](), list[Fault]()
    for start in range(0, len(rows), ROWS_PER_TURN):
        if start:
            yield
        ids += _ids_of(rows[start : start + ROWS_PER_TURN], start, role, faults)
        if len(faults) >= MOST_FAULTS_NAMED:
            break
    if faults:
        first = faults[0]
        field = first.field.removeprefix("rows.")
        raise InvalidInput(f"rows[{first.index}].{field}: {first.message}", faults[:MOST_FAULTS_NAMED])
    return ids


def _ids_of(rows: Sequence[Row], start: int, role: Role, faults: list[Fault]) -> Sequence[str]:
    columns = [_column(rows, start, field, role, faults) for field in role.fields]
    if len(columns) == 1:
        return columns[0]
    ids = [NOBODY if NOBODY in parts else composed(parts) for parts in zip(*columns, strict=True)]
    for index, reason in check_entity_ids([id_ or "-" for id_ in ids]):
        about = f"with {', '.join(role.fields[1:])}: {reason}, as the entity id of {role.selection.references[0]}"
        faults.append(Fault(f"rows.{role.fields[0]}", about, start + index))
    return ids


def _column(rows: Sequence[Row], start: int, field: str, role: Role, faults: list[Fault]) -> list[str]:
    given = [row.get(field, NOBODY) for row in rows]
    if set(map(type, given)) == {str} and not check_entity_ids(given):
        return given
    ids = []
    for index, row in enumerate(rows, start):
        try:
            ids.append(_id_of(row, field, role))
        except ValueError as error:
            faults.append(Fault(f"rows.{field}", str(error), index))
            ids.append(NOBODY)
    return ids


def _id_of(row: Row, field: str, role: Role) -> str:
    feature = role.selection.references[0]
    if field not in row:
        raise ValueError(f"is missing; {feature} needs it")
    given = row[field]
    if given is None:
        return NOBODY
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise ValueError(f"must be a string or an integer, the entity id of {feature}")
    text = str(given)
    if (reason := check_entity_id(text)) is not None:
        raise ValueError(f"{reason}, as the entity id of {feature}")
    return text
