"""The Quart-Trio application over a router."""

from __future__ import annotations

from quart import Response, request
from quart_trio import QuartTrio

from actors.router import Router
from actors.settings import Settings
from web import errors
from web.hypercorn.streamed_body import Request
from web.hypercorn.traffic import Traffic
from web.routes import checks, drift, history, monitoring, operating, registry, serving, training, writing


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
    app.register_blueprint(registry.blueprint(router))
    app.register_blueprint(writing.blueprint(router, settings))
    app.register_blueprint(serving.blueprint(router, settings))
    app.register_blueprint(training.blueprint(router, settings))
    app.register_blueprint(history.blueprint(router, settings))
    app.register_blueprint(monitoring.blueprint(router))
    app.register_blueprint(checks.blueprint(router))
    app.register_blueprint(drift.blueprint(router))
    app.register_blueprint(operating.blueprint(router, traffic or Traffic(), settings.storage_type))
    return app
