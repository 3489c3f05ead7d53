"""FeatureMonitor: statistics of the write stream. MonitorActor: feeds it from the journal.

The monitor counts every accepted observation exactly once. It summarises what has arrived since a position in the
journal, by feature and window; a checkpoint merges these summaries into the saved ones and saves the new position
in the same transaction. After a restart the monitor continues from that position. It never slows down a write: a
message that finds its inbox full is dropped, and the monitor reads the journal instead.

Observations are first collected as columns, and folded into summaries thousands at a time, which costs a fraction
of a microsecond each. A query first folds what has been collected of its feature.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

import trio

from actors.domain import Feature
from actors.errors import Damaged, Unavailable
from actors.mailbox import Envelope, Mailbox, Tasks
from actors.messages import Apply, Forget, Fresh, Late, MonitorStatus, NewestTimes, Saved, Snapshot, Status, Vitals
from actors.settings import MOST_UNSAVED_WINDOWS
from actors.stats.folding import Folding
from actors.stats.late_windows import LateWindows
from actors.stats.state import decode, encode
from actors.stats.summary import Summary, newest_due
from actors.stats.windows import HOUR, WHOLE, Window
from actors.storage.protocol import Log, SavedSummaries, Summaries, SummaryKey, Trimmed
from actors.table.batch import Batch, Column, Table, observations, without_ids
from actors.table.columns import Times
from actors.turns import Steps, at_once, behind, by_turns

CATCH_UP_BATCHES = 256
CATCH_UP_ROWS = 1_000_000
"""How much is read from the journal at a time when the monitor lags behind."""
PENDING_OF_A_FEATURE = 65_536
"""Observations of a feature that are collected before they are folded."""
PENDING_BYTES = 10_000_000
"""The same for all features together, in bytes: 400,000 numbers."""
SUMMARIES_TOLD_PER_STEP = 50
"""How many summaries are encoded for a query before other tasks run."""
SUMMARIES_PER_STEP = 500
"""How many summaries are gathered for saving before other tasks run."""
ASIDE_BYTES = 25_000_000
"""Bytes of observations counted in the whole stream but not yet in their windows: a million numbers, at which
point a checkpoint is due anyway."""


class _Stream:
    """One feature's observations since the last checkpoint, and its vitals."""

    def __init__(self, created: int, vitals: Vitals) -> None:
        self.created = created
        self.vitals = vitals
        self.folding = Folding(created)

    def append(self, times: Times, column: Column, newest: int | None, arrived: int) -> None:
        """Add a column. `newest`: its newest event time that was not in the future when it arrived."""
        self.folding.waiting.append(times, arrived, column.values, column.nulls)
        self.vitals = self.vitals.after(len(times), newest, arrived)


class _Told(NamedTuple):
    """What follows from the event times of a table."""

    newest: int | None
    late: dict[int, int]


