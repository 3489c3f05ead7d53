"""Watch: checks, pinned references, drift scores and alerts, based on the monitor's statistics.

What users set up (checks, pinned references) and what results (alerts, scores) is committed to the journal as
notes, so it survives any crash. An evaluation reads summaries like any other reader; writes never wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
import trio

from actors.clock import ArrivalClock
from actors.domain import Feature
from actors.errors import Damaged, NotFound, TooLarge
from actors.mailbox import Mailbox
from actors.messages import ChangeRegistry, Late, MonitorStatus, NewestTimes, Status, Vitals
from actors.monitoring import drift
from actors.monitoring.alerts import Alert
from actors.monitoring.checks import Check, DriftConfig
from actors.monitoring.events import Events
from actors.monitoring.findings import Finding, evaluate, evaluate_drift
from actors.monitoring.statistics import Statistics
from actors.registry import FeatureRegistry
from actors.settings import STATISTICS_READERS
from actors.stats.drift.judgement import Judgement
from actors.stats.drift.nulls import Share, judged
from actors.stats.drift.verdict import decide
from actors.stats.summary import Accepted, Summary
from actors.storage.entries import Noted
from actors.storage.protocol import History, ReadNotes
from actors.timestamps import FOREVER, NEVER, SECOND, YEAR_ONE, format_timestamp
from actors.types.values import empty

One = TypeVar("One")
REFERENCE_WINDOWS = 24
"""Without a pinned reference, the current window is compared with this many windows before it."""


class Period(NamedTuple):
    """A closed range of event time."""

    start: int
    end: int


class PinnedPeriod(msgspec.Struct, frozen=True):
    """A reference period that a user has fixed; `created` is that of its feature."""

    feature_id: str
    created: int
    start: int
    end: int


class Notes(NamedTuple):
    """The checks, pinned references and alerts in the storage, by key."""

    checks: Mapping[str, Check]
    pinned: Mapping[str, PinnedPeriod]
    alerts: Mapping[str, Alert]


class Changes(NamedTuple):
    """Changed checks and pinned references by key; None: deleted."""

    checks: dict[str, Check | None]
    pinned: dict[str, PinnedPeriod | None]


class Scored(NamedTuple):
    """A judgement, with the periods that it compares and the number of values in each."""

    judgement: Judgement
    reference: Period
    reference_count: int
    current: Period
    current_count: int

    @property
    def has_current(self) -> bool:
        """Whether anything was observed in the current period, even if only nulls."""
        return self.current_count > 0 or self.judgement.metrics.get("nullRateCurrent", 0.0) > 0


class Result(NamedTuple):
    """The result of a check: its finding, when it ran, and the vitals of the stream at that time."""

    finding: Finding
    run: int
    vitals: Vitals


class Watch:
    """Manages and evaluates checks and drift. Safe for concurrent use by tasks of one thread."""

    def __init__(
        self,
        notes: ReadNotes,
        history: History,
        statistics: Statistics,
        uncounted: Callable[[], Mapping[str, str]],
        registry: FeatureRegistry,
        journal: Mailbox,
        monitor: Mailbox,
        events: Events,
        window: int,
        clock: ArrivalClock,
    ) -> None:
        """`window`: the width of the windows for which drift is scored, in microseconds."""
        self.statistics = statistics
        self.events = events
        self.window = window
        self.now = clock.now
        self.wall = clock.wall
        self.uncounted = uncounted
        """The features whose statistics are damaged, and why. Their checks are not evaluated."""
        self.alerts: dict[str, Alert] = {}
        self._notes = notes
        self._history = history
        self._registry = registry
        self._journal = journal
        self._monitor = monitor
        self._checks: dict[str, Check] = {}
        self._pinned: dict[str, PinnedPeriod] = {}
        self._results: dict[str, Result] = {}
        self._evaluators = trio.CapacityLimiter(STATISTICS_READERS)
        self._meanwhile: Changes | None = None
        """Changes made by this process while notes are being read (see `noting`)."""
        self._being_put: set[str] = set()
        self._failing: set[str] = set()
        """The checks whose last conclusive evaluation failed."""

    def load(self) -> None:
        """Load the notes when starting. Blocks; for a worker thread."""
        self.take_over(self.noted())

    def noted(self) -> Notes:
        """Read the notes in the storage. Blocks; for a worker thread."""
        checks = [msgspec.msgpack.decode(one, type=Check) for one in self._notes("check").values()]
        pinned = [msgspec.msgpack.decode(one, type=PinnedPeriod) for one in self._notes("pinned").values()]
        raised = [msgspec.msgpack.decode(one, type=Alert) for one in self._notes("alert").values()]
        return Notes(
            {check.key: check for check in checks},
            {one.feature_id: one for one in pinned},
            {alert.id: alert for alert in raised},
        )

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Collect the changes made by this process while notes are read, which may or may not include them."""
        self._meanwhile = Changes({}, {})
        try:
            yield
        finally:
            self._meanwhile = None

    def take_over(self, noted: Notes, alerts: bool = True) -> None:
        """Adopt the notes, with the changes made by this process since reading them began.

        `alerts`: whether to adopt alerts too, which is wrong in the process that raises them.
        """
        checks, pinned = dict(noted.checks), dict(noted.pinned)
        if self._meanwhile is not None:
            _change(checks, self._meanwhile.checks)
            _change(pinned, self._meanwhile.pinned)
        for key in self._results.keys() | self._failing:
            if checks.get(key) != self._checks.get(key):
                self._forget_results(key)
        self._checks, self._pinned = checks, pinned
        if alerts:
            self.alerts = dict(noted.alerts)

    def _set_check(self, key: str, check: Check | None) -> None:
        _change(self._checks, {key: check})
        if self._meanwhile is not None:
            self._meanwhile.checks[key] = check
        self._forget_results(key)

    def _set_pinned(self, key: str, pinned: PinnedPeriod | None) -> None:
        _change(self._pinned, {key: pinned})
        if self._meanwhile is not None:
            self._meanwhile.pinned[key] = pinned

    @property
    def last_alert(self) -> int:
        """When an alert was last changed; 0 for never."""
        moments = [(alert.since, alert.fired, alert.resolved) for alert in self.alerts.values()]
        return max((moment or 0 for one in moments for moment in one), default=0)

    async def note(self, kind: str, key: str, record: object | None, new: bool = False) -> None:
        """Make a note durable; None deletes it. Raises Conflict if it is to be `new` but exists."""
        body = None if record is None else msgspec.msgpack.encode(record)
        await self._journal.ask(ChangeRegistry(Noted(kind, key, body, new)))

    # Checks

    def checks(self, feature: Feature | None = None) -> list[Check]:
        """The checks of one feature, or of all registered features, sorted by feature and id."""
        return [
            check
            for _, check in sorted(self._checks.items())
            if (feature is None or check.feature_id == feature.id) and self.feature_of(check) is not None
        ]

    def feature_of(self, check: Check) -> Feature | None:
        """The feature of a check; None if it has been deleted."""
        feature = self._registry.features.get(check.feature_id)
        return feature if feature is not None and feature.created == check.created else None

    def taken(self, feature: Feature) -> set[str]:
        """The check ids of a feature that are in use, including those of checks being stored."""
        put = {key.partition(" ")[2] for key in self._being_put if key.partition(" ")[0] == feature.id}
        return put | {check.id for check in self.checks(feature)}

    async def put_check(self, check: Check, new: bool = False) -> None:
        """Add a check, or replace the one with its id. Raises Conflict if a `new` one exists by now."""
        self._being_put.add(check.key)
        try:
            await self.note("check", check.key, check, new and check.key not in self._checks)
        finally:
            self._being_put.discard(check.key)
        self._set_check(check.key, check)

    def _forget_results(self, key: str) -> None:
        self._results.pop(key, None)
        self._failing.discard(key)

    async def delete_check(self, feature: Feature, id_: str) -> None:
        """Delete a check and its open alert. Raises NotFound."""
        key = f"{feature.id} {id_}"
        if key not in self._checks or self._checks[key].created != feature.created:
            raise NotFound(f"feature {feature.id!r} has no check {id_!r}")
        await self.note("check", key, None)
        self._set_check(key, None)
        for alert in [one for one in self.alerts.values() if f"{one.feature_id} {one.check_id}" == key]:
            if alert.state != "resolved":
                await self.note("alert", alert.id, None)
                self.alerts.pop(alert.id, None)

    def last_results(self) -> list[tuple[Check, Result]]:
        """The last result of each check that has been evaluated, sorted by feature and id."""
        return [(check, self._results[check.key]) for check in self.checks() if check.key in self._results]

    async def results(self, checks: Sequence[Check], refresh: bool = False) -> dict[str, Result]:
        """The current result of each check by key: the last one, if nothing can have changed it, or a new one.

        `refresh`: evaluate all checks. Checks that are deleted meanwhile are left out.
        """
        owned = [(check, feature) for check in checks if (feature := self.feature_of(check)) is not None]
        vitals: list[Vitals] = await self._monitor.ask(NewestTimes([feature for _, feature in owned]))
        stale = [
            (check, feature, state)
            for (check, feature), state in zip(owned, vitals, strict=True)
            if refresh or self._is_stale(check, state)
        ]
        of_drift = [(check, feature, state) for check, feature, state in stale if check.check_type == "drift"]
        for check, feature, state in stale:
            if check.check_type != "drift":
                self._note_result(check, await self._find(check, feature, state), state)
                await trio.lowlevel.checkpoint()  # there may be thousands of checks, most of them quick
        for check, state, finding in await self._find_drift(of_drift):
            self._note_result(check, finding, state)
        return {check.key: self._results[check.key] for check, _ in owned if check.key in self._results}

    async def every_result(self) -> dict[str, Result]:
        """The current results of all checks. For features whose statistics are damaged the result says so."""
        lacking = self.uncounted()
        found = await self.results([check for check in self.checks() if check.feature_id not in lacking])
        for check in self.checks():
            if check.feature_id in lacking:
                found[check.key] = Result(_untold(Damaged(lacking[check.feature_id])), self.now(), Vitals())
        return found

    def _is_stale(self, check: Check, vitals: Vitals) -> bool:
        result = self._results.get(check.key)
        timely = check.check_type in ("freshness", "volume", "drift") or check.window is not None
        return result is None or timely or result.vitals != vitals

    def _note_result(self, check: Check, finding: Finding, vitals: Vitals) -> None:
        if self._checks.get(check.key) != check:
            return  # deleted or replaced while it was evaluated
        self._results[check.key] = Result(finding, self.now(), vitals)
        if finding.status == "insufficient":
            return
        failed_before = check.key in self._failing
        fails = finding.status == "failing"
        if fails != failed_before:
            (self._failing.add if fails else self._failing.discard)(check.key)
            kind = "check.failing" if fails else "check.recovered"
            told = {"featureId": check.feature_id, "checkId": check.id, "checkType": check.check_type}
            self.events.publish(kind, {**told, "observed": finding.observed, "message": finding.message})

    async def _find(self, check: Check, feature: Feature, vitals: Vitals) -> Finding:
        now, window = self.wall(), check.window
        period = Period(NEVER, FOREVER) if window is None else self.latest_window(window)
        if check.check_type == "freshness":
            return evaluate(check, feature, Summary(feature.created), vitals.newest, now, lambda: ())

        def read() -> Iterator[Accepted]:
            return self._history.observations(feature, *period)

        try:
            if window is None:
                summary = await self.statistics.whole(feature)
            else:
                summary = await self.statistics.period(feature, *period)
            return await trio.to_thread.run_sync(
                evaluate, check, feature, summary, vitals.newest, now, read, limiter=self._evaluators
            )
        except (TooLarge, Damaged) as error:
            return _untold(error)

    async def forget_gone(self) -> None:
        """Delete the checks, pinned references and open alerts of deleted features."""
        for check in list(self._checks.values()):
            if self.feature_of(check) is None and self._checks.get(check.key) is check:
                self._set_check(check.key, None)  # before awaiting, so as not to delete one that is put meanwhile
                await self.note("check", check.key, None)
        for pinned in list(self._pinned.values()):
            feature = self._registry.features.get(pinned.feature_id)
            gone = feature is None or feature.created != pinned.created
            if gone and self._pinned.get(pinned.feature_id) is pinned:
                self._set_pinned(pinned.feature_id, None)
                await self.note("pinned", pinned.feature_id, None)
        for alert in list(self.alerts.values()):
            check_now = self._checks.get(f"{alert.feature_id} {alert.check_id}")
            if alert.state != "resolved" and (check_now is None or check_now.created != alert.created):
                self.alerts.pop(alert.id, None)
                await self.note("alert", alert.id, None)

    # Drift

    async def pin(self, feature: Feature, period: Period) -> PinnedPeriod:
        """Pin a period as the reference of a feature."""
        pinned = PinnedPeriod(feature.id, feature.created, *period)
        await self.note("pinned", feature.id, pinned)
        self._set_pinned(feature.id, pinned)
        return pinned

    async def unpin(self, feature: Feature) -> None:
        """Remove the pinned reference of a feature. Raises NotFound if there is none."""
        if self.pinned(feature) is None:
            raise NotFound(f"feature {feature.id!r} has no pinned reference")
        await self.note("pinned", feature.id, None)
        self._set_pinned(feature.id, None)

    def pinned(self, feature: Feature) -> PinnedPeriod | None:
        """The pinned reference of a feature, if any."""
        pinned = self._pinned.get(feature.id)
        return pinned if pinned is not None and pinned.created == feature.created else None

    def reference_for(self, feature: Feature, current: Period) -> Period:
        """The reference for a current period: the pinned one, or else the REFERENCE_WINDOWS windows before it."""
        pinned = self.pinned(feature)
        if pinned is not None:
            return Period(pinned.start, pinned.end)
        width = current.end - current.start + 1
        start = max(current.start - REFERENCE_WINDOWS * width, YEAR_ONE)
        return Period(start, max(start, current.start - 1))

    def latest_window(self, width: int | None = None) -> Period:
        """The window that ends now, or with the last arrival if that is later: the wall clock was ahead then."""
        now = self.now()
        return Period(min(now, self.wall()) - (width or self.window) + 1, now)

    async def score(
        self,
        feature: Feature,
        reference: Period,
        current: Period,
        method: str | None = None,
        threshold: float | None = None,
    ) -> Scored:
        """Score how far a feature has drifted from the reference period to the current one."""
        if method in drift.OTHER_TOOLS:
            return await trio.to_thread.run_sync(
                self._score_values, feature, reference, current, method, threshold
            )
        before = await self.statistics.period(feature, *reference)
        after = await self.statistics.period(feature, *current)
        judgement = await trio.to_thread.run_sync(drift.between, feature, before, after, method, threshold)
        counts = [summary.count - summary.null_count for summary in (before, after)]
        return Scored(judgement, reference, counts[0], current, counts[1])

    def _score_values(
        self, feature: Feature, reference: Period, current: Period, method: str, threshold: float | None
    ) -> Scored:
        """Score drift by another tool's definition, which needs all the values themselves. Blocks."""
        columns, shares = [], []
        for period in (reference, current):
            parts, missing = [], 0
            for part in self._history.observations(feature, *period):
                parts.append(part.values[~part.nulls])
                missing += int(np.count_nonzero(part.nulls))
            columns.append(np.concatenate([empty(feature, 0), *parts]))
            shares.append(Share(missing, missing + len(columns[-1])))
        of_values = drift.of_columns(feature, columns[0], columns[1], method, threshold)
        judgement = judged(of_values, shares[0], shares[1])
        return Scored(judgement, reference, len(columns[0]), current, len(columns[1]))

    async def _find_drift(
        self, checks: Sequence[tuple[Check, Feature, Vitals]]
    ) -> list[tuple[Check, Vitals, Finding]]:
        """Evaluate drift checks, with verdicts corrected for their number."""
        found: list[tuple[Check, Vitals, Finding]] = []
        scored: list[tuple[Check, Vitals, Scored]] = []
        for check, feature, state in checks:
            config: DriftConfig = check.typed
            current = self.latest_window(check.window)
            reference = self.reference_for(feature, current)
            try:
                score = await self.score(feature, reference, current, config.method, config.threshold)
                scored.append((check, state, score))
            except (TooLarge, Damaged) as error:
                found.append((check, state, _untold(error)))
        judged = together([score for *_, score in scored])
        for (check, state, _), score in zip(scored, judged, strict=True):
            finding = evaluate_drift(check, score.judgement)
            if finding.status == "insufficient":
                finding = finding._replace(message=f"{finding.message} ({_periods(score)})")
            found.append((check, state, finding))
        return found

    # Freshness

    async def vitals(self, features: Sequence[Feature]) -> list[Vitals]:
        """The vitals of each feature's stream. Raises Damaged if the statistics of one are damaged."""
        found: list[Vitals] = await self._monitor.ask(NewestTimes(features))
        return found

    async def every_vitals(self, features: Sequence[Feature]) -> list[Vitals | str]:
        """The vitals of each feature's stream, or, if its statistics are damaged, a text that says why."""
        lacking = self.uncounted()
        known = iter(await self.vitals([feature for feature in features if feature.id not in lacking]))
        return [lacking.get(feature.id) or next(known) for feature in features]

    async def late(self, settled: int, most: int) -> list[tuple[str, int, int]]:
        """The windows to score again, see `Late`."""
        found: list[tuple[str, int, int]] = await self._monitor.ask(Late(settled, most))
        return found

    async def status(self) -> MonitorStatus:
        """How far the monitor has read the journal."""
        found: MonitorStatus = await self._monitor.ask(Status())
        return found


def _change(known: dict[str, One], changes: Mapping[str, One | None]) -> None:
    for key, value in changes.items():
        if value is None:
            known.pop(key, None)
        else:
            known[key] = value


def together(scores: Sequence[Scored]) -> list[Scored]:
    """The scores with verdicts corrected for the number of scores (see `decide`)."""
    judged = decide([score.judgement for score in scores])
    return [score._replace(judgement=judgement) for score, judgement in zip(scores, judged, strict=True)]


def _periods(score: Scored) -> str:
    """Says which periods were compared, for users who wonder why there are no values in them."""
    (start, end), current = score.reference, score.current
    before = f"{format_timestamp(start)}/{format_timestamp(end)}"
    if end == current.start - 1:
        before = f"the {(end - start + 1) / SECOND:g} s before"
    width = (current.end - current.start + 1) / SECOND
    return f"by event time: current are the last {width:g} s, reference {before}"


def _untold(error: TooLarge | Damaged) -> Finding:
    if isinstance(error, Damaged):
        return Finding("insufficient", None, f"it cannot be told: {error.detail}")
    return Finding("insufficient", None, f"{error.detail}; a shorter window has fewer")
