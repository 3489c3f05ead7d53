"""The methods that take and return frames. Data is sent as Arrow."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from timewell import arrow
from timewell.arrow import FrameKind
from timewell.calls import (
    ARROW,
    Request,
    Talk,
    get,
    is_repeat,
    keyed,
    path,
    query,
    read,
    route,
    send,
)
from timewell.errors import InvalidInput, ServerFailed, TimewellError
from timewell.plain import entity_text, listed
from timewell.routes.parts import entries, moved, shifted
from timewell.routes.reading import WhatIsRead
from timewell.time_columns import Unit, text_since
from timewell.times import Length, Time, is_missing, moment, moment_or_none, span, span_word
from timewell.wire import EntityTypeAnswer, FeatureAnswer, FeatureEntry, HistoricalAnswer, Written

Keys = Mapping[str, str] | Sequence[str]
"""The columns that hold the keys of an entity type: by key, or in the order of the keys."""
Wanted = str | FeatureEntry | Mapping[str, Any]
"""A reference, or one with options of its own: {"ref", "key", "aggregation", "window", "lookback", "as"}."""


class _KeyColumns(NamedTuple):
    """The columns of rows that say of whom and of when they are. `ids`: by field, `entityId` or a key.

    `fields`: columns that features are computed from, by the field that they are sent as.
    """

    ids: Mapping[str, str]
    timestamp: str | None
    unit: Unit | None
    fields: Mapping[str, str] = MappingProxyType({})

    def missing_in(self, table: Any) -> int:
        """How many values a wide table lacks beside these columns."""
        return arrow.missing_in(table.columns[len(self.sent) :])

    @property
    def sent(self) -> list[str]:
        """The names that these columns are sent under."""
        own = [*self.ids] if self.timestamp is None else [*self.ids, "timestamp"]
        return [*own, *self.fields]


class WrittenFrame(Written, kw_only=True):
    """The result of writing a frame. `skipped`: how many values were missing and not written. `repeated`: how many
    of `count` an earlier call with the same key had written.
    """

    skipped: int = 0
    repeated: int = 0


class FrameRoutes(WhatIsRead):
    """Write frames, read frames."""

    @route
    def write_frame(
        self,
        frame: Any,
        entity: str,
        *,
        id_column: str = "entityId",
        keys: Keys | None = None,
        timestamp_column: str | None = "timestamp",
        timestamp_unit: Unit | None = None,
        columns: Mapping[str, str] | Sequence[str] | None = None,
        nulls: Literal["skip", "write"] = "skip",
        partial: bool = False,
        idempotency_key: str | None = None,
    ) -> Talk[WrittenFrame]:
        """Write a pandas or Polars frame: a row per entity and timestamp, a column per feature.

        `columns` names the columns to write, or maps them to features; by default all but those of ids and times.
        A name without a dot is a feature of `entity`. Ids are text or whole numbers; `keys` lists their columns
        for an entity type with several keys, or maps keys to columns. Timestamps are datetimes, dates, RFC 3339
        text, or, with `timestamp_unit` (s, ms, us, ns), numbers since 1970; None as their column means now. Give
        json as dicts or text. A missing value (null, NaN) is not written; `nulls="write"` writes a null.

        Returns `.count`, how many values were written; `.overwritten`, how many of these a later row of the same
        entity and timestamp replaces (with `partial`: a row of the same part), None if none; `.skipped`, how many
        were missing; `.repeated`, how many of `.count` an earlier call with the same key had written.

        Each part of at most 100,000 rows is written whole or not at all; an error says which rows are written, and
        its `.errors` have the `index` of the row. With `partial` the valid values are written and the result's
        `.errors` name the others. A repeat with an `idempotency_key` of your own writes no part twice. Raises
        InvalidInput, NotFound, Conflict, Unavailable; ImportError without pyarrow.

            client.write_frame(df, "user", id_column="user_id", timestamp_column="ts")
            client.write_frame(df, "user_merchant", keys=["user_id", "merchant_id"], timestamp_column="ts")
        """
        ids = {"entityId": id_column} if keys is None else (yield from self._by_key(entity, keys))
        given = _KeyColumns(ids, timestamp_column, timestamp_unit)
        table = yield from self._wide(frame, entity, given, columns)
        asked = {} if keys is None else {"entity": entity}
        asked |= query(partial=partial or None, nulls=None if nulls == "skip" else nulls)
        written = WrittenFrame(True, 0, skipped=0 if "nulls" in asked else given.missing_in(table))
        written = yield from self._write(table, asked, idempotency_key, written)
        if len(arrow.slices_of(table)) > 1 and timestamp_column is not None and not partial:
            written.overwritten = arrow.repeated_in(table, given.sent, nulls == "write") or None
        return written

    def _by_key(self, entity: str, keys: Keys) -> Talk[dict[str, str]]:
        """The columns that hold the keys of an entity type. Raises InvalidInput if they are not as many."""
        if isinstance(keys, Mapping):
            return dict(keys)
        columns = listed(keys, "keys") or []
        names = (yield from self._ask(get(path("entities", entity)), EntityTypeAnswer)).keys
        if len(names) != len(columns):
            raise InvalidInput.at("keys", f"{entity} has the keys {', '.join(names)}: give a column for each")
        if set(names) == set(columns):
            return {name: name for name in names}
        for name, column in zip(names, columns, strict=True):
            if column in names and column != name:
                reason = f"{column!r} is a key of {entity}, but stands for {name!r}: give a dict, columns by key"
                raise InvalidInput.at("keys", reason)
        return dict(zip(names, columns, strict=True))

    def _write(
        self, table: Any, asked: Mapping[str, str], given_key: str | None, written: WrittenFrame
    ) -> Talk[WrittenFrame]:
        """Write a table in parts, each with its own idempotency key."""
        start = 0
        for number, part in enumerate(arrow.slices_of(table)):
            key = None if given_key is None else f"{given_key}-{number}"
            headers = {"Content-Type": ARROW, **keyed(key)}
            request = Request("POST", "/features/write-batch", asked, arrow.to_stream(part), headers)
            try:
                answer = yield from self._retry.ask(request)
            except TimewellError as error:
                raise moved(error, start, f"rows before {start} are written" if start else "") from error.__cause__
            written = _together(written, read(answer, Written), start, is_repeat(answer))
            start += part.num_rows
        return written

    def _wide(
        self,
        frame: Any,
        entity: str,
        given: _KeyColumns,
        columns: Mapping[str, str] | Sequence[str] | None,
    ) -> Talk[Any]:
        """The wide table to write: the keys and a column per feature."""
        arrow.check_frame(frame)
        if columns is None:
            columns = [name for name in frame.columns if name not in (*given.ids.values(), given.timestamp)]
        listing = listed(columns, "columns") or []
        names = columns if isinstance(columns, Mapping) else {name: name for name in listing}
        table = {field: arrow.id_column_of(frame, name) for field, name in given.ids.items()}
        if given.timestamp is not None:
            table["timestamp"] = arrow.time_column_of(frame, given.timestamp, given.unit)
        for name, feature in names.items():
            reference = feature if "." in feature else f"{entity}.{feature}"
            if reference in table:
                raise InvalidInput.at("columns", f"two columns are {reference!r}")
            column = arrow.value_column(frame, name)
            if isinstance(column, arrow.Objects):
                column = yield from self._json_texts(name, column, reference)
            table[reference] = column
        return arrow.library("pyarrow").table(table)

    def _json_texts(self, name: str, column: arrow.Objects, reference: str) -> Talk[Any]:
        """A column of objects as JSON texts. Raises InvalidInput if the feature is not of type json."""
        feature = yield from self._ask(get(path("features", reference)), FeatureAnswer)
        if feature.value_type != "json":
            reason = f"the column has no one type, and {feature.id} is of type {feature.value_type}, not json"
            raise InvalidInput.at(name, reason)
        return column.texts()

    @route
    def training_set(
        self,
        rows: Any,
        features: Sequence[Wanted] | None = None,
        *,
        group: str | None = None,
        service: str | None = None,
        id_column: str = "entityId",
        keys: Keys | None = None,
        fields: Keys = (),
        timestamp_column: str = "timestamp",
        timestamp_unit: Unit | None = None,
        lookback: Length | None = None,
        window: Length | None = None,
        aggregation: str | None = None,
        known_at: Time | None = None,
        as_frame: FrameKind | None = None,
    ) -> Talk[Any]:
        """A point-in-time join: each row with the features' values at its timestamp, and nothing from after it.

        `rows` is a pandas or Polars frame or a list of dicts, each row with an id and a timestamp (as
        `write_frame` takes them). Its other columns (labels) stay as they are and are not sent. A value is the
        latest one with a timestamp up to the row's and no older than `lookback`, by default the feature's max_age;
        with `window` and `aggregation`, it is the aggregate over (timestamp - window, timestamp]. `known_at`
        leaves out what arrived after that time, `known_at="row"` what arrived after the row's own timestamp. A
        feature is a reference, or a dict of `ref` with its own `aggregation`, `window`, `lookback`, `as`, `key`.
        Where features are of several entity types, or of one with several keys, the columns named like their keys
        say of whom a row is, or `keys` maps each key to the column that holds it (or lists such columns); one that
        is missing in a row means that it has no such entity. `key` then gives a feature another one of these as
        its entity, as in `serve_rows`.
        `fields`, in the same form: the columns that features are computed from.

        Returns the rows (or a frame of the library `as_frame`) with a column per feature on the right: the same
        rows, order and index. json is text. Large sets are sent in parts of 100,000 rows. Raises InvalidInput,
        whose `.errors` have the `index` of the row; NotFound, Conflict; ImportError for frames without pyarrow.

            client.training_set(df, ["user.purchases_7d"], id_column="user_id", timestamp_column="ts")
            client.training_set(df, service="fraud.v1", keys={"user": "user_id", "merchant": "merchant_id"})
        """
        asked = _asked(features, group, service, known_at) | _looking_back(lookback, window, aggregation)
        rows = _rows_given(rows, as_frame)
        ids = (yield from self._ids(_names(rows), asked, id_column)) if keys is None else _named(keys)
        given = _KeyColumns(ids, timestamp_column, timestamp_unit, _named(fields))
        return (yield from (self._fill_rows if isinstance(rows, list) else self._fill_frame)(rows, given, asked))

    def _ids(self, names: Collection[str], asked: Mapping[str, Any], id_column: str) -> Talk[Mapping[str, str]]:
        """The columns that say of whom rows are: that of ids, or without it those named like the keys needed."""
        if id_column != "entityId" or id_column in names or not names:
            return {"entityId": id_column}
        columns = yield from self._columns(asked)
        if any(column.feature.expression is not None for column in columns.values()):
            raise InvalidInput.at("keys", "say which columns hold the keys of what the features are computed from")
        fields = yield from self._fields(columns)
        if lacking := [field for field in fields if field not in names]:
            raise InvalidInput.at(lacking[0], "there is no column of this name: say in keys which one holds it")
        return {field: field for field in fields}

    def _fill_frame(self, frame: Any, given: _KeyColumns, asked: dict[str, Any]) -> Talk[Any]:
        """The frame with a column per feature appended on its right."""
        pa = arrow.library("pyarrow")
        ids = {
            field: arrow.id_column_of(frame, name, missing=field != "entityId")
            for field, name in given.ids.items()
        }
        times = arrow.time_column_of(frame, str(given.timestamp), given.unit)
        fields = {field: arrow.arrow_column(frame, name) for field, name in given.fields.items()}
        keys = pa.table({**ids, "timestamp": times, **fields})
        filled: list[Any] = []
        for part in arrow.slices_of(keys) or [keys]:
            try:
                answer = yield from self._retry.ask(_asked_by_table(part, asked))
            except TimewellError as error:
                told = _unnamed(error, frame.columns, given)
                raise moved(error, sum(one.num_rows for one in filled), told) from error.__cause__
            filled.append(arrow.from_stream(answer.content).drop_columns(keys.column_names))
            _check_count(filled[-1].num_rows, part.num_rows)
        return arrow.beside(frame, pa.concat_tables(filled))

    def _fill_rows(
        self, rows: list[Mapping[str, Any]], given: _KeyColumns, asked: dict[str, Any]
    ) -> Talk[list[dict[str, Any]]]:
        """The dicts, each with a key per feature added."""
        keys = [_keys(row, place, given) for place, row in enumerate(rows)]
        filled: list[dict[str, Any]] = []
        for start in range(0, max(1, len(rows)), arrow.MOST_ROWS):
            part = keys[start : start + arrow.MOST_ROWS]
            request = send("POST", TRAINING_SET, {**asked, "rows": part})
            try:
                results = (yield from self._ask(request, HistoricalAnswer)).results
            except TimewellError as error:
                raise moved(error, start, _unnamed(error, _names(rows), given)) from error.__cause__
            _check_count(len(results), len(part))
            filled += results
        return [_merged(row, result, given.sent) for row, result in zip(rows, filled, strict=True)]


TRAINING_SET = path("features", "training-set")


def _asked_by_table(keys: Any, asked: dict[str, Any]) -> Request:
    """The request for a part of a training set: as Arrow, or as JSON if features have options of their own."""
    if all(isinstance(one, str) for one in asked["features"] or ()):
        given = {**asked, "lookback": span_word(asked["lookback"], ""), "window": span_word(asked["window"], "")}
        headers = {"Content-Type": ARROW, "Accept": ARROW}
        return Request("POST", TRAINING_SET, query(**given), arrow.to_stream(keys), headers)
    rows = [{name: _sendable(value) for name, value in row.items()} for row in keys.to_pylist()]
    return send("POST", TRAINING_SET, {**asked, "rows": rows}, headers={"Accept": ARROW})


def _wanted(features: Sequence[Wanted] | None) -> list[Any] | None:
    """The features asked for, with durations in the contract's form."""
    found = entries(features)
    if found is None:
        return None
    return [{name: _option(name, one[name]) for name in one} if isinstance(one, Mapping) else one for one in found]


