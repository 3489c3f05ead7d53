"""Erasing an entity; health and metrics."""

from __future__ import annotations

from http import HTTPStatus

from quart import Response

from timewell.wire import Deleted, Erasure, Health
from web.bodies.requests import encode
from web.chapter import Chapter, PlainText, Service
from web.metrics import CONTENT_TYPE

chapter = Chapter("Operating")


@chapter.route(
    "DELETE /entities/<entity>/<rest:entityId>",
    "Erase an entity from memory, journal and history. Values written for it afterwards are kept.",
    gives={200: Erasure},
    fails=(400, 404, 503),
)
async def erase(service: Service, entity: str, entityId: str) -> Response:  # noqa: N803
    erased, removed = await service.router.erase(entity, entityId)
    return encode(Erasure(Deleted(*removed), f"erasure-{erased.arrived}"))


@chapter.route("GET /health/live", "The process runs.", gives={200: Health})
async def live(service: Service) -> Response:
    return encode(Health("live"))


@chapter.route("GET /health/ready", "Every actor answers.", gives={200: Health, 503: Health})
async def ready(service: Service) -> Response:
    missing = service.router.unready()
    if missing:
        return encode(Health(f"waiting for {', '.join(missing)}"), HTTPStatus.SERVICE_UNAVAILABLE)
    return encode(Health("ready"))


@chapter.route("GET /metrics", "Figures for Prometheus, as text.", gives={200: PlainText})
async def metrics(service: Service) -> Response:
    return Response(await service.metrics.text(), 200, content_type=CONTENT_TYPE)
