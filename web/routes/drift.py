"""Drift: between two periods, between two given samples, of closed windows; the pinned reference."""

from __future__ import annotations

from msgspec import UNSET
from quart import Response

from actors.domain import Feature
from actors.errors import InvalidInput, TooLarge
from actors.monitoring import drift
from actors.monitoring.watch import Period
from actors.settings import MAX_ELEMENTS
from actors.stats.drift.judgement import Judgement
from actors.timestamps import format_timestamp, parse_timestamp
from timewell import monitoring_wire as schema
from web.answers.worker import in_worker
from web.bodies.requests import (
    Query,
    decode_bounded,
    encode,
    json_body,
    json_bytes,
    no_content,
    range_of,
    with_offset,
)
from web.chapter import Chapter, Service

DEFAULT_SCORES = 100

_PERIODS = {
    "reference": "START/END; by default the pinned reference, else the 24 windows before `current`",
    "current": "START/END; by default the window that ends now (DRIFT_WINDOW_SECONDS)",
    "method": "score by this measure instead of the default verdict",
    "threshold": "a score of at least this is drift",
}
_SCORES = {"limit": "how many scores at most, up to 10000; 100 by default"}

chapter = Chapter("Monitoring")


@chapter.route(
    "GET /features/<reference>/drift",
    "Drift between two periods of event time.",
    query=_PERIODS,
    gives={200: schema.DriftAnswer},
    fails=(400, 404, 409, 413, 503),
)
async def between_periods(service: Service, reference: str) -> Response:
    query = Query(_PERIODS)
    watch = (await service.router.watching()).watch
    feature = service.router.registry.stored(reference)
    method = query.text("method")
    drift.check_method(feature, method)
    given = query.text("current")
    current = watch.latest_window() if given is None else _period(given, "current")
    given = query.text("reference")
    pinned = watch.reference_for(feature, current) if given is None else _period(given, "reference")
    scored = await watch.score(feature, pinned, current, method, _threshold(query))
    sides = (*scored.reference, scored.reference_count), (*scored.current, scored.current_count)
    return encode(_answer(feature, scored.judgement, *sides))


@chapter.route(
    "POST /features/<reference>/drift",
    "Drift between two given samples.",
    takes=schema.CompareSamples,
    gives={200: schema.DriftAnswer},
    fails=(400, 404, 409, 413, 415, 503),
)
async def between_samples(service: Service, reference: str) -> Response:
    _ = service.router.monitoring  # raises if monitoring is off
    feature = (await service.router.registered()).resolve(reference)
    most = 2 * drift.MOST_GIVEN + 10
    asked = await decode_bounded(await json_bytes(), schema.CompareSamples, most, MAX_ELEMENTS)
    method = None if asked.method is UNSET else asked.method
    threshold = None if asked.threshold is UNSET else asked.threshold
    drift.check_method(feature, method)
    if threshold is not None and not threshold > 0:
        raise InvalidInput.at("threshold", "must be greater than 0")
    for name, sample in (("reference", asked.reference), ("current", asked.current)):
        if len(sample) > drift.MOST_GIVEN:
            raise TooLarge(f"{name}: {len(sample)} values, at most {drift.MOST_GIVEN} are compared")
    judgement = await in_worker(drift.of_samples, feature, asked.reference, asked.current, method, threshold)
    sides = (None, None, _given(asked.reference)), (None, None, _given(asked.current))
    return encode(_answer(feature, judgement, *sides))


@chapter.route(
    "GET /features/<reference>/drift/history",
    "The drift scores of closed windows, newest first.",
    query=_SCORES,
    gives={200: schema.ScoresAnswer},
    fails=(400, 404, 409),
)
async def scores(service: Service, reference: str) -> Response:
    query = Query(_SCORES)
    schedule = (await service.router.watching()).schedule
    feature = service.router.registry.resolve(reference)
    limit = query.number("limit", DEFAULT_SCORES, 10_000)
    found = schedule.scores_of(feature)[:limit]
    return encode(
        schema.ScoresAnswer([_answer(feature, one.judgement, one.reference, one.current) for one in found])
    )


@chapter.route(
    "PUT /features/<reference>/reference",
    "Pin the period that drift is measured against.",
    takes=schema.PutReference,
    gives={200: schema.ReferenceAnswer},
    fails=(400, 404, 409, 413, 415, 503),
)
async def pin(service: Service, reference: str) -> Response:
    watch = (await service.router.watching()).watch
    feature = service.router.registry.stored(reference)
    asked = await json_body(schema.PutReference)
    period = Period(*range_of(asked.start_time, asked.end_time))
    await watch.pin(feature, period)
    return encode(_reference_answer(feature, period))


@chapter.route(
    "DELETE /features/<reference>/reference",
    "Remove the pinned reference: drift is measured against the preceding windows again.",
    gives={204: None},
    fails=(404, 409, 503),
)
async def unpin(service: Service, reference: str) -> Response:
    watch = (await service.router.watching()).watch
    await watch.unpin(service.router.registry.resolve(reference))
    return no_content()


def _period(text: str, field: str) -> Period:
    """A period written as `START/END`, two timestamps (ISO 8601's notation for intervals)."""
    start, slash, end = text.partition("/")
    if not slash:
        raise InvalidInput.at(field, f"{text!r} is not START/END, two RFC 3339 timestamps")
    period = Period(parse_timestamp(with_offset(start), field), parse_timestamp(with_offset(end), field))
    if period.start > period.end:
        raise InvalidInput.at(field, "starts after its end")
    return period


def _threshold(query: Query) -> float | None:
    given = query.text("threshold")
    if given is None:
        return None
    try:
        threshold = float(given)
    except ValueError:
        threshold = 0.0
    if not 0 < threshold < float("inf"):
        raise InvalidInput.at("threshold", f"{given!r} is not a number greater than 0")
    return threshold


def _given(sample: list[object]) -> int:
    return len(sample) - sample.count(None)


Side = tuple[int | None, int | None, int]


def _answer(feature: Feature, judgement: Judgement, reference: Side, current: Side) -> schema.DriftAnswer:
    return schema.DriftAnswer(
        feature_id=feature.id,
        drift=judgement.drift,
        score=judgement.score,
        method=judgement.method,
        threshold=judgement.threshold,
        p_value=judgement.p_value,
        metrics=judgement.metrics,
        reference=_side(reference),
        current=_side(current),
        verdict=judgement.verdict,
        severity=judgement.severity,
        reasons=judgement.reasons,
    )


def _side(side: Side) -> schema.SideAnswer:
    start, end, count = side
    return schema.SideAnswer(
        None if start is None else format_timestamp(start), None if end is None else format_timestamp(end), count
    )


def _reference_answer(feature: Feature, period: Period) -> schema.ReferenceAnswer:
    return schema.ReferenceAnswer(feature.id, format_timestamp(period.start), format_timestamp(period.end))
