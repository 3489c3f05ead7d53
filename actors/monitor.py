"""FeatureMonitor: statistics of the write stream; MonitorActor: the one that feeds it.

The monitor counts every accepted observation exactly once. It knows the position in the journal that its
state covers; both are saved together, and after a restart it goes on from there. It never slows a write:
where its inbox has no place it misses the message and reads the journal instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import trio

from actors.columns import Block
from actors.domain import Feature
from actors.mailbox import Envelope, Mailbox
from actors.messages import Apply, Describe, Forget, Snapshot
from actors.stats.summary import Figures, Summary
from actors.storage.protocol import Storage

CATCH_UP_BATCHES = 256
"""Batches taken from the journal at a time when the monitor lags."""


class FeatureMonitor:
    """A summary per feature, and the journal position that they cover."""

    def __init__(self, position: int = 0, summaries: dict[str, Summary] | None = None) -> None:
        self.position = position
        self._summaries = summaries or {}

    def apply(self, arrived: int, blocks: Sequence[Block]) -> None:
        """Take in a batch; what is counted already is passed over."""
        if arrived <= self.position:
            return
        for block in blocks:
            summary = self._summaries.get(block.feature)
            if summary is None or summary.created < block.created:
                summary = self._summaries[block.feature] = Summary(block.created)
            if summary.created == block.created:
                summary.add(block, arrived)
        self.position = arrived

    def describe(self, feature: Feature) -> Figures:
        """The statistics of a feature, all zero where nothing was written."""
        summary = self._summaries.get(feature.id)
        found = summary if summary and summary.created == feature.created else Summary(feature.created)
        return found.figures()

    def forget(self, feature: Feature) -> None:
        """A feature was deleted."""
        summary = self._summaries.get(feature.id)
        if summary is not None and summary.created == feature.created:
            del self._summaries[feature.id]

    def keep_only(self, features: Mapping[str, Feature]) -> None:
        """Forget all features but these."""
        for id_, summary in list(self._summaries.items()):
            if id_ not in features or features[id_].created != summary.created:
                del self._summaries[id_]

    def save(self) -> bytes:
        """The state as MessagePack."""
        return msgspec.msgpack.encode(self._summaries)

    @classmethod
    def restore(cls, position: int, state: bytes) -> FeatureMonitor:
        """From what `save` returned."""
        return cls(position, msgspec.msgpack.decode(state, type=dict[str, Summary]))


class MonitorActor:
    """Runs a FeatureMonitor on the write stream."""

    def __init__(self, storage: Storage, features: Mapping[str, Feature]) -> None:
        self.mailbox = Mailbox("monitor")
        self._storage = storage
        self._features = features
        self.monitor = FeatureMonitor()

    async def load(self) -> None:
        """Go on from the state saved last."""
        saved = await trio.to_thread.run_sync(self._storage.load_monitor)
        self.monitor = FeatureMonitor.restore(*saved) if saved else FeatureMonitor()
        # Where monitoring was off for a time, the journal no longer has what came by meanwhile.
        trimmed = await trio.to_thread.run_sync(self._storage.trimmed)
        self.monitor.position = max(self.monitor.position, trimmed)
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
                self._answer(envelope)
                await trio.lowlevel.checkpoint()

    async def _catch_up(self) -> None:
        """Read from the journal what did not come by the inbox."""
        while self.mailbox.missed:
            self.mailbox.missed = False
            while batches := await trio.to_thread.run_sync(_some, self._storage, self.monitor.position):
                for arrived, blocks in batches:
                    self.monitor.apply(arrived, blocks)
                    await trio.lowlevel.checkpoint()
        self.monitor.keep_only(self._features)

    def _answer(self, envelope: Envelope) -> None:
        answer: Any = None
        match envelope.message:
            case Apply(batches):
                for arrived, blocks in batches:
                    self.monitor.apply(arrived, blocks)
            case Describe(feature):
                answer = self.monitor.describe(feature)
            case Forget(feature):
                self.monitor.forget(feature)
            case Snapshot():
                answer = (self.monitor.position, self.monitor.save())
        if envelope.reply is not None:
            envelope.reply.answer(answer)


def _some(storage: Storage, after: int) -> list[tuple[int, list[Block]]]:
    batches = []
    for batch in storage.replay(after):
        batches.append(batch)
        if len(batches) >= CATCH_UP_BATCHES:
            break
    return batches
