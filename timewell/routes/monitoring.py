"""The methods of monitoring and operating."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from timewell import monitoring_wire as schema
from timewell.calls import Asking, Response, Talk, get, path, read, route, send, settle
from timewell.plain import listed
from timewell.times import Time, moment, moment_or_none, period
from timewell.wire import Health

Period = tuple[Time, Time]
"""A start and an end, both included."""


class MonitoringRoutes(Asking):
    """Statistics, checks, drift, freshness, alerts."""

    @route
    def stats(
        self, feature: str, *, start: Time | None = None, end: Time | None = None
    ) -> Talk[schema.StatisticsAnswer]:
        """Statistics over all accepted observations, or over a period of event time.

        `.count`, `.null_count`, `.unique_values`, `.mean`, `.std` (population), `.min`, `.max`, `.quantiles` (a
        dict p01 to p99), `.histogram` (`.edges`, `.counts`) or `.top_values`; a figure is None if it makes no
        sense for the value type. Raises InvalidInput, NotFound, Conflict.

            client.stats("purchases_7d", start=now - timedelta(days=1)).quantiles["p95"]
        """
        times = {"startTime": moment_or_none(start, "startTime"), "endTime": moment_or_none(end, "endTime")}
        return (yield from self._ask(get(path("features", feature, "stats"), **times), schema.StatisticsAnswer))

    @route
    def put_check(
        self, feature: str, check_type: str, config: Mapping[str, Any], *, check_id: str | None = None
    ) -> Talk[schema.CheckAnswer]:
        """Add a quality check, or replace the one with this id, and evaluate it.

        The types and their configs: `null` {maxNullRate}, `range` {min, max, maxViolationRate}, `enum` {values},
        `pattern` {regex}, `unique` {minUnique, maxUnique}, `freshness` {maxAge}, `volume` {window, min, max},
        `drift` {threshold, method}. Returns the check: `.id`, `.status` (passing, failing, insufficient),
        `.observed`, `.message`. Raises InvalidInput, NotFound, Conflict. Without a `check_id` the request is not
        repeated if its answer is lost, since that could add the check twice.

            client.put_check("purchases_7d", "range", {"min": 0, "max": 1000}, check_id="sane")
        """
        body = {"checkType": check_type, "config": config} | ({} if check_id is None else {"id": check_id})
        request = send("POST", path("features", feature, "checks"), body, repeatable=check_id is not None)
        return (yield from self._ask(request, schema.CheckAnswer))

    @route
    def checks(self, feature: str | None = None) -> Talk[list[schema.CheckAnswer]]:
        """The checks of a feature, or all checks, with their current results. Raises NotFound, Conflict."""
        target = "/checks" if feature is None else path("features", feature, "checks")
        return (yield from self._ask(get(target), schema.ChecksAnswer)).checks

    @route
    def delete_check(self, feature: str, check_id: str) -> Talk[None]:
        """Delete a check, and its alert unless that is resolved. Raises NotFound."""
        yield from self._delete(path("features", feature, "checks", check_id))

    @route
    def drift(
        self,
        feature: str,
        *,
        reference: Period | None = None,
        current: Period | None = None,
        method: str | None = None,
        threshold: float | None = None,
    ) -> Talk[schema.DriftAnswer]:
        """Whether the values of one period differ from those of another.

        `current`: by default the window that ends now. `reference`: by default the pinned reference, else the 24
        windows before `current`. `method`: score by this measure instead of the default verdict. `threshold`: a
        score of at least this is drift.

        Returns `.verdict` (stable, drift or insufficient), `.drift` (False, True or None for these), `.score`,
        `.p_value`, `.metrics` (psi, ks, ...), `.severity`, `.reasons`, and `.reference` and `.current` with their
        `.count`. Raises InvalidInput, NotFound, Conflict.

            client.drift("purchases_7d", reference=(monday, tuesday), current=(tuesday, now)).verdict
        """
        asked = {
            "reference": period(reference, "reference"),
            "current": period(current, "current"),
            "method": method,
            "threshold": threshold,
        }
        return (yield from self._ask(get(path("features", feature, "drift"), **asked), schema.DriftAnswer))

    @route
    def drift_of_samples(
        self,
        feature: str,
        *,
        reference: Iterable[Any],
        current: Iterable[Any],
        method: str | None = None,
        threshold: float | None = None,
    ) -> Talk[schema.DriftAnswer]:
        """Drift between two given samples of values: lists, numpy arrays, columns of a frame.

        Returns what `drift` returns. Raises InvalidInput, NotFound, Conflict, TooLarge.

            client.drift_of_samples("purchases_7d", reference=trained["purchases"], current=scored["purchases"])
        """
        given = {
            "reference": listed(reference, "reference"),
            "current": listed(current, "current"),
            "method": method,
            "threshold": threshold,
        }
        body = {name: value for name, value in given.items() if value is not None}
        return (yield from self._ask(send("POST", path("features", feature, "drift"), body), schema.DriftAnswer))

    @route
    def drift_history(self, feature: str, *, limit: int | None = None) -> Talk[list[schema.DriftAnswer]]:
        """The drift scores of closed windows, newest first, by default 100. Raises NotFound, Conflict."""
        request = get(path("features", feature, "drift", "history"), limit=limit)
        return (yield from self._ask(request, schema.ScoresAnswer)).scores

    @route
    def pin_reference(self, feature: str, start: Time, end: Time) -> Talk[schema.ReferenceAnswer]:
        """Pin the period that drift is measured against. Raises InvalidInput, NotFound, Conflict."""
        body = {"startTime": moment(start, "startTime"), "endTime": moment(end, "endTime")}
        return (
            yield from self._ask(send("PUT", path("features", feature, "reference"), body), schema.ReferenceAnswer)
        )

    @route
    def unpin_reference(self, feature: str) -> Talk[None]:
        """Unpin it: drift is measured against the preceding windows again. Raises NotFound, Conflict."""
        yield from self._delete(path("features", feature, "reference"))

    @route
    def freshness(self) -> Talk[schema.FreshnessAnswer]:
        """How old all `.features` and `.groups` are, in seconds; `.late`: whether one is beyond its maxAge."""
        return (yield from self._ask(get("/monitor/freshness"), schema.FreshnessAnswer))

    @route
    def agreement(self) -> Talk[list[schema.FeatureAgreement]]:
        """Per feature: how many served values were compared with a point-in-time read, and how many differed."""
        return (yield from self._ask(get("/monitor/agreement"), schema.AgreementAnswer)).features

    @route
    def monitor_status(self) -> Talk[schema.MonitorAnswer]:
        """How far the monitor is behind the journal. Raises NotFound if monitoring is off."""
        return (yield from self._ask(get("/monitor/status"), schema.MonitorAnswer))

    @route
    def live(self) -> Talk[Health]:
        """Whether the process runs. Raises Unavailable if it does not."""
        return (yield from self._ask(get("/health/live"), Health))

    @route
    def ready(self) -> Talk[Health]:
        """Whether every part of the service answers: `.status`. Not retried; may raise Unreachable."""
        outcome = yield get("/health/ready")
        if isinstance(outcome, Response) and outcome.status == 503:
            return read(outcome, Health)
        return read(settle(outcome, 1), Health)

    @route
    def metrics(self) -> Talk[str]:
        """The metrics for Prometheus, as text."""
        return (yield from self._retry.ask(get("/metrics"))).content.decode()

    @route
    def openapi(self) -> Talk[dict[str, Any]]:
        """The OpenAPI document of the service."""
        return (yield from self._ask(get("/openapi.json"), dict))

    @route
    def docs(self) -> Talk[str]:
        """The OpenAPI document as an HTML page."""
        return (yield from self._retry.ask(get("/docs"))).content.decode()

    @route
    def alerts(self, state: Literal["pending", "firing", "resolved"] | None = None) -> Talk[list[dict[str, Any]]]:
        """The alerts, newest first: all, or those in a state."""
        return (yield from self._ask(get("/monitor/alerts", state=state), schema.AlertsAnswer)).alerts
