"""The monitor's findings: freshness, alerts, events, agreement; and the monitor's own lag."""

from __future__ import annotations

import re

from quart import Response, request

from actors.monitoring.alerts import STATES
from actors.monitoring.schedule import alert_data
from actors.timestamps import format_timestamp
from timewell import monitoring_wire as schema
from web.answers.event_stream import stream
from web.answers.listing import listed
from web.bodies.requests import Query, encode
from web.chapter import Chapter, Service
from web.freshness import freshness_answer

_ALERTS = {"state": "pending, firing or resolved"}

chapter = Chapter("Monitoring")


@chapter.route(
    "GET /monitor/freshness",
    "How old every feature and group is.",
    gives={200: schema.FreshnessAnswer},
    fails=(404, 503),
)
async def freshness(service: Service) -> Response:
    Query(())
    answer = await freshness_answer(service.router)
    return await listed({"features": answer.features, "groups": answer.groups})


@chapter.route(
    "GET /monitor/alerts",
    "The alerts, newest first.",
    query=_ALERTS,
    gives={200: schema.AlertsAnswer},
    fails=(400, 404),
)
async def alerts(service: Service) -> Response:
    query = Query(_ALERTS)
    state = query.choice("state", STATES, "") if query.text("state") else None
    found = sorted((await service.router.watching()).watch.alerts.values(), key=lambda alert: -alert.since)
    return await listed({"alerts": (alert_data(one) for one in found if state in (None, one.state))})


@chapter.route(
    "GET /monitor/events",
    "Checks that fail or recover, alerts and drift as they happen, as server-sent events.",
    headers={"Last-Event-ID": "go on after this event, as far back as events are remembered"},
    gives={200: bytes},
    fails=(404,),
)
async def events(service: Service) -> Response:
    Query(())
    after = request.headers.get("Last-Event-ID", "")
    known = int(after) if re.fullmatch("[0-9]{1,19}", after) else None
    body = stream(service.router.monitoring.watch.events, known) if request.method == "GET" else b""
    about = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    response = Response(body, 200, about)
    response.timeout = None  # the answer lasts as long as the client listens
    return response


@chapter.route(
    "GET /monitor/agreement",
    "How many served values were compared with a point-in-time read, and how many differed.",
    gives={200: schema.AgreementAnswer},
    fails=(404, 503),
)
async def agreement(service: Service) -> Response:
    Query(())
    _ = service.router.monitoring  # raises if monitoring is off
    found = sorted((await service.router.serving.agreement()).items())
    return await listed({"features": (schema.FeatureAgreement(id_, *counts) for id_, counts in found)})


@chapter.route(
    "GET /monitor/status",
    "How far the monitor is behind the journal.",
    gives={200: schema.MonitorAnswer},
    fails=(404, 503),
)
async def status(service: Service) -> Response:
    Query(())
    found = await service.router.monitoring.watch.status()
    lag = max(0, service.router.committed() - found.position) / 1e6
    return encode(schema.MonitorAnswer(format_timestamp(found.position), lag, found.rows, found.inbox))
