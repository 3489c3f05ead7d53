"""The way from a drift check to an alert, which goes by the wall clock.

A check looks at the period that ends now, so it says nothing of a series of the past. To see alerts at all, one
series is replayed: a window a second, its observations stamped with the present.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx

from tests.studies.annotated.series import Data
from tests.studies.annotated.stream import register, write

ROUND_SECONDS = 1.0
WINDOW_SECONDS = 1.0
STEPS = 10
"""Writes per window."""
SETTINGS: Mapping[str, str] = {"MONITOR_SECONDS": f"{ROUND_SECONDS:g}", "ALERT_COOLDOWN_SECONDS": "0"}


class Alert(NamedTuple):
    """The row that was written last when it fired, and when it resolved (None: it did not)."""

    column: str
    fired: int
    resolved: int | None


class Past(NamedTuple):
    """What a check of a series with its own timestamps says, and how many alerts it raised in so many rounds."""

    status: str
    message: str
    alerts: int
    rounds: int


def of_the_past(service: httpx.Client, feature: str, rounds: int = 3) -> Past:
    """Set a drift check on a feature that was streamed, and let the clock go round."""
    _check(service, feature, {})
    time.sleep((rounds + 0.5) * ROUND_SECONDS)
    (check,) = _ask(service, f"/features/{feature}/checks")["checks"]
    raised = [alert for alert in _alerts(service) if alert["featureId"] == feature]
    return Past(check["status"], check["message"], len(raised), rounds)


def replayed(service: httpx.Client, data: Data) -> list[Alert]:
    """Stream the columns with the clock, under a drift check each; the alerts that fired, in order."""
    features = {register(service, f"replayed.{column}"): column for column in data.values}
    for feature in features:
        _check(service, feature, {"window": f"{WINDOW_SECONDS:g}s"})
    began = datetime.now(UTC)
    pace = timedelta(seconds=WINDOW_SECONDS) / data.series.window
    stride = max(1, data.series.window // STEPS)
    for start in range(0, len(data.times), stride):
        rows = range(start, min(start + stride, len(data.times)))
        time.sleep(max(0.0, (began + rows.stop * pace - datetime.now(UTC)).total_seconds()))
        for feature, column in features.items():
            values = data.values[column]
            write(service, feature, [(_text(began + row * pace), values[row]) for row in rows])
    time.sleep(1.5 * ROUND_SECONDS)

    def row(moment: str | None) -> int | None:
        passed = None if moment is None else datetime.fromisoformat(moment) - began
        return None if passed is None else min(len(data.times) - 1, int(passed / pace))

    found = [alert for alert in _alerts(service) if alert["featureId"] in features and alert["firedAt"]]
    alerts = [(features[alert["featureId"]], row(alert["firedAt"]), row(alert["resolvedAt"])) for alert in found]
    return sorted(Alert(column, fired, resolved) for column, fired, resolved in alerts if fired is not None)


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"


def _check(service: httpx.Client, feature: str, config: Mapping[str, Any]) -> None:
    body = {"checkType": "drift", "config": config}
    service.post(f"/features/{feature}/checks", json=body).raise_for_status()


def _alerts(service: httpx.Client) -> list[dict[str, Any]]:
    alerts: list[dict[str, Any]] = _ask(service, "/monitor/alerts")["alerts"]
    return alerts


def _ask(service: httpx.Client, path: str) -> Any:
    return service.get(path).raise_for_status().json()
