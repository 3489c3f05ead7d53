"""The count, duration and status of requests on both lanes, for `GET /metrics` and the log at level debug."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry, Histogram

log = logging.getLogger("timewell.requests")
NONE = "none"
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Traffic:
    """Is told of every request once it is answered. `registry` holds the metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "timewell_request_seconds",
            "Time from a request to its answer, by method, route and status.",
            ("method", "route", "status"),
            registry=self.registry,
            buckets=SECONDS,
        )
        self._known: dict[tuple[str, str, int], Histogram] = {}

    def seen(self, method: str, path: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered, or left unanswered (status 0). `route` is the pattern of its path."""
        known = self._known.get((method, route, status))
        if known is None:
            known = self._known[method, route, status] = self._seconds.labels(method, route, str(status or NONE))
        known.observe(seconds)
        if log.isEnabledFor(logging.DEBUG):
            took = seconds * 1_000
            fields = {"method": method, "path": path, "status": status, "ms": round(took, 3)}
            log.debug("%s %s %d %.1f ms", method, path, status, took, extra={"fields": fields})