def _asked(
    features: Sequence[Wanted] | None, group: str | None, service: str | None, known_at: Time | None
) -> dict[str, Any]:
    known = moment_or_none(known_at, "knownAt")
    asked = {"features": _wanted(features), "group": group, "knownAt": known}
    return asked if service is None else {**asked, "service": service}


def _looking_back(lookback: Length | None, window: Length | None, aggregation: str | None) -> dict[str, Any]:
    spans = {"lookback": span(lookback, "lookback"), "window": span(window, "window")}
    return {**spans, "aggregation": aggregation}


def _option(name: str, given: Any) -> Any:
    return span(given, f"features.{name}") if name in ("window", "lookback") else given


def _named(keys: Keys) -> dict[str, str]:
    """The column of each key; in a list they are named alike."""
    return dict(keys) if isinstance(keys, Mapping) else {name: name for name in listed(keys, "keys") or ()}


def _sendable(value: Any) -> Any:
    """A field of a row in the contract's form."""
    return moment(value) if isinstance(value, datetime) else value


def _rows_given(rows: Any, as_frame: FrameKind | None) -> Any:
    """Rows as a list of dicts or a frame."""
    if arrow.kind_of(rows) is None and as_frame is None:
        return list(rows)
    frame = arrow.as_kind(rows, as_frame)
    arrow.check_frame(frame)
    return frame


