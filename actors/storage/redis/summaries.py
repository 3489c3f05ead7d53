"""The statistics in Redis, merged over all writers; each observation is counted once.

This works as in PostgreSQL (`postgres/summaries.py`), except that a writer holds a lease, which is renewed when
the registry is polled. A writer that has not renewed it for WRITER_SECONDS is considered dead; a process that
wakes up later finds that its writer no longer exists, and becomes a new one.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from actors.domain import Feature
from actors.errors import StorageDown
from actors.stats.windows import WHOLE, Due, Merge, Window, coarser, due
from actors.storage.protocol import SavedSummaries, SummaryKey
from actors.storage.redis.functions import LEASES, ROOT, VERSIONS, WRITERS
from actors.storage.redis.link import Command, RedisLink, call, judged
from actors.storage.shared.base import SharedSummaries
from actors.table.batch import Batch, without_ids
from actors.table.packing import pack, unpack

WRITER_SECONDS = 6
"""How long the lease of a writer lasts."""
LEADER_SECONDS = 10
MERGING_SECONDS = 30
COARSENED_AT_ONCE = 1_000
MERGED_AT_ONCE = 500
_PAUSE_SECONDS = 0.05
_WINDOWS = b":windows:"
_WHOLE = b"%d:%d" % WHOLE
_LEADER, _MERGING = ROOT + b":leader", ROOT + b":merging"


def batches_of(writer: bytes) -> bytes:
    """The key of the batches that a writer has not counted."""
    return ROOT + b":batches:" + writer


_LISTING = b"i"
"""Names of writers begin with this since writers add the ids of what they write to the sets of ids."""


def lists_ids(writer: bytes) -> bool:
    """Whether a writer is of a version that keeps the sets of ids."""
    return writer.startswith(_LISTING)


class Writers:
    """Ensures that this process is a writer, which no other process is."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._current: bytes | None = None
        self.begun = 0
        """All batches of this writer have later arrivals."""
        self.given = 0
        """The last arrival assigned by this process, which may be ahead of the server's clock."""
        self._renew_at = 0.0

    def current(self) -> bytes:
        """The name of this process's writer, which is created if there is none. Raises StorageDown."""
        with self._lock:
            if self._current is None:
                self._current = self._made()
            return self._current

    def _made(self) -> bytes:
        """Create a writer, and move to it what dead writers have not counted."""
        name = _LISTING + secrets.token_hex(8).encode()
        (now,) = self._link.ask([Command(ROOT, ("TIME",))])
        self.begun = max(int(now[0]) * 10**6 + int(now[1]), self.given)
        self._link.ask([Command(WRITERS, ("HSET", WRITERS, name, self.begun))])
        self._link.ask([Command(batches_of(name), ("HSET", batches_of(name), "0", ""))])
        self._link.ask([_lease(name, WRITER_SECONDS * 1_000, b"1")])
        self._look_for_others()  # also for dead ones, before they are adopted
        (dead,) = self._link.ask([call("dead", [LEASES])])
        with suppress(StorageDown):  # if their keys are being moved, a later writer will adopt them
            for one in dead:
                keys = [WRITERS, LEASES, batches_of(one), batches_of(name)]
                (last,) = self._link.ask([call("adopt", keys, one, self.begun)])
                self.begun = int(last)
        return name

    def _look_for_others(self) -> None:
        """If there are writers that do not keep the sets of ids, note that these are incomplete."""
        (leases,) = self._link.ask([Command(ROOT, ("HKEYS", LEASES))])
        if not all(map(lists_ids, leases)):
            self._link.ask([Command(ROOT, ("HDEL", VERSIONS, "ids"))])

    def lost(self, writer: bytes) -> None:
        """Note that another process has taken over this writer."""
        with self._lock:
            if self._current == writer:
                self._current = None

    def renewed(self, writer: bytes) -> bytes:
        """Create a new writer, as this one has turned out no longer to exist."""
        self.lost(writer)
        return self.current()

    def renew(self) -> None:
        """Renew the lease if it is due. Called a few times a second."""
        writer = self.current()
        if time.monotonic() < self._renew_at:
            return
        (still,) = self._link.ask([_lease(writer, WRITER_SECONDS * 1_000)])
        if still:
            self._renew_at = time.monotonic() + WRITER_SECONDS / 10
            self._look_for_others()
        else:
            self.lost(writer)

    def leads(self) -> bool:
        """Whether this process is the leader, which it becomes if there is none. Raises StorageDown."""
        writer = self.current()
        having, dead = self._link.ask(
            [call("have", [_LEADER], writer, LEADER_SECONDS * 1_000), call("dead", [LEASES])]
        )
        if having and dead:
            # A new writer takes over what dead writers and the present one have not counted.
            self._link.ask(_leaving(writer))
            self.renewed(writer)
        return bool(having)

    def close(self) -> None:
        """Give up the writer; what it has not counted is left to the next one."""
        with self._lock:
            writer, self._current = self._current, None
        if writer is not None:
            self._link.ask(_leaving(writer))


