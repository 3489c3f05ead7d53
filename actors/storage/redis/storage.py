"""Redis or Valkey as shared store, single or cluster, for any number of processes.

`functions.py` describes the layout of keys. An entity is changed by a function that runs in the server, orders by
event time and keeps every version. Every read asks the server, so it sees all writes acknowledged by any process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from actors import timestamps
from actors.clock import SteadyClock
from actors.errors import StartupError, StorageDown
from actors.settings import READ_BYTES
from actors.storage.protocol import Recovered
from actors.storage.redis.claims import RedisClaims
from actors.storage.redis.functions import LEASES, RETIRED, ROOT, VERSIONS, WRITERS
from actors.storage.redis.known_ids import SET_LISTED, RedisIds
from actors.storage.redis.link import Command, RedisLink
from actors.storage.redis.log import NOTES, RedisLog
from actors.storage.redis.moving import RedisMover
from actors.storage.redis.registry import RedisRegistry
from actors.storage.redis.stored_rows import Shapes
from actors.storage.redis.summaries import RedisSummaries, Writers
from actors.storage.redis.values import RedisHistory, RedisValues
from actors.storage.shared.base import starting

FORM = 2
"""The version of the layout of keys and rows. A later version must be able to read an earlier one, or migrate it
when opened."""


class RedisStorage:
    """See `SharedStorage`."""

    def __init__(
        self, url: str, timeout: float, most_bytes: int = READ_BYTES, now: Callable[[], int] = timestamps.now
    ) -> None:
        """`url` and `timeout`: see `RedisLink`. `most_bytes`: how much one query may read."""
        link = RedisLink(url, timeout)
        self._link = link
        self._writers = Writers(link)
        self._shapes = Shapes(link)
        self._steady = SteadyClock(now, time.monotonic)  # not trio's clock: it is read in worker threads
        self.registry = RedisRegistry(link, self._writers)
        self.summaries = RedisSummaries(link, self._writers)
        self.log = RedisLog(link, self._writers, self.registry, self.summaries, self._shapes, self._steady)
        self.values = RedisValues(link, self._shapes, most_bytes)
        self.history = RedisHistory(link, self.values, self.registry, self.summaries, self._shapes)
        self.ids = RedisIds(link, self._shapes)
        self.mover = RedisMover(link, self._shapes)
        self.claims = RedisClaims(link)

    def there(self) -> bool:
        """Whether Redis has data of Timewell. Raises StartupError."""
        return self._link.there()

    def open(self) -> Recovered:
        """Wait for the server, load the function library, and register this process as a writer."""
        self._link.open()
        with starting():
            self._check_form()
            self._writers.current()
            self._shapes.load()
            found = self.registry.registered()
            self._steady.begin_after(found.moment or 0)
            return found

    def _check_form(self) -> None:
        """Migrate an earlier layout. Raises StartupError for a layout later than this code knows."""
        key = VERSIONS
        asked = ("HSETNX", key, "form", FORM), ("HGET", key, "form")
        new, form = self._link.ask([Command(ROOT, one) for one in asked], whole=True)
        if new:
            self._link.ask([SET_LISTED])
        if int(form) > FORM:
            raise StartupError(f"what Redis has is of form {int(form)}, this Timewell knows {FORM}: upgrade")
        if int(form) < FORM:
            self._link.load(RETIRED)  # first, so that processes of the earlier version can no longer write
            # Writers of the earlier version have no lease; with an expired one they count as dead.
            (writers,) = self._link.ask([Command(WRITERS, ("HKEYS", WRITERS))])
            self._link.ask([Command(LEASES, ("HSETNX", LEASES, writer, 0)) for writer in writers])
            self._link.ask([Command(ROOT, ("HSET", key, "form", FORM))])

    def close(self) -> None:
        """Give up this process's writer, and close the connections."""
        with suppress(StorageDown):  # otherwise its lease expires
            self._writers.close()
        self._link.close()

    def notes(self, kind: str) -> Mapping[str, bytes]:
        """The records of a kind, by key."""
        (found,) = self._link.ask([Command(ROOT, ("HGETALL", NOTES))])
        head = kind.encode() + b"\0"
        pairs = zip(found[::2], found[1::2], strict=True)
        return {field[len(head) :].decode(): record for field, record in pairs if field.startswith(head)}
