"""Reads everything from Redis in order of arrival, and writes it, for migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import numpy as np

from actors.domain import Feature
from actors.storage.carrying import by_row
from actors.storage.entries import Noted
from actors.storage.protocol import LoadedRows, Lot
from actors.storage.redis.known_ids import IdSets
from actors.storage.redis.link import Command, RedisLink
from actors.storage.redis.log import arrival, changed_note
from actors.storage.redis.stored_rows import Shapes, carrying, entity_of, split_row
from actors.storage.shared.packed import restored
from actors.table.batch import Table
from actors.table.ids import numbered

CARRIED_AT_ONCE = 200_000
ENTITIES_AT_ONCE = 500
_HISTORIES = b"tw:{*}:h"


class RedisMover:
    """See `Mover`."""

    def __init__(self, link: RedisLink, shapes: Shapes) -> None:
        self._link = link
        self._shapes = shapes

    def held(self, after: int) -> int:
        """The number of rows of all entities, each of which may have values of several features."""
        total = 0
        for keys in self._link.each_key(_HISTORIES):
            total += sum(self._link.ask([Command(key, ("ZCARD", key)) for key in keys]))
        return total

    def carried(self, features: Mapping[str, Feature], after: int) -> Iterator[Lot]:
        """All rows in order of arrival, sorted in a temporary SQLite database."""
        # The iteration may be ended early in another thread.
        with closing(sqlite3.connect("", check_same_thread=False)) as database:
            database.execute("CREATE TABLE rows (arrived INTEGER, entity TEXT, row BLOB)")
            _gather(self._link, after, database)
            cursor = database.execute("SELECT arrived, entity, row FROM rows ORDER BY arrived")
            held: list[tuple[int, str, bytes]] = []
            while fetched := cursor.fetchmany(CARRIED_AT_ONCE):
                held += fetched
                last = held[-1][0]
                ready, held = [row for row in held if row[0] < last], [row for row in held if row[0] == last]
                if ready:
                    yield Lot(last - 1, _loaded(self._shapes, ready, features))
            if held:
                yield Lot(held[0][0], _loaded(self._shapes, held, features))

    def carry(self, lot: Lot, note: Noted) -> None:
        """Write the rows, then the note. Writing them twice is harmless."""
        ids = IdSets()
        ids.add_batch([part.table for part in lot.parts])
        commands = [*ids.adding(), *carrying(self._shapes, by_row(lot.parts))]
        for start in range(0, len(commands), ENTITIES_AT_ONCE):
            self._link.ask(commands[start : start + ENTITIES_AT_ONCE], whole=True, durable=True)
        newest = max((int(part.arrived.max()) for part in lot.parts), default=lot.mark)
        self._link.ask([arrival(newest), changed_note(note)], whole=True, durable=True)


def _gather(link: RedisLink, after: int, database: sqlite3.Connection) -> None:
    seen = set[bytes]()
    for keys in link.each_key(_HISTORIES):
        fresh = [key for key in keys if key not in seen]
        seen.update(fresh)
        found = link.ask([Command(key, ("ZRANGE", key, 0, -1)) for key in fresh])
        for key, own in zip(fresh, found, strict=True):
            rows = ((split_row(row)[2], "\0".join(entity_of(key)), row) for row in own)
            database.executemany("INSERT INTO rows VALUES (?, ?, ?)", (row for row in rows if row[0] > after))


def _loaded(
    shapes: Shapes, rows: Sequence[tuple[int, str, bytes]], features: Mapping[str, Feature]
) -> list[LoadedRows]:
    by_created = {feature.created: feature for feature in features.values()}
    by_shape: dict[int, list[tuple[str, int, int, bytes]]] = {}
    for _, entity, row in rows:
        number, time, arrived, payload = split_row(row)
        by_shape.setdefault(number, []).append((entity.partition("\0")[2], time, arrived, payload))
    found = []
    for number, own in by_shape.items():
        entities, times, arrivals, payloads = zip(*own, strict=True)
        columns = restored(shapes.of(number), payloads, by_created)
        if columns:
            keys = numbered(entities), np.array(times, np.int64)
            table = Table(by_created[columns[0].created].entity, *keys, columns)
            found.append(LoadedRows(table, np.array(arrivals, np.int64)))
    return found