def _lease(writer: bytes, milliseconds: int, new: bytes = b"0") -> Command:
    return call("lease", [LEASES], writer, milliseconds, new)


def _leaving(writer: bytes) -> list[Command]:
    """Commands that make a writer dead, and no longer the leader."""
    return [_lease(writer, -1), call("release", [_LEADER], writer)]


class Uncounted:
    """The batches of this writer that have not been counted yet."""

    def __init__(self, link: RedisLink, writers: Writers) -> None:
        self._link = link
        self._writers = writers

    def keeping(self, writer: bytes, batches: Sequence[tuple[int, Batch]], version: int | None = None) -> Command:
        """A command that keeps batches to be counted; answered with 0 if the writer no longer exists.

        It does nothing if the registry is not of the version that they were validated with.
        """
        words: list[bytes | int] = []
        for arrived, batch in batches:
            words += [arrived, pack(without_ids(batch))]
        return judged(version, "keep", [batches_of(writer)], *words)

    def replay(self, after: int) -> Iterator[tuple[int, Batch]]:
        """The batches of this writer that arrived later than `after`, without entity ids."""
        key = batches_of(self._writers.current())
        (fields,) = self._link.ask([Command(ROOT, ("HKEYS", key))])
        for arrived in sorted(arrived for arrived in map(int, fields) if arrived > after):
            (packed,) = self._link.ask([Command(ROOT, ("HGET", key, arrived))])
            if packed is not None:
                yield arrived, unpack(packed)

    def forget_counted(self, monitored: int) -> None:
        """Delete the batches that summaries at position `monitored` cover."""
        key = batches_of(self._writers.current())
        (fields,) = self._link.ask([Command(ROOT, ("HKEYS", key))])
        old = [field for field in fields if 0 < int(field) <= monitored]
        if old:
            self._link.ask([Command(ROOT, ("HDEL", key, *old))], whole=True, durable=True)


