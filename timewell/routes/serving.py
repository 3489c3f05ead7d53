"""The methods that read the latest values of many entities: into a frame, or by rows that name several each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from timewell import arrow
from timewell.arrow import FrameKind
from timewell.calls import Talk, route, send
from timewell.errors import InvalidInput, TimewellError
from timewell.plain import entity_text, listed
from timewell.routes.parts import Entry, entries, moved
from timewell.routes.reading import ReadColumn, WhatIsRead
from timewell.times import Time, is_missing, moment_or_none
from timewell.wire import ServedAnswer, ServedEntity, ServedRow, ServedRows

MOST_ENTITIES = 10_000
"""How many entities or rows one request to serve asks for: what a service takes by default."""


class ServingRoutes(WhatIsRead):
    """Serve many entities, and rows that name several."""

    @route
    def serve_frame(
        self,
        ids: Any,
        features: Sequence[Entry] | None = None,
        *,
        group: str | None = None,
        service: str | None = None,
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
        asked = _asked(features, group, service, as_of)
        columns = yield from self._columns(asked)
        results: list[ServedEntity] = yield from self._in_parts("entityIds", entities, asked, ServedAnswer)
        pa = arrow.library("pyarrow")
        return arrow.frame_of(
            pa.table({id_column: pa.array(entities, pa.string()), **_filled(columns, results)}), kind
        )

    @route
    def serve_rows(
        self,
        rows: Any,
        features: Sequence[Entry] | None = None,
        *,
        group: str | None = None,
        service: str | None = None,
        as_of: Time | None = None,
        include_metadata: bool = False,
    ) -> Talk[Any]:
        """The latest values of rows that name entities of several types, now or as of a moment.

        `rows` is a list of dicts or a pandas or Polars frame, with a field for each key of the features' entity
        types: text, a whole number or a UUID. None means that there is no such entity. A feature is a reference,
        or a dict of `ref` with `key` (the field that holds the entity id, or for a type with several keys a dict
        of key and field) and `as`, its name in the result. Instead, or besides, name a `service` or a `group`.

        For dicts, whose fields are all sent, the results are in their order: `.keys`, the fields that were needed;
        `.features`, a dict by reference; `.timestamp`; with `include_metadata` also `.metadata`, as in `serve`. A
        frame, of which only the keys are sent, comes back with a column per feature on its right, with the same
        order and index. Rows go out in parts of 10,000, all as of the same moment. Raises InvalidInput, whose
        `.errors` have the `index` of the row, NotFound, Conflict; ImportError for frames without pyarrow.

            client.serve_rows([{"user": "ada", "shop": 7}], ["user.purchases_7d", "shop.rating"])[0].features
            client.serve_rows(payments, service="fraud.v1")
        """
        asked = {**_asked(features, group, service, as_of), "includeMetadata": include_metadata}
        if arrow.kind_of(rows) is None:
            given = [_with_nulls(row) for row in listed(rows, "rows") or []]
            dicts: list[ServedRow] = yield from self._in_parts("rows", given, asked, ServedRows)
            return dicts
        arrow.check_frame(rows)
        if include_metadata:
            raise InvalidInput.at("include_metadata", "a frame has no place for it; give the rows as dicts")
        columns = yield from self._columns(asked)
        fields = yield from self._fields(columns)
        results: list[ServedRow] = yield from self._in_parts(
            "rows", arrow.id_rows(rows, fields), asked, ServedRows
        )
        return arrow.beside(rows, arrow.library("pyarrow").table(_filled(columns, results)))

    def _in_parts(self, what: str, items: Sequence[Any], asked: Mapping[str, Any], kind: Any) -> Talk[list[Any]]:
        """The results for all items, asked for in parts, all as of the moment that the first is served at."""
        results: list[Any] = []
        for start in range(0, max(1, len(items)), MOST_ENTITIES):
            body = {**asked, what: items[start : start + MOST_ENTITIES]}
            try:
                answer = yield from self._ask(send("POST", "/features/serve", body), kind)
            except TimewellError as error:
                raise moved(error, start) from error.__cause__
            results += answer.results
            if results:
                asked = {**asked, "asOf": asked["asOf"] or results[0].timestamp}
        return results


def _with_nulls(row: Any) -> Any:
    """A row of dicts, with None where a frame that it came from has NaN or NaT."""
    if not isinstance(row, Mapping):
        return row
    return {name: None if _is_nothing(value) else value for name, value in row.items()}


def _is_nothing(value: Any) -> bool:
    return (isinstance(value, float) and isnan(value)) or is_missing(value)


def _asked(
    features: Sequence[Entry] | None, group: str | None, service: str | None, as_of: Time | None
) -> dict[str, Any]:
    """The fields of a request to serve, but for its entities."""
    at = moment_or_none(as_of, "asOf")
    return {"features": entries(features), "group": group, "service": service, "asOf": at}


def _filled(columns: Mapping[str, ReadColumn], results: Sequence[ServedEntity | ServedRow]) -> dict[str, Any]:
    """The served values as columns of their features' types."""
    return {
        name: arrow.column_of(column.feature.value_type, [one.features[name] for one in results])
        for name, column in columns.items()
    }


def _entities(ids: Any) -> list[str]:
    if hasattr(ids, "columns"):
        raise InvalidInput.at("ids", "give the column of a frame that has them, not the frame")
    given = ids.to_list() if hasattr(ids, "to_list") else ids
    return [entity_text(one, "entityId", index) for index, one in enumerate(listed(given, "ids") or [])]
