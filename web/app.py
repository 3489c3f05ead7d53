"""The Quart-Trio application over a router."""

from __future__ import annotations

from functools import partial

from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.routing import BaseConverter

from actors.router import Router
from actors.settings import Settings
from web import errors
from web.chapter import Service
from web.hypercorn.streamed_body import Request
from web.metrics import Metrics
from web.routes.document import ROUTES
from web.traffic import Traffic


class _Rest(BaseConverter):
    """All that is left of a path: an entity id may have slashes anywhere."""

    regex = ".+"
    part_isolating = False


class _App(QuartTrio):
    async def make_default_options_response(self) -> Response:
        """The answer to OPTIONS of a route."""
        response = Response(b"", 204, {"Allow": ", ".join(errors.allowed_methods(self, request.path))})
        del response.headers["Content-Type"]
        return response


def create_app(router: Router, settings: Settings, traffic: Traffic | None = None) -> QuartTrio:
    """All routes of the contract. `traffic`: what sees the requests, for the metrics."""
    app = _App("web", static_folder=None)
    app.url_map.merge_slashes = False  # the redirect would name a host and port that are not the client's
    app.request_class = Request
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["BODY_TIMEOUT"] = settings.stalled_seconds
    app.config["RESPONSE_TIMEOUT"] = None  # the total: who takes an answer may take it slowly
    errors.install(app)
    app.url_map.converters["rest"] = _Rest
    metrics = Metrics(router, (traffic or Traffic()).registry, settings.storage_type)
    service = Service(router, settings, metrics)
    for route in ROUTES:
        name = f"{route.method} {route.rule}"
        app.add_url_rule(route.rule, name, partial(route.handler, service), methods=[route.method.upper()])
    return app
