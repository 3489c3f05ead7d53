"""Entity ids from rows that name several entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.errors import Fault, InvalidInput
from actors.ingest.composite import composed
from actors.ingest.entity_ids import MOST_FAULTS_NAMED, check_entity_id, check_entity_ids
from actors.settings import ROWS_PER_TURN
from actors.table.selection import Role
from actors.turns import Steps

NOBODY = ""
"""Stands for an id that is null. No entity has this id, so everything about it is missing."""

Row = Mapping[str, Any]


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
