"""A storage in Redis or Valkey, alone or as a cluster, which any number of processes share.

`functions.py` has what is where. An entity is changed by a function in the server, which decides by event
time and keeps every version; a read asks the server, so it sees what any process was told had been written.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from actors import timestamps
from actors.clock import SteadyClock
from actors.domain import Feature, Group
from actors.errors import Conflict, StartupError, StorageDown, TimewellError, UnderWay
from actors.settings import IDEMPOTENCY_HOURS, READ_BYTES
from actors.stats.summary import Accepted
from actors.storage.protocol import (
    Deleted,
    Entry,
    Erased,
    Known,
    Latests,
    Lot,
    Newest,
    Noted,
    Quick,
    Recovered,
    Registered,
    Removed,
    SharedStorage,
    Stale,
    Versions,
    Written,
)
from actors.storage.redis import moving
from actors.storage.redis.changes import change_of
from actors.storage.redis.claims import CLAIM_SECONDS, RedisClaims
from actors.storage.redis.functions import LEASES, RETIRED, ROOT, VERSIONS, WRITERS
from actors.storage.redis.link import Command, RedisLink, call, judged
from actors.storage.redis.stored_rows import (
    LAST_ARRIVAL,
    RowReader,
    RowWriter,
    Shapes,
    entity_of,
    keys_of,
    last_arrival,
    lives_of,
)
from actors.storage.redis.stream import Streams
from actors.storage.redis.summaries import RedisMonitored, Writers
from actors.storage.shared.base import SharedStorageBase, never, starting
from actors.storage.shared.parts import removed
from actors.table.partition import DiskRows
from actors.timestamps import SECOND

FORM = 2
"""Of keys and rows; a later one must be able to read an earlier one, or change it at the start."""
QUICK_ENTITIES = 256
"""More at once would hold the event loop up for milliseconds."""
ENTITIES_PER_CALL = 64
"""A function holds the server up for as long as it runs: some 15 microseconds an entity."""
_PENDING = b"\0pending "


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
        self._aged: set[str] = set()
        self._lives: dict[str, int | None] | None = None
        """What `lives_of` makes of these two, None where they have changed since."""
        self._features: dict[str, Feature] = {}
        """By id, as of the version seen."""

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
        """Features and groups, as of one moment."""
        hashes = [("HVALS", ROOT + name) for name in (b":features", b":groups", b":writers")]
        hashes.append(("HKEYS", ROOT + b":aged"))
        # Not in one transaction, for which all keys would have to be on one node: their slot may be moving.
        asked = [_REGISTRY, *(Command(ROOT, one) for one in hashes), LAST_ARRIVAL, Command(ROOT, ("TIME",))]
        while True:
            version, records, groups, positions, aged, last, (seconds, micros) = self._link.ask(asked)
            if self._link.ask([_REGISTRY]) == [version]:
                break
        features = [msgspec.msgpack.decode(record, type=Feature) for record in records]
        found = [msgspec.msgpack.decode(record, type=Group) for record in groups]
        self._features = {feature.id: feature for feature in features}
        self._aged, self._lives = {entity_type.decode() for entity_type in aged}, None
        self._seen = int(version or 0)
        marks = [
            *map(int, positions),
            *(one.updated for one in features),
            *(one.updated for one in found),
            last_arrival(last),
        ]
        arrived = max(marks)
        return Recovered(features, found, arrived, 0, min(arrived, int(seconds) * SECOND + int(micros)))

    def versions_now(self) -> Versions:
        """From their hash. The lease is renewed with it."""
        self._writers.renew()
        asked = Command(ROOT, ("HMGET", VERSIONS, "registry", "notes")), LAST_ARRIVAL
        (registry, notes), arrived = self._link.ask(asked)
        return Versions(int(registry or 0), int(notes or 0), last_arrival(arrived))

    def leads(self) -> bool:
        """By a key with a time to live."""
        return self._writers.leads()

    # Writing

    def commit(self, entries: Sequence[Entry]) -> Sequence[Entry | TimewellError]:
        """To a server of its own in one transaction, to a cluster entity by entity."""
        recorded: list[Entry | TimewellError] = []
        waiting: list[Written] = []
        for entry in entries:
            if isinstance(entry, Written):
                if entry.key is not None and any(one.key == entry.key for one in waiting):
                    recorded += self._written(waiting)  # what that is answered is the answer to this one
                    waiting = []
                waiting.append(entry)
                continue
            recorded += self._written(waiting)
            waiting = []
            recorded.append(self._changed(entry))
        return recorded + self._written(waiting)

    def _written(self, entries: Sequence[Written]) -> list[Entry | TimewellError]:
        if not entries:
            return []
        writer, given = self._writers.own(), [one.judged for one in entries if one.judged is not None]
        version = max(given, default=None)
        found = self._admitted(entries, writer, version)
        found = [self._later(entry) if isinstance(entry, Written) else entry for entry in found]
        fresh = [entry for entry in found if isinstance(entry, Written) and entry.blocks]
        if self._lives is None:
            self._lives = lives_of(self._features.values(), self._aged)
        rows = RowWriter(self._shapes, self._features, self._lives, self._steady())
        for entry in fresh:
            rows.add(entry.blocks)
        if self._link.cluster:  # the version is looked at before all is written, and after
            self._link.ask(rows.commands(1), durable=True)
            replies = self._link.ask(self._ending(found, fresh, writer), durable=True)
        else:
            commands = rows.commands(ENTITIES_PER_CALL, version)
            ending = self._ending(found, fresh, writer, version)
            replies = self._link.ask([*commands, *ending], whole=True, durable=True)[len(commands) :]
            if version not in (None, int(replies[-1] or 0)):
                return self._overtaken(found, writer)
        if fresh and not replies[0]:
            found = self._kept_by_another(found, writer)
        return self._still_registered(found, int(replies[-1] or 0))

    def _ending(
        self,
        found: Sequence[Entry | TimewellError],
        fresh: Sequence[Written],
        writer: bytes,
        version: int | None = None,
    ) -> list[Command]:
        """What comes after the rows: batches for the statistics, answers, and the version of the registry."""
        batches = [(one.arrived, one.blocks) for one in fresh]
        kept = [self._monitored.keeping(writer, batches, version)] if fresh else []
        keyed = [one for one in found if isinstance(one, Written) and one.key is not None]
        kept += [_arrival(max(one.arrived for one in fresh))] if fresh else []
        return [*kept, *(_put_answer(one, version) for one in keyed), _REGISTRY]

    def _overtaken(self, found: Sequence[Entry | TimewellError], writer: bytes) -> list[Entry | TimewellError]:
        """Nothing has been written, since the registry is another by now: only what does not go by it is."""
        anyway = [one for one in found if isinstance(one, Written) and one.judged is None]
        written = iter(self._written(anyway))
        stale = [isinstance(one, Written) and one.judged is not None for one in found]
        self._give_back([one for one, is_stale in zip(found, stale, strict=True) if is_stale], writer)
        return [
            _STALE if is_stale else next(written) if isinstance(one, Written) else one
            for one, is_stale in zip(found, stale, strict=True)
        ]

    def _give_back(self, entries: Sequence[Any], writer: bytes) -> None:
        """The keys of what is not written after all."""
        keys = [_answer_key(entry.key) for entry in entries if entry.key is not None]
        self._link.ask([call("release", [key], _PENDING + writer) for key in keys])

    def _still_registered(
        self, found: Sequence[Entry | TimewellError], version: int
    ) -> list[Entry | TimewellError]:
        """What has been written, refused where a feature of it is none any more, also when its key comes again."""
        blocks = [one.blocks for one in found if isinstance(one, Written) and one.judged != version]
        doubtful = {block.feature for some in blocks for block in some}
        if not doubtful:
            return list(found)
        created = self._created_now(sorted(doubtful))
        kept = [
            _still(one, created) if isinstance(one, Written) and one.judged != version else one for one in found
        ]
        keys = [
            _answer_key(one.key)
            for one, now in zip(found, kept, strict=True)
            if isinstance(one, Written) and one.key is not None and isinstance(now, Conflict)
        ]
        self._link.ask([Command(key, ("DEL", key)) for key in keys], whole=True, durable=True)
        return kept

    def _kept_by_another(
        self, found: Sequence[Entry | TimewellError], writer: bytes
    ) -> list[Entry | TimewellError]:
        """What has been written, counted by the writer that this process is from now on."""
        own = self._writers.renewed(writer)
        again = [self._later(one) if isinstance(one, Written) else one for one in found]
        batches = [(one.arrived, one.blocks) for one in again if isinstance(one, Written) and one.blocks]
        if not self._link.ask([self._monitored.keeping(own, batches)], whole=True, durable=True)[0]:
            raise StorageDown("other processes keep taking over while this one is away")
        return again

    def _later(self, entry: Written) -> Written:
        """With an arrival after all before, also where this process's clock is behind that of the server."""
        self._writers.given = max(entry.arrived, self._writers.given + 1, self._writers.begun + 1)
        return entry._replace(arrived=self._writers.given)

    def _admitted(
        self, entries: Sequence[Written], writer: bytes, version: int | None
    ) -> list[Entry | TimewellError]:
        """The entries, or what was said to their keys before, or why they may not be written."""
        mine, keys = _PENDING + writer, [_answer_key(entry.key) for entry in entries if entry.key is not None]
        asked = [Command(key, ("SET", key, mine, "NX", "GET", "EX", CLAIM_SECONDS)) for key in keys]
        if self._link.cluster and version is not None:
            asked.append(_REGISTRY)
        said = self._link.ask(asked)
        if len(asked) > len(keys):
            version = int(said[-1] or 0)
        before, found, stale = iter(said), list[Entry | TimewellError](), list[Written]()
        for entry in entries:
            answer = None if entry.key is None else next(before)
            if answer is not None and answer != mine:
                found.append(_answered(entry, answer))
            elif entry.judged in (None, version):
                found.append(entry)
            else:
                found.append(_STALE)
                stale.append(entry)
        self._give_back(stale, writer)
        return found

    def _created_now(self, ids: Sequence[str] | None = None) -> dict[str, int]:
        """When the features there are were registered; those of some ids, or all."""
        asked = ("HVALS", ROOT + b":features") if ids is None else ("HMGET", ROOT + b":features", *ids)
        (records,) = self._link.ask([Command(ROOT, asked)])
        features = [msgspec.msgpack.decode(record, type=Feature) for record in records if record is not None]
        return {feature.id: feature.created for feature in features}

    def _changed(self, entry: Entry) -> Entry | TimewellError:
        match entry:
            case Erased(entity_type, entity_id):
                return entry._replace(removed=self._erase(entity_type, entity_id))
            case Noted(kind, key, record, True):
                field = Command(ROOT, ("HSETNX", ROOT + b":notes", f"{kind}\0{key}", record))
                told = Command(ROOT, ("HINCRBY", VERSIONS, "notes", 1))
                is_new, _ = self._link.ask([field, told], whole=True, durable=True)
                return entry if is_new else Conflict(f"another process has put {kind} {key}")
            case Noted(kind, key, record):
                self._link.ask([_note(kind, key, record)], whole=True, durable=True)
                return entry
        (version,) = self._link.ask([change_of(entry, self._seen)], durable=True)
        if version == -1:
            return Stale("the registry was changed by another process")
        self._seen = version
        match entry:
            case Registered(feature):
                self._features[feature.id], self._lives = feature, None
                if feature.kept_age is not None:
                    self._aged.add(feature.entity)
            case Deleted(feature):
                self._features.pop(feature.id, None)
                self._lives = None
        return entry

    def _erase(self, entity_type: str, entity_id: str) -> Removed:
        (found,) = self._link.ask([call("erase", keys_of(entity_type, entity_id))], whole=True, durable=True)
        numbers = [int.from_bytes(number, "big") for number in found[::2]]
        counts = dict(zip(map(self._shapes.of, numbers), found[1::2], strict=True))
        return removed(counts, {feature.created for feature in self._features.values()})

    def answers(self, keys: Sequence[str], given_after: int) -> Mapping[str, bytes]:
        """From keys that go by themselves."""
        found = self._link.ask([Command(_answer_key(key), ("GET", _answer_key(key))) for key in keys])
        return {
            key: answer
            for key, answer in zip(keys, found, strict=True)
            if answer is not None and not answer.startswith(_PENDING)
        }

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
            registered = set(self._created_now().values())
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
        self._link.ask([_arrival(newest), _note(*note[:3])], whole=True, durable=True)


