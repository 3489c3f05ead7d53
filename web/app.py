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
    """The rest of a path, slashes included: an entity id may contain them anywhere."""

    regex = ".+"
    part_isolating = False


class _App(QuartTrio):
    async def make_default_options_response(self) -> Response:
        """The answer to an OPTIONS request."""
        response = Response(b"", 204, {"Allow": ", ".join(errors.allowed_methods(self, request.path))})
        del response.headers["Content-Type"]
        return response


def create_app(router: Router, settings: Settings, traffic: Traffic | None = None) -> QuartTrio:
    """The application with every route of the contract. `traffic`: where requests are counted, for the metrics."""
    app = _App("web", static_folder=None)
    app.url_map.merge_slashes = False  # a redirect would name `localhost`, not the host that was asked
    app.request_class = Request
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["BODY_TIMEOUT"] = settings.stalled_seconds
    app.config["RESPONSE_TIMEOUT"] = None  # it would bound the total time; a client may read slowly
    errors.install(app)
    app.url_map.converters["rest"] = _Rest
    metrics = Metrics(router, (traffic or Traffic()).registry, settings.storage_type)
    service = Service(router, settings, metrics)
    for route in ROUTES:
        name = f"{route.method} {route.rule}"
        app.add_url_rule(route.rule, name, partial(route.handler, service), methods=[route.method.upper()])
    return app
