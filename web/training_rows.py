"""The rows of a training set, from JSON objects, an Arrow table, or the observations of a feature.

A row names the entity of each role by its fields; if all features are read of one entity, `entityId` may name it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from actors.derive.computing import Fields, part_of
from actors.derive.on_demand import Computed
from actors.errors import Fault, InvalidInput, TooLarge
from actors.ingest.arrow_keys import entities_of_arrow, settled, settled_ids, times_of_arrow, times_of_texts
from actors.ingest.composite import entities_of_parts, refused_parts
from actors.ingest.entity_ids import MOST_FAULTS_NAMED, refused_rows
from actors.ingest.request_fields import fields_of_rows, fields_of_table
from actors.ingest.row_ids import ids_of_rows
from actors.settings import MAX_LABEL_VALUES, MAX_LABELS
from actors.table.columns import Times
from actors.table.ids import Entities, numbered
from actors.table.selection import Role, Selection
from actors.timestamps import parse_timestamp
from actors.training import Spine
from actors.turns import at_once
from actors.types.arrow_contents import has_infinity
from timewell.arrow_objects import Unsayable, may_be_unsayable, objects
from timewell.arrow_plain import plain
from web.answers.keyed import ENTITY, TIMESTAMP, id_column, key_columns, moments
from web.answers.lanes import ARROW_TYPE, CSV_TYPE, AnswerColumn
from web.training_request import KEYS

ROW = "row"
"""With this as `knownAt`, each row sees only what had arrived by its own timestamp."""


class KnownAt(NamedTuple):
    """What counts: what had arrived by `until`, unless None, and with `by_row` by each row's own moment."""

    until: int | None = None
    by_row: bool = False

    def of(self, at: Times) -> Times | None:
        """For each row the last arrival that counts: int64[n]; None to count all."""
        if self.by_row:
            return at if self.until is None else np.minimum(at, self.until)
        return None if self.until is None else np.full(len(at), self.until, np.int64)


def known_of(known_at: str | None) -> KnownAt:
    """What `knownAt` asks for. Raises InvalidInput."""
    if known_at is None or known_at == ROW:
        return KnownAt(by_row=known_at == ROW)
    return KnownAt(parse_timestamp(known_at, "knownAt"))


class TrainingRows(NamedTuple):
    """The rows of a request. `columns`: what the answer repeats, the keys included.

    `fields`: those from which features are computed.
    """

    spine: Spine
    columns: Sequence[AnswerColumn]
    fields: Fields = MappingProxyType({})

    def part(self, cut: slice) -> TrainingRows:
        """A slice of the rows."""
        columns = [column.cut(cut) for column in self.columns]
        return TrainingRows(self.spine.rows(cut), columns, part_of(self.fields, cut))


class Naming(NamedTuple):
    """How rows may name their entities: by the fields of the selection's roles, or all by `entityId`.

    `keys`: those of the entity type if `entityId` may be given, else empty.
    """

    selection: Selection
    keys: Sequence[str]

    def by_id(self, names: Sequence[str]) -> bool:
        """Whether rows with these fields name the entity by `entityId`. Raises InvalidInput if they must not."""
        by_id = self._by_id(names)
        if not by_id and TIMESTAMP in self.selection.fields:
            reason = f"{TIMESTAMP!r} is the moment of a row and cannot hold an id: name another field with `key`"
            raise InvalidInput.at("features", reason)
        return by_id

    def _by_id(self, names: Sequence[str]) -> bool:
        if ENTITY not in names:
            return bool(self.keys) and not set(self.selection.fields) & set(names)
        if not self.keys and not set(self.selection.fields) <= set(names):
            example = ", ".join(f'"{field}": ...' for field in self.selection.fields)
            reason = f"cannot name the entities of all features: name each in its own field, {{{example}}}"
            raise InvalidInput.at(f"rows.{ENTITY}", reason)
        return bool(self.keys)


