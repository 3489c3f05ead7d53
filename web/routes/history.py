"""Looking back: aggregates over a range, and the observations of one entity."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from quart import Blueprint, Response

from actors.amount import UNCOUNTED, Amount, bytes_of, in_lots
from actors.domain import Feature
from actors.errors import InvalidInput
from actors.ingest.sent import check_entity_id
from actors.messages import Scanned
from actors.router import Router
from actors.serving import Span
from actors.settings import CELLS_PER_LOT, DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS, PAGE_BYTES, Settings
from actors.table.aggregates import AGGREGATIONS, Answer, allowed, of_no_rows
from actors.table.columns import Times
from actors.timestamps import FOREVER, NEVER, Duration, format_timestamp, parse_duration, parse_timestamp
from actors.types.values import render, width_of
from web.answers.lanes import ARROW_TYPE, Column, accepted_lane, stream
from web.answers.pages import from_cursor, to_cursor
from web.answers.results import ALL, NAME_BYTES, NUMBER_BYTES, check_bytes, encode_rows, text_bytes
from web.answers.worker import room
from web.bodies.requests import JSON_TYPE, Query, encode, json_body, said
from web.routes.serving import check_ids, check_read
from web.schema import Closed, Historical, HistoricalAnswer, HistoryAnswer, HistoryItem

_TAKEN_NAMES = ("entityId", "windowStart", "windowEnd")


def blueprint(router: Router, settings: Settings) -> Blueprint:
    """The chapter "History"."""
    routes = Blueprint("history", __name__)

    @routes.post("/features/historical")
    async def historical() -> Response:
        asked = await json_body(Historical)
        features = (await router.registered()).select(asked.features, asked.group).by_reference
        span = span_of(asked.start_time, asked.end_time, asked.window, asked.closed)
        aggregations = aggregation_of(asked.aggregation, features)
        lane = accepted_lane()
        if lane.content_type != JSON_TYPE:
            check_ids(asked.entity_ids)
            check_read(asked.entity_ids[:1], features, span.windows, settings)
            columns = [(reference, feature, aggregations[reference]) for reference, feature in features.items()]
            arrow = lane.content_type == ARROW_TYPE
            about = columns, span, asked.window is not None, arrow
            return await stream(lane, _lots(router, asked.entity_ids, *about, settings.max_read_bytes))
        check_read(asked.entity_ids, features, span.windows, settings)
        if not asked.entity_ids:
            return encode(HistoricalAnswer([]))
        many = len(asked.entity_ids) * span.windows
        widths = sum(width_of(one) for name, one in features.items() if aggregations[name] in ("latest", "first"))
        check_bytes(many * widths * NUMBER_BYTES, settings)
        answers, cells, windowed = dict[str, Answer](), many * len(features), asked.window is not None
        size = cells * NAME_BYTES

        def rows(cut: slice) -> Iterator[dict[str, Any]]:
            return _rows(asked.entity_ids[cut], _part(answers, cut, span.windows), span, windowed)

        async with room().of(cells):
            for reference, feature in features.items():
                answers[reference] = await router.aggregate(
                    asked.entity_ids, feature, aggregations[reference], span
                )
                size += text_bytes(answers[reference].values)
                check_bytes(size, settings)
            return said(await encode_rows(cells, size, len(asked.entity_ids), rows))

    @routes.get("/features/<reference>/history")
    async def history(reference: str) -> Response:
        query = Query(("entityId", "startTime", "endTime", "limit", "order", "cursor"))
        feature = (await router.registered()).resolve(reference)
        entity = query.needed("entityId")
        if (why := check_entity_id(entity)) is not None:
            raise InvalidInput.at("entityId", why)
        descending = query.choice("order", ("asc", "desc"), "asc") == "desc"
        span = _page_span(query, descending)
        lane = accepted_lane()
        if lane.content_type != JSON_TYPE:
            rows = query.number("limit", 0, 999_999_999)
            return await stream(lane, _pages(router, entity, feature, span, descending, rows))
        limit = query.number("limit", DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS)
        found = _page(await router.observations(entity, feature, span, _fitting(limit, feature), descending))
        values = render(feature.value_type, found.values, found.nulls)
        times = found.times.tolist()
        items = [HistoryItem(format_timestamp(time), value) for time, value in zip(times, values, strict=True)]
        return encode(HistoryAnswer(feature.id, entity, items, to_cursor(str(times[-1])) if found.more else None))

    return routes


def _fitting(limit: int, feature: Feature) -> int:
    """As many of `limit` vectors as a page has room for."""
    return min(limit, max(1, PAGE_BYTES // (NUMBER_BYTES * max(1, width_of(feature)))))


def _page(found: Scanned) -> Scanned:
    """As many of the observations as a page has room for."""
    if found.values.dtype != object:
        return found
    sizes = np.cumsum(np.fromiter((len(text or "") for text in found.values.tolist()), np.int64, len(found.times)))
    fit = max(1, int(np.searchsorted(sizes, PAGE_BYTES, "right")))
    if fit >= len(found.times):
        return found
    return Scanned(found.times[:fit], found.values[:fit], found.nulls[:fit], more=True)


def span_of(start_time: str, end_time: str, window: Duration | None, closed: Closed = "both") -> Span:
    """The range asked for, in windows. Raises InvalidInput where it ends before it starts."""
    start, end = parse_timestamp(start_time, "startTime"), parse_timestamp(end_time, "endTime")
    if start > end:
        raise InvalidInput.at("startTime", "is after endTime")
    sides = closed in ("both", "left"), closed in ("both", "right")
    if window is None:
        return Span(start, end, 0, 1, *sides)
    width = parse_duration(window, "window")
    return Span(start, end, width, max(1, -((start - end) // width)), *sides)


def aggregation_of(asked: str | Mapping[str, str], features: Mapping[str, Feature]) -> dict[str, str]:
    """The aggregation of each reference; `latest` where an object leaves one out."""
    if isinstance(asked, str):
        asked = dict.fromkeys(features, asked)
    for reference in asked:
        if reference not in features:
            raise InvalidInput.at(f"aggregation.{reference}", "is not among the features asked for")
    chosen = {reference: asked.get(reference, "latest") for reference in features}
    for reference, name in chosen.items():
        if name not in AGGREGATIONS:
            raise InvalidInput.at("aggregation", f"{name!r} is not one of {', '.join(AGGREGATIONS)}")
        if not allowed(name, features[reference].value_type):
            kind = features[reference].value_type
            raise InvalidInput.at("aggregation", f"{name} makes no sense for {reference}, which is of type {kind}")
        if reference in _TAKEN_NAMES:
            raise InvalidInput.at(
                "features", f"{reference!r} is a key of every row; give the feature's id instead"
            )
    return chosen


async def _lots(
    router: Router,
    entities: Sequence[str],
    wanted: Sequence[tuple[str, Feature, str]],
    span: Span,
    windowed: bool,
    arrow: bool,
    most_bytes: int,
) -> AsyncGenerator[list[Column], None]:
    """The same rows as columns, for as many entities at a time as make a bounded number of values."""
    width = sum(1 + width_of(feature) for _, feature, _ in wanted)
    step = max(1, CELLS_PER_LOT // (span.windows * width))
    starts, ends = _edges(span)

    async def ask(cut: slice) -> list[Answer]:
        some, answers = entities[cut], list[Answer]()
        held = Amount("the rows", UNCOUNTED, most_bytes)
        for _, feature, aggregation in wanted:
            if some:
                answers.append(await router.aggregate(some, feature, aggregation, span))
            else:
                answers.append(of_no_rows(feature, aggregation))
            held.add(0, bytes_of(answers[-1].values))
        return answers

    async for cut, answers in in_lots(max(1, len(entities)), step, ask):
        some = entities[cut]
        columns = [Column("entityId", None, [entity for entity in some for _ in range(span.windows)])]
        if windowed:
            known = np.zeros(len(some) * span.windows, np.bool_)
            columns += [
                Column("windowStart", "timestamp", np.tile(starts, len(some)), known),
                Column("windowEnd", "timestamp", np.tile(ends, len(some)), known),
            ]
        for (reference, feature, aggregation), answer in zip(wanted, answers, strict=True):
            column = Column(reference, answer.value_type, answer.values, answer.nulls)
            is_sum = aggregation == "sum" and feature.value_type == "integer"
            columns.append(column.summed() if is_sum and arrow else column)
        yield columns


async def _pages(
    router: Router, entity: str, feature: Feature, span: Span, descending: bool, rows: int
) -> AsyncGenerator[list[Column], None]:
    """The observations as columns, a page at a time; all of them, or `rows` where that is not 0."""
    left = rows or None
    while True:
        limit = MAX_PAGE_ROWS if left is None else min(left, MAX_PAGE_ROWS)
        found = _page(await router.observations(entity, feature, span, _fitting(limit, feature), descending))
        times = np.asarray(found.times, np.int64)
        yield [
            Column("timestamp", "timestamp", times, np.zeros(len(times), np.bool_)),
            Column("value", feature.value_type, found.values, found.nulls),
        ]
        left = None if left is None else left - len(times)
        if not found.more or left == 0:
            return
        last = int(times[-1])
        span = Span(span.start, last - 1) if descending else Span(last + 1, span.end)


def _rows(
    entities: Sequence[str], answers: Mapping[str, Answer], span: Span, windowed: bool
) -> Iterator[dict[str, Any]]:
    """One row per entity and window."""
    columns = {name: render(one.value_type, one.values, one.nulls) for name, one in answers.items()}
    bounds = list(_window_bounds(span)) if windowed else [{}]
    values = zip(*columns.values(), strict=True)
    for entity in entities:
        for bound in bounds:
            yield {"entityId": entity, **bound, **dict(zip(columns, next(values), strict=True))}


def _part(answers: Mapping[str, Answer], entities: slice, windows: int) -> Mapping[str, Answer]:
    """Those of some of the entities."""
    if entities is ALL:
        return answers
    cut = slice(entities.start * windows, entities.stop * windows)
    return {name: Answer(one.values[cut], one.nulls[cut], one.value_type) for name, one in answers.items()}


def _window_bounds(span: Span) -> Iterator[dict[str, str]]:
    for start, end in zip(*(edges.tolist() for edges in _edges(span)), strict=True):
        yield {"windowStart": format_timestamp(start), "windowEnd": format_timestamp(end)}


def _edges(span: Span) -> tuple[Times, Times]:
    """Where each window begins and ends: two int64[windows]."""
    starts = span.start + np.arange(span.windows) * span.width
    return starts, np.append(starts[1:], span.end)


def _page_span(query: Query, descending: bool) -> Span:
    """The range of the next page: up to the cursor, which is the time of the last row seen."""
    start, end = query.time("startTime", NEVER), query.time("endTime", FOREVER)
    if start > end:
        raise InvalidInput.at("startTime", "is after endTime")
    cursor = query.text("cursor")
    if cursor is None:
        return Span(start, end)
    position = from_cursor(cursor)
    if not re.fullmatch(r"-?[0-9]{1,18}", position):
        raise InvalidInput.at("cursor", "is not a cursor of this route")
    seen = int(position)
    return Span(start, min(end, seen - 1)) if descending else Span(max(start, seen + 1), end)
