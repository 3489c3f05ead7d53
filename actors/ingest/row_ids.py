"""Entity ids from rows that name several entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from actors.errors import Fault, InvalidInput
from actors.ingest.composite import composed, composed_rows
from actors.ingest.entity_ids import MOST_FAULTS_NAMED, check_entity_id, check_entity_ids
from actors.settings import ROWS_PER_TURN
from actors.table.selection import Role
from actors.turns import Steps

NOBODY = ""
"""Stands for an id that is null. No entity has this id, so everything about it is missing."""

Row = Mapping[str, Any]


class _Rows:
    """Rows, of which each field is looked at once, however many roles name it."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self._plain: dict[tuple[str, int], list[str] | None] = {}

    def column(self, start: int, field: str, role: Role, faults: list[Fault]) -> list[str]:
        """The ids in a field of ROWS_PER_TURN rows from `start` on, NOBODY where it is null or wrong."""
        rows, key = self.rows[start : start + ROWS_PER_TURN], (field, start)
        if key not in self._plain:
            self._plain[key] = _plain(rows, field)
        plain = self._plain[key]
        return _judged(rows, start, field, role, faults) if plain is None else plain


def ids_of_rows(rows: Sequence[Row], roles: Sequence[Role]) -> Steps[list[Sequence[str]]]:
    """For each role and row, the id of the entity that the row names; NOBODY if a field of it is null. In steps.

    Raises InvalidInput that names row, field and feature if a field is missing or is not an id.
    """
    given, found, done = _Rows(rows), list[Sequence[str]](), 0
    for role in roles:
        ids, faults = list[str](), list[Fault]()
        for start in range(0, len(rows), ROWS_PER_TURN):
            if done >= ROWS_PER_TURN:
                yield
                done = 0
            own = _ids_of(given, start, role, faults)
            done += len(own)
            ids += own
            if len(faults) >= MOST_FAULTS_NAMED:
                break
        if faults:
            first = faults[0]
            raise InvalidInput(f"{first.place}: {first.message}", faults[:MOST_FAULTS_NAMED])
        found.append(ids)
    return found


def _ids_of(rows: _Rows, start: int, role: Role, faults: list[Fault]) -> Sequence[str]:
    columns = [rows.column(start, field, role, faults) for field in role.fields]
    if len(columns) == 1:
        return columns[0]
    if any(NOBODY in column for column in columns):
        ids = [NOBODY if NOBODY in parts else composed(parts) for parts in zip(*columns, strict=True)]
        refused = check_entity_ids([id_ or "-" for id_ in ids])
    else:
        ids = composed_rows(columns)
        refused = check_entity_ids(ids)
    for index, reason in refused:
        about = f"with {', '.join(role.fields[1:])}: {reason}, as the entity id of {role.selection.references[0]}"
        faults.append(Fault(f"rows.{role.fields[0]}", about, start + index))
    return ids


def _plain(rows: Sequence[Row], field: str) -> list[str] | None:
    """The ids in a field of rows if all are valid texts, which is quick to tell; else None."""
    try:
        given = list(map(itemgetter(field), rows))
    except KeyError:
        return None
    return given if set(map(type, given)) == {str} and not check_entity_ids(given) else None


def _judged(rows: Sequence[Row], start: int, field: str, role: Role, faults: list[Fault]) -> list[str]:
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