class FeatureMonitor:
    """Statistics of what arrived after `saved` and up to `position`, by feature and window.

    `rows`: observations that are collected but not yet folded.
    """

    def __init__(
        self, position: int = 0, totals: Mapping[SummaryKey, bytes] | None = None, window: int = HOUR
    ) -> None:
        """`position`: the position that the saved summaries cover; `totals`: the saved summaries of whole streams;
        `window`: the width of drift windows in microseconds.
        """
        self.late = LateWindows(window)
        self.position = position
        self.saved = position
        self.rows = 0
        self.windows = 0
        """How many summaries were unsaved when last counted, which is after each fold and each save."""
        self._bytes = 0
        self._streams: dict[str, _Stream] = {}
        self._overdue: set[str] = set()
        self._leaving: dict[tuple[str, int], dict[Window, Summary]] = {}
        self._leaving_until = position
        for key, state in (totals or {}).items():
            total = decode(state, Summary)
            vitals = Vitals(total.count, total.newest_due, total.last_updated)
            self._streams[key.feature] = _Stream(key.created, vitals)

    # The stream

    def apply(self, arrived: int, batch: Batch) -> None:
        """Add a batch; one that has been counted already is ignored."""
        if arrived <= self.position:
            return
        for table in batch:
            told = self._told(table, arrived)
            for column in table.columns:
                self._append(table.times, column, told, arrived)
        self.position = arrived

    def _told(self, table: Table, arrived: int) -> _Told:
        if table.rows == 0:
            return _Told(None, {})
        newest = table.bounds[1]
        due = newest if newest <= arrived else newest_due(table.times, arrived)
        return _Told(due, self.late.of(table, arrived))

    def _append(self, times: Times, column: Column, told: _Told, arrived: int) -> None:
        stream = self._streams.get(column.feature)
        if stream is None or stream.created < column.created:
            if stream is not None:
                self._drop(column.feature, stream.created)
            stream = self._streams[column.feature] = _Stream(column.created, Vitals())
        if stream.created == column.created:
            self._count(stream, -1)
            stream.append(times, column, told.newest, arrived)
            self.late.note(column.feature, told.late)
            self._count(stream, 1)
            if stream.folding.waiting.rows >= PENDING_OF_A_FEATURE:
                self._overdue.add(column.feature)

    def overdue(self) -> Steps[None]:
        """Fold the features of which much has been collected, in steps."""
        if self._bytes >= PENDING_BYTES:
            self._overdue.update(self._streams)
        if not self._overdue:
            return
        while self._overdue:
            stream = self._streams[self._overdue.pop()]
            yield from self._fold(stream)
            if stream.folding.aside.rows >= PENDING_OF_A_FEATURE:
                yield from stream.folding.fold_aside()
        if self.aside >= ASIDE_BYTES:
            yield from self.folding()
        self._count_windows()

    def _count_windows(self) -> None:
        folded = sum(len(stream.folding.summaries) for stream in self._streams.values())
        self.windows = folded + sum(map(len, self._leaving.values()))

    @property
    def full(self) -> bool:
        """Whether nothing should be added before a save."""
        return self.windows >= MOST_UNSAVED_WINDOWS

    @property
    def aside(self) -> int:
        """Bytes of observations counted in the whole stream but not yet in their windows."""
        return sum(stream.folding.aside.bytes for stream in self._streams.values())

    def folding(self, feature: str | None = None) -> Steps[None]:
        """Fold all that has been collected of one feature, or of all features, in steps."""
        for id_ in [feature] if feature is not None else list(self._streams):
            stream = self._streams.get(id_)
            if stream is not None:
                yield from self._fold(stream)
                yield from stream.folding.fold_aside()

    def _fold(self, stream: _Stream) -> Steps[None]:
        self._count(stream, -1)
        yield from stream.folding.fold()

    def _count(self, stream: _Stream, sign: int) -> None:
        """Add what a stream has collected to the totals, or subtract it if `sign` is -1."""
        self.rows += sign * stream.folding.waiting.rows
        self._bytes += sign * stream.folding.waiting.bytes

    # Reading

    def fresh(self, feature: Feature, position: int, whole: bool = False) -> Steps[SavedSummaries | None]:
        """The summaries of what arrived after `position`, by window; None if that is before what is kept here.

        On None the caller reads the saved summaries again. The feature must have been folded. Runs in steps, as a
        backfill of years has thousands of windows; nothing may be added in between. `whole`: only the summary of
        the whole stream.
        """
        if position < self.saved:
            return None
        stream, sources = self._of(feature), list[Mapping[Window, Summary]]()
        if position < self._leaving_until:
            sources.append(self._leaving.get((feature.id, feature.created), {}))
        if stream is not None:
            sources.append(stream.folding.summaries)
        states = dict[Window, bytes]()
        for window in [WHOLE] if whole else list(dict.fromkeys(chain(*sources))):
            found = [source[window] for source in sources if window in source]
            if found:
                states[window] = encode(found[0] if len(found) == 1 else merged(found))
            if len(states) % SUMMARIES_TOLD_PER_STEP == 0:
                yield
        return SavedSummaries(self.position, states)

    def vitals(self, feature: Feature) -> Vitals:
        """The vitals of a feature's stream."""
        stream = self._of(feature)
        return stream.vitals if stream is not None else Vitals()

    def _of(self, feature: Feature) -> _Stream | None:
        stream = self._streams.get(feature.id)
        return stream if stream is not None and stream.created == feature.created else None

    # Saving

    def leave(self) -> tuple[int, dict[SummaryKey, Summary]]:
        """The position, and the summaries to save for it, which are kept until `left` is called.

        Everything must have been folded.
        """
        return at_once(self.leaving())

    def leaving(self) -> Steps[tuple[int, dict[SummaryKey, Summary]]]:
        """Do what `leave` does, in steps. Nothing may be added in between."""
        for id_, stream in self._streams.items():
            if stream.folding.summaries:
                _add(self._leaving.setdefault((id_, stream.created), {}), stream.folding.leave())
                yield
        self._leaving_until, parts = self.position, dict[SummaryKey, Summary]()
        for owner, windows in self._leaving.items():
            for window, summary in windows.items():
                parts[SummaryKey(*owner, *window)] = summary
                if len(parts) % SUMMARIES_PER_STEP == 0:
                    yield
        return self.position, parts

    def left(self, position: int) -> None:
        """Drop the summaries given out by `leave`: they have been saved up to `position`."""
        if position == self._leaving_until:
            self._leaving = {}
            self.saved = position
            self._count_windows()

    # Forgetting

    def forget(self, feature: Feature) -> None:
        """Drop a feature that was deleted."""
        if self._of(feature) is not None:
            self._drop(feature.id, feature.created)

    def keep_only(self, features: Mapping[str, Feature]) -> None:
        """Drop all features but these."""
        for id_, stream in list(self._streams.items()):
            if id_ not in features or features[id_].created != stream.created:
                self._drop(id_, stream.created)

    def _drop(self, feature: str, created: int) -> None:
        self._count(self._streams.pop(feature), -1)
        self._overdue.discard(feature)
        self.late.forget(feature)
        self._leaving.pop((feature, created), None)


