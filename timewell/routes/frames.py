"""The methods that take and return frames. Data is sent as Arrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from timewell import arrow
from timewell.arrow import KEYS, FrameKind
from timewell.calls import (
    ARROW,
    Asking,
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
from timewell.time_columns import Unit, text_since
from timewell.times import Length, Time, moment, moment_or_none, span, span_word
from timewell.wire import (
    FaultAnswer,
    FeatureAnswer,
    GroupAnswer,
    HistoricalAnswer,
    ServedAnswer,
    ServedEntity,
    Written,
)

Wanted = str | Mapping[str, Any]
"""A reference, or one with options of its own: {"ref", "aggregation", "window", "lookback", "as"}."""

MOST_ENTITIES = 10_000
"""How many entities one request to serve asks for: what a service takes by default."""


class WrittenFrame(Written, kw_only=True):
    """The result of writing a frame. `skipped`: how many values were missing and not written. `repeated`: how many
    of `count` an earlier call with the same key had written.
    """

    skipped: int = 0
    repeated: int = 0


class FrameRoutes(Asking):
    """Write frames, read frames."""

    @route
    def write_frame(
        self,
        frame: Any,
        entity: str,
        *,
        id_column: str = "entityId",
        timestamp_column: str | None = "timestamp",
        timestamp_unit: Unit | None = None,
        columns: Mapping[str, str] | Sequence[str] | None = None,
        nulls: Literal["skip", "write"] = "skip",
        partial: bool = False,
        idempotency_key: str | None = None,
    ) -> Talk[WrittenFrame]:
        """Write a pandas or Polars frame: a row per entity and timestamp, a column per feature.

        `columns` names the columns to write, or maps them to features; by default all but the two keys. A name
        without a dot is a feature of `entity`. Ids are text or whole numbers. Timestamps are datetimes (naive ones
        are UTC), dates, RFC 3339 text, or, with `timestamp_unit` (s, ms, us, ns), numbers since 1970;
        `timestamp_column=None` writes everything as of now. Give json as dicts or as its text.

        A missing value (null, NaN) is not written, so an older value remains the latest. `nulls="write"` writes a
        null instead, which means that there was no value at that time.

        Returns `.count`, how many values were written; `.overwritten`, how many of these a later row of the same
        entity and timestamp replaces (with `partial`: a row of the same part), None if none; `.skipped`, how many
        were missing and not written; `.repeated`, how many of `.count` an earlier call with the same
        `idempotency_key` had written.

        The frame is sent in parts of at most 100,000 rows, each written whole or not at all; an error says which
        rows are written, and its `.errors` have the `index` of the row. With `partial` the valid values are
        written and the result's `.errors` name the others. With an `idempotency_key` of your own you can repeat
        the call: parts already written are not written twice. Raises InvalidInput, NotFound, Conflict,
        Unavailable; ImportError without pyarrow.

            client.write_frame(df, "user", id_column="user_id", timestamp_column="ts")
        """
        table = yield from self._wide(frame, entity, id_column, timestamp_column, timestamp_unit, columns)
        asked = query(partial=partial or None, nulls=None if nulls == "skip" else nulls)
        skipped = (
            0 if asked.get("nulls") else arrow.missing_in(table.columns[1 if timestamp_column is None else 2 :])
        )
        written = yield from self._write(table, asked, idempotency_key, WrittenFrame(True, 0, skipped=skipped))
        if len(arrow.slices_of(table)) > 1 and timestamp_column is not None and not partial:
            written.overwritten = arrow.repeated_in(table, asked.get("nulls") is not None) or None
        return written

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
                raise _moved(
                    error, start, f"rows before {start} are written" if start else ""
                ) from error.__cause__
            written = _together(written, read(answer, Written), start, is_repeat(answer))
            start += part.num_rows
        return written

    def _wide(
        self,
        frame: Any,
        entity: str,
        id_column: str,
        timestamp_column: str | None,
        timestamp_unit: Unit | None,
        columns: Mapping[str, str] | Sequence[str] | None,
    ) -> Talk[Any]:
        """The wide table to write: the keys and a column per feature."""
        arrow.check_frame(frame)
        if columns is None:
            columns = [name for name in frame.columns if name not in (id_column, timestamp_column)]
        listing = listed(columns, "columns") or []
        names = columns if isinstance(columns, Mapping) else {name: name for name in listing}
        table = {"entityId": arrow.id_column_of(frame, id_column)}
        if timestamp_column is not None:
            table["timestamp"] = arrow.time_column_of(frame, timestamp_column, timestamp_unit)
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
    def serve_frame(
        self,
        ids: Any,
        features: Sequence[str] | None = None,
        *,
        group: str | None = None,
        as_of: Time | None = None,
        id_column: str = "entityId",
        as_frame: FrameKind | None = None,
    ) -> Talk[Any]:
        """The latest values as a frame: a row per id, in order, with the ids and a column per reference.

        `ids` is a list or a column of a frame. The result is a frame of `as_frame`, else of that column's library,
        else of pandas. All rows are as of the same moment. Columns have the types of their features; json is text.
        Raises InvalidInput, NotFound, Conflict; ImportError without pyarrow or the library.

            client.serve_frame(customers["user_id"], ["user.purchases_7d", "user.country"])
        """
        kind: FrameKind = as_frame or arrow.kind_of(ids) or "pandas"
        entities = _entities(ids)
        types = yield from self._types(listed(features, "features") or [], group)
        rows = yield from self._served(entities, features, group, moment_or_none(as_of, "asOf"))
        pa = arrow.library("pyarrow")
        table = {id_column: pa.array(entities, pa.string())}
        for name, value_type in types.items():
            table[name] = arrow.column_of(value_type, [row.features[name] for row in rows])
        return arrow.frame_of(pa.table(table), kind)

    def _types(self, references: list[str], group: str | None) -> Talk[dict[str, str]]:
        """The value type per reference, the group's first; its bare names belong to its entity type."""
        named: dict[str, str] = {}
        if group is not None:
            found = yield from self._ask(get(path("groups", group)), GroupAnswer)
            named = {one: one if "." in one else f"{found.entity}.{one}" for one in found.features}
        types: dict[str, str] = {}
        for reference, full in {**{one: one for one in references}, **named}.items():
            types[reference] = (yield from self._ask(get(path("features", full)), FeatureAnswer)).value_type
        return {reference: types[reference] for reference in (*named, *references)}

    def _served(
        self, entities: Sequence[str], features: Sequence[str] | None, group: str | None, as_of: str | None
    ) -> Talk[list[ServedEntity]]:
        """The results for all entities, asked for in slices, all as of the moment that the first is served at."""
        rows: list[ServedEntity] = []
        for start in range(0, len(entities), MOST_ENTITIES):
            asked = entities[start : start + MOST_ENTITIES]
            body = {"entityIds": asked, "features": features, "group": group, "asOf": as_of}
            try:
                answer = yield from self._ask(send("POST", "/features/serve", body), ServedAnswer)
            except TimewellError as error:
                raise _moved(error, start) from error.__cause__
            rows += answer.results
            as_of = as_of or answer.results[0].timestamp
        return rows

    @route
    def training_set(
        self,
        rows: Any,
        features: Sequence[Wanted] | None = None,
        *,
        group: str | None = None,
        id_column: str = "entityId",
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
        feature is a reference, or a dict of `ref` with its own `aggregation`, `window`, `lookback`, `as`.

        Returns the rows (or a frame of the library `as_frame`) with a column per feature on the right: the same
        rows, order and index. json is text. Large sets are sent in parts of 100,000 rows. Raises InvalidInput,
        whose `.errors` have the `index` of the row; NotFound, Conflict; ImportError without pyarrow or the
        library.

            client.training_set(df, ["user.purchases_7d"], id_column="user_id", timestamp_column="ts")
        """
        asked = {
            "features": _wanted(features),
            "group": group,
            "lookback": span(lookback, "lookback"),
            "window": span(window, "window"),
            "aggregation": aggregation,
            "knownAt": moment_or_none(known_at, "knownAt"),
        }
        keys = (id_column, timestamp_column, timestamp_unit)
        if arrow.kind_of(rows) is None and as_frame is None:
            return (yield from self._fill_rows(list(rows), keys, asked))
        return (yield from self._fill_frame(arrow.as_kind(rows, as_frame), keys, asked))

    def _fill_frame(self, frame: Any, given: tuple[str, str, Unit | None], asked: dict[str, Any]) -> Talk[Any]:
        """The frame with a column per feature appended on its right."""
        arrow.check_frame(frame)
        pa = arrow.library("pyarrow")
        ids, times = arrow.id_column_of(frame, given[0]), arrow.time_column_of(frame, *given[1:])
        keys = pa.table({"entityId": ids, "timestamp": times})
        filled: list[Any] = []
        for part in arrow.slices_of(keys) or [keys]:
            try:
                answer = yield from self._retry.ask(_asked_by_table(part, asked))
            except TimewellError as error:
                raise _moved(error, sum(one.num_rows for one in filled)) from error.__cause__
            filled.append(arrow.from_stream(answer.content).drop_columns(list(KEYS)))
            _check_count(filled[-1].num_rows, part.num_rows)
        return arrow.beside(frame, pa.concat_tables(filled))

    def _fill_rows(
        self, rows: list[Mapping[str, Any]], given: tuple[str, str, Unit | None], asked: dict[str, Any]
    ) -> Talk[list[dict[str, Any]]]:
        """The dicts, each with a key per feature added."""
        keys = [_keys(row, place, *given) for place, row in enumerate(rows)]
        filled: list[dict[str, Any]] = []
        for start in range(0, max(1, len(rows)), arrow.MOST_ROWS):
            part = keys[start : start + arrow.MOST_ROWS]
            request = send("POST", TRAINING_SET, {**asked, "rows": part})
            try:
                results = (yield from self._ask(request, HistoricalAnswer)).results
            except TimewellError as error:
                raise _moved(error, start) from error.__cause__
            _check_count(len(results), len(part))
            filled += results
        return [_merged(row, result) for row, result in zip(rows, filled, strict=True)]


TRAINING_SET = path("features", "training-set")


def _asked_by_table(keys: Any, asked: dict[str, Any]) -> Request:
    """The request for a part of a training set: as Arrow, or as JSON if features have options of their own."""
    if all(isinstance(one, str) for one in asked["features"] or ()):
        given = {**asked, "lookback": span_word(asked["lookback"], ""), "window": span_word(asked["window"], "")}
        headers = {"Content-Type": ARROW, "Accept": ARROW}
        return Request("POST", TRAINING_SET, query(**given), arrow.to_stream(keys), headers)
    rows = [{**row, "timestamp": moment(row["timestamp"])} for row in keys.to_pylist()]
    return send("POST", TRAINING_SET, {**asked, "rows": rows}, headers={"Accept": ARROW})


def _wanted(features: Sequence[Wanted] | None) -> list[Wanted] | None:
    """The features asked for, with durations in the contract's form."""
    if features is None or isinstance(features, str):
        return listed(features, "features")
    return [one if isinstance(one, str) else {name: _option(name, one[name]) for name in one} for one in features]


def _option(name: str, given: Any) -> Any:
    return span(given, f"features.{name}") if name in ("window", "lookback") else given


def _keys(
    row: Mapping[str, Any], index: int, id_column: str, timestamp_column: str, unit: Unit | None
) -> dict[str, str]:
    for name in (id_column, timestamp_column):
        if row.get(name) is None:
            raise InvalidInput.at(name, "is missing", index)
    given = row[timestamp_column]
    if unit is None:
        at = moment(given, timestamp_column, index)
    else:
        at = text_since(given, unit, timestamp_column, index)
    return {"entityId": entity_text(row[id_column], id_column, index), "timestamp": at}


def _entities(ids: Any) -> list[str]:
    if hasattr(ids, "columns"):
        raise InvalidInput.at("ids", "give the column of a frame that has them, not the frame")
    given = ids.to_list() if hasattr(ids, "to_list") else ids
    return [entity_text(one, "entityId", index) for index, one in enumerate(listed(given, "ids") or [])]


def _merged(row: Mapping[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in result.items() if name not in KEYS}
    arrow.check_new(list(values), list(row))
    return {**row, **values}


def _check_count(got: int, asked: int) -> None:
    if got != asked:
        raise ServerFailed(f"the answer has {got} rows for {asked}")


def _shifted(faults: Sequence[FaultAnswer], start: int) -> list[FaultAnswer]:
    """Faults of a part, with their index in the whole."""
    return [
        fault if fault.index is None else FaultAnswer(fault.field, fault.message, fault.index + start)
        for fault in faults
    ]


def _moved(error: TimewellError, start: int, told: str = "") -> TimewellError:
    """An error of a part as an error of the whole. `told`: a note for its detail."""
    error.errors = _shifted(error.errors, start)
    if told:
        error.detail = f"{error.detail} ({told})"
        error.args = (error.detail,)
    return error


def _together(written: WrittenFrame, answer: Written, start: int, repeated: bool) -> WrittenFrame:
    """The result so far with that of the part at `start` added. Faults get the index of the row in the frame."""
    faults = [*(written.errors or ()), *_shifted(answer.errors or (), start)]
    more = answer.count or 0
    return WrittenFrame(
        written.success and answer.success,
        (written.count or 0) + more,
        faults or None,
        (written.overwritten or 0) + (answer.overwritten or 0) or None,
        skipped=written.skipped,
        repeated=written.repeated + (more if repeated else 0),
    )
