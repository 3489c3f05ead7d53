"""A request for a training set: in JSON, or as an Arrow stream of rows with the options in the query string."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from actors.domain import Feature
from actors.errors import Fault, InvalidInput, TooLarge
from actors.ingest.arrow_keys import ids_of_arrow, settled, times_of_arrow, times_of_texts
from actors.ingest.entity_ids import MOST_FAULTS_NAMED, check_entity_ids
from actors.registry import FeatureRegistry, check_count
from actors.settings import MAX_LABEL_VALUES, MAX_LABELS
from actors.table.aggregates import AGGREGATIONS, allowed
from actors.table.columns import Times
from actors.timestamps import Duration, parse_duration, parse_timestamp
from actors.training import Spine, Wanted
from actors.types.arrow_contents import has_infinity
from timewell.arrow_objects import Unsayable, may_be_unsayable, objects
from timewell.arrow_plain import plain
from timewell.wire import Body, Reference
from web.answers.lanes import ARROW_TYPE, CSV_TYPE, Column
from web.bodies.requests import Query

ENTITY, TIMESTAMP = "entityId", "timestamp"
KEYS = (ENTITY, TIMESTAMP)
ROW = "row"
"""With this as `knownAt`, each row sees only what had arrived by its own timestamp."""


class Asked(Body):
    """An entry of `features` with options of its own. Its column is named by `as`, by default `ref`."""

    ref: Reference
    aggregation: str | None = None
    window: Duration | None = None
    lookback: Duration | None = None
    name: str | None = msgspec.field(default=None, name="as")


class TrainingSet(Body):
    """`POST /features/training-set`"""

    rows: list[dict[str, Any]]
    features: list[Reference | Asked] | None = None
    group: str | None = None
    lookback: Duration | None = None
    aggregation: str | None = None
    window: Duration | None = None
    known_at: str | None = None


class Options(NamedTuple):
    """Everything that a request asks for but its rows."""

    features: Sequence[str | Asked] | None
    group: str | None
    lookback: Duration | None
    aggregation: str | None
    window: Duration | None
    known_at: str | None


class TrainingRows(NamedTuple):
    """The rows of a request. `columns`: what the answer repeats, the keys included."""

    spine: Spine
    columns: Sequence[Column]


def options_of_query(query: Query) -> Options:
    """The options of a request whose body is only the rows."""
    features = query.text("features")
    duration = [query.text(name) for name in ("lookback", "window")]
    seconds: list[Duration | None] = [_number(text) for text in duration]
    return Options(
        [reference for reference in features.split(",") if reference] if features else None,
        query.text("group"),
        seconds[0],
        query.text("aggregation"),
        seconds[1],
        query.text("knownAt"),
    )


def _number(text: str | None) -> Duration | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


# What is wanted


def wanted_columns(registry: FeatureRegistry, features: Mapping[str, Feature], options: Options) -> list[Wanted]:
    """The columns to fill, in order. `features`: those of the group. Raises InvalidInput, NotFound, Conflict."""
    asked = [Asked(ref=reference) for reference in features]
    check_count(len(asked) + len(options.features or ()))
    asked += [Asked(ref=entry) if isinstance(entry, str) else entry for entry in options.features or ()]
    wanted: dict[str, Wanted] = {}
    for place, entry in enumerate(asked):
        feature = features.get(entry.ref) or registry.resolve(entry.ref)
        column = _wanted(entry, feature, options, f"features[{place - len(features)}]")
        if column.name in KEYS:
            raise InvalidInput.at("features", f"{column.name!r} is a key of every row; name the column with `as`")
        if wanted.setdefault(column.name, column) != column:
            raise InvalidInput.at("features", f"two columns are named {column.name!r}; tell them apart with `as`")
    if not wanted:
        raise InvalidInput.at("features", "name at least one feature, or a group that has some")
    return list(wanted.values())


def _wanted(entry: Asked, feature: Feature, options: Options, field: str) -> Wanted:
    aggregation = entry.aggregation if entry.aggregation is not None else options.aggregation
    window = entry.window
    if window is None and entry.lookback is None:
        window = options.window
    lookback = entry.lookback if entry.lookback is not None else options.lookback
    if aggregation is not None and aggregation not in AGGREGATIONS:
        raise InvalidInput.at("aggregation", f"{aggregation!r} is not one of {', '.join(AGGREGATIONS)}")
    if aggregation is not None and not allowed(aggregation, feature.value_type):
        reason = f"{aggregation} makes no sense for {entry.ref}, which is of type {feature.value_type}"
        raise InvalidInput.at("aggregation", reason)
    if window is None and aggregation not in (None, "latest"):
        raise InvalidInput.at("window", f"{aggregation} of {entry.ref} needs a window to look back over")
    name = entry.name if entry.name is not None else entry.ref
    if window is not None:
        micros = parse_duration(window, "window" if entry.window is None else f"{field}.window")
        return Wanted(name, feature, None, aggregation or "latest", micros)
    reach = feature.expires_after
    if lookback is not None:
        reach = parse_duration(lookback, "lookback" if entry.lookback is None else f"{field}.lookback")
    return Wanted(name, feature, reach)


# The rows


def rows_of_json(rows: Sequence[Mapping[str, Any]], known_at: str | None) -> TrainingRows:
    """Rows given as JSON objects; a label that a row lacks is null. Raises InvalidInput that names the rows."""
    faults: list[Fault] = []
    for name in KEYS:
        for index, row in enumerate(rows):
            if not isinstance(row.get(name), str):
                faults.append(Fault(f"rows.{name}", "is required, as a string", index))
    if faults:
        raise _refused(faults)
    entities = [row[ENTITY] for row in rows]
    at = times_of_texts([row[TIMESTAMP] for row in rows], f"rows.{TIMESTAMP}")
    labels = _labels(rows)
    _check_labels(len(labels), len(rows))
    columns = [Column(name, None, [row.get(name) for row in rows]) for name in labels]
    return _rows(entities, at, columns, known_at)


def _labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the labels in order of first appearance; it stops once there are too many."""
    found = dict[str, None]()
    for row in rows:
        for name in row:
            if name not in KEYS:
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


