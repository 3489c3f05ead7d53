"""The observations of one entity, in pages or streamed."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

import numpy as np
from quart import Response

from actors.domain import Feature
from actors.errors import InvalidInput
from actors.ingest.composite import wrong_parts
from actors.ingest.entity_ids import check_entity_id
from actors.looking_back import entity_type_of
from actors.messages import Scanned
from actors.router import Router
from actors.serving import Span
from actors.settings import DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS, PAGE_BYTES
from actors.timestamps import format_timestamp
from actors.types.values import render, width_of
from timewell.wire import HistoryAnswer, HistoryItem
from web.answers.lanes import AnswerColumn, accepted_lane, stream
from web.answers.pages import from_cursor, to_cursor
from web.answers.results import NUMBER_BYTES
from web.bodies.requests import JSON_TYPE, Query, encode
from web.chapter import PAGE, RANGE, Chapter, Service

_WHICH = {
    "entityId": "whose observations (required)",
    **RANGE,
    "order": "asc (default) or desc",
    **PAGE,
}

chapter = Chapter("History")


@chapter.route(
    "GET /features/<reference>/history",
    "The observations of one entity.",
    query=_WHICH,
    gives={200: HistoryAnswer},
    lanes=True,
    fails=(400, 404, 406, 409, 503),
)
async def history(service: Service, reference: str) -> Response:
    query = Query(_WHICH)
    registry = await service.router.registered()
    feature = registry.resolve(reference)
    keys = registry.catalogue.keys(entity_type_of(registry.select([feature.id])))
    entity = query.needed("entityId")
    if (why := check_entity_id(entity) or wrong_parts(entity, keys)) is not None:
        raise InvalidInput.at("entityId", why)
    descending = query.choice("order", ("asc", "desc"), "asc") == "desc"
    span = _page_span(query, descending)
    lane = accepted_lane()
    if lane.content_type != JSON_TYPE:
        rows = query.number("limit", 0, 999_999_999)
        return await stream(lane, _pages(service.router, entity, feature, span, descending, rows))
    limit = query.number("limit", DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS)
    page = _page(await service.router.observations(entity, feature, span, _fitting(limit, feature), descending))
    values = render(feature.value_type, page.values, page.nulls)
    times = page.times.tolist()
    items = [HistoryItem(format_timestamp(time), value) for time, value in zip(times, values, strict=True)]
    return encode(HistoryAnswer(feature.id, entity, items, to_cursor(str(times[-1])) if page.more else None))


def _fitting(limit: int, feature: Feature) -> int:
    """`limit`, or fewer where the values are vectors of which a page holds no more."""
    return min(limit, max(1, PAGE_BYTES // (NUMBER_BYTES * max(1, width_of(feature)))))


def _page(found: Scanned) -> Scanned:
    """As many of the observations as fit a page (PAGE_BYTES): texts may be long."""
    if found.values.dtype != object:
        return found
    sizes = np.cumsum(np.fromiter((len(text or "") for text in found.values.tolist()), np.int64, len(found.times)))
    fit = max(1, int(np.searchsorted(sizes, PAGE_BYTES, "right")))
    if fit >= len(found.times):
        return found
    return Scanned(found.times[:fit], found.values[:fit], found.nulls[:fit], more=True)


def _page_span(query: Query, descending: bool) -> Span:
    """The range of the next page: what lies beyond the cursor, the event timestamp of the last row seen."""
    start, end = query.range_of()
    cursor = query.text("cursor")
    if cursor is None:
        return Span(start, end)
    position = from_cursor(cursor)
    if not re.fullmatch(r"-?[0-9]{1,18}", position):
        raise InvalidInput.at("cursor", "is not a cursor of this route")
    seen = int(position)
    return Span(start, min(end, seen - 1)) if descending else Span(max(start, seen + 1), end)


async def _pages(
    router: Router, entity: str, feature: Feature, span: Span, descending: bool, rows: int
) -> AsyncGenerator[list[AnswerColumn], None]:
    """The observations as columns, a page at a time: all of them, or the first `rows` if that is not 0."""
    left = rows or None
    while True:
        limit = MAX_PAGE_ROWS if left is None else min(left, MAX_PAGE_ROWS)
        page = _page(await router.observations(entity, feature, span, _fitting(limit, feature), descending))
        times = np.asarray(page.times, np.int64)
        yield [
            AnswerColumn("timestamp", "timestamp", times, np.zeros(len(times), np.bool_)),
            AnswerColumn("value", feature.value_type, page.values, page.nulls),
        ]
        left = None if left is None else left - len(times)
        if not page.more or left == 0:
            return
        last = int(times[-1])
        span = Span(span.start, last - 1) if descending else Span(last + 1, span.end)
