"""Health, and the description of the service."""

from __future__ import annotations

from http import HTTPStatus

from quart import Blueprint, Response, render_template

from actors.router import Router
from web.metrics import CONTENT_TYPE, Metrics
from web.openapi import document
from web.requests import encode
from web.schema import Health
from web.traffic import Traffic


def blueprint(router: Router, traffic: Traffic) -> Blueprint:
    """The chapter "Operating"."""
    routes = Blueprint("operating", __name__)
    figures = Metrics(router, traffic.registry)

    @routes.get("/metrics")
    async def metrics() -> Response:
        return Response(await figures.text(), 200, content_type=CONTENT_TYPE)

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