def _answer_key(key: str) -> bytes:
    return b"tw:answer:{%b}" % key.encode()


def _arrival(arrived: int) -> Command:
    return Command(ROOT, ("ZADD", ROOT + b":arrived", "GT", arrived, "last"))


_STALE = Stale("another process has changed what is registered")
_REGISTRY = Command(ROOT, ("HGET", VERSIONS, "registry"))


def _put_answer(entry: Written, version: int | None) -> Command:
    assert entry.key is not None
    return judged(version, "answer", [_answer_key(entry.key)], entry.answer, IDEMPOTENCY_HOURS * 3_600)


def _answered(entry: Written, before: bytes) -> Entry | TimewellError:
    """What is said to a key that is known."""
    if before.startswith(_PENDING):
        return UnderWay("another process is at work on this Idempotency-Key")
    return Written(entry.arrived, (), None, before, repeated=True)


def _still(entry: Written, created: Mapping[str, int]) -> Entry | TimewellError:
    """The entry, unless a feature of it is none any more."""
    for block in entry.blocks:
        if created.get(block.feature) != block.created:
            return Conflict(f"feature {block.feature!r} was deleted while it was written")
    return entry


def _note(kind: str, key: str, record: bytes | None) -> Command:
    return call("note", [VERSIONS, ROOT + b":notes"], kind.encode() + b"\0" + key.encode(), record or b"")