def _add(known: dict[Window, Summary], more: Mapping[Window, Summary]) -> None:
    """Merge `more` into `known`, without modifying any summary that is in either."""
    for window, summary in more.items():
        old = known.get(window)
        known[window] = summary if old is None else merged([old, summary])


def merged(summaries: Sequence[Summary]) -> Summary:
    """Merge summaries into a new one."""
    whole = decode(encode(summaries[0]), Summary)
    for summary in summaries[1:]:
        whole.merge(summary)
    return whole


class MonitorActor:
    """Runs a FeatureMonitor on the write stream."""

    def __init__(
        self,
        log: Log,
        summaries: Summaries,
        features: Mapping[str, Feature],
        uncounted: Callable[[], Mapping[str, str]],
        window: int = HOUR,
        full: Callable[[], None] = lambda: None,
    ) -> None:
        """`uncounted`: see `Damage.uncounted`; `window`: the width of drift windows in microseconds; `full` is
        called when a checkpoint has to make room.
        """
        self.mailbox = Mailbox("monitor")
        self._log = log
        self._summaries = summaries
        self._uncounted = uncounted
        self._features = features
        self._window = window
        self._ask_for_room = full
        self._behind = False
        """Whether batches were left in the journal, so that none may be added before they are read from there."""
        self._tasks = self._handling()
        self.monitor = FeatureMonitor(window=window)

    async def load(self) -> None:
        """Continue from what was saved last."""
        while True:
            # Read first: what is trimmed later has been saved, though perhaps after the totals are read below.
            trimmed = await trio.to_thread.run_sync(self._log.trimmed)
            position, totals = await trio.to_thread.run_sync(self._summaries.totals)
            self.monitor = FeatureMonitor(position, totals, self._window)
            # If monitoring was off for a time, the journal may no longer have what arrived meanwhile.
            self.monitor.position = max(position, trimmed)
            self.monitor.keep_only(self._features)
            self.mailbox.missed = True
            with suppress(Trimmed):
                return await self._catch_up()

    async def run(self) -> None:
        """Handle messages until cancelled."""
        while True:
            batch = deque(await self.mailbox.drain())
            # Only calls: keeping the other messages would keep their observations in memory.
            self.mailbox.take([envelope for envelope in batch if envelope.reply is not None])
            missed = await self._caught_up()
            while batch:
                await self._rest(any(envelope.reply is not None for envelope in batch))
                await self._handle(batch.popleft(), missed)
                await behind(self.monitor.overdue(), self._rest)

    async def _rest(self, hurried: bool = False) -> None:
        """Let all other tasks run until idle; just once if a call waits or messages pile up."""
        if hurried or self.mailbox.hurried:
            await trio.lowlevel.checkpoint()
        else:
            await self.mailbox.rest()

    async def _handle(self, envelope: Envelope[Any], missed: Unavailable | None) -> None:
        try:
            # Nothing may be added before what was missed. It is in the journal too, and is read from there later.
            await self._answer(envelope if missed is None else _without_batches(envelope, missed))
        except Unavailable as error:  # a shared store is down, which does not affect the state of this actor
            envelope.fail(error)

    async def _caught_up(self) -> Unavailable | None:
        """Read what was missed from the journal; returns the error if that fails."""
        try:
            if self.mailbox.missed:
                try:
                    await self._catch_up()
                except Trimmed:  # then what was missed has been saved
                    await self.load()
        except Unavailable as error:
            return error
        return None

    async def _catch_up(self) -> None:
        """Read from the journal what was dropped from the inbox. If that fails, `missed` stays set."""
        while self.mailbox.missed and self._has_room():
            self.mailbox.missed = self._behind = False
            try:
                while self._has_room() and self._apply(
                    await trio.to_thread.run_sync(_next_batches, self._log, self.monitor.position)
                ):
                    await behind(self.monitor.overdue(), self._rest)
            except BaseException:
                self.mailbox.missed = self._behind = True
                raise
        self.monitor.keep_only(self._features)

    def _has_room(self) -> bool:
        """Whether anything may be added. If not, what comes before the next save is left in the journal."""
        if self.monitor.full:
            self.mailbox.missed = self._behind = True
            self._ask_for_room()
        return not self.monitor.full

    async def _reconcile(self, saved: int) -> None:
        """Adopt the saved position: a save may succeed without a `Saved`, or before this monitor was loaded."""
        self.monitor.left(saved)
        if saved > self.monitor.saved:
            await self.load()

    def _apply(self, batches: Sequence[tuple[int, Batch]]) -> bool:
        """Add the batches; returns whether there were any."""
        for arrived, batch in batches:
            self.monitor.apply(arrived, batch)
        return len(batches) > 0

    async def _answer(self, envelope: Envelope[Any]) -> None:
        envelope.answer(await self._tasks.handle(envelope.message))

    def _handling(self) -> Tasks:
        tasks = Tasks("the monitor")
        tasks.on(Apply, self._take_in)
        tasks.on(Fresh, self._fresh)
        tasks.on(NewestTimes, self._newest)
        tasks.on(Late, self._late)
        tasks.on(Forget, self._forget)
        tasks.on(Snapshot, self._snapshot)
        tasks.on(Saved, self._saved)
        tasks.on(Status, self._status)
        return tasks

    async def _take_in(self, message: Apply) -> None:
        if self._has_room() and not self._behind:
            self._apply(message.batches)

    async def _fresh(self, message: Fresh) -> SavedSummaries | None:
        await self._reconcile(message.position)
        await by_turns(self.monitor.folding(message.feature.id))
        return await by_turns(self.monitor.fresh(message.feature, message.position, message.whole))

    async def _newest(self, message: NewestTimes) -> list[Vitals]:
        self._need_all_counted(message.features)
        return [self.monitor.vitals(feature) for feature in message.features]

    async def _late(self, message: Late) -> list[tuple[str, int, int]]:
        return self.monitor.late.take(message.settled, message.most)

    async def _forget(self, message: Forget) -> None:
        self.monitor.forget(message.feature)

    async def _snapshot(self, _: Snapshot) -> tuple[int, dict[SummaryKey, Summary]]:
        await self._reconcile(await trio.to_thread.run_sync(lambda: self._summaries.position))
        await behind(self.monitor.folding(), self._rest)
        return await behind(self.monitor.leaving(), self._rest)

    async def _saved(self, message: Saved) -> None:
        await self._reconcile(message.position)
        if self._behind:
            self.mailbox.post(Apply([]))  # wakes this actor, which then reads what it left in the journal

    async def _status(self, _: Status) -> MonitorStatus:
        return MonitorStatus(self.monitor.position, self.monitor.rows, self.mailbox.depth())

    def _need_all_counted(self, features: Sequence[Feature]) -> None:
        lacking = self._uncounted()
        for feature in features if lacking else ():
            if feature.id in lacking:
                raise Damaged(lacking[feature.id])


def _without_batches(envelope: Envelope[Any], error: Unavailable) -> Envelope[Any]:
    """The message, without its batches if it is an Apply. Raises the error for a call."""
    if envelope.reply is not None:
        raise error
    return Envelope(Apply([]), None) if isinstance(envelope.message, Apply) else envelope


def _next_batches(log: Log, after: int) -> list[tuple[int, Batch]]:
    """Read some batches, without entity ids: a string per row would take more memory than all the columns."""
    batches: list[tuple[int, Batch]] = []
    count = 0
    for arrived, batch in log.replay(after):
        batches.append((arrived, without_ids(batch)))
        count += observations(batch)
        if len(batches) >= CATCH_UP_BATCHES or count >= CATCH_UP_ROWS:
            break
    return batches
