"""A storage in Redis or Valkey, alone or as a cluster, which any number of processes share.

`functions.py` has what is where. An entity is changed by a function in the server, which decides by event
time and keeps every version; a read asks the server, so it sees what any process was told had been written.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec

from actors import timestamps
from actors.clock import SteadyClock
from actors.domain import Feature
from actors.errors import StartupError, StorageDown, TimewellError
from actors.settings import READ_BYTES
from actors.stats.summary import Accepted
from actors.storage.protocol import (
    Entry,
    Known,
    Latests,
    Lot,
    Newest,
    Noted,
    Quick,
    Recovered,
    SharedStorage,
    Versions,
)
from actors.storage.redis import moving
from actors.storage.redis.claims import RedisClaims
from actors.storage.redis.functions import LEASES, RETIRED, ROOT, VERSIONS, WRITERS
from actors.storage.redis.link import Command, RedisLink, call
from actors.storage.redis.log import RedisLog, arrival, changed_note
from actors.storage.redis.registry import RedisRegistry
from actors.storage.redis.stored_rows import (
    RowReader,
    Shapes,
    entity_of,
    keys_of,
)
from actors.storage.redis.stream import Streams
from actors.storage.redis.summaries import RedisMonitored, Writers
from actors.storage.shared.base import SharedStorageBase, never, starting
from actors.table.partition import DiskRows

FORM = 2
"""Of keys and rows; a later one must be able to read an earlier one, or change it at the start."""
QUICK_ENTITIES = 256
"""More at once would hold the event loop up for milliseconds."""


class RedisStorage(SharedStorageBase):
    """See the module, and `SharedStorage` for what the methods promise."""

    def __init__(
        self, url: str, timeout: float, most_bytes: int = READ_BYTES, now: Callable[[], int] = timestamps.now
    ) -> None:
        """`url` and `timeout`: see `RedisLink`. `most_bytes`: what one question may bring."""
        self._most_bytes = most_bytes
        self._link = RedisLink(url, timeout)
        self._writers = Writers(self._link)
        self._monitored = RedisMonitored(self._link, self._writers)
        super().__init__(self._monitored, RedisClaims(self._link))
        self._shapes = Shapes(self._link)
        self._steady = SteadyClock(now, time.monotonic)  # which worker threads ask, and so not trio's
        self.registry = RedisRegistry(self._link, self._writers)
        self.log = RedisLog(self._link, self._writers, self._monitored, self.registry, self._shapes, self._steady)

    @property
    def shared(self) -> SharedStorage:
        """Itself."""
        return self

    def there(self) -> bool:
        """Where there is a form of keys."""
        return self._link.there()

    def open(self) -> Recovered:
        """Wait for the server, give it the functions, become a writer."""
        self._link.open()
        with starting():
            self._check_form()
            self._writers.own()
            self._shapes.load()
            found = self.registered()
            self._steady.begin_after(found.moment or 0)
            return found

    def _check_form(self) -> None:
        """Raises StartupError where what is there is of a later form than this code knows."""
        key = VERSIONS
        asked = ("HSETNX", key, "form", FORM), ("HGET", key, "form")
        _, form = self._link.ask([Command(ROOT, one) for one in asked], whole=True)
        if int(form) > FORM:
            raise StartupError(f"what Redis has is of form {int(form)}, this Timewell knows {FORM}: upgrade")
        if int(form) < FORM:
            self._link.load(RETIRED)  # first, so that who still runs can write no more
            # Its writers have no lease, and are dead.
            (writers,) = self._link.ask([Command(WRITERS, ("HKEYS", WRITERS))])
            self._link.ask([Command(LEASES, ("HSETNX", LEASES, writer, 0)) for writer in writers])
            self._link.ask([Command(ROOT, ("HSET", key, "form", FORM))])

    def close(self) -> None:
        """Be no writer any more, and end the connections."""
        with suppress(StorageDown):  # what it was dies by itself
            self._writers.close()
        self._link.close()

    # The registry

    def registered(self) -> Recovered:
        """See `RedisRegistry`."""
        return self.registry.registered()

    def versions_now(self) -> Versions:
        """See `RedisRegistry`."""
        return self.registry.versions_now()

    def leads(self) -> bool:
        """See `RedisRegistry`."""
        return self.registry.leads()

    @property
    def versions_seen(self) -> int:
        """See `RedisRegistry`."""
        return self.registry.versions_seen

    # Writing

    def commit(self, entries: Sequence[Entry]) -> Sequence[Entry | TimewellError]:
        """See `RedisLog`."""
        return self.log.commit(entries)

    def answers(self, keys: Sequence[str], given_after: int) -> Mapping[str, bytes]:
        """See `RedisLog`."""
        return self.log.answers(keys, given_after)

    # Reading

    def latest(self, questions: Sequence[Newest]) -> Latests:
        """In one visit to each node, two for moments of the past."""
        return RowReader(self._link, self._shapes, self._most_bytes).latest(questions)

    @asynccontextmanager
    async def quick(self) -> AsyncIterator[Quick]:
        """Few entities are asked for from the event loop, unless it takes TLS."""
        streams, reader = Streams(self._link), RowReader(self._link, self._shapes, self._most_bytes)

        async def answers(questions: Sequence[Newest]) -> Latests | None:
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
        """In one visit to each node."""
        found = RowReader(self._link, self._shapes, self._most_bytes).ranges(features, entities, start, end)
        return [DiskRows(0, entities, rows) for rows in found]

    def observations(self, feature: Feature, start: int, end: int) -> Iterator[Accepted]:
        """Of all entities, which means to look for them among all keys."""
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
            for start in range(0, len(ids), moving.ENTITIES_AT_ONCE):
                yield ids[start : start + moving.ENTITIES_AT_ONCE]

    # Housekeeping

    def trim(self, monitored: int, now: int) -> None:
        """Forget what has been counted. Idempotency answers go by themselves."""
        self._monitored.trim(monitored)

    def forget(self, known: Known) -> None:
        """Delete the rows and statistics of deleted features.

        Values of theirs that share rows with those of a feature that is still there stay until that goes, and are
        not to be had any more.
        """
        (gone,) = self._link.ask([Command(ROOT, ("HGETALL", ROOT + b":forgotten"))])
        for created, record in zip(gone[::2], gone[1::2], strict=True):
            feature = msgspec.msgpack.decode(record, type=Feature)
            registered = set(self.registry.created_now().values())
            numbers = [
                number
                for number in self._shapes.known.holding(feature.entity, [feature])
                if not registered & set(self._shapes.of(number).members)
            ]
            shapes = [number.to_bytes(4, "big") for number in numbers]
            for entities in self._entities(feature.entity) if shapes else ():
                dropping = [call("drop", keys_of(feature.entity, entity), *shapes) for entity in entities]
                self._link.ask(dropping, whole=True, durable=True)
            self._monitored.forget(feature.id, feature.created)
            self._link.ask([Command(ROOT, ("HDEL", ROOT + b":forgotten", created))], whole=True, durable=True)

    def notes(self, kind: str) -> Mapping[str, bytes]:
        """From their hash."""
        (found,) = self._link.ask([Command(ROOT, ("HGETALL", ROOT + b":notes"))])
        head = kind.encode() + b"\0"
        pairs = zip(found[::2], found[1::2], strict=True)
        return {field[len(head) :].decode(): record for field, record in pairs if field.startswith(head)}

    # Moving house

    def held(self, after: int) -> int:
        """The rows of all entities, each of which may be of several features."""
        return moving.held(self._link)

    def carried(self, features: Mapping[str, Feature], after: int) -> Iterator[Lot]:
        """All rows, put in order of arrival by way of a temporary file."""
        return moving.carried(self._link, self._shapes, features, after)

    def carry(self, lot: Lot, note: Noted) -> None:
        """Rows as they are, then the note. What is carried twice is there once."""
        moving.carry(self._link, self._shapes, lot)
        newest = max((int(part.arrived.max()) for part in lot.parts), default=lot.mark)
        self._link.ask([arrival(newest), changed_note(note)], whole=True, durable=True)
