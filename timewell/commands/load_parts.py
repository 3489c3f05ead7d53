"""What `timewell load` sends: the columns of a file as features, its rows in parts."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from timewell.arrow import slices_of
from timewell.client import Client
from timewell.commands.columns import BadValue, id_column, time_column, value_column
from timewell.commands.exits import MOST_FAULTS_SHOWN, Failed
from timewell.commands.reading import CsvRows, LineRows, RowsFile, need, open_rows
from timewell.errors import Conflict, NotFound, TimewellError
from timewell.time_columns import Unit
from timewell.wire import FeatureAnswer

ROWS_PER_PART = 50_000
VALUES_PER_PART = 200_000
"""What the service commits in one transaction: even after a crash, a part is there whole or not at all."""


class Plan(NamedTuple):
    """A file to load, with the feature of each column.

    `ids`: the columns of ids by the name that they are sent under, `entityId` or a key; `entity`: the entity type
    in the latter case.
    """

    file: RowsFile
    ids: Mapping[str, str]
    entity: str | None
    timestamp_column: str
    timestamp_unit: Unit | None
    features: Mapping[str, FeatureAnswer]

    @property
    def rows_per_part(self) -> int:
        """As many rows as fit one commit of the service."""
        return max(1, min(ROWS_PER_PART, VALUES_PER_PART // len(self.features)))

    def values_of(self, table: pa.Table) -> list[pa.ChunkedArray]:
        """The columns of a part that hold values."""
        return list(table.columns[len(self.ids) + 1 :])


class FilePart(NamedTuple):
    """Rows as they are sent. `start`: the index of the first, from 0."""

    start: int
    table: pa.Table


def make_plan(client: Client, asked: Namespace) -> Plan:
    """The file with the features of its columns. Raises Failed if they do not fit."""
    file = open_rows(asked.file)
    ids = _ids(client, asked, file)
    keys = (*ids.values(), asked.timestamp_column)
    _need(file, keys, asked.columns)
    columns = asked.columns or {name: name for name in file.names if name not in keys}
    if isinstance(file, LineRows):
        file.has_others = asked.columns is not None
    features: dict[str, FeatureAnswer] = {}
    for column, named in columns.items():
        reference = named if "." in named else f"{asked.entity}.{named}"
        try:
            feature = client.feature(reference)
        except (Conflict, NotFound) as error:
            raise Failed(f"{file.path}: column {column!r}: {error.detail}") from None
        if feature.entity != asked.entity:
            raise Failed(f"{file.path}: column {column!r}: {feature.id} is not about {asked.entity}")
        if any(feature.id == other.id for other in features.values()):
            raise Failed(f"{file.path}: column {column!r}: another column is {feature.id} too")
        features[column] = feature
    if not features:
        raise Failed(f"{file.path}: there is no column for a feature")
    entity = None if "entityId" in ids else asked.entity
    return Plan(file, ids, entity, asked.timestamp_column, asked.timestamp_unit, features)


def _ids(client: Client, asked: Namespace, file: RowsFile) -> dict[str, str]:
    """The columns of ids. Without an option they are `entityId` or, as in an export, named like the keys."""
    by_default = asked.key is None and asked.id_column == "entityId" and "entityId" not in file.names
    if asked.key is None and not by_default:
        return {"entityId": asked.id_column}
    keys = client.entity_type(asked.entity).keys
    if asked.key is None:
        named = {key: key for key in keys} if set(keys) <= set(file.names) else {}
        return named if len(keys) > 1 and named else {"entityId": asked.id_column}
    given = dict(asked.key)
    if given.keys() != set(keys) or len(given) < len(asked.key):
        example = " ".join(f"--key {key}=COLUMN" for key in keys)
        raise Failed(f"{file.path}: {asked.entity} has the keys {', '.join(keys)}: give {example}")
    return {key: given[key] for key in keys} if len(keys) > 1 else {"entityId": given[keys[0]]}


def _need(file: RowsFile, keys: Sequence[str], columns: Mapping[str, str] | None) -> None:
    """Raise Failed if the file lacks a column. In NDJSON the first row may lack any column but the keys."""
    need(file, keys)
    if columns is not None and not isinstance(file, LineRows):
        need(file, columns)


# Rows as they are sent


def parts(plan: Plan) -> Iterator[FilePart]:
    """The file in parts, always cut at the same rows. Raises Failed, naming a bad row."""
    start = 0
    wanted = [*plan.ids.values(), plan.timestamp_column, *plan.features]
    for lot in plan.file.lots(plan.rows_per_part, list(dict.fromkeys(wanted))):
        for table in slices_of(_table(plan, lot, start)):
            yield FilePart(start, table)
            start += table.num_rows


def _table(plan: Plan, lot: Mapping[str, Any], start: int) -> pa.Table:
    """Columns of the file as a wide table, with feature ids as names."""
    is_text = isinstance(plan.file, CsvRows)
    table, name = dict[str, pa.Array](), ""
    try:
        for field, name in plan.ids.items():
            table[field] = id_column(lot[name])
        name = plan.timestamp_column
        table["timestamp"] = time_column(lot[name], plan.timestamp_unit)
        for name, feature in plan.features.items():
            table[feature.id] = value_column(feature.value_type, lot[name], is_text)
    except BadValue as bad:
        raise Failed(_where(plan, name, None if bad.index is None else start + bad.index) + bad.message) from None
    return pa.table(table)


def _where(plan: Plan, column: str, row: int | None) -> str:
    return f"{plan.file.path}: {'' if row is None else f'row {row + 1}, '}column {column!r}: "


def blame(plan: Plan, error: TimewellError, start: int) -> str:
    """A message for an error of the service, by rows and columns of the file."""
    columns = {feature.id: name for name, feature in plan.features.items()}
    columns |= {**plan.ids, "timestamp": plan.timestamp_column}
    lines = [
        _where(plan, columns[fault.field], None if fault.index is None else start + fault.index) + fault.message
        for fault in error.errors
        if fault.field in columns
    ]
    if not lines:
        return f"{plan.file.path}: rows from {start + 1}: {error.detail}"
    more = [f"and {len(lines) - MOST_FAULTS_SHOWN} more"] if len(lines) > MOST_FAULTS_SHOWN else []
    return "\n  ".join([*lines[:MOST_FAULTS_SHOWN], *more])
