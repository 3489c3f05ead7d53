"""What requests came and how they went, on whichever lane: a line in the log for each, at debug."""

from __future__ import annotations

import logging
import time

from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope

log = logging.getLogger("timewell.requests")


class Traffic:
    """Sees every request once it is answered."""

    def seen(self, method: str, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        if not log.isEnabledFor(logging.DEBUG):
            return
        took = seconds * 1_000
        fields = {"method": method, "path": path, "status": status, "ms": round(took, 3)}
        log.debug("%s %s %d %.1f ms", method, path, status, took, extra={"fields": fields})


def watched(app: ASGIFramework, traffic: Traffic) -> ASGIFramework:
    """The application with its requests seen."""

    async def asgi(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        began, status = time.perf_counter(), 0

        async def sending(event: ASGISendEvent) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
            await send(event)

        try:
            await app(scope, receive, sending)
        finally:
            if scope["type"] == "http":
                traffic.seen(scope["method"], scope["path"], status, time.perf_counter() - began)

    return asgi
