"""A storage in Redis or Valkey, alone or as a cluster, which any number of processes share.

`redis_functions.py` has what is where. An entity is changed by a function in the server, which decides by event
time and keeps every version; a read asks the server, so it sees what any process was told had been written.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import numpy as np

from actors import timestamps
from actors.clock import SteadyClock
from actors.columns import Block
from actors.domain import Feature, Group
from actors.errors import Conflict, StartupError, StorageDown, TimewellError
from actors.grid import Grid
from actors.partition import DiskRows
from actors.settings import IDEMPOTENCY_HOURS
from actors.stats.summary import Accepted
from actors.storage.carrying import by_row
from actors.storage.packed import unpacked
from actors.storage.parts import removed
from actors.storage.protocol import (
    Deleted,
    Entry,
    Erased,
    Grouped,
    Known,
    LoadedRows,
    Lot,
    Newest,
    Noted,
    Quick,
    Recovered,
    Registered,
    Removed,
    SharedStorage,
    Stale,
    Ungrouped,
    Versions,
    Written,
)
from actors.storage.redis_functions import ROOT
from actors.storage.redis_link import Command, RedisLink, call
from actors.storage.redis_monitored import RedisMonitored, Writers
from actors.storage.redis_rows import (
    LAST_ARRIVAL,
    RowReader,
    RowWriter,
    Shapes,
    carrying,
    entity_of,
    keys_of,
    last_arrival,
    split_row,
)
from actors.storage.redis_stream import Streams
from actors.storage.server import ServerStorage, never, starting

FORM = 1
"""Of keys and rows; a later one must be able to read an earlier one, or change it at the start."""
CARRIED_AT_ONCE = 200_000
ENTITIES_AT_ONCE = 500
QUICK_ENTITIES = 256
"""More at once would hold the event loop up for milliseconds."""
ENTITIES_PER_CALL = 64
"""A function holds the server up for as long as it runs: some 15 microseconds an entity."""
_CLAIM_SECONDS = 60
_PENDING = b"\0pending "


class RedisStorage(ServerStorage):
    """See the module, and `SharedStorage` for what the methods promise."""

    def __init__(self, url: str, timeout: float, now: Callable[[], int] = timestamps.now) -> None:
        """`url` and `timeout`: see `RedisLink`."""
        self._link = RedisLink(url, timeout)
        self._writers = Writers(self._link)
        self._monitored = RedisMonitored(self._link, self._writers)
        super().__init__(self._monitored)
        self._shapes = Shapes(self._link)
        self._steady = SteadyClock(now, time.monotonic)  # which worker threads ask, and so not trio's
        self._last = 0
        self._aged: set[str] = set()
        self._features: dict[str, Feature] = {}
        """By id, as of the version seen."""

    @property
    def shared(self) -> SharedStorage:
        """Itself."""
        return self

    def open(self) -> Recovered:
        """Wait for the server, give it the functions, become a writer."""
        self._link.open()
        with starting():
            self._check_form()
            self._writers.own()
            self._shapes.load()
            found = self.registered()
            self._steady.begin_after(found.last_arrived)
            return found

    def _check_form(self) -> None:
        """Raises StartupError where what is there is of a later form than this code knows."""
        key = ROOT + b":versions"
        asked = ("HSETNX", key, "form", FORM), ("HGET", key, "form")
        _, form = self._link.ask([Command(ROOT, one) for one in asked], whole=True)
        if int(form) > FORM:
            raise StartupError(f"what Redis has is of form {int(form)}, this Timewell knows {FORM}: upgrade")

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
        asked = [Command(ROOT, ("HGET", ROOT + b":versions", "registry")), *(Command(ROOT, one) for one in hashes)]
        version, records, groups, positions, aged, last = self._link.ask([*asked, LAST_ARRIVAL], whole=True)
        features = [msgspec.msgpack.decode(record, type=Feature) for record in records]
        found = [msgspec.msgpack.decode(record, type=Group) for record in groups]
        self._features = {feature.id: feature for feature in features}
        self._aged = {entity_type.decode() for entity_type in aged}
        self._seen = int(version or 0)
        marks = [
            *map(int, positions),
            *(one.updated for one in features),
            *(one.updated for one in found),
            last_arrival(last),
        ]
        return Recovered(features, found, max(marks), 0)

    def versions_now(self) -> Versions:
        """From their hash. The lease is renewed with it."""
        self._writers.renew()
        asked = Command(ROOT, ("HMGET", ROOT + b":versions", "registry", "notes")), LAST_ARRIVAL
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
                waiting.append(entry)
                continue
            recorded += self._written(waiting)
            waiting = []
            recorded.append(self._changed(entry))
        return recorded + self._written(waiting)

    def _written(self, entries: Sequence[Written]) -> list[Entry | TimewellError]:
        if not entries:
            return []
        writer = self._writers.own()
        found: list[Entry | TimewellError] = [self._claimed(entry, writer) for entry in entries]
        found = [self._later(entry) if isinstance(entry, Written) else entry for entry in found]
        fresh = [entry for entry in found if isinstance(entry, Written) and entry.blocks]
        rows = RowWriter(self._shapes, self._features, self._aged, self._steady())
        for entry in fresh:
            rows.add(entry.blocks)
        commands = rows.commands(1 if self._link.cluster else ENTITIES_PER_CALL)
        ending = [self._monitored.keeping(writer, [(one.arrived, one.blocks) for one in fresh])] if fresh else []
        ending += [_arrival(max(one.arrived for one in fresh))] if fresh else []
        ending += [_put_answer(one) for one in found if isinstance(one, Written) and one.key is not None]
        ending.append(Command(ROOT, ("HGET", ROOT + b":versions", "registry")))
        if self._link.cluster:  # the version is to be looked at after all has been written
            self._link.ask(commands, whole=True, durable=True)
            replies = self._link.ask(ending, whole=True, durable=True)
        else:
            replies = self._link.ask([*commands, *ending], whole=True, durable=True)[len(commands) :]
        if fresh and not replies[0]:
            found = self._kept_by_another(found, writer)
        if int(replies[-1] or 0) != self._seen:
            found = self._still_registered(found)
        return found

    def _still_registered(self, found: Sequence[Entry | TimewellError]) -> list[Entry | TimewellError]:
        """What has been written, refused where a feature of it is none any more, also when its key comes again."""
        created = self._created_now()
        kept = [_still(one, created) if isinstance(one, Written) else one for one in found]
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
        self._last = max(entry.arrived, self._last + 1, self._writers.begun + 1)
        return entry._replace(arrived=self._last)

    def _claimed(self, entry: Written, writer: bytes) -> Entry | TimewellError:
        """The entry, or what was said to its key before."""
        if entry.key is None:
            return entry
        key = _answer_key(entry.key)
        claim = ("SET", key, _PENDING + writer, "NX", "GET", "EX", _CLAIM_SECONDS)
        (before,) = self._link.ask([Command(key, claim)])
        if before is None or before == _PENDING + writer:
            return entry
        if before.startswith(_PENDING):
            return StorageDown("another process is at work on this Idempotency-Key")
        return Written(entry.arrived, (), None, before)

    def _created_now(self) -> dict[str, int]:
        (records,) = self._link.ask([Command(ROOT, ("HVALS", ROOT + b":features"))])
        features = [msgspec.msgpack.decode(record, type=Feature) for record in records]
        return {feature.id: feature.created for feature in features}

    def _changed(self, entry: Entry) -> Entry | TimewellError:
        match entry:
            case Erased(entity_type, entity_id):
                return entry._replace(removed=self._erase(entity_type, entity_id))
            case Noted(kind, key, record):
                self._link.ask([_note(kind, key, record)], whole=True, durable=True)
                return entry
        (version,) = self._link.ask(
            [call("change", [ROOT], self._seen, *_changes(entry))], whole=True, durable=True
        )
        if version == -1:
            return Stale("the registry was changed by another process")
        self._seen = version
        match entry:
            case Registered(feature):
                self._features[feature.id] = feature
                if feature.kept_age is not None:
                    self._aged.add(feature.entity)
            case Deleted(feature):
                self._features.pop(feature.id, None)
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

    def latest(self, questions: Sequence[Newest]) -> Sequence[Grid]:
        """In one visit to each node, two for moments of the past."""
        return RowReader(self._link, self._shapes).latest(questions)

    @asynccontextmanager
    async def quick(self) -> AsyncIterator[Quick]:
        """Few entities are asked for from the event loop, unless it takes TLS."""
        streams, reader = Streams(self._link), RowReader(self._link, self._shapes)

        async def answers(questions: Sequence[Newest]) -> Sequence[Grid] | None:
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
        found = RowReader(self._link, self._shapes).ranges(features, entities, start, end)
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
            for start in range(0, len(ids), ENTITIES_AT_ONCE):
                yield ids[start : start + ENTITIES_AT_ONCE]

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
                for number in self._shapes.holding(feature.entity, [feature])
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
        total = 0
        for keys in self._link.each_key(b"tw:{*}:h"):
            total += sum(self._link.ask([Command(key, ("ZCARD", key)) for key in keys]))
        return total

    def carried(self, features: Mapping[str, Feature], after: int) -> Iterator[Lot]:
        """All rows, put in order of arrival by way of a temporary file."""
        with sqlite3.connect("") as database:
            database.execute("CREATE TABLE rows (arrived INTEGER, entity TEXT, row BLOB)")
            seen = set[bytes]()
            for keys in self._link.each_key(b"tw:{*}:h"):
                fresh = [key for key in keys if key not in seen]
                seen.update(fresh)
                found = self._link.ask([Command(key, ("ZRANGE", key, 0, -1)) for key in fresh])
                for key, own in zip(fresh, found, strict=True):
                    rows = ((split_row(row)[2], "\0".join(entity_of(key)), row) for row in own)
                    database.executemany(
                        "INSERT INTO rows VALUES (?, ?, ?)", (row for row in rows if row[0] > after)
                    )
            cursor = database.execute("SELECT arrived, entity, row FROM rows ORDER BY arrived")
            held: list[tuple[int, str, bytes]] = []
            while fetched := cursor.fetchmany(CARRIED_AT_ONCE):
                held += fetched
                last = held[-1][0]
                ready, held = [row for row in held if row[0] < last], [row for row in held if row[0] == last]
                if ready:
                    yield Lot(last - 1, self._loaded(ready, features))
            if held:
                yield Lot(held[0][0], self._loaded(held, features))

    def _loaded(self, rows: Sequence[tuple[int, str, bytes]], features: Mapping[str, Feature]) -> list[LoadedRows]:
        by_created = {feature.created: feature for feature in features.values()}
        by_shape: dict[int, list[tuple[str, int, int, bytes]]] = {}
        for _, entity, row in rows:
            number, time, arrived, payload = split_row(row)
            by_shape.setdefault(number, []).append((entity.partition("\0")[2], time, arrived, payload))
        found = []
        for number, own in by_shape.items():
            entities, times, arrivals, payloads = zip(*own, strict=True)
            index = list(entities), np.array(times, np.int64)
            for created, column in unpacked(self._shapes.of(number), payloads, set(by_created)).columns.items():
                if created in by_created:
                    block = Block(by_created[created].id, created, *index, *column)
                    found.append(LoadedRows(block, np.array(arrivals, np.int64)))
        return found

    def carry(self, lot: Lot, note: Noted) -> None:
        """Rows as they are, then the note. What is carried twice is there once."""
        commands = carrying(self._shapes, by_row(lot.parts))
        for start in range(0, len(commands), ENTITIES_AT_ONCE):
            self._link.ask(commands[start : start + ENTITIES_AT_ONCE], whole=True, durable=True)
        newest = max((int(part.arrived.max()) for part in lot.parts), default=lot.mark)
        self._link.ask([_arrival(newest), _note(*note)], whole=True, durable=True)


def _answer_key(key: str) -> bytes:
    return b"tw:answer:{%b}" % key.encode()


def _arrival(arrived: int) -> Command:
    return Command(ROOT, ("ZADD", ROOT + b":arrived", "GT", arrived, "last"))


def _put_answer(entry: Written) -> Command:
    assert entry.key is not None
    key = _answer_key(entry.key)
    return Command(key, ("SET", key, entry.answer, "EX", IDEMPOTENCY_HOURS * 3_600))


def _still(entry: Written, created: Mapping[str, int]) -> Entry | TimewellError:
    """The entry, unless a feature of it is none any more."""
    for block in entry.blocks:
        if created.get(block.feature) != block.created:
            return Conflict(f"feature {block.feature!r} was deleted while it was written")
    return entry


def _note(kind: str, key: str, record: bytes | None) -> Command:
    return call("note", [ROOT], kind.encode() + b"\0" + key.encode(), record or b"")


def _changes(entry: Entry) -> list[Any]:
    """Hash, field and record of each change, an empty record to delete."""
    encode = msgspec.msgpack.encode
    changes: list[Any]
    match entry:
        case Registered(feature, groups):
            changes = [":features", feature.id, encode(feature)]
            if feature.kept_age is not None:
                changes += [":aged", feature.entity, b"1"]
        case Deleted(feature, groups):
            changes = [":features", feature.id, b"", ":forgotten", feature.created, encode(feature)]
        case Grouped(group):
            changes, groups = [], [group]
        case Ungrouped(name):
            changes, groups = [":groups", name, b""], []
        case _:
            raise TypeError(f"no change of the registry: {entry!r}")
    for group in groups:
        changes += [":groups", group.name, encode(group)]
    return changes
