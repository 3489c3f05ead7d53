"""The methods that write and read values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from timewell.calls import Asking, Request, Talk, keyed, path, query, route, send
from timewell.errors import InvalidInput
from timewell.plain import EntityId, entity_text, listed
from timewell.routes.parts import Entry, entries
from timewell.routes.registry import page_limit
from timewell.times import Length, Time, moment, moment_or_none, span
from timewell.wire import (
    Closed,
    HistoricalAnswer,
    HistoryAnswer,
    HistoryItem,
    ServedAnswer,
    ServedEntity,
    Written,
)

Value = Mapping[str, Any] | tuple[str, EntityId, Any] | tuple[str, EntityId, Any, Time | None]
"""A value to write: a mapping (featureId, entityId, value, timestamp), or the same as a tuple."""
Aggregation = str | Mapping[str, str]
"""latest first avg sum min max count std median p90 p95 p99 distinct, for all features or by reference."""


class ValueRoutes(Asking):
    """Write values; read the latest, aggregates and history."""

    @route
    def write(
        self,
        feature: str,
        entity_id: EntityId,
        value: Any,
        timestamp: Time | None = None,
        *,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Talk[None]:
        """Write one value. When this returns, it is on stable storage and visible to the next read.

        The timestamp defaults to now. None writes a null. A later write at the same timestamp is a correction.
        Retries are safe: the request carries an Idempotency-Key, yours or a generated one. Raises InvalidInput,
        NotFound, Conflict, Unavailable.

            client.write("user.purchases_7d", "ada", 3, datetime(2025, 11, 7, 10))
        """
        body = {
            "featureId": feature,
            "entityId": entity_text(entity_id),
            "value": value,
            "timestamp": moment_or_none(timestamp, "timestamp"),
            "version": version,
        }
        yield from self._ask(send("POST", "/features/write", body, headers=keyed(idempotency_key)), Written)

    @route
    def write_batch(
        self, values: Iterable[Value], *, partial: bool = False, idempotency_key: str | None = None
    ) -> Talk[Written]:
        """Write many values, all or none, in one request.

        Each is a tuple `(feature, entity id, value)` or `(feature, entity id, value, timestamp)`, or a mapping
        with the keys `featureId`, `entityId`, `value` and optionally `timestamp`, `version`. With `partial` the
        valid values are written and the result names the others in `.errors` (`index`, `field`, `message`).

        Returns `.success` and `.count`. Raises InvalidInput, whose `.errors` name the values at fault by their
        index; TooLarge over the limits of a batch (200,000 values, 32 MiB); Unavailable. `write_frame` takes any
        number of values.

            client.write_batch([("purchases_7d", "ada", 3, "2025-11-07T10:00:00Z"), ("purchases_7d", "bob", 1)])
        """
        body = {"values": [_item(value, index) for index, value in enumerate(values)]}
        target, headers = "/features/write-batch", keyed(idempotency_key)
        request = send("POST", target, body, headers=headers, query=query(partial=partial or None))
        return (yield from self._ask(request, Written))

    @route
    def serve(
        self,
        entity_ids: Sequence[EntityId],
        features: Sequence[Entry] | None = None,
        *,
        group: str | None = None,
        service: str | None = None,
        as_of: Time | None = None,
        include_metadata: bool = False,
    ) -> Talk[list[ServedEntity]]:
        """The latest values, now or as of a moment: one result per entity id, in order, unknown ids included.

        A result has `.entity_id`; `.features`, a dict by the references as asked, None for null, missing and
        expired values; `.timestamp`, the moment read as of; and with `include_metadata` `.metadata`, by reference
        `.status` (present, null, missing or expired), `.timestamp` and `.age_seconds`. All features are of one
        entity type; `serve_rows` takes those of several. Raises InvalidInput, NotFound, Conflict, TooLarge.

            client.serve(["ada"], ["user.purchases_7d"])[0].features["user.purchases_7d"]
        """
        body = {
            **_reading(entity_ids, None, group),
            "features": entries(features),
            "service": service,
            "asOf": moment_or_none(as_of, "asOf"),
            "includeMetadata": include_metadata,
        }
        return (yield from self._ask(send("POST", "/features/serve", body), ServedAnswer)).results

    @route
    def historical(
        self,
        entity_ids: Sequence[EntityId],
        features: Sequence[str] | None = None,
        *,
        start: Time,
        end: Time,
        group: str | None = None,
        aggregation: Aggregation = "latest",
        window: Length | None = None,
        closed: Closed = "both",
    ) -> Talk[list[dict[str, Any]]]:
        """An aggregate of each feature over the range from `start` to `end`, by default both included.

        `closed`: which ends belong to the range: both, right, left or neither. "right" over t - window to t gives
        what a training set with that window has in a row at t.

        `aggregation` is one of latest, first, avg, sum, min, max, count, std, median, p90, p95, p99, distinct, or
        a dict by reference. With `window` the range is split into tumbling windows of that length.

        Returns a dict per entity (with `window`: per entity and window), in order: `entityId`, with `window` also
        `windowStart` and `windowEnd`, and the value of each reference. Raises InvalidInput, NotFound, Conflict,
        TooLarge.

            client.historical(["ada"], ["purchases_7d"], start="2025-11-01T00:00:00Z", end=now, aggregation="avg")
        """
        body = {
            **_reading(entity_ids, features, group),
            "startTime": moment(start, "startTime"),
            "endTime": moment(end, "endTime"),
            "aggregation": aggregation,
            "window": span(window, "window"),
            "closed": closed,
        }
        return (yield from self._ask(send("POST", "/features/historical", body), HistoricalAnswer)).results

    @route
    def history(
        self,
        feature: str,
        entity_id: EntityId,
        *,
        start: Time | None = None,
        end: Time | None = None,
        order: Literal["asc", "desc"] = "asc",
        limit: int | None = None,
    ) -> Talk[list[HistoryItem]]:
        """The observations of one entity, sorted by time: all, or the first `limit`.

        Each has `.timestamp` (RFC 3339 text) and `.value`. Raises InvalidInput, NotFound, Conflict.

            client.history("user.purchases_7d", "ada", order="desc", limit=1)
        """
        given = query(
            entityId=entity_text(entity_id),
            startTime=moment_or_none(start, "startTime"),
            endTime=moment_or_none(end, "endTime"),
            order=order,
        )
        found: list[HistoryItem] = []
        cursor: str | None = None
        while limit is None or len(found) < limit:
            page = query(limit=page_limit(limit, len(found)), cursor=cursor)
            request = Request("GET", path("features", feature, "history"), {**given, **page})
            answer = yield from self._ask(request, HistoryAnswer)
            found += answer.observations
            cursor = answer.next_cursor
            if cursor is None:
                break
        return found


def _reading(entity_ids: Sequence[EntityId], features: Sequence[str] | None, group: str | None) -> dict[str, Any]:
    """The fields that every read of values has."""
    ids = [
        entity_text(one, f"entityIds[{place}]") for place, one in enumerate(listed(entity_ids, "entityIds") or ())
    ]
    return {"entityIds": ids, "features": listed(features, "features"), "group": group}


def _item(value: Value, index: int) -> dict[str, Any]:
    """A value of a batch in the contract's form. Only what would keep it from being sent is checked here."""
    if isinstance(value, tuple):
        if not 3 <= len(value) <= 4:
            raise InvalidInput.at("values", "a tuple is (feature, entity id, value) with or without a time", index)
        value = dict(zip(("featureId", "entityId", "value", "timestamp"), value, strict=False))
    item = {**value}
    if "entityId" in item:
        item["entityId"] = entity_text(item["entityId"], index=index)
    if item.get("timestamp") is not None:
        item["timestamp"] = moment(item["timestamp"], "timestamp", index)
    return item
