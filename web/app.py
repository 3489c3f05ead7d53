"""The Quart-Trio application over a router."""

from __future__ import annotations

import logging
import time

from quart import Response, g, request
from quart_trio import QuartTrio

from actors.router import Router
from actors.settings import Settings
from web import errors
from web.routes import checks, drift, history, monitoring, operating, registry, serving, training, writing
from web.streamed_body import Request

log = logging.getLogger("timewell.requests")


def create_app(router: Router, settings: Settings) -> QuartTrio:
    """All routes of the contract."""
    app = QuartTrio("web", static_folder=None)
    app.request_class = Request
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    errors.install(app)
    app.register_blueprint(registry.blueprint(router))
    app.register_blueprint(writing.blueprint(router, settings))
    app.register_blueprint(serving.blueprint(router, settings))
    app.register_blueprint(training.blueprint(router))
    app.register_blueprint(history.blueprint(router, settings))
    app.register_blueprint(monitoring.blueprint(router))
    app.register_blueprint(checks.blueprint(router))
    app.register_blueprint(drift.blueprint(router))
    app.register_blueprint(operating.blueprint(router))
    if settings.log_level == "debug":
        _log_requests(app)
    return app


def _log_requests(app: QuartTrio) -> None:
    """One line a request. Only at debug, because it is not free."""

    @app.before_request
    async def _start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    async def _end(response: Response) -> Response:
        took = (time.perf_counter() - g.started) * 1_000
        fields = {
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "ms": round(took, 3),
        }
        log.debug(
            "%s %s %d %.1f ms",
            request.method,
            request.path,
            response.status_code,
            took,
            extra={"fields": fields},
        )
        return response
