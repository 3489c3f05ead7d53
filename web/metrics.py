"""`GET /metrics`: the service in figures, in Prometheus's text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, disable_created_metrics, generate_latest

from actors.errors import TimewellError
from actors.router import Router

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Gauges of the actors beside what `registry` has already."""

    def __init__(self, router: Router, registry: CollectorRegistry) -> None:
        self._router = router
        self._registry = registry
        ProcessCollector(registry=registry)
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._features = self._gauge("features", "Registered features.")
        self._groups = self._gauge("groups", "Registered groups.")
        self._held = self._gauge("observations_in_memory", "Observations that the stores hold in memory.")
        self._unflushed = self._gauge(
            "observations_unflushed", "Observations in the journal, not yet in the history."
        )
        self._pending = self._gauge("observations_pending", "Observations that wait for their commit.")
        self._rebuilding = self._gauge("actors_rebuilding", "Actors that are being rebuilt at the moment.")
        self._behind = self._gauge("monitor_lag_seconds", "How far the monitor is behind the journal.")
        self._damaged = self._gauge("damaged", "Places on the disk known to be damaged; the log names them.")
        self._firing = self._gauge("alerts_firing", "Alerts that fire.")

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(f"timewell_{name}", words, registry=self._registry)

    async def text(self) -> bytes:
        """The figures of this moment. What an actor that is being rebuilt would know stays as it was."""
        router = self._router
        self._features.set(len(router.registry.features))
        self._groups.set(len(router.registry.groups))
        self._unflushed.set(router.unflushed)
        self._pending.set(router.pending)
        self._rebuilding.set(len(router.unready()))
        self._damaged.set(len(router.damaged()))
        try:
            self._held.set(await router.serving.rows_in_memory())
            if router.monitored:
                watch = router.monitoring.watch
                self._behind.set(max(0, router.committed() - (await watch.status()).position) / 1e6)
                self._firing.set(sum(alert.state == "firing" for alert in watch.alerts.values()))
        except TimewellError:
            pass
        return generate_latest(self._registry)
