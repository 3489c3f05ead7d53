"""`GET /metrics`: figures about the service, in Prometheus's text format and by its conventions.

Hot paths add to plain integers, which are read when `/metrics` is asked for. Figures per feature are gathered with
one message for all features and formatted in a worker thread, at most once in METRICS_SECONDS.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from math import inf
from typing import NamedTuple

import trio
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from actors.errors import TimewellError
from actors.monitoring.checks import Check
from actors.router import Router
from actors.settings import FEATURES_IN_METRICS, METRICS_SECONDS
from actors.timestamps import SECOND
from timewell.monitoring_wire import FeatureFreshness
from web.freshness import of_feature

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
STATES = ("passing", "failing", "insufficient")


class _OfFeatures(NamedTuple):
    freshness: Sequence[FeatureFreshness] = ()
    checks: Sequence[tuple[Check, str]] = ()


class Metrics:
    """Figures about the actors, added to what `registry` has already (the requests)."""

    def __init__(self, router: Router, registry: CollectorRegistry, storage: str) -> None:
        self._router = router
        self._registry = registry
        self._lock = trio.Lock()
        self._gathered, self._text, self._at = _OfFeatures(), b"", -inf
        ProcessCollector(registry=registry)
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry.register(_Counters(router))
        self._of_features = CollectorRegistry()
        self._of_features.register(_ByFeature(self))
        about = {"version": version("timewell"), "python": platform.python_version(), "storage": storage}
        build = Gauge("timewell_build_info", "What runs here; always 1.", [*about], registry=registry)
        build.labels(**about).set(1)
        self._took = {
            "checkpoint": self._histogram("checkpoint", "Checkpoints that moved something into the history."),
            "compaction": self._histogram(
                "compaction", "Compactions of the history, including those with nothing to do."
            ),
        }
        if router is not None:  # tests that look at the routes alone have none
            router.checkpointer.took = lambda what, seconds: self._took[what].observe(seconds)
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

    def _histogram(self, name: str, words: str) -> Histogram:
        return Histogram(f"timewell_{name}_seconds", words, registry=self._registry, buckets=BUCKETS)

    async def text(self) -> bytes:
        """The figures of this moment. Those of an actor that is being rebuilt keep their last values."""
        router = self._router
        async with self._lock:
            self._features.set(len(router.registry.features))
            self._groups.set(len(router.registry.groups))
            self._unflushed.set(router.unflushed)
            self._pending.set(router.pending)
            self._rebuilding.set(len(router.unready()))
            self._damaged.set(len(router.damaged()))
            try:
                self._held.set(await router.serving.rows_in_memory())
                if router.monitored:
                    await self._monitored()
            except TimewellError:
                pass
            return generate_latest(self._registry) + self._text

    async def _monitored(self) -> None:
        router, watch = self._router, self._router.monitoring.watch
        self._behind.set(max(0, router.committed() - (await watch.status()).position) / SECOND)
        self._firing.set(sum(alert.state == "firing" for alert in watch.alerts.values()))
        if trio.current_time() - self._at < METRICS_SECONDS:
            return
        known = router.registry.features
        features = [known[id_] for id_ in sorted(known)[:FEATURES_IN_METRICS]]
        vitals, now = await watch.every_vitals(features), router.wall()
        results = watch.last_results()[:FEATURES_IN_METRICS]

        def text() -> bytes:
            freshness = [of_feature(*pair, now) for pair in zip(features, vitals, strict=True)]
            self._gathered = _OfFeatures(freshness, [(check, result.finding.status) for check, result in results])
            return generate_latest(self._of_features)

        self._text = await trio.to_thread.run_sync(text)
        self._at = trio.current_time()

    @property
    def gathered(self) -> _OfFeatures:
        """The figures per feature, as last gathered."""
        return self._gathered


class _Counters(Collector):
    def __init__(self, router: Router) -> None:
        self._router = router

    def describe(self) -> Iterable[Metric]:
        """Empty, so that registering the collector does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The counts since the start."""
        router = self._router
        yield CounterMetricFamily(
            "timewell_values_written", "Values committed since the start.", router.values_written
        )
        yield CounterMetricFamily(
            "timewell_values_served", "Latest values served since the start.", router.serving.values_served
        )


class _ByFeature(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Empty, so that registering the collector does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The ages of features and the states of checks."""
        age = GaugeMetricFamily(
            "timewell_feature_age_seconds",
            "Time since the newest event time of a feature.",
            labels=["feature"],
        )
        late = GaugeMetricFamily(
            "timewell_feature_late",
            "1 for a feature that is older than its maxAge.",
            labels=["feature"],
        )
        for freshness in self._metrics.gathered.freshness:
            if freshness.event_age_seconds is not None:
                age.add_metric([freshness.feature_id], freshness.event_age_seconds)
            if freshness.late is not None:
                late.add_metric([freshness.feature_id], freshness.late)
        states = GaugeMetricFamily(
            "timewell_check_state",
            "1 for the state that a check was last found in, 0 for the others.",
            labels=["feature", "check", "type", "state"],
        )
        for check, found in self._metrics.gathered.checks:
            for state in STATES:
                states.add_metric([check.feature_id, check.id, check.check_type, state], state == found)
        return iter((age, late, states))