def rows_of_json(rows: Sequence[Mapping[str, Any]], naming: Naming, known: KnownAt) -> TrainingRows:
    """Rows given as JSON objects; a label that a row lacks is null. Raises InvalidInput that names the rows."""
    by_id = not rows or naming.by_id(_names(rows, naming.selection.fields))
    faults = [
        Fault(f"rows.{name}", "is required, as a string", index)
        for name in (KEYS if by_id else (TIMESTAMP,))
        for index, row in enumerate(rows)
        if not isinstance(row.get(name), str)
    ]
    if faults:
        raise _refused(faults)
    if by_id:
        roles = [numbered([row[ENTITY] for row in rows])]
    else:
        roles = [numbered(ids) for ids in at_once(ids_of_rows(rows, naming.selection.roles))]
    at = times_of_texts([row[TIMESTAMP] for row in rows], f"rows.{TIMESTAMP}")
    keys = (ENTITY,) if by_id else naming.selection.fields
    names = _labels(rows, {*keys, TIMESTAMP})
    _check_labels(len(names), len(rows))
    if by_id:
        _check_ids(roles[0], naming.keys)
        named = [id_column(ENTITY, roles[0])]
    else:
        named = [AnswerColumn(key, None, [row[key] for row in rows]) for key in keys]
    labels = [AnswerColumn(name, None, [row.get(name) for row in rows]) for name in names]
    selected = naming.selection
    fields = at_once(fields_of_rows(selected, rows)) if isinstance(selected, Computed) else {}
    return TrainingRows(Spine(roles, at, known.of(at)), [*named, moments(at), *labels], fields)


