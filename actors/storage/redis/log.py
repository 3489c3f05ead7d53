"""Commits to Redis, and the answers to idempotency keys.

On a single server a commit is one transaction. A cluster has no transactions across nodes: entities are changed
one by one, and the notes of a write come last, so that a note is never ahead of its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from actors.errors import Conflict, StorageDown, TimewellError, UnderWay
from actors.settings import IDEMPOTENCY_HOURS
from actors.storage.entries import Entry, Erased, Noted, Removed, Written
from actors.storage.protocol import Stale
from actors.storage.redis.changes import change_of
from actors.storage.redis.claims import CLAIM_SECONDS
from actors.storage.redis.functions import ROOT, VERSIONS
from actors.storage.redis.known_ids import IdSets
from actors.storage.redis.link import Command, RedisLink, call, judged
from actors.storage.redis.registry import REGISTRY, RedisRegistry
from actors.storage.redis.stored_rows import RowWriter, Shapes, keys_of
from actors.storage.redis.summaries import RedisSummaries, Uncounted, Writers
from actors.storage.shared.parts import removed
from actors.table.batch import columns_of

ENTITIES_PER_CALL = 64
"""A function blocks the server while it runs, for about 15 microseconds an entity."""
NOTES = ROOT + b":notes"
_PENDING = b"\0pending "


class RedisLog(Uncounted):
    """See `Log`. It replays the batches that this process has yet to count in statistics."""

    def __init__(
        self,
        link: RedisLink,
        writers: Writers,
        registry: RedisRegistry,
        summaries: RedisSummaries,
        shapes: Shapes,
        now: Callable[[], int],
    ) -> None:
        """`now`: a `SteadyClock`, called in worker threads."""
        super().__init__(link, writers)
        self._registry = registry
        self._summaries = summaries
        self._shapes = shapes
        self._steady = now

    def commit(self, entries: Sequence[Entry]) -> Sequence[Entry | TimewellError]:
        """Commit in one transaction; in a cluster, entity by entity."""
        recorded: list[Entry | TimewellError] = []
        waiting: list[Written] = []
        for given in entries:
            entry = self._judged_now(given) if self._is_to_be_judged(given) else given
            if isinstance(entry, Written):
                if entry.key is not None and any(one.key == entry.key for one in waiting):
                    recorded += self._written(waiting)  # the answer to that one will be the answer to this one
                    waiting = []
                waiting.append(entry)
                continue
            recorded += self._written(waiting)
            waiting = []
            recorded.append(entry if isinstance(entry, TimewellError) else self._changed(entry))
        return recorded + self._written(waiting)

    def _is_to_be_judged(self, entry: Entry) -> TypeGuard[Written]:
        """Whether notes could be written although their batch is then refused because a feature was deleted."""
        noted = isinstance(entry, Written) and entry.notes and entry.batch and entry.judged is None
        return bool(noted) and not self._link.cluster

    def _judged_now(self, entry: Written) -> Written | Conflict:
        """Make an entry valid only for the current version of the registry, if its features are registered."""
        (version,) = self._link.ask([REGISTRY])
        created = self._registry.created_now(sorted({column.feature for column in columns_of(entry.batch)}))
        still = _if_registered(entry, created)
        return still if isinstance(still, Conflict) else still._replace(judged=int(version or 0))

    def _written(self, entries: Sequence[Written]) -> list[Entry | TimewellError]:
        if not entries:
            return []
        writer, given = self._writers.current(), [one.judged for one in entries if one.judged is not None]
        version = max(given, default=None)
        found = self._admitted(entries, writer, version)
        found = [self._later(entry) if isinstance(entry, Written) else entry for entry in found]
        fresh = [entry for entry in found if isinstance(entry, Written) and entry.batch]
        rows = RowWriter(self._shapes, self._registry.features, self._registry.lives(), self._steady())
        ids = IdSets()
        for entry in fresh:
            rows.add(entry.batch)
            ids.add_batch(entry.batch)
        if self._link.cluster:  # the version is checked before everything is written, and after
            adding = ids.adding()
            self._link.ask(adding, durable=True)
            self._link.ask(rows.commands(1), durable=True)
            ending = self._ending(found, fresh, writer)
            replies = self._link.ask([*adding, *ending], durable=True)[len(adding) :]
        else:
            commands = [*ids.adding(version), *rows.commands(ENTITIES_PER_CALL, version)]
            ending = self._ending(found, fresh, writer, version)
            replies = self._link.ask([*commands, *ending], whole=True, durable=True)[len(commands) :]
            if version not in (None, int(replies[-1] or 0)):
                return self._overtaken(found, writer)
        if fresh and not replies[0]:
            found = self._kept_by_another(found, writer)
        found = self._still_registered(found, int(replies[-1] or 0))
        if self._link.cluster:
            self._note_last([one for one in found if isinstance(one, Written) and one.notes])
        return found

    def _note_last(self, entries: Sequence[Written]) -> None:
        """Store the notes of what has been written, then the answers: until then a repeat writes it all again."""
        self._link.ask([_put_note(note) for one in entries for note in one.notes], whole=True, durable=True)
        self._link.ask([_put_answer(one) for one in entries if one.key is not None], durable=True)

    def _ending(
        self,
        found: Sequence[Entry | TimewellError],
        fresh: Sequence[Written],
        writer: bytes,
        version: int | None = None,
    ) -> list[Command]:
        """The commands after the rows: batches to count, last arrival, notes, answers, the registry's version."""
        batches = [(one.arrived, one.batch) for one in fresh]
        kept = [self.keeping(writer, batches, version)] if fresh else []
        kept += [arrival(max(one.arrived for one in fresh))] if fresh else []
        for one in found:
            if isinstance(one, Written) and not (one.notes and self._link.cluster):
                kept += [_put_note(note, version) for note in one.notes]
                kept += [_put_answer(one, version)] if one.key is not None else []
        return [*kept, REGISTRY]

    def _overtaken(self, found: Sequence[Entry | TimewellError], writer: bytes) -> list[Entry | TimewellError]:
        """Write only entries that do not depend on the registry, as nothing was written for its other version."""
        anyway = [one for one in found if isinstance(one, Written) and one.judged is None]
        written = iter(self._written(anyway))
        stale = [isinstance(one, Written) and one.judged is not None for one in found]
        self._give_back([one for one, is_stale in zip(found, stale, strict=True) if is_stale], writer)
        return [
            _STALE if is_stale else next(written) if isinstance(one, Written) else one
            for one, is_stale in zip(found, stale, strict=True)
        ]

    def _give_back(self, entries: Sequence[Any], writer: bytes) -> None:
        """Release the idempotency keys of entries that are not written after all."""
        keys = [_answer_key(entry.key) for entry in entries if entry.key is not None]
        self._link.ask([call("release", [key], _PENDING + writer) for key in keys])

    def _still_registered(
        self, found: Sequence[Entry | TimewellError], version: int
    ) -> list[Entry | TimewellError]:
        """Refuse written entries of which a feature has been deleted, and delete the answers of their keys."""
        batches = [one.batch for one in found if isinstance(one, Written) and one.judged != version]
        doubtful = {column.feature for batch in batches for column in columns_of(batch)}
        if not doubtful:
            return list(found)
        created = self._registry.created_now(sorted(doubtful))
        kept = [
            _if_registered(one, created) if isinstance(one, Written) and one.judged != version else one
            for one in found
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
        """Have the written entries counted by a new writer, as the old one was taken over by another process."""
        own = self._writers.renewed(writer)
        again = [self._later(one) if isinstance(one, Written) else one for one in found]
        batches = [(one.arrived, one.batch) for one in again if isinstance(one, Written) and one.batch]
        if not self._link.ask([self.keeping(own, batches)], whole=True, durable=True)[0]:
            raise StorageDown("other processes keep taking over while this one is away")
        return again

    def _later(self, entry: Written) -> Written:
        """Give an entry an arrival later than all before, even if this process's clock is behind the server's."""
        self._writers.given = max(entry.arrived, self._writers.given + 1, self._writers.begun + 1)
        return entry._replace(arrived=self._writers.given)

    def _admitted(
        self, entries: Sequence[Written], writer: bytes, version: int | None
    ) -> list[Entry | TimewellError]:
        """Each entry if it may be written; or the earlier answer to its key; or why it must not be written."""
        pending, keys = _PENDING + writer, [_answer_key(entry.key) for entry in entries if entry.key is not None]
        asked = [Command(key, ("SET", key, pending, "NX", "GET", "EX", CLAIM_SECONDS)) for key in keys]
        if self._link.cluster and version is not None:
            asked.append(REGISTRY)
        said = self._link.ask(asked)
        if len(asked) > len(keys):
            version = int(said[-1] or 0)
        before, found, stale = iter(said), list[Entry | TimewellError](), list[Written]()
        for entry in entries:
            answer = None if entry.key is None else next(before)
            if answer is not None and answer != pending:
                found.append(_answered(entry, answer))
            elif entry.judged in (None, version):
                found.append(entry)
            else:
                found.append(_STALE)
                stale.append(entry)
        self._give_back(stale, writer)
        return found

    def _changed(self, entry: Entry) -> Entry | TimewellError:
        match entry:
            case Erased():
                return entry._replace(removed=self._erase(entry))
            case Noted(kind, key, record, True):
                field = Command(ROOT, ("HSETNX", NOTES, _field(kind, key), record))
                told = Command(ROOT, ("HINCRBY", VERSIONS, "notes", 1))
                is_new, _ = self._link.ask([field, told], whole=True, durable=True)
                return entry if is_new else Conflict(f"another process has put {kind} {key}")
            case Noted():
                self._link.ask([changed_note(entry)], whole=True, durable=True)
                return entry
        (version,) = self._link.ask([change_of(entry, self._registry.versions_seen)], durable=True)
        if version == -1:
            return Stale("the registry was changed by another process")
        self._registry.note(entry, version)
        return entry

    def _erase(self, erased: Erased) -> Removed:
        keys = (*keys_of(*erased[:2]), _erased_key(*erased[:2]))
        ids = IdSets()
        ids.add(erased.entity_type, [erased.entity_id])
        self._link.ask(ids.removing(), durable=True)
        (found,) = self._link.ask([call("erase", keys, erased.before)], whole=True, durable=True)
        numbers = [int.from_bytes(number, "big") for number in found[::2]]
        counts = dict(zip(map(self._shapes.of, numbers), found[1::2], strict=True))
        return removed(counts, {feature.created for feature in self._registry.features.values()})

    def last_erasure(self, entity_type: str, entity_id: str) -> bytes:
        """See `SharedLog`."""
        key = _erased_key(entity_type, entity_id)
        (last,) = self._link.ask([Command(key, ("GET", key))])
        return last or b""

    def trimmed(self) -> int:
        """The position of the statistics: batches up to it may have been deleted."""
        return self._summaries.position

    def trim(self, monitored: int, now: int) -> None:
        """Delete batches that have been counted. Idempotency answers expire by themselves."""
        self.forget_counted(monitored)

    def answers(self, keys: Sequence[str], given_after: int) -> Mapping[str, bytes]:
        """The answers to idempotency keys, which expire by themselves."""
        found = self._link.ask([Command(_answer_key(key), ("GET", _answer_key(key))) for key in keys])
        return {
            key: answer
            for key, answer in zip(keys, found, strict=True)
            if answer is not None and not answer.startswith(_PENDING)
        }


def _answer_key(key: str) -> bytes:
    return b"tw:answer:{%b}" % key.encode()


def arrival(arrived: int) -> Command:
    """A command that sets the last arrival of all processes, unless there is a later one."""
    return Command(ROOT, ("ZADD", ROOT + b":arrived", "GT", arrived, "last"))


_STALE = Stale("another process has changed what is registered")


def _put_note(note: Noted, version: int | None = None) -> Command:
    return judged(version, "put", [NOTES], _field(note.kind, note.key), note.record or b"")


def _field(kind: str, key: str) -> bytes:
    return kind.encode() + b"\0" + key.encode()


def _put_answer(entry: Written, version: int | None = None) -> Command:
    assert entry.key is not None
    return judged(version, "answer", [_answer_key(entry.key)], entry.answer, IDEMPOTENCY_HOURS * 3_600)


def _answered(entry: Written, before: bytes) -> Entry | TimewellError:
    """The result for an entry whose idempotency key is known."""
    if before.startswith(_PENDING):
        return UnderWay("another process is at work on this Idempotency-Key")
    return Written(entry.arrived, (), None, before, repeated=True)


def _if_registered(entry: Written, created: Mapping[str, int]) -> Written | Conflict:
    """The entry; or Conflict if one of its features is no longer registered."""
    for column in columns_of(entry.batch):
        if created.get(column.feature) != column.created:
            return Conflict(f"feature {column.feature!r} was deleted while it was written")
    return entry


def changed_note(note: Noted) -> Command:
    """A command that stores or deletes a note of the monitor, and raises the version for all processes."""
    return call("note", [VERSIONS, NOTES], _field(note.kind, note.key), note.record or b"")


def _erased_key(entity_type: str, entity_id: str) -> bytes:
    return keys_of(entity_type, entity_id)[1][:-1] + b"e"
