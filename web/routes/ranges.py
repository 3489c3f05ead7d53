"""Aggregates over a range of event time, whole or in tumbling windows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import cycle
from typing import Any

import numpy as np
from quart import Response

from actors.amount import UNCOUNTED, Amount, in_lots
from actors.domain import Feature
from actors.errors import InvalidInput
from actors.router import Router
from actors.serving import Span
from actors.settings import CELLS_PER_QUESTION
from actors.table.aggregates import AGGREGATIONS, Aggregate, allowed, of_no_rows
from actors.table.columns import Times
from actors.table.ids import Entities, Ids
from actors.timestamps import Duration, format_timestamp, parse_duration
from actors.turns import by_turns, slices
from actors.types.values import render, width_of
from timewell.wire import Closed, Historical, HistoricalAnswer
from web.answers.keyed import id_column
from web.answers.lanes import ARROW_TYPE, AnswerColumn, accepted_lane, stream
from web.answers.results import NAME_BYTES, NUMBER_BYTES, check_bytes, counting_bytes, encode_rows
from web.answers.worker import room
from web.asking import check_one_type, check_parts, check_stored
from web.bodies.requests import JSON_TYPE, encode, json_body, range_of, said
from web.chapter import Chapter, Service
from web.routes.serving import check_ids, check_read

_TAKEN_NAMES = ("entityId", "windowStart", "windowEnd")

WINDOWS_REMEMBERED = 10_000
"""The bounds of at most this many windows are kept as texts while rows are made: some megabytes."""

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
        return _rows(asked.entity_ids, answers, span, windowed, cut)

    async with room().of(cells):
        for reference, feature in features.items():
            answers[reference] = await service.router.aggregate(
                asked.entity_ids, feature, aggregations[reference], span
            )
            size += await by_turns(counting_bytes(answers[reference].values))
            check_bytes(size, service.settings)
        return said(await encode_rows(cells, size, many, rows))


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
) -> AsyncGenerator[list[AnswerColumn], None]:
    """The answer as columns, for so many entities at a time that each lot has a bounded number of values; of one
    entity at a time so many of its windows."""
    width = sum(1 + width_of(feature) for _, feature, _ in wanted)
    step = max(1, CELLS_PER_QUESTION // (span.windows * width))
    parts = (
        [span.part(cut) for cut in slices(span.windows, max(1, CELLS_PER_QUESTION // width))]
        if entities
        else [span]
    )

    def about(cut: slice) -> tuple[Sequence[str], Span]:
        """The entities and the windows of a lot, which is of one entity if there are several parts."""
        first, part = divmod(cut.start, len(parts))
        return entities[first : first + cut.stop - cut.start], parts[part]

    async def ask(cut: slice) -> list[Aggregate]:
        (asked, part), answers = about(cut), list[Aggregate]()
        held = Amount("the rows", UNCOUNTED, most_bytes)
        for _, feature, aggregation in wanted:
            if asked:
                answers.append(await router.aggregate(asked, feature, aggregation, part))
            else:
                answers.append(of_no_rows(feature, aggregation))
            held.add(0, await by_turns(counting_bytes(answers[-1].values)))
        return answers

    async for cut, answers in in_lots(max(1, len(entities)) * len(parts), step, ask):
        answered, part = about(cut)
        columns = _keys(answered, part, windowed)
        for (reference, feature, aggregation), answer in zip(wanted, answers, strict=True):
            column = AnswerColumn(reference, answer.value_type, answer.values, answer.nulls)
            is_sum = aggregation == "sum" and feature.value_type == "integer"
            columns.append(column.summed() if is_sum and arrow else column)
        yield columns


def _keys(entities: Sequence[str], span: Span, windowed: bool) -> list[AnswerColumn]:
    """The columns that name the entity and the window of each row."""
    owners = np.repeat(np.arange(len(entities)), span.windows)
    columns = [id_column("entityId", Entities(Ids(list(entities)), owners))]
    if windowed:
        no_nulls = np.zeros(len(owners), np.bool_)
        for name, edges in zip(("windowStart", "windowEnd"), _edges(span), strict=True):
            columns.append(AnswerColumn(name, "timestamp", np.tile(edges, len(entities)), no_nulls))
    return columns


def _rows(
    entities: Sequence[str], answers: Mapping[str, Aggregate], span: Span, windowed: bool, cut: slice
) -> Iterator[dict[str, Any]]:
    """One row per entity and window; `cut`: which of these rows."""
    first, stop, _ = cut.indices(len(entities) * span.windows)
    columns = {name: render(one.value_type, one.values[cut], one.nulls[cut]) for name, one in answers.items()}
    bounds = _bounds(span, first, stop) if windowed else [{}]
    for row, bound, values in zip(range(first, stop), cycle(bounds), zip(*columns.values(), strict=True)):
        entity = entities[row // span.windows]
        yield {"entityId": entity, **bound, **dict(zip(columns, values, strict=True))}


def _bounds(span: Span, first: int, stop: int) -> list[dict[str, str]]:
    """The bounds of the windows of these rows, until they repeat."""
    if span.windows <= WINDOWS_REMEMBERED:
        known, begin = _remembered(span), first % span.windows
        return known[begin:] + known[:begin]
    rows = np.arange(first, min(stop, first + span.windows)) % span.windows
    return _texts(*(edges[rows] for edges in _edges(span)))


@lru_cache(maxsize=4)
def _remembered(span: Span) -> list[dict[str, str]]:
    """The bounds of all windows, which every slice of many rows has again."""
    return _texts(*_edges(span))


def _texts(starts: Times, ends: Times) -> list[dict[str, str]]:
    edges = zip(map(format_timestamp, starts.tolist()), map(format_timestamp, ends.tolist()), strict=True)
    return [{"windowStart": start, "windowEnd": end} for start, end in edges]


def _edges(span: Span) -> tuple[Times, Times]:
    """The start and the end of each window: two int64[windows]."""
    starts = span.start + np.arange(span.windows) * span.width
    return starts, np.append(starts[1:], span.end)
