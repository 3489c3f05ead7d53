"""Reads the values in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from actors.domain import Feature
from actors.stats.summary import Accepted
from actors.storage.protocol import Known, LatestAnswers, LatestQuestion, Quick
from actors.storage.redis.functions import ROOT
from actors.storage.redis.link import Command, RedisLink, call
from actors.storage.redis.registry import RedisRegistry
from actors.storage.redis.stored_rows import RowReader, Shapes, entity_of, keys_of
from actors.storage.redis.stream import Streams
from actors.storage.redis.summaries import RedisSummaries
from actors.storage.shared.base import SharedHistory, never
from actors.table.partition import DiskRows

ENTITIES_AT_ONCE = 500
QUICK_ENTITIES = 256
"""Queries for more entities run in a worker thread: they would block the event loop for milliseconds."""


class RedisValues:
    """See `Values`."""

    def __init__(self, link: RedisLink, shapes: Shapes, most_bytes: int) -> None:
        """`most_bytes`: how much one query may read."""
        self._link = link
        self._shapes = shapes
        self._most_bytes = most_bytes

    def latest(self, questions: Sequence[LatestQuestion]) -> LatestAnswers:
        """The latest values, in one pipeline to each node, or two for moments in the past."""
        return RowReader(self._link, self._shapes, self._most_bytes).latest(questions)

    @asynccontextmanager
    async def quick(self) -> AsyncIterator[Quick]:
        """A function that reads a few entities on the event loop; it always returns None unless TCP is plain."""
        streams, reader = Streams(self._link), RowReader(self._link, self._shapes, self._most_bytes)

        async def answers(questions: Sequence[LatestQuestion]) -> LatestAnswers | None:
            if sum(len(question.entities) for question in questions) > QUICK_ENTITIES:
                return None
            asked = reader.asking(questions)
            replies = await streams.ask(asked.commands)
            return None if replies is None else reader.answered(questions, asked, replies)

        try:
            yield answers if self._link.plain else never
        finally:
            streams.close()

    def ranges(self, features: Sequence[Feature], entities: Sequence[str], start: int, end: int) -> list[DiskRows]:
        """The observations of each feature in a range of event time, sorted by feature."""
        found = RowReader(self._link, self._shapes, self._most_bytes).ranges(features, entities, start, end)
        return [DiskRows(0, entities, rows) for rows in found]


class RedisHistory(SharedHistory):
    """See `History`."""

    def __init__(
        self,
        link: RedisLink,
        values: RedisValues,
        registry: RedisRegistry,
        summaries: RedisSummaries,
        shapes: Shapes,
    ) -> None:
        super().__init__(values)
        self._link = link
        self._registry = registry
        self._summaries = summaries
        self._shapes = shapes

    def observations(self, feature: Feature, start: int, end: int) -> Iterator[Accepted]:
        """The observations of all entities, which are found by scanning all keys."""
        for entities in self._entities(feature.entity):
            rows = self.read(feature, entities, start, end).rows
            if rows.size:
                yield Accepted(rows.times, rows.arrived, rows.values, rows.nulls)

    def _entities(self, entity_type: str) -> Iterator[list[str]]:
        seen = set[bytes]()  # a scan may name a key twice
        for keys in self._link.each_key(b"tw:{%b:*}:h" % entity_type.encode()):
            fresh = [key for key in keys if key not in seen]
            seen.update(fresh)
            ids = [entity_of(key)[1] for key in fresh]
            for start in range(0, len(ids), ENTITIES_AT_ONCE):
                yield ids[start : start + ENTITIES_AT_ONCE]

    def forget(self, known: Known) -> None:
        """Delete the rows and statistics of deleted features.

        Values stored in one row with those of a feature that still exists stay until that is deleted too, but are
        no longer read.
        """
        (gone,) = self._link.ask([Command(ROOT, ("HGETALL", ROOT + b":forgotten"))])
        for created, record in zip(gone[::2], gone[1::2], strict=True):
            feature = msgspec.msgpack.decode(record, type=Feature)
            registered = set(self._registry.created_now().values())
            numbers = [
                number
                for number in self._shapes.known.holding(feature.entity, [feature])
                if not registered & set(self._shapes.of(number).members)
            ]
            shapes = [number.to_bytes(4, "big") for number in numbers]
            for entities in self._entities(feature.entity) if shapes else ():
                dropping = [call("drop", keys_of(feature.entity, entity), *shapes) for entity in entities]
                self._link.ask(dropping, whole=True, durable=True)
            self._summaries.forget(feature.id, feature.created)
            self._link.ask([Command(ROOT, ("HDEL", ROOT + b":forgotten", created))], whole=True, durable=True)
