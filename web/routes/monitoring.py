"""What the monitor knows: statistics, freshness, alerts, events, how it is doing."""

from __future__ import annotations

import re

from quart import Blueprint, Response, request

from actors.errors import InvalidInput
from actors.monitoring.alerts import STATES
from actors.monitoring.schedule import alert_data
from actors.router import Router
from actors.timestamps import FOREVER, NEVER, format_timestamp
from web import monitor_schema as schema
from web.answers.event_stream import stream
from web.answers.listing import listed
from web.answers.shown_statistics import statistics_answer
from web.bodies.requests import Query, encode
from web.freshness import freshness_answer


def blueprint(router: Router) -> Blueprint:
    """The chapter "Monitoring", but for checks and drift."""
    routes = Blueprint("monitoring", __name__)

    @routes.get("/features/<reference>/stats")
    async def stats(reference: str) -> Response:
        query = Query(("startTime", "endTime"))
        feature = (await router.registered()).resolve(reference)
        start, end = query.time("startTime", NEVER), query.time("endTime", FOREVER)
        if start > end:
            raise InvalidInput.at("startTime", "is after endTime")
        return encode(statistics_answer(feature, await router.statistics(feature, start, end)))

    @routes.get("/monitor/freshness")
    async def freshness() -> Response:
        Query(())
        answer = await freshness_answer(router)
        return await listed({"features": answer.features, "groups": answer.groups})

    @routes.get("/monitor/alerts")
    async def alerts() -> Response:
        query = Query(("state",))
        state = query.choice("state", STATES, "") if query.text("state") else None
        found = sorted((await router.watching()).watch.alerts.values(), key=lambda alert: -alert.since)
        return await listed({"alerts": (alert_data(one) for one in found if state in (None, one.state))})

    @routes.get("/monitor/agreement")
    async def agreement() -> Response:
        Query(())
        _ = router.monitoring  # raises where it is off
        found = sorted((await router.serving.agreement()).items())
        return await listed({"features": (schema.FeatureAgreement(id_, *counts) for id_, counts in found)})

    @routes.get("/monitor/status")
    async def status() -> Response:
        Query(())
        found = await router.monitoring.watch.status()
        lag = max(0, router.committed() - found.position) / 1e6
        return encode(schema.MonitorAnswer(format_timestamp(found.position), lag, found.rows, found.inbox))

    @routes.get("/monitor/events")
    async def events() -> Response:
        Query(())
        after = request.headers.get("Last-Event-ID", "")
        known = int(after) if re.fullmatch("[0-9]{1,19}", after) else None
        body = stream(router.monitoring.watch.events, known) if request.method == "GET" else b""
        about = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        response = Response(body, 200, about)
        response.timeout = None  # it lasts as long as the client listens
        return response

    return routes
