"""What monitoring does periodically: run the checks, update the alerts, score the windows that have closed."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import trio

from actors.domain import Feature
from actors.errors import TimewellError
from actors.monitoring.alerts import Alert, Policy, step
from actors.monitoring.checks import Check
from actors.monitoring.watch import Period, Result, Scored, Watch, together
from actors.monitoring.webhook import Webhook
from actors.registry import FeatureRegistry
from actors.stats.drift.judgement import Judgement
from actors.timestamps import SECOND, format_timestamp

log = logging.getLogger("timewell.schedule")
RESOLVED_KEPT = 1_000
LATE_WINDOWS_A_ROUND = 50
"""How many windows, of all features, are rescored in a round because of late observations; the rest wait."""
SCORES_KEPT = 500
"""How many scores are kept per feature."""


class DriftScore(msgspec.Struct, frozen=True):
    """The drift score of a window of a feature. `reference`, `current`: start, end, count of values."""

    feature_id: str
    created: int
    reference: tuple[int, int, int]
    current: tuple[int, int, int]
    judgement: Judgement


class Schedule:
    """Runs a round of monitoring every `seconds`."""

    def __init__(
        self,
        watch: Watch,
        registry: FeatureRegistry,
        webhook: Webhook,
        policy: Policy,
        seconds: float,
        leads: Callable[[], bool] = lambda: True,
        catch_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`leads`: whether this process is the one that runs checks; `catch_up`: brings the notes of other
        processes up to date, over a shared store.
        """
        self._watch = watch
        self._registry = registry
        self._webhook = webhook
        self._policy = policy
        self._seconds = seconds
        self._leads = leads
        self._catch_up = catch_up
        self._scored_until = watch.wall() // watch.window * watch.window
        self._scored_at = watch.now()
        self.scores: dict[str, list[DriftScore]] = {}
        for alert in watch.alerts.values():
            if alert.state == "firing":
                log.warning("alert %s is still firing: %s", alert.id, alert.message)

    def load(self, records: dict[str, bytes]) -> None:
        """Replace the scores by those in `records`."""
        self.scores = {}
        for _, record in sorted(records.items()):
            score = msgspec.msgpack.decode(record, type=DriftScore)
            self.scores.setdefault(score.feature_id, []).append(score)

    async def run(self) -> None:
        """Run rounds until cancelled. What fails is retried in the next round."""
        while True:
            await trio.sleep(self._seconds)
            if not self._leads():
                continue
            try:
                await self.tick()
            except TimewellError as error:
                log.warning("monitoring did not finish its round and will go on: %s", error.detail)
            except Exception as error:  # whatever is wrong with a check must not stop serving
                log.exception("monitoring did not finish its round and will go on", exc_info=error)

    async def tick(self) -> None:
        """Run one round."""
        if self._catch_up is not None:
            await self._catch_up()
        await self._forget_gone()
        uncounted = self._watch.uncounted()
        checks = [check for check in self._watch.checks() if check.feature_id not in uncounted]
        results = await self._watch.results(checks, refresh=True)
        for check in checks:
            if check.key in results:
                await self._move_alert(check, results[check.key])
        await self._forget_old_alerts()
        closed = self._watch.wall() // self._watch.window * self._watch.window
        if closed != self._scored_until:  # not <: the wall clock may have been ahead for a while
            await self._score(Period(closed - self._watch.window, closed - 1))
            self._scored_until, self._scored_at = closed, self._watch.now()
        await self._score_late()

    # Alerts

    def _latest(self, check: Check) -> Alert | None:
        of_check = [
            alert
            for alert in self._watch.alerts.values()
            if (alert.feature_id, alert.created, alert.check_id) == (check.feature_id, check.created, check.id)
        ]
        return max(of_check, key=lambda alert: alert.since, default=None)

    async def _move_alert(self, check: Check, result: Result) -> None:
        before = self._latest(check)
        after = step(before, check, result.finding, self._watch.now(), self._policy)
        if after is before:
            return
        if after is None or (before is not None and before.id != after.id and before.state == "pending"):
            assert before is not None
            self._watch.alerts.pop(before.id, None)
        if after is None:
            return
        moved = before is None or before.id != after.id or before.state != after.state
        if after.state != "pending" and moved:
            await self._watch.note("alert", after.id, after)
        self._watch.alerts[after.id] = after
        if moved:
            self._tell(after)

    def _tell(self, alert: Alert) -> None:
        data = alert_data(alert)
        event = self._watch.events.publish(f"alert.{alert.state}", data)
        if alert.state != "pending":
            log.warning("alert %s %s: %s", alert.id, alert.state, alert.message)
            self._webhook.post({"id": str(event.id), "type": event.kind, "alert": data})

    async def _forget_old_alerts(self) -> None:
        resolved = sorted(
            (alert for alert in self._watch.alerts.values() if alert.state == "resolved"),
            key=lambda alert: alert.resolved or 0,
        )
        for alert in resolved[:-RESOLVED_KEPT]:
            await self._watch.note("alert", alert.id, None)
            self._watch.alerts.pop(alert.id, None)

    async def _forget_gone(self) -> None:
        await self._watch.forget_gone()
        for id_, scores in list(self.scores.items()):
            feature = self._registry.features.get(id_)
            gone = [score for score in scores if feature is None or score.created != feature.created]
            for score in gone:
                await self._watch.note("score", _key(score), None)
            if gone:
                self.scores[id_] = [score for score in self.scores[id_] if score not in gone]

    # Scores

    async def _score(self, current: Period) -> None:
        """Score a window of every feature that has values in it, with verdicts corrected for their number."""
        await self._score_all(
            [
                (feature, current)
                for feature, newest in await self._with_vitals()
                if newest >= current.start and not self._is_scored(feature, current)
            ]
        )

    async def _score_late(self) -> None:
        """Score windows that got values after they had closed, once no more arrive, correcting for their number.

        A window without a score that cannot be judged for lack of data still gets none.
        """
        settled = self._watch.now() - int(self._seconds * SECOND)
        windows: list[tuple[Feature, Period]] = []
        for id_, start, arrived in await self._watch.late(settled, LATE_WINDOWS_A_ROUND):
            feature, end = self._registry.features.get(id_), start + self._watch.window
            scored_with_it = end == self._scored_until and arrived <= self._scored_at
            if feature is not None and not scored_with_it:
                windows.append((feature, Period(start, end - 1)))
        await self._score_all(windows, late=True)

    async def _score_all(self, windows: Sequence[tuple[Feature, Period]], late: bool = False) -> None:
        scored: list[tuple[Feature, Scored]] = []
        for feature, current in windows:
            reference = self._watch.reference_for(feature, current)
            try:
                scored.append((feature, await self._watch.score(feature, reference, current)))
            except TimewellError as error:
                log.warning("%s was not scored: %s", feature.id, error.detail)
        scored = [(feature, score) for feature, score in scored if score.has_current]
        judged = together([score for _, score in scored])
        for (feature, _), score in zip(scored, judged, strict=True):
            told = score.judgement.verdict != "insufficient" or self._is_scored(feature, score.current)
            if told or not late:
                await self._keep(feature, score)

    def _is_scored(self, feature: Feature, current: Period) -> bool:
        return any(score.current[0] == current.start for score in self.scores_of(feature))

    async def _with_vitals(self) -> Sequence[tuple[Feature, int]]:
        uncounted = self._watch.uncounted()
        features = [feature for feature in self._registry.features.values() if feature.id not in uncounted]
        found = await self._watch.vitals(features)
        return [
            (feature, vitals.newest)
            for feature, vitals in zip(features, found, strict=True)
            if vitals.newest is not None
        ]

    async def _keep(self, feature: Feature, scored: Scored) -> None:
        score = DriftScore(
            feature.id,
            feature.created,
            (*scored.reference, scored.reference_count),
            (*scored.current, scored.current_count),
            scored.judgement,
        )
        kept = self.scores.setdefault(feature.id, [])
        await self._watch.note("score", _key(score), score)
        place = bisect_left(kept, score.current[0], key=lambda one: one.current[0])
        kept[place : place + (place < len(kept) and _key(kept[place]) == _key(score))] = [score]
        for old in kept[:-SCORES_KEPT]:
            await self._watch.note("score", _key(old), None)
        del kept[:-SCORES_KEPT]
        if scored.judgement.drift:
            self._watch.events.publish("drift", {"featureId": feature.id, "score": scored.judgement.score})

    def scores_of(self, feature: Feature) -> list[DriftScore]:
        """The scores of a feature, newest window first."""
        return [score for score in reversed(self.scores.get(feature.id, ())) if score.created == feature.created]


def _key(score: DriftScore) -> str:
    return f"{score.feature_id} {score.created} {score.current[0]:020}"


def alert_data(alert: Alert) -> dict[str, Any]:
    """An alert as the API shows it."""
    moments = {"since": alert.since, "firedAt": alert.fired, "resolvedAt": alert.resolved}
    if alert.state != "resolved":
        moments["resolvedAt"] = None
    shown = {name: None if time is None else format_timestamp(time) for name, time in moments.items()}
    return {
        "id": alert.id,
        "featureId": alert.feature_id,
        "checkId": alert.check_id,
        "checkType": alert.check_type,
        "state": alert.state,
        "observed": alert.observed,
        "message": alert.message,
        **shown,
    }
