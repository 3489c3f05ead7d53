"""Health, and the description of the service."""

from __future__ import annotations

from http import HTTPStatus

from quart import Blueprint, Response, render_template
from werkzeug.routing import BaseConverter

from actors.router import Router
from web.bodies.requests import encode
from web.hypercorn.traffic import Traffic
from web.metrics import CONTENT_TYPE, Metrics
from web.openapi import document
from web.schema import Deleted, Erasure, Health


class _Rest(BaseConverter):
    """All that is left of a path: an entity id may have slashes anywhere."""

    regex = ".+"
    part_isolating = False


def blueprint(router: Router, traffic: Traffic, storage: str) -> Blueprint:
    """The chapter "Operating"."""
    routes = Blueprint("operating", __name__)
    routes.record(lambda state: state.app.url_map.converters.update(rest=_Rest))
    figures = Metrics(router, traffic.registry, storage)

    @routes.get("/metrics")
    async def metrics() -> Response:
        return Response(await figures.text(), 200, content_type=CONTENT_TYPE)

    @routes.delete("/entities/<entity>/<rest:entityId>", merge_slashes=False)
    async def erase(entity: str, entityId: str) -> Response:  # noqa: N803
        erased, removed = await router.erase(entity, entityId)
        return encode(Erasure(Deleted(*removed), f"erasure-{erased.arrived}"))

    @routes.get("/health/live")
    async def live() -> Response:
        return encode(Health("live"))

    @routes.get("/health/ready")
    async def ready() -> Response:
        missing = router.unready()
        if missing:
            return encode(Health(f"waiting for {', '.join(missing)}"), HTTPStatus.SERVICE_UNAVAILABLE)
        return encode(Health("ready"))

    @routes.get("/openapi.json")
    async def openapi() -> Response:
        return encode(document())

    @routes.get("/docs")
    async def docs() -> str:
        return await render_template("docs.html", document=document())

    return routes