def _names(rows: Any) -> Collection[str]:
    """The columns of a frame, or the fields of any of a list of dicts."""
    if arrow.kind_of(rows) is not None:
        return list(rows.columns)
    return dict.fromkeys(name for row in rows for name in row)


def _unnamed(error: TimewellError, names: Collection[str], given: _KeyColumns) -> str:
    """A note for an error about a column that the rows have, but that is not sent."""
    for fault in error.errors:
        field = fault.field.removeprefix("rows.")
        if field in names and field not in given.sent:
            return f"the rows have {field!r}: name it in keys or fields"
    return ""


def _keys(row: Mapping[str, Any], index: int, given: _KeyColumns) -> dict[str, Any]:
    """What is sent of a row."""
    found: dict[str, Any] = {field: _sendable(row[name]) for field, name in given.fields.items() if name in row}
    for field, name in given.ids.items():
        one = row.get(name)
        if one is None and (field == "entityId" or name not in row):
            raise InvalidInput.at(name, "is missing", index)
        nobody = field != "entityId" and (one is None or is_missing(one))
        found[field] = None if nobody else entity_text(one, name, index)
    name, at = str(given.timestamp), row.get(str(given.timestamp))
    if at is None:
        raise InvalidInput.at(name, "is missing", index)
    unit = given.unit
    found["timestamp"] = moment(at, name, index) if unit is None else text_since(at, unit, name, index)
    return found


def _merged(row: Mapping[str, Any], result: dict[str, Any], sent: Collection[str]) -> dict[str, Any]:
    values = {name: value for name, value in result.items() if name not in sent}
    arrow.check_new(list(values), list(row))
    return {**row, **values}


def _check_count(got: int, asked: int) -> None:
    if got != asked:
        raise ServerFailed(f"the answer has {got} rows for {asked}")


def _together(written: WrittenFrame, answer: Written, start: int, repeated: bool) -> WrittenFrame:
    """The result so far with that of the part at `start` added. Faults get the index of the row in the frame."""
    faults = [*(written.errors or ()), *shifted(answer.errors or (), start)]
    more = answer.count or 0
    return WrittenFrame(
        written.success and answer.success,
        (written.count or 0) + more,
        faults or None,
        (written.overwritten or 0) + (answer.overwritten or 0) or None,
        skipped=written.skipped,
        repeated=written.repeated + (more if repeated else 0),
    )
