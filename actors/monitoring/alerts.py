"""The life cycle of an alert: pending, firing, resolved. A check has at most one open alert at a time.

A failing check opens a pending alert. It fires after `windows` failing evaluations in a row, and resolves after as
many passing ones in a row. So if `windows` is more than 1 a single failure never fires an alert, and a check that
alternates between failing and passing neither fires nor resolves one. After an alert has resolved, the check's
next one does not fire before the cooldown is over. Evaluations with insufficient data count neither way.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from actors.monitoring.checks import Check
from actors.monitoring.findings import Finding
from actors.timestamps import SECOND

State = Literal["pending", "firing", "resolved"]
STATES = ("pending", "firing", "resolved")


class Policy(NamedTuple):
    """`windows`: how many evaluations in a row it takes to fire and to resolve; `cooldown`: microseconds."""

    windows: int = 2
    cooldown: int = 3_600 * SECOND


class Alert(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An alert. Times are in microseconds; `created` is that of the feature.

    `streak`: failing evaluations in a row while pending, passing ones while firing. `resolved`: when it was
    resolved; of a pending alert, when the check's previous one was (see `_maybe_fire`).
    """

    id: str
    check_id: str
    feature_id: str
    created: int
    check_type: str
    state: State
    since: int
    fired: int | None = None
    resolved: int | None = None
    observed: float | int | None = None
    message: str = ""
    streak: int = 1


def step(alert: Alert | None, check: Check, finding: Finding, now: int, policy: Policy) -> Alert | None:
    """The check's alert after one more evaluation; None if there is none.

    `alert`: the check's latest alert, which may be resolved.
    """
    if finding.status == "insufficient":
        return alert
    if finding.status == "passing":
        return _passing(alert, finding, now, policy)
    if alert is None or alert.state == "resolved":
        # The cooldown belongs to the check: it starts when the previous alert resolved.
        started = _started(check, finding, now)
        return _maybe_fire(started, finding, now, policy, alert.resolved if alert else None)
    if alert.state == "firing":
        return msgspec.structs.replace(alert, streak=0, observed=finding.observed, message=finding.message)
    grown = msgspec.structs.replace(alert, streak=alert.streak + 1)
    return _maybe_fire(grown, finding, now, policy, alert.resolved)


def _started(check: Check, finding: Finding, now: int) -> Alert:
    return Alert(
        id=f"{check.feature_id}/{check.id}/{now}",
        check_id=check.id,
        feature_id=check.feature_id,
        created=check.created,
        check_type=check.check_type,
        state="pending",
        since=now,
        observed=finding.observed,
        message=finding.message,
    )


def _maybe_fire(alert: Alert, finding: Finding, now: int, policy: Policy, resolved_before: int | None) -> Alert:
    """Fire a pending alert if it is due; otherwise keep in `resolved` when the previous alert resolved."""
    cooled = resolved_before is None or now - resolved_before >= policy.cooldown
    told = msgspec.structs.replace(
        alert, observed=finding.observed, message=finding.message, resolved=resolved_before
    )
    if alert.streak < policy.windows or not cooled:
        return told
    return msgspec.structs.replace(told, state="firing", fired=now, resolved=None, streak=0)


def _passing(alert: Alert | None, finding: Finding, now: int, policy: Policy) -> Alert | None:
    if alert is None or alert.state == "resolved":
        return alert
    if alert.state == "pending":
        return None
    streak = alert.streak + 1
    if streak < policy.windows:
        return msgspec.structs.replace(alert, streak=streak)
    return msgspec.structs.replace(
        alert, state="resolved", resolved=now, streak=0, observed=finding.observed, message=finding.message
    )
