"""Statistics of a feature."""

from __future__ import annotations

from quart import Response

from timewell.monitoring_wire import StatisticsAnswer
from web.answers.shown_statistics import statistics_answer
from web.bodies.requests import Query, encode
from web.chapter import RANGE, Chapter, Service

chapter = Chapter("Monitoring")


@chapter.route(
    "GET /features/<reference>/stats",
    "Statistics over all accepted observations, or over a period of event time.",
    query=RANGE,
    gives={200: StatisticsAnswer},
    fails=(400, 404, 409, 413, 503),
)
async def stats(service: Service, reference: str) -> Response:
    query = Query(RANGE)
    feature = (await service.router.registered()).stored(reference)
    start, end = query.range_of()
    return encode(statistics_answer(feature, await service.router.statistics(feature, start, end)))
