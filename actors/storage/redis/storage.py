"""A storage in Redis or Valkey, alone or as a cluster, which any number of processes share.

`functions.py` has what is where. An entity is changed by a function in the server, which decides by event
time and keeps every version; a read asks the server, so it sees what any process was told had been written.
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
from actors.storage.redis.link import Command, RedisLink
from actors.storage.redis.log import NOTES, RedisLog
from actors.storage.redis.moving import RedisMover
from actors.storage.redis.registry import RedisRegistry
from actors.storage.redis.stored_rows import Shapes
from actors.storage.redis.summaries import RedisSummaries, Writers
from actors.storage.redis.values import RedisHistory, RedisValues
from actors.storage.shared.base import starting

FORM = 2
"""Of keys and rows; a later one must be able to read an earlier one, or change it at the start."""


class RedisStorage:
    """See `SharedStorage`."""

    def __init__(
        self, url: str, timeout: float, most_bytes: int = READ_BYTES, now: Callable[[], int] = timestamps.now
    ) -> None:
        """`url` and `timeout`: see `RedisLink`. `most_bytes`: what one question may bring."""
        link = RedisLink(url, timeout)
        self._link = link
        self._writers = Writers(link)
        self._shapes = Shapes(link)
        self._steady = SteadyClock(now, time.monotonic)  # which worker threads ask, and so not trio's
        self.registry = RedisRegistry(link, self._writers)
        self.summaries = RedisSummaries(link, self._writers)
        self.log = RedisLog(link, self._writers, self.registry, self.summaries, self._shapes, self._steady)
        self.values = RedisValues(link, self._shapes, most_bytes)
        self.history = RedisHistory(link, self.values, self.registry, self.summaries, self._shapes)
        self.mover = RedisMover(link, self._shapes)
        self.claims = RedisClaims(link)

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
            found = self.registry.registered()
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

    def notes(self, kind: str) -> Mapping[str, bytes]:
        """From their hash."""
        (found,) = self._link.ask([Command(ROOT, ("HGETALL", NOTES))])
        head = kind.encode() + b"\0"
        pairs = zip(found[::2], found[1::2], strict=True)
        return {field[len(head) :].decode(): record for field, record in pairs if field.startswith(head)}