def _names(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> Sequence[str]:
    """The fields of any row that may name an entity."""
    return [name for name in (ENTITY, *fields) if any(name in row for row in rows)]


def _labels(rows: Sequence[Mapping[str, Any]], keys: set[str]) -> list[str]:
    """The names of the labels in order of first appearance; it stops once there are too many."""
    found = dict[str, None]()
    for row in rows:
        for name in row:
            if name not in keys:
                found[name] = None
        if len(found) > MAX_LABELS:
            break
    return list(found)


def _check_labels(labels: int, rows: int) -> None:
    if labels > MAX_LABELS:
        raise TooLarge(f"rows: more than {MAX_LABELS} columns beside the keys")
    if labels * rows > MAX_LABEL_VALUES:
        reason = f"{rows} of {labels} columns have more than {MAX_LABEL_VALUES} values, with those that they lack"
        raise TooLarge(f"rows: {reason}; send fewer at once")


def rows_of_arrow(table: pa.Table, naming: Naming, known: KnownAt, answer: str) -> TrainingRows:
    """Rows given as an Arrow table. `answer`: the media type of the answer. Raises InvalidInput for a column."""
    names = table.column_names
    by_id = naming.by_id(names)
    keys = [ENTITY] if by_id else [*naming.selection.fields]
    _check_labels(len(names) - len(keys) - 1, 0)
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidInput.at(name, "the rows have two columns of this name")
    needed = {name: _needed(table, name, naming.selection, by_id) for name in [*keys, TIMESTAMP]}
    if by_id:
        roles = [entities_of_arrow(needed[ENTITY], ENTITY)]
    else:
        parts = {key: _part(needed[key], key) for key in keys}
        roles = [_of_role(parts, role) for role in naming.selection.roles]
    at = times_of_arrow(needed[TIMESTAMP], f"rows.{TIMESTAMP}")
    if by_id:
        _check_ids(roles[0], naming.keys)
        named = [id_column(ENTITY, roles[0])]
    else:
        named = [_label(key, table[key], answer) for key in keys]
    labels = [_label(name, table[name], answer) for name in names if name not in (*keys, TIMESTAMP)]
    fields = fields_of_table(naming.selection, table) if isinstance(naming.selection, Computed) else {}
    return TrainingRows(Spine(roles, at, known.of(at)), [*named, moments(at), *labels], fields)


def _needed(table: pa.Table, name: str, selection: Selection, by_id: bool) -> pa.ChunkedArray:
    """A column that names an entity or a moment. Only fields of roles may have nulls: a null names no entity."""
    if name not in table.column_names:
        feature = next((role.selection.references[0] for role in selection.roles if name in role.fields), None)
        reason = "" if by_id or feature is None else f"; {feature} needs it"
        raise InvalidInput.at(name, f"the rows have no such column{reason}")
    column = settled(table[name]) if name == TIMESTAMP else settled_ids(table[name], name)
    if column.null_count and (by_id or name == TIMESTAMP):
        row = column.is_null().index(True).as_py()
        raise InvalidInput(f"{name}: is null", [Fault(name, "is null", row)])
    return column


def _part(column: pa.ChunkedArray, name: str) -> Entities:
    """The ids in a field of the rows, empty where it is null. Raises InvalidInput for invalid ones."""
    entities = entities_of_arrow(column, f"rows.{name}")
    nulls = np.asarray(column.is_null().combine_chunks().to_numpy(zero_copy_only=False), np.bool_)
    refused = [(row, reason) for row, reason in refused_rows(entities) if not nulls[row]]
    if refused:
        raise _refused([Fault(f"rows.{name}", reason, row) for row, reason in refused])
    return entities


def _of_role(parts: Mapping[str, Entities], role: Role) -> Entities:
    """The entities of a role. Raises InvalidInput for an id that is too long once it is put together."""
    entities = entities_of_parts([parts[field] for field in role.fields])
    if len(role.fields) > 1 and (refused := refused_rows(entities)):
        field = f"rows.{role.fields[0]}"
        raise _refused([Fault(field, f"{reason}, put together", row) for row, reason in refused])
    return entities


def rows_observed(by_key: Mapping[str, Entities], at: Times, selection: Selection, known: KnownAt) -> TrainingRows:
    """Rows of the observations of a feature. `by_key`: see `entities_by_key`."""
    roles = [_of_role(by_key, role) for role in selection.roles]
    return TrainingRows(Spine(roles, at, known.of(at)), [*key_columns(by_key), moments(at)])


def _label(name: str, values: pa.ChunkedArray, answer: str) -> AnswerColumn:
    """A column that the answer repeats. Values that JSON cannot express are refused here, before it begins."""
    is_json = isinstance(values.type, pa.JsonType)
    values = plain(values)
    if answer == ARROW_TYPE:
        return AnswerColumn(name, None, values)
    if is_json:
        return AnswerColumn(name, None, _raw(name, values.to_pylist()))
    in_json = answer != CSV_TYPE or values.type.num_fields > 0
    if in_json and any(map(has_infinity, values.chunks)):
        raise InvalidInput.at(name, "has an infinite number, which JSON cannot say; an Arrow answer would hold it")
    if not may_be_unsayable(values.type):
        return AnswerColumn(name, None, values)
    try:
        return AnswerColumn(name, None, objects(values))
    except Unsayable as error:
        raise InvalidInput.at(name, f"{error}; an Arrow answer would hold it") from None


def _raw(name: str, texts: Sequence[str | None]) -> list[msgspec.Raw | None]:
    """Texts of JSON, checked, to be put into the answer as they are."""
    for row, text in enumerate(texts):
        try:
            msgspec.json.decode(text or ("null" if text is None else ""))
        except msgspec.DecodeError as error:
            raise InvalidInput(f"rows[{row}].{name}: {error}", [Fault(name, str(error), row)]) from None
    return [None if text is None else msgspec.Raw(text.encode()) for text in texts]


def _check_ids(entities: Entities, keys: Sequence[str]) -> None:
    """Raise InvalidInput for rows whose `entityId` is invalid, or none of an entity type with these keys."""
    refused = refused_rows(entities)
    if not refused and len(keys) > 1:
        refused = at_once(refused_parts(entities, np.arange(len(entities)), keys))
    if refused:
        raise _refused([Fault(f"rows.{ENTITY}", reason, row) for row, reason in refused])


def _refused(faults: Sequence[Fault]) -> InvalidInput:
    first = faults[0]
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return InvalidInput(f"{first.place}: {first.message}{more}", faults[:MOST_FAULTS_NAMED])
