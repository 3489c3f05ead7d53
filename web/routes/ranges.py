"""Aggregates over a range of event time, whole or in tumbling windows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from quart import Response

from actors.amount import UNCOUNTED, Amount, bytes_of, in_lots
from actors.domain import Feature
from actors.errors import InvalidInput
from actors.router import Router
from actors.serving import Span
from actors.settings import CELLS_PER_LOT
from actors.table.aggregates import AGGREGATIONS, Aggregate, allowed, of_no_rows
from actors.table.columns import Times
from actors.timestamps import Duration, format_timestamp, parse_duration
from actors.types.values import render, width_of
from timewell.wire import Closed, Historical, HistoricalAnswer
from web.answers.lanes import ARROW_TYPE, Column, accepted_lane, stream
from web.answers.results import ALL, NAME_BYTES, NUMBER_BYTES, check_bytes, encode_rows, text_bytes
from web.answers.worker import room
from web.asking import check_one_type, check_parts, check_stored
from web.bodies.requests import JSON_TYPE, encode, json_body, range_of, said
from web.chapter import Chapter, Service
from web.routes.serving import check_ids, check_read

_TAKEN_NAMES = ("entityId", "windowStart", "windowEnd")

chapter = Chapter("History")


@chapter.route(
    "POST /features/historical",
    "Aggregates over a closed range of event time, whole or in windows.",
    takes=Historical,
    gives={200: HistoricalAnswer},
    lanes=True,
    fails=(400, 404, 406, 409, 413, 415, 503),
)
async def historical(service: Service) -> Response:
    asked = await json_body(Historical)
    registry = await service.router.registered()
    selected = registry.select(asked.features, asked.group)
    check_stored(selected)
    features = selected.by_reference
    check_one_type(selected, "entityIds", rows=False)
    await check_parts(registry, selected.features[0].entity, asked.entity_ids, "entityIds")
    span = span_of(asked.start_time, asked.end_time, asked.window, asked.closed)
    aggregations = aggregation_of(asked.aggregation, features)
    lane = accepted_lane()
    if lane.content_type != JSON_TYPE:
        check_ids(asked.entity_ids)
        check_read(asked.entity_ids[:1], len(features), span.windows, service.settings)
        columns = [(reference, feature, aggregations[reference]) for reference, feature in features.items()]
        arrow = lane.content_type == ARROW_TYPE
        about = columns, span, asked.window is not None, arrow
        return await stream(lane, _lots(service.router, asked.entity_ids, *about, service.settings.max_read_bytes))
    check_read(asked.entity_ids, len(features), span.windows, service.settings)
    if not asked.entity_ids:
        return encode(HistoricalAnswer([]))
    many = len(asked.entity_ids) * span.windows
    widths = sum(width_of(one) for name, one in features.items() if aggregations[name] in ("latest", "first"))
    check_bytes(many * widths * NUMBER_BYTES, service.settings)
    answers, cells, windowed = dict[str, Aggregate](), many * len(features), asked.window is not None
    size = cells * NAME_BYTES

    def rows(cut: slice) -> Iterator[dict[str, Any]]:
        return _rows(asked.entity_ids[cut], _part(answers, cut, span.windows), span, windowed)

    async with room().of(cells):
        for reference, feature in features.items():
            answers[reference] = await service.router.aggregate(
                asked.entity_ids, feature, aggregations[reference], span
            )
            size += text_bytes(answers[reference].values)
            check_bytes(size, service.settings)
        return said(await encode_rows(cells, size, len(asked.entity_ids), rows))


def span_of(start_time: str, end_time: str, window: Duration | None, closed: Closed = "both") -> Span:
    """The range asked for, split into windows. Raises InvalidInput if it ends before it starts."""
    start, end = range_of(start_time, end_time)
    sides = closed in ("both", "left"), closed in ("both", "right")
    if window is None:
        return Span(start, end, 0, 1, *sides)
    width = parse_duration(window, "window")
    return Span(start, end, width, max(1, -((start - end) // width)), *sides)


def aggregation_of(asked: str | Mapping[str, str], features: Mapping[str, Feature]) -> dict[str, str]:
    """The aggregation of each reference; `latest` for those that an object leaves out."""
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
    """The answer as columns, for so many entities at a time that each lot has a bounded number of values."""
    width = sum(1 + width_of(feature) for _, feature, _ in wanted)
    step = max(1, CELLS_PER_LOT // (span.windows * width))
    starts, ends = _edges(span)

    async def ask(cut: slice) -> list[Aggregate]:
        asked, answers = entities[cut], list[Aggregate]()
        held = Amount("the rows", UNCOUNTED, most_bytes)
        for _, feature, aggregation in wanted:
            if asked:
                answers.append(await router.aggregate(asked, feature, aggregation, span))
            else:
                answers.append(of_no_rows(feature, aggregation))
            held.add(0, bytes_of(answers[-1].values))
        return answers

    async for cut, answers in in_lots(max(1, len(entities)), step, ask):
        answered = entities[cut]
        columns = [Column("entityId", None, [entity for entity in answered for _ in range(span.windows)])]
        if windowed:
            no_nulls = np.zeros(len(answered) * span.windows, np.bool_)
            columns += [
                Column("windowStart", "timestamp", np.tile(starts, len(answered)), no_nulls),
                Column("windowEnd", "timestamp", np.tile(ends, len(answered)), no_nulls),
            ]
        for (reference, feature, aggregation), answer in zip(wanted, answers, strict=True):
            column = Column(reference, answer.value_type, answer.values, answer.nulls)
            is_sum = aggregation == "sum" and feature.value_type == "integer"
            columns.append(column.summed() if is_sum and arrow else column)
        yield columns


def _rows(
    entities: Sequence[str], answers: Mapping[str, Aggregate], span: Span, windowed: bool
) -> Iterator[dict[str, Any]]:
    """One row per entity and window."""
    columns = {name: render(one.value_type, one.values, one.nulls) for name, one in answers.items()}
    bounds = list(_window_bounds(span)) if windowed else [{}]
    values = zip(*columns.values(), strict=True)
    for entity in entities:
        for bound in bounds:
            yield {"entityId": entity, **bound, **dict(zip(columns, next(values), strict=True))}


def _part(answers: Mapping[str, Aggregate], entities: slice, windows: int) -> Mapping[str, Aggregate]:
    """The answers for a slice of the entities."""
    if entities is ALL:
        return answers
    cut = slice(entities.start * windows, entities.stop * windows)
    return {name: Aggregate(one.values[cut], one.nulls[cut], one.value_type) for name, one in answers.items()}


def _window_bounds(span: Span) -> Iterator[dict[str, str]]:
    for start, end in zip(*(edges.tolist() for edges in _edges(span)), strict=True):
        yield {"windowStart": format_timestamp(start), "windowEnd": format_timestamp(end)}


def _edges(span: Span) -> tuple[Times, Times]:
    """The start and the end of each window: two int64[windows]."""
    starts = span.start + np.arange(span.windows) * span.width
    return starts, np.append(starts[1:], span.end)
