"""FeatureMonitor: statistics of the write stream; MonitorActor: the one that feeds it.

The monitor counts every accepted observation exactly once. It keeps what came since a position in the journal
as summaries by feature and window; a checkpoint merges these into the saved ones together with the new
position, in one transaction. After a restart the monitor goes on from that position. It never slows a write:
where its inbox has no place it misses the message and reads the journal instead.

Observations first wait as columns and are folded into summaries thousands at a time, which costs a fraction of
a microsecond each; a question folds what it concerns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import trio

from actors.columns import Block
from actors.domain import Feature
from actors.mailbox import Envelope, Mailbox
from actors.messages import Apply, Forget, Fresh, MonitorStatus, Newest, Saved, Snapshot, Status, Vitals
from actors.stats.state import decode, encode
from actors.stats.summary import Accepted, Summary, of_a_window, of_all
from actors.stats.windows import WHOLE, Window, placed
from actors.storage.protocol import SavedSummaries, Storage, SummaryKey

CATCH_UP_BATCHES = 256
"""Batches taken from the journal at a time when the monitor lags."""
PENDING_OF_A_FEATURE = 65_536
PENDING_OF_ALL = 400_000
"""Observations that wait to be folded, at about 26 bytes each."""
ROWS_PER_STEP = 8_192
WINDOWS_PER_STEP = 64
"""Folding lets others run after so much: about 2 ms."""


_Summaries = dict[tuple[str, int], dict[Window, Summary]]
"""By feature id and creation, by window."""


class _Stream:
    """One feature's observations that are not folded yet, and what is known of its newest.

    They are copied into columns that grow: to keep the small arrays of every batch for so long would leave the
    memory between them in pieces.
    """

    def __init__(self, created: int, vitals: Vitals) -> None:
        self.created = created
        self.vitals = vitals
        self.rows = 0
        self._columns: Accepted | None = None

    def append(self, block: Block, arrived: int) -> None:
        """Take a copy of a block."""
        end = self.rows + len(block.times)
        if self._columns is None or end > len(self._columns.times):
            self._grow(end, block)
        assert self._columns is not None
        times, arrivals, values, nulls = self._columns
        times[self.rows : end], arrivals[self.rows : end] = block.times, arrived
        values[self.rows : end], nulls[self.rows : end] = block.values, block.nulls
        self.rows = end
        self.vitals = self.vitals.after(len(block.times), block.times, arrived)

    def _grow(self, needed: int, block: Block) -> None:
        room = max(16, 1 << (needed - 1).bit_length())
        times = np.empty(room, np.int64)
        values = np.empty((room, *block.values.shape[1:]), block.values.dtype)
        grown = Accepted(times, times.copy(), values, np.empty(room, np.bool_))
        if self._columns is not None:
            for column, old in zip(grown, self._columns, strict=True):
                column[: self.rows] = old[: self.rows]
        self._columns = grown

    def drain(self) -> Accepted | None:
        """All of them, leaving none behind; None where there are none."""
        if self._columns is None or self.rows == 0:
            return None
        drained = Accepted(*(column[: self.rows] for column in self._columns))  # type: ignore[arg-type]
        self._columns, self.rows = None, 0
        return drained


class FeatureMonitor:
    """What came since `saved`, by feature and window, up to `position`."""

    def __init__(self, position: int = 0, totals: Mapping[SummaryKey, bytes] | None = None) -> None:
        """`position`: what the saved summaries cover; `totals`: those of whole streams."""
        self.position = position
        self.saved = position
        self.rows = 0
        self._streams: dict[str, _Stream] = {}
        self._fresh: _Summaries = {}
        self._leaving: _Summaries = {}
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
        for block in blocks:
            self._append(block, arrived)
        self.position = arrived

    def _append(self, block: Block, arrived: int) -> None:
        stream = self._streams.get(block.feature)
        if stream is None or stream.created < block.created:
            if stream is not None:
                self._drop(block.feature, stream.created)
            stream = self._streams[block.feature] = _Stream(block.created, Vitals())
        if stream.created == block.created:
            stream.append(block, arrived)
            self.rows += len(block.times)

    def overdue(self) -> Iterator[None]:
        """Fold where much waits. A generator that does a little at each step."""
        if self.rows >= PENDING_OF_ALL:
            yield from self.folding()
        for feature, stream in list(self._streams.items()):
            if stream.rows >= PENDING_OF_A_FEATURE:
                yield from self.folding(feature)

    def folding(self, feature: str | None = None) -> Iterator[None]:
        """Fold what waits of one feature, or of all."""
        for id_ in [feature] if feature is not None else list(self._streams):
            stream = self._streams.get(id_)
            waiting = stream.drain() if stream is not None else None
            if stream is None or waiting is None:
                continue
            self.rows -= len(waiting.times)
            yield from self._fold(id_, stream.created, waiting)

    def _fold(self, feature: str, created: int, rows: Accepted) -> Iterator[None]:
        widths, starts = placed(rows.times, rows.arrived)
        order = np.lexsort((starts, widths))
        rows, widths, starts = rows.take(order), widths[order], starts[order]
        edges = np.flatnonzero((np.diff(starts, prepend=starts[:1] - 1) != 0) | (np.diff(widths, prepend=0) != 0))
        fresh = self._fresh.setdefault((feature, created), {})
        whole = _summary(fresh, WHOLE, created)
        if len(edges) == 1:  # what is live: one summary serves both
            window = _summary(fresh, Window(int(widths[0]), int(starts[0])), created)
            for part in _steps(rows, 0, len(order)):
                _add_to_both(whole, window, part)
                yield
            return
        for part in _steps(rows, 0, len(order)):
            whole.add(part)
            yield
        for number, (begin, end) in enumerate(pairwise([*edges.tolist(), len(order)])):
            window = _summary(fresh, Window(int(widths[begin]), int(starts[begin])), created)
            for part in _steps(rows, begin, end):
                window.add(part)
            if number % WINDOWS_PER_STEP == 0 or end - begin >= ROWS_PER_STEP:
                yield

    # Asking

    def fresh(self, feature: Feature, position: int) -> SavedSummaries | None:
        """What came after `position` by window; None where less than that is known: read the saved ones again.

        What waits of the feature has been folded.
        """
        if position < self.saved:
            return None
        sources = [self._fresh]
        if position < self._leaving_until:
            sources.insert(0, self._leaving)
        states: dict[Window, Summary] = {}
        for source in sources:
            for window, summary in source.get((feature.id, feature.created), {}).items():
                states[window] = merged([states[window], summary]) if window in states else summary
        return SavedSummaries(self.position, {window: encode(summary) for window, summary in states.items()})

    def vitals(self, feature: Feature) -> Vitals:
        """How much came, and when the newest did."""
        stream = self._streams.get(feature.id)
        return stream.vitals if stream is not None and stream.created == feature.created else Vitals()

    # Saving

    def leave(self) -> tuple[int, dict[SummaryKey, Summary]]:
        """What is to be saved, as of the position. Everything has been folded. Kept until `left` says so."""
        for owner, windows in self._fresh.items():
            leaving = self._leaving.setdefault(owner, {})
            for window, summary in windows.items():
                old = leaving.get(window)
                leaving[window] = summary if old is None else merged([old, summary])
        self._fresh, self._leaving_until = {}, self.position
        return self.position, {
            SummaryKey(*owner, *window): summary
            for owner, windows in self._leaving.items()
            for window, summary in windows.items()
        }

    def left(self, position: int) -> None:
        """The saved summaries reach `position` now."""
        if position == self._leaving_until:
            self._leaving = {}
            self.saved = position

    # Forgetting

    def forget(self, feature: Feature) -> None:
        """A feature was deleted."""
        stream = self._streams.get(feature.id)
        if stream is not None and stream.created == feature.created:
            self._drop(feature.id, stream.created)

    def keep_only(self, features: Mapping[str, Feature]) -> None:
        """Forget all features but these."""
        for id_, stream in list(self._streams.items()):
            if id_ not in features or features[id_].created != stream.created:
                self._drop(id_, stream.created)

    def _drop(self, feature: str, created: int) -> None:
        self.rows -= self._streams.pop(feature).rows
        for summaries in (self._fresh, self._leaving):
            summaries.pop((feature, created), None)


def _summary(fresh: dict[Window, Summary], window: Window, created: int) -> Summary:
    found = fresh.get(window)
    if found is None:
        found = fresh[window] = of_a_window(created) if window.width else of_all(created)
    return found


def merged(summaries: Sequence[Summary]) -> Summary:
    """A new summary of all that the others saw."""
    whole = decode(encode(summaries[0]), Summary)
    for summary in summaries[1:]:
        whole.merge(summary)
    return whole


def _steps(rows: Accepted, begin: int, end: int) -> Iterator[Accepted]:
    """Slices of at most ROWS_PER_STEP."""
    for start in range(begin, end, ROWS_PER_STEP):
        cut = slice(start, min(start + ROWS_PER_STEP, end))
        yield Accepted(rows.times[cut], rows.arrived[cut], rows.values[cut], rows.nulls[cut])


def _add_to_both(whole: Summary, window: Summary, part: Accepted) -> None:
    """What is many goes through a summary of its own, which halves the work on texts."""
    if len(part.times) < ROWS_PER_STEP // 8:
        whole.add(part)
        window.add(part)
        return
    summary = of_all(whole.created)
    summary.add(part)
    whole.merge(summary)
    window.merge(summary)


class MonitorActor:
    """Runs a FeatureMonitor on the write stream."""

    def __init__(self, storage: Storage, features: Mapping[str, Feature]) -> None:
        self.mailbox = Mailbox("monitor")
        self._storage = storage
        self._features = features
        self.monitor = FeatureMonitor()

    async def load(self) -> None:
        """Go on from what was saved last."""
        position, totals = await trio.to_thread.run_sync(self._storage.whole_summaries)
        # Where monitoring was off for a time, the journal no longer has what came by meanwhile.
        trimmed = await trio.to_thread.run_sync(self._storage.trimmed)
        self.monitor = FeatureMonitor(position, totals)
        self.monitor.position = max(position, trimmed)
        self.monitor.keep_only(self._features)
        self.mailbox.missed = True
        await self._catch_up()

    async def run(self) -> None:
        """Handle messages until cancelled."""
        while True:
            batch = await self.mailbox.drain()
            self.mailbox.take(batch)
            if self.mailbox.missed:
                await self._catch_up()
            for envelope in batch:
                await self._answer(envelope)
                await trio.lowlevel.checkpoint()

    async def _catch_up(self) -> None:
        """Read from the journal what did not come by the inbox."""
        while self.mailbox.missed:
            self.mailbox.missed = False
            while batches := await trio.to_thread.run_sync(_some, self._storage, self.monitor.position):
                await self._apply(batches)
        self.monitor.keep_only(self._features)

    async def _reconcile(self, saved: int) -> None:
        """Go by what is saved: a save may land without this monitor hearing of it, or before it was made."""
        self.monitor.left(saved)
        if saved > self.monitor.saved:
            await self.load()

    async def _apply(self, batches: Sequence[tuple[int, Sequence[Block]]]) -> None:
        for arrived, blocks in batches:
            self.monitor.apply(arrived, blocks)
        await _stepping(self.monitor.overdue())

    async def _answer(self, envelope: Envelope) -> None:
        answer: Any = None
        match envelope.message:
            case Apply(batches):
                await self._apply(batches)
            case Fresh(feature, position):
                await self._reconcile(position)
                await _stepping(self.monitor.folding(feature.id))
                answer = self.monitor.fresh(feature, position)
            case Newest(features):
                answer = [self.monitor.vitals(feature) for feature in features]
            case Forget(feature):
                self.monitor.forget(feature)
            case Snapshot():
                await self._reconcile(await trio.to_thread.run_sync(self._storage.monitored))
                await _stepping(self.monitor.folding())
                answer = self.monitor.leave()
            case Saved(position):
                await self._reconcile(position)
            case Status():
                answer = MonitorStatus(self.monitor.position, self.monitor.rows, self.mailbox.depth())
        if envelope.reply is not None:
            envelope.reply.answer(answer)


async def _stepping(steps: Iterator[None]) -> None:
    """Take all the steps, others running in between."""
    for _ in steps:
        await trio.lowlevel.checkpoint()


def _some(storage: Storage, after: int) -> list[tuple[int, list[Block]]]:
    batches = []
    for batch in storage.replay(after):
        batches.append(batch)
        if len(batches) >= CATCH_UP_BATCHES:
            break
    return batches
