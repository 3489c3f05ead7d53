"""The methods that read the latest values of many entities: into a frame, or by rows that name several each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from timewell import arrow
from timewell.arrow import FrameKind
from timewell.calls import Asking, Talk, get, path, route, send
from timewell.errors import InvalidInput, TimewellError
from timewell.plain import entity_text, listed
from timewell.routes.parts import Entry, entries, moved
from timewell.times import Time, moment_or_none
from timewell.wire import (
    EntityTypeAnswer,
    FeatureAnswer,
    GroupAnswer,
    ServedAnswer,
    ServedEntity,
    ServedRow,
    ServedRows,
    ServiceAnswer,
)

MOST_ENTITIES = 10_000
"""How many entities or rows one request to serve asks for: what a service takes by default."""
Key = str | Mapping[str, str] | None


class _Column(NamedTuple):
    """What a column of an answer reads, and the fields of a row that say of which entity."""

    feature: FeatureAnswer
    key: Key

    def fields(self, keys: Sequence[str]) -> Sequence[str]:
        """The fields of a row that hold the entity id. `keys`: those of the entity type."""
        if isinstance(self.key, str):
            return [self.key]
        return [(self.key or {}).get(one, one) for one in keys]


class ServingRoutes(Asking):
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
            given = listed(rows, "rows") or []
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

    def _columns(self, asked: Mapping[str, Any]) -> Talk[dict[str, _Column]]:
        """What each column of the answer reads, in order: those of the service, of the group, then the others."""
        named: dict[str, tuple[str, Key]] = {}
        if asked["service"] is not None:
            offered = yield from self._ask(get(path("services", asked["service"])), ServiceAnswer)
            named |= {one.name: (one.ref, one.key) for one in offered.features}
        if asked["group"] is not None:
            found = yield from self._ask(get(path("groups", asked["group"])), GroupAnswer)
            named |= {one: (one if "." in one else f"{found.entity}.{one}", None) for one in found.features}
        for place, entry in enumerate(asked["features"] or ()):
            one: dict[str, Any] = {"ref": entry} if isinstance(entry, str) else entry
            if not isinstance(one, Mapping) or "ref" not in one:
                raise InvalidInput.at(f"features[{place}]", "has no ref")
            named.setdefault(one.get("as", one["ref"]), (one["ref"], one.get("key")))
        features: dict[str, FeatureAnswer] = {}
        for reference, _ in named.values():
            if reference not in features:
                features[reference] = yield from self._ask(get(path("features", reference)), FeatureAnswer)
        return {name: _Column(features[reference], key) for name, (reference, key) in named.items()}

    def _fields(self, columns: Mapping[str, _Column]) -> Talk[list[str]]:
        """The fields of a row that the columns need."""
        keys: dict[str, Sequence[str]] = {}
        for column in columns.values():
            entity = column.feature.entity
            if entity not in keys:
                keys[entity] = (yield from self._ask(get(path("entities", entity)), EntityTypeAnswer)).keys
        fields = (column.fields(keys[column.feature.entity]) for column in columns.values())
        return list(dict.fromkeys(field for needed in fields for field in needed))

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


def _asked(
    features: Sequence[Entry] | None, group: str | None, service: str | None, as_of: Time | None
) -> dict[str, Any]:
    """The fields of a request to serve, but for its entities."""
    at = moment_or_none(as_of, "asOf")
    return {"features": entries(features), "group": group, "service": service, "asOf": at}


def _filled(columns: Mapping[str, _Column], results: Sequence[ServedEntity | ServedRow]) -> dict[str, Any]:
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