def rows_of_arrow(table: pa.Table, known_at: str | None, answer: str) -> TrainingRows:
    """Rows given as an Arrow table. `answer`: the media type of the answer. Raises InvalidInput for a column."""
    _check_labels(len(table.column_names) - len(KEYS), 0)
    for name, count in Counter(table.column_names).items():
        if count > 1:
            raise InvalidInput.at(name, "the rows have two columns of this name")
    keys: dict[str, pa.ChunkedArray] = {}
    for name in KEYS:
        if name not in table.column_names:
            raise InvalidInput.at(name, "the rows have no such column")
        keys[name] = settled(table[name])
        if keys[name].null_count:
            row = keys[name].is_null().index(True).as_py()
            raise InvalidInput(f"{name}: is null", [Fault(name, "is null", row)])
    entities = ids_of_arrow(keys[ENTITY], ENTITY)
    at = times_of_arrow(keys[TIMESTAMP], f"rows.{TIMESTAMP}")
    labels = [_label(name, table[name], answer) for name in table.column_names if name not in KEYS]
    return _rows(entities, at, labels, known_at)


def _label(name: str, values: pa.ChunkedArray, answer: str) -> Column:
    """A column that the answer repeats. Values that JSON cannot express are refused here, before it begins."""
    is_json = isinstance(values.type, pa.JsonType)
    values = plain(values)
    if answer == ARROW_TYPE:
        return Column(name, None, values)
    if is_json:
        return Column(name, None, _raw(name, values.to_pylist()))
    in_json = answer != CSV_TYPE or values.type.num_fields > 0
    if in_json and any(map(has_infinity, values.chunks)):
        raise InvalidInput.at(name, "has an infinite number, which JSON cannot say; an Arrow answer would hold it")
    if not may_be_unsayable(values.type):
        return Column(name, None, values)
    try:
        return Column(name, None, objects(values))
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


def _rows(entities: Sequence[str], at: Times, labels: Sequence[Column], known_at: str | None) -> TrainingRows:
    refused = check_entity_ids(entities)
    if refused:
        raise _refused([Fault(f"rows.{ENTITY}", reason, index) for index, reason in refused])
    known = None
    if known_at == ROW:
        known = at
    elif known_at is not None:
        known = np.full(len(at), parse_timestamp(known_at, "knownAt"), np.int64)
    keys = [
        Column(ENTITY, None, pa.array(entities, pa.string())),
        Column(TIMESTAMP, "timestamp", at, np.zeros(len(at), np.bool_)),
    ]
    return TrainingRows(Spine(entities, at, known), [*keys, *labels])


def _refused(faults: Sequence[Fault]) -> InvalidInput:
    first = faults[0]
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    where = f"rows[{first.index}].{first.field.removeprefix('rows.')}"
    return InvalidInput(f"{where}: {first.message}{more}", faults[:MOST_FAULTS_NAMED])
