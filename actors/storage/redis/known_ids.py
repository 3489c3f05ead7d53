"""Lists the ids of entities in Redis, by sorted sets that every write adds its ids to.

The ids of an entity type are in PARTS sets, each in a slot of its own, so that a cluster shares them out:

    tw:{ids/3}:user:ids    sorted set with equal scores: those of the ids whose checksum is 3 modulo PARTS

An id is added before its rows are written, and in a cluster, where that is not one transaction, once more after;
an erasure removes it before the rows. So an id with rows is always in its set, while one in a set may have lost
its rows: they were erased meanwhile, have expired, or were of a deleted feature. A page asks for each id whether
it has rows, and removes those without.

A store that was written by an earlier version has no sets. They are made at the first page, unless processes of
that version still write: until these are gone, all keys are scanned for each page.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from zlib import crc32

from actors.storage.listed import IdsPage, IdsQuestion, end_of, page_of
from actors.storage.redis.functions import LEASES, ROOT, VERSIONS
from actors.storage.redis.link import Command, RedisLink, call, judged
from actors.storage.redis.stored_rows import Shapes, entity_of, keys_of
from actors.storage.redis.summaries import lists_ids
from actors.table.batch import Batch

PARTS = 16
IDS_A_CALL = 1_000
"""A function blocks the server while it runs, for about a microsecond an id."""
_SPARE = 32
"""A part is asked for so many more ids than its share, as parts differ."""
LISTED = Command(ROOT, ("HGET", VERSIONS, "ids"))
SET_LISTED = Command(ROOT, ("HSET", VERSIONS, "ids", PARTS))


class IdSets:
    """The commands that keep the sets."""

    def __init__(self) -> None:
        self._ids: dict[bytes, dict[bytes, None]] = {}

    def add(self, entity_type: str, ids: Iterable[str]) -> None:
        """Add ids."""
        for id_ in ids:
            encoded = id_.encode()
            self._ids.setdefault(_set_of(entity_type, encoded), {})[encoded] = None

    def add_batch(self, batch: Batch) -> None:
        """Add the ids of a batch."""
        for table in batch:
            if table.columns and table.rows:
                self.add(table.entity_type, table.entities.compact().ids.texts)

    def adding(self, version: int | None = None) -> list[Command]:
        """Commands that put the ids into their sets, if the registry is of this version."""
        return [judged(version, "list", [key], *some) for key, some in self._lots()]

    def removing(self) -> list[Command]:
        """Commands that take the ids out of their sets."""
        return [Command(key, ("ZREM", key, *some)) for key, some in self._lots()]

    def _lots(self) -> Iterator[tuple[bytes, list[bytes]]]:
        for key, ids in self._ids.items():
            rest = iter(ids)
            while some := list(islice(rest, IDS_A_CALL)):
                yield key, some


def _set_of(entity_type: str, id_: bytes) -> bytes:
    return _key(entity_type, crc32(id_) % PARTS)


def _key(entity_type: str, part: int) -> bytes:
    return b"tw:{ids/%d}:%b:ids" % (part, entity_type.encode())


_Found = tuple[list[str], str | None]
"""Ids, and the last that was looked at if there may be more: an `IdsPage` to be."""


class RedisIds:
    """See `KnownIds`."""

    def __init__(self, link: RedisLink, shapes: Shapes) -> None:
        self._link = link
        self._shapes = shapes
        self._making = threading.Lock()

    def page(self, asked: IdsQuestion) -> IdsPage:
        """The next ids."""
        listed, shapes = self._link.ask([LISTED, Command(ROOT, ("HGET", VERSIONS, "shapes"))])
        if (shapes or b"0") != self._shapes.known.version:
            self._shapes.load()
        made = (listed and not self._with_others()) or self._made()
        ids, after = self._next(asked) if made else self._scanned(asked)
        known = self._known(asked, ids)
        if len(known) < len(ids):
            self._remove(asked, set(ids) - set(known))
        return page_of(known, after)

    def _with_others(self) -> bool:
        """Whether processes of an earlier version may write, so that the sets can no longer be relied on."""
        (leases,) = self._link.ask([Command(ROOT, ("HKEYS", LEASES))])
        if all(map(lists_ids, leases)):
            return False
        self._link.ask([Command(ROOT, ("HDEL", VERSIONS, "ids"))])
        return True

    def _made(self) -> bool:
        """Make the sets, from a scan of all keys, unless they cannot be relied on; returns whether they can."""
        with self._making:
            if self._link.ask([LISTED])[0]:
                return not self._with_others()
            if self._with_others():
                return False
            for keys in self._link.each_key(b"tw:{*}:h"):
                sets = IdSets()
                for entity_type, id_ in map(entity_of, keys):
                    sets.add(entity_type, [id_])
                self._link.ask(sets.adding())
            self._link.ask([SET_LISTED], durable=True)
            return not self._with_others()

    def _next(self, asked: IdsQuestion) -> _Found:
        """The next ids in the sets."""
        end, most = end_of(asked.prefix), asked.limit // PARTS + _SPARE
        begin = b"(" + asked.after.encode() if asked.after >= asked.prefix else b"[" + asked.prefix.encode()
        last = b"+" if end is None else b"(" + end.encode()
        keys = [_key(asked.entity_type, part) for part in range(PARTS)]
        parts = self._link.ask([Command(key, ("ZRANGEBYLEX", key, begin, last, "LIMIT", 0, most)) for key in keys])
        full = [part[-1] for part in parts if len(part) == most]
        found = sorted(id_ for part in parts for id_ in part)
        if not full:
            return _cut([id_.decode() for id_ in found], asked.limit)
        # Beyond the last id of a part that has more, the other parts' ids are not all.
        ids = [id_.decode() for id_ in found[: bisect_right(found, min(full))][: asked.limit]]
        return ids, ids[-1]

    def _scanned(self, asked: IdsQuestion) -> _Found:
        """The next ids among all keys, of which only the first ones are kept."""
        found, most = set[str](), asked.limit + 1
        for keys in self._link.each_key(b"tw:{%b:*}:h" % asked.entity_type.encode()):
            ids = [entity_of(key)[1] for key in keys]
            found.update(id_ for id_ in ids if id_ > asked.after and id_.startswith(asked.prefix))
            if len(found) > 4 * most:
                found = set(sorted(found)[:most])
        return _cut(sorted(found)[:most], asked.limit)

    def _known(self, asked: IdsQuestion, ids: Sequence[str]) -> list[str]:
        """Those of the ids that have rows of one of the features."""
        numbers = self._shapes.known.holding(asked.entity_type, asked.features)
        if not numbers or not ids:
            return []
        shapes = [number.to_bytes(4, "big") for number in numbers]
        step = 1 if self._link.cluster else IDS_A_CALL
        keys = [keys_of(asked.entity_type, id_)[0] for id_ in ids]
        calls = [call("have_rows", keys[start : start + step], *shapes) for start in range(0, len(keys), step)]
        replies = self._link.ask(calls)
        return [id_ for id_, has in zip(ids, (has for reply in replies for has in reply), strict=True) if has]

    def _remove(self, asked: IdsQuestion, ids: set[str]) -> None:
        """Take ids without rows out of the sets.

        One that is written meanwhile is put back: its rows are either seen here, or it is added again after them.
        """
        sets = IdSets()
        sets.add(asked.entity_type, ids)
        self._link.ask(sets.removing())
        back = IdSets()
        newest = {id_: keys_of(asked.entity_type, id_)[0] for id_ in sorted(ids)}
        there = self._link.ask([Command(key, ("EXISTS", key)) for key in newest.values()])
        back.add(asked.entity_type, [id_ for id_, is_there in zip(newest, there, strict=True) if is_there])
        self._link.ask(back.adding())


def _cut(ids: list[str], limit: int) -> _Found:
    """The first `limit` of these ids, which are all that follow, or more than `limit` of them."""
    return ids[:limit], ids[limit - 1] if len(ids) > limit else None
