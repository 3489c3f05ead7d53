"""FeatureMonitor: statistics of the write stream; MonitorActor: the one that feeds it.

The monitor counts every accepted observation exactly once. It keeps what came since a position in the journal
as summaries by feature and window; a checkpoint merges these into the saved ones together with the new
position, in one transaction. After a restart the monitor goes on from that position. It never slows a write:
where its inbox has no place it misses the message and reads the journal instead.

Observations first wait as columns and are folded into summaries thousands at a time, which costs a fraction of
a microsecond each; a question folds what it concerns.
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
from actors.stats.folding import Folding
from actors.stats.late_windows import LateWindows
from actors.stats.state import decode, encode
from actors.stats.summary import Summary, newest_due
from actors.stats.windows import HOUR, WHOLE, Window
from actors.storage.protocol import Log, SavedSummaries, Summaries, SummaryKey, Trimmed
from actors.table.columns import Block, Keys, without_ids
from actors.turns import Steps, at_once, behind, by_turns

CATCH_UP_BATCHES = 256
CATCH_UP_ROWS = 1_000_000
"""Taken from the journal at a time when the monitor lags."""
PENDING_OF_A_FEATURE = 65_536
"""Observations that wait to be folded."""
PENDING_BYTES = 10_000_000
"""Of all features together: 400,000 numbers."""
SUMMARIES_TOLD_PER_STEP = 50
"""Encoded for a question, before others run."""
SUMMARIES_PER_STEP = 500
"""Gathered to be saved, before others run."""
ASIDE_BYTES = 25_000_000
"""Of what has been counted but for its windows: a million numbers, after which a checkpoint comes anyway."""


class _Stream:
    """One feature's observations since the last checkpoint, and what is known of its newest."""

    def __init__(self, created: int, vitals: Vitals) -> None:
        self.created = created
        self.vitals = vitals
        self.folding = Folding(created)

    def append(self, block: Block, newest: int | None, arrived: int) -> None:
        """Take in a block, and the newest of its event times that was due."""
        self.folding.waiting.append(block.times, arrived, block.values, block.nulls)
        self.vitals = self.vitals.after(len(block.times), newest, arrived)


class _Told(NamedTuple):
    """What the times of a block tell. Features whose values came in one table have one array of them."""

    newest: int | None
    late: dict[int, int]