class RedisSummaries(SharedSummaries):
    """See `Summaries`. Positions are those of this process's writer."""

    def __init__(self, link: RedisLink, writers: Writers) -> None:
        self._link = link
        self._writers = writers

    def _check(self, writer: bytes, known: object) -> None:
        """Raise StorageDown if a writer no longer exists."""
        if not known:
            self._writers.lost(writer)
            raise StorageDown("another process took over while this one was away")

    @property
    def position(self) -> int:
        """The position up to which this writer's batches have been counted."""
        writer = self._writers.current()
        (found,) = self._link.ask([Command(WRITERS, ("HGET", WRITERS, writer))])
        self._check(writer, found is not None)
        return int(found)

    def save(self, position: int, parts: Mapping[SummaryKey, bytes], merge: Merge) -> None:
        """Merge the parts into the saved summaries, and save this writer's position with them."""
        with _Merging(self._link) as token:
            changes: list[bytes] = []
            keys = list(parts)
            for start in range(0, len(keys), MERGED_AT_ONCE):
                cut = keys[start : start + MERGED_AT_ONCE]
                found = self._link.ask([Command(ROOT, ("HGET", ROOT + _hash(key), _field(key))) for key in cut])
                for key, state in zip(cut, found, strict=True):
                    changes += [_hash(key), _field(key), merge([state, parts[key]]) if state else parts[key]]
            self._store(b"%d" % position, token, changes)

    def _store(self, position: bytes, token: bytes, changes: Sequence[bytes]) -> None:
        """Store changed summaries, and the position unless empty, in one step."""
        writer = self._writers.current()
        hashes = {name: number for number, name in enumerate(dict.fromkeys(changes[::3]), 1)}
        words: list[bytes | int] = list(changes)
        words[::3] = [hashes[name] for name in changes[::3]]
        keys = [WRITERS, _MERGING, ROOT + b":windowed", *(ROOT + name for name in hashes)]
        (done,) = self._link.ask([call("save", keys, writer, position, token, *words)], durable=True)
        if done == -1:
            raise StorageDown("merging the statistics took too long")
        if done == -2:  # from an earlier writer of this process, whose unsaved batches this writer will count
            raise StorageDown("these statistics are no longer this process's to save")
        self._check(writer, done)

    def read(self, feature: Feature, start: int, end: int) -> SavedSummaries:
        """The summaries of a feature's windows that overlap the event times [start, end]."""
        key = _hash_of(feature.id, feature.created)
        position, found = self._covering(Command(ROOT, ("HGETALL", key)))
        inside = {}
        for field, state in zip(found[::2], found[1::2], strict=True):
            window = _window(field)
            if window.width and window.start > start - window.width and window.start <= end:
                inside[window] = state
        return SavedSummaries(position, inside)

    def read_whole(self, feature: Feature) -> SavedSummaries:
        """The summary of a feature's whole stream."""
        key = _hash_of(feature.id, feature.created)
        position, state = self._covering(Command(ROOT, ("HGET", key, _WHOLE)))
        return SavedSummaries(position, {WHOLE: state} if state is not None else {})

    def _covering(self, command: Command) -> tuple[int, Any]:
        """The answer to a command, with the position that what it read covers."""
        writer = self._writers.current()
        covered = Command(WRITERS, ("HGET", WRITERS, writer))
        position, found = self._link.ask([covered, command])
        while self._link.ask([covered]) != [position]:
            position, found = self._link.ask([covered, command])
        self._check(writer, position is not None)
        return int(position), found

    def totals(self) -> tuple[int, dict[SummaryKey, bytes]]:
        """The summary of every feature's whole stream, and this writer's position."""
        position, found, hashes = self.position, dict[SummaryKey, bytes](), self._windowed()
        for start in range(0, len(hashes), MERGED_AT_ONCE):
            cut = hashes[start : start + MERGED_AT_ONCE]
            states = self._link.ask([Command(ROOT, ("HGET", key, _WHOLE)) for key in cut])
            for key, state in zip(cut, states, strict=True):
                if state is not None:
                    found[SummaryKey(*_owner(key), *WHOLE)] = state
        return position, found

    def all(self) -> Iterator[tuple[SummaryKey, bytes]]:
        """Every summary."""
        for key in self._windowed():
            (found,) = self._link.ask([Command(ROOT, ("HGETALL", key))])
            for field, state in zip(found[::2], found[1::2], strict=True):
                yield SummaryKey(*_owner(key), *_window(field)), state

    def _windowed(self) -> list[bytes]:
        (names,) = self._link.ask([Command(ROOT, ("SMEMBERS", ROOT + b":windowed"))])
        return [ROOT + name for name in names]

    def forget(self, feature: str, created: int) -> None:
        """Delete the summaries of a deleted feature."""
        key = _hash_of(feature, created)
        gone = Command(ROOT, ("SREM", ROOT + b":windowed", key[len(ROOT) :]))
        self._link.ask([Command(ROOT, ("UNLINK", key)), gone], durable=True)

    def coarsen_now(self, now: int, merge: Merge) -> None:
        """Merge windows that have grown old into wider ones."""
        bounds = {one.width: one for one in due(now)}
        for key in self._windowed():
            (fields,) = self._link.ask([Command(ROOT, ("HKEYS", key))])
            old = [field for field in fields if _is_due(_window(field), bounds)]
            if old:
                self._coarsen(key, old[:COARSENED_AT_ONCE], now, merge)

    def _coarsen(self, key: bytes, old: Sequence[bytes], now: int, merge: Merge) -> None:
        with _Merging(self._link) as token:
            (states,) = self._link.ask([Command(ROOT, ("HMGET", key, *old))])
            merged: dict[bytes, list[bytes]] = {}
            for field, state in zip(old, states, strict=True):
                if state is not None:
                    wide = coarser(_window(field), now)
                    merged.setdefault(b"%d:%d" % wide, []).append(state)
            if not merged:
                return
            (known,) = self._link.ask([Command(ROOT, ("HMGET", key, *merged))])
            changes: list[bytes] = []
            name = key[len(ROOT) :]
            for (field, parts), before in zip(merged.items(), known, strict=True):
                whole = [*([before] if before else []), *parts]
                changes += [name, field, whole[0] if len(whole) == 1 else merge(whole)]
            for field in old:
                if field not in merged:
                    changes += [name, field, b""]
            self._store(b"", token, changes)


def _hash(key: SummaryKey) -> bytes:
    return _WINDOWS + b"%b:%d" % (key.feature.encode(), key.created)


def _hash_of(feature: str, created: int) -> bytes:
    return ROOT + _WINDOWS + b"%b:%d" % (feature.encode(), created)


def _owner(key: bytes) -> tuple[str, int]:
    """The feature whose windows are in a hash, and when it was created."""
    feature, _, created = key[len(ROOT + _WINDOWS) :].decode().rpartition(":")
    return feature, int(created)


def _field(key: SummaryKey) -> bytes:
    return b"%d:%d" % (key.width, key.start)


def _window(field: bytes) -> Window:
    width, _, start = field.partition(b":")
    return Window(int(width), int(start))


def _is_due(window: Window, bounds: Mapping[int, Due]) -> bool:
    known = bounds.get(window.width)
    return known is not None and not known.before <= window.start <= known.after


class _Merging:
    """A lock for merging statistics, held by one process at a time; it expires after MERGING_SECONDS."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._token = secrets.token_hex(8).encode()

    def __enter__(self) -> bytes:
        until = time.monotonic() + MERGING_SECONDS
        while True:
            (mine,) = self._link.ask([call("have", [_MERGING], self._token, MERGING_SECONDS * 1_000)])
            if mine:
                return self._token
            if time.monotonic() > until:
                raise StorageDown("other processes keep merging their statistics")
            time.sleep(_PAUSE_SECONDS)

    def __exit__(self, *_: object) -> None:
        self._link.ask([call("release", [_MERGING], self._token)])