class FeatureMonitor:
    """What came since `saved`, by feature and window, up to `position`. `rows` of it wait to be folded."""

    def __init__(
        self, position: int = 0, totals: Mapping[SummaryKey, bytes] | None = None, window: int = HOUR
    ) -> None:
        """`position`: what the saved summaries cover; `totals`: those of whole streams; `window`: of drift."""
        self.late = LateWindows(window)
        self.position = position
        self.saved = position
        self.rows = 0
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

    def apply(self, arrived: int, blocks: Sequence[Block]) -> None:
        """Take in a batch; what is counted already is passed over."""
        if arrived <= self.position:
            return
        told: dict[Keys, _Told] = {}
        for block in blocks:
            if block.keys not in told:
                told[block.keys] = self._told(block.keys, arrived)
            self._append(block, told[block.keys], arrived)
        self.position = arrived

    def _told(self, keys: Keys, arrived: int) -> _Told:
        if len(keys) == 0:
            return _Told(None, {})
        newest = keys.bounds[1]
        due = newest if newest <= arrived else newest_due(keys.times, arrived)
        return _Told(due, self.late.of(keys, arrived))

    def _append(self, block: Block, told: _Told, arrived: int) -> None:
        stream = self._streams.get(block.feature)
        if stream is None or stream.created < block.created:
            if stream is not None:
                self._drop(block.feature, stream.created)
            stream = self._streams[block.feature] = _Stream(block.created, Vitals())
        if stream.created == block.created:
            self._count(stream, -1)
            stream.append(block, told.newest, arrived)
            self.late.note(block.feature, told.late)
            self._count(stream, 1)
            if stream.folding.waiting.rows >= PENDING_OF_A_FEATURE:
                self._overdue.add(block.feature)

    def overdue(self) -> Steps[None]:
        """Fold where much waits. A generator that does a little at each step."""
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

    @property
    def aside(self) -> int:
        """What has been counted but for its windows, in bytes."""
        return sum(stream.folding.aside.bytes for stream in self._streams.values())

    def folding(self, feature: str | None = None) -> Steps[None]:
        """Fold all that came of one feature, or of all features."""
        for id_ in [feature] if feature is not None else list(self._streams):
            stream = self._streams.get(id_)
            if stream is not None:
                yield from self._fold(stream)
                yield from stream.folding.fold_aside()

    def _fold(self, stream: _Stream) -> Steps[None]:
        self._count(stream, -1)
        yield from stream.folding.fold()

    def _count(self, stream: _Stream, sign: int) -> None:
        """Count what waits of a stream in, or out with a negative sign."""
        self.rows += sign * stream.folding.waiting.rows
        self._bytes += sign * stream.folding.waiting.bytes

    # Asking

    def fresh(self, feature: Feature, position: int, whole: bool = False) -> Steps[SavedSummaries | None]:
        """What came after `position` by window; None where less than that is known: read the saved ones again.

        What waits of the feature has been folded. In steps, between which nothing may come in: a backfill of
        years has thousands of windows. `whole`: only that of the whole stream.
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
        """How much came, and when the newest did."""
        stream = self._of(feature)
        return stream.vitals if stream is not None else Vitals()

    def _of(self, feature: Feature) -> _Stream | None:
        stream = self._streams.get(feature.id)
        return stream if stream is not None and stream.created == feature.created else None

    # Saving

    def leave(self) -> tuple[int, dict[SummaryKey, Summary]]:
        """What is to be saved, as of the position. Everything has been folded. Kept until `left` says so."""
        return at_once(self.leaving())

    def leaving(self) -> Steps[tuple[int, dict[SummaryKey, Summary]]]:
        """The same in steps, between which nothing may come in."""
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
        """The saved summaries reach `position` now."""
        if position == self._leaving_until:
            self._leaving = {}
            self.saved = position

    # Forgetting

    def forget(self, feature: Feature) -> None:
        """A feature was deleted."""
        if self._of(feature) is not None:
            self._drop(feature.id, feature.created)

    def keep_only(self, features: Mapping[str, Feature]) -> None:
        """Forget all features but these."""
        for id_, stream in list(self._streams.items()):
            if id_ not in features or features[id_].created != stream.created:
                self._drop(id_, stream.created)

    def _drop(self, feature: str, created: int) -> None:
        self._count(self._streams.pop(feature), -1)
        self._overdue.discard(feature)
        self.late.forget(feature)
        self._leaving.pop((feature, created), None)


def _add(known: dict[Window, Summary], more: Mapping[Window, Summary]) -> None:
    """Have `known` tell of both. No summary that is in either is changed."""
    for window, summary in more.items():
        old = known.get(window)
        known[window] = summary if old is None else merged([old, summary])


def merged(summaries: Sequence[Summary]) -> Summary:
    """A new summary of all that the others saw."""
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
    ) -> None:
        """`uncounted`: see `Damage`."""
        self.mailbox = Mailbox("monitor")
        self._log = log
        self._summaries = summaries
        self._uncounted = uncounted
        self._features = features
        self._window = window
        self._tasks = self._handling()
        self.monitor = FeatureMonitor(window=window)

    async def load(self) -> None:
        """Go on from what was saved last."""
        while True:
            # Asked first: what goes from the journal from now on has been saved, perhaps after what is read next.
            trimmed = await trio.to_thread.run_sync(self._log.trimmed)
            position, totals = await trio.to_thread.run_sync(self._summaries.totals)
            self.monitor = FeatureMonitor(position, totals, self._window)
            # Where monitoring was off for a time, the journal no longer has what came by meanwhile.
            self.monitor.position = max(position, trimmed)
            self.monitor.keep_only(self._features)
            self.mailbox.missed = True
            with suppress(Trimmed):
                return await self._catch_up()

    async def run(self) -> None:
        """Handle messages until cancelled."""
        while True:
            batch = deque(await self.mailbox.drain())
            # Not what nobody waits for: observations that have been taken in are not to be kept by their message.
            self.mailbox.take([envelope for envelope in batch if envelope.reply is not None])
            missed = await self._caught_up()
            while batch:
                await self._rest(any(envelope.reply is not None for envelope in batch))
                await self._handle(batch.popleft(), missed)
                await behind(self.monitor.overdue(), self._rest)

    async def _rest(self, hurried: bool = False) -> None:
        """Give way to all others, unless somebody waits for an answer or the stream runs ahead."""
        if hurried or self.mailbox.hurried:
            await trio.lowlevel.checkpoint()
        else:
            await self.mailbox.rest()

    async def _handle(self, envelope: Envelope[Any], missed: Unavailable | None) -> None:
        try:
            # What comes after something missed has to wait for it, and is in the journal as well.
            await self._answer(envelope if missed is None else _none_of(envelope, missed))
        except Unavailable as error:  # a shared store that is down, not a state that is lost
            envelope.fail(error)

    async def _caught_up(self) -> Unavailable | None:
        """Why what was missed cannot be read now, None where there is nothing left of it."""
        try:
            if self.mailbox.missed:
                try:
                    await self._catch_up()
                except Trimmed:  # so it has been saved
                    await self.load()
        except Unavailable as error:
            return error
        return None

    async def _catch_up(self) -> None:
        """Read from the journal what did not come by the inbox. Where that fails it is still missed."""
        while self.mailbox.missed:
            self.mailbox.missed = False
            try:
                while self._apply(await trio.to_thread.run_sync(_some, self._log, self.monitor.position)):
                    await behind(self.monitor.overdue(), self._rest)
            except BaseException:
                self.mailbox.missed = True
                raise
        self.monitor.keep_only(self._features)

    async def _reconcile(self, saved: int) -> None:
        """Go by what is saved: a save may land without this monitor hearing of it, or before it was made."""
        self.monitor.left(saved)
        if saved > self.monitor.saved:
            await self.load()

    def _apply(self, batches: Sequence[tuple[int, Sequence[Block]]]) -> bool:
        """Take the batches in; returns whether there were any."""
        for arrived, blocks in batches:
            self.monitor.apply(arrived, blocks)
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

    async def _status(self, _: Status) -> MonitorStatus:
        return MonitorStatus(self.monitor.position, self.monitor.rows, self.mailbox.depth())

    def _need_all_counted(self, features: Sequence[Feature]) -> None:
        lacking = self._uncounted()
        for feature in features if lacking else ():
            if feature.id in lacking:
                raise Damaged(lacking[feature.id])


def _none_of(envelope: Envelope[Any], error: Unavailable) -> Envelope[Any]:
    """The message, unless it is a part of the stream. Raises the error for questions about the stream."""
    if envelope.reply is not None:
        raise error
    return Envelope(Apply([]), None) if isinstance(envelope.message, Apply) else envelope


def _some(log: Log, after: int) -> list[tuple[int, list[Block]]]:
    """Batches without their entities: a string for each row would take more room than all the columns."""
    batches: list[tuple[int, list[Block]]] = []
    rows = 0
    for arrived, blocks in log.replay(after):
        batches.append((arrived, without_ids(blocks)))
        rows += sum(len(block.times) for block in blocks)
        if len(batches) >= CATCH_UP_BATCHES or rows >= CATCH_UP_ROWS:
            break
    return batches
