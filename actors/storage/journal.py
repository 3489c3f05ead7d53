"""The journal, the registry's records, the history's position and the monitor's notes, in one SQLite database.

One row per batch, so that a commit of 1,000 values costs what a commit of one does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import msgspec

from actors.columns import Block, pack, unpack
from actors.domain import Feature, Group
from actors.storage.database import Database, set_meta
from actors.storage.protocol import (
    Deleted,
    Entry,
    Erased,
    Grouped,
    Noted,
    Recovered,
    Registered,
    Trimmed,
    Ungrouped,
    Written,
)
from actors.storage.run_files import Change, RunFile

FORMAT = 1
REPLAY_ENTRIES = 64
"""Batches read at a time, so that a replay never keeps a commit waiting for long."""

_TABLES = """
CREATE TABLE IF NOT EXISTS batches (arrived INTEGER PRIMARY KEY, count INTEGER NOT NULL, blocks BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS features (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, arrived INTEGER NOT NULL, answer BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS forgotten (feature TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erased (
    entity_type TEXT, entity_id TEXT, arrived INTEGER NOT NULL, PRIMARY KEY (entity_type, entity_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (
    kind TEXT, key TEXT, record BLOB NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
"""


class Journal(Database):
    """None of its calls is long but the commits themselves."""

    def __init__(self, path: str) -> None:
        """`path` may be ":memory:"."""
        super().__init__(path, "journal", _TABLES, FORMAT)

    # Entries

    def commit(self, entries: Sequence[Entry]) -> None:
        """Make all entries durable, or none."""
        packed = [
            (pack(entry.blocks), entry.observations) if isinstance(entry, Written) else None for entry in entries
        ]
        with self.transaction() as database:
            for entry, body in zip(entries, packed, strict=True):
                self._put(database, entry, body)

    def _put(self, database: sqlite3.Connection, entry: Entry, packed: tuple[bytes, int] | None) -> None:
        match entry:
            case Written(arrived, _, key, answer):
                assert packed is not None
                if packed[1]:
                    database.execute("INSERT INTO batches VALUES (?, ?, ?)", (arrived, packed[1], packed[0]))
                if key is not None:
                    database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, arrived, answer))
            case Erased():
                database.execute("INSERT OR REPLACE INTO erased VALUES (?, ?, ?)", entry[:3])
            case Noted(kind, key, None):
                database.execute("DELETE FROM notes WHERE kind = ? AND key = ?", (kind, key))
            case Noted(kind, key, record):
                database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (kind, key, record))
            case _:
                _register(database, entry)

    def recover(self) -> Recovered:
        """The registry and the newest arrival."""
        features = [
            msgspec.msgpack.decode(row[0], type=Feature) for row in self.rows("SELECT record FROM features")
        ]
        groups = [msgspec.msgpack.decode(row[0], type=Group) for row in self.rows("SELECT record FROM groups")]
        arrivals = [
            row[0]
            for table in ("batches", "answers", "erased")
            for row in self.rows(f"SELECT max(arrived) FROM {table}")
        ]
        marks = [
            *arrivals,
            *(feature.updated for feature in features),
            *(group.updated for group in groups),
            self.position,
            0,
        ]
        return Recovered(features, groups, max(mark for mark in marks if mark is not None), 0)

    def answers(self, keys: Sequence[str], given_after: int) -> dict[str, bytes]:
        """The answers given later than `given_after` to those of the keys that are known."""
        query = "SELECT key, answer FROM answers WHERE key IN (SELECT value FROM json_each(?)) AND arrived > ?"
        return dict(self.rows(query, msgspec.json.encode(keys).decode(), given_after))

    def replay(self, after: int) -> Iterator[tuple[int, list[Block]]]:
        """The batches that arrived later than `after`, in order. Raises Trimmed where some are gone."""
        while True:
            rows = self.rows(
                "SELECT arrived, blocks FROM batches WHERE arrived > ? ORDER BY arrived LIMIT ?",
                after,
                REPLAY_ENTRIES,
            )
            # Looked at after the rows were: a trim in between cannot go unseen.
            if after < self.meta("trimmed", 0):
                raise Trimmed("the journal was trimmed while it was read")
            if not rows:
                return
            for arrived, blocks in rows:
                yield arrived, unpack(blocks)
            after = rows[-1][0]

    def count(self, after: int) -> int:
        """How many observations arrived later than `after`."""
        return int(self.rows("SELECT coalesce(sum(count), 0) FROM batches WHERE arrived > ?", after)[0][0])

    # Positions

    def set_history(self, position: int, change: Change) -> None:
        """The history reaches `position` with a change of its files, and both are on disk."""
        with self.transaction() as database:
            set_meta(database, history_position=position, history_version=change.version)
            if change.metadata is not None:
                set_meta(database, history_metadata=change.metadata)
            records = [(file.path, msgspec.msgpack.encode(file)) for file in change.files]
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", records)
            database.executemany("DELETE FROM files WHERE path = ?", [(path,) for path in change.gone])

    def files(self) -> list[RunFile]:
        """The files of the history, and those that were until lately."""
        return [msgspec.msgpack.decode(row[0], type=RunFile) for row in self.rows("SELECT record FROM files")]

    @property
    def position(self) -> int:
        """How far the history is."""
        return int(self.meta("history_position", 0))

    def trim(self, until: int, answers_until: int) -> None:
        """Delete batches that arrived by `until` and idempotency answers given by `answers_until`."""
        with self.transaction() as database:
            database.execute("DELETE FROM batches WHERE arrived <= ?", (until,))
            database.execute(
                "INSERT INTO meta VALUES ('trimmed', ?1) ON CONFLICT DO UPDATE SET value = max(value, ?1)",
                (until,),
            )
            database.execute("DELETE FROM answers WHERE arrived <= ?", (answers_until,))

    # Deleted features whose rows the history files still have

    def forgotten(self) -> list[Feature]:
        """Deleted features, as they were."""
        return [msgspec.msgpack.decode(row[0], type=Feature) for row in self.rows("SELECT record FROM forgotten")]

    def erased(self) -> list[Erased]:
        """The erasures that are not done with."""
        return [Erased(*row) for row in self.rows("SELECT entity_type, entity_id, arrived FROM erased")]

    def holds(self, until: int) -> bool:
        """Whether there are batches that arrived by `until`."""
        return bool(self.rows("SELECT 1 FROM batches WHERE arrived <= ? LIMIT 1", until))

    def erasing_done(self, erasures: Sequence[Erased]) -> None:
        """The files have nothing of them any more. Nor has this one: its free pages are written over."""
        with self.transaction() as database:
            database.executemany(
                "DELETE FROM erased WHERE entity_type = ? AND entity_id = ? AND arrived = ?",
                [one[:3] for one in erasures],
            )
        self.scrub()

    def notes(self, kind: str) -> dict[str, bytes]:
        """The monitor's records of a kind, by key."""
        return dict(self.rows("SELECT key, record FROM notes WHERE kind = ?", kind))

    def forgot(self, features: Sequence[Feature]) -> None:
        """The history files have none of their rows any more."""
        with self.transaction() as database:
            database.executemany(
                "DELETE FROM forgotten WHERE feature = ? AND record = ?",
                [(feature.id, msgspec.msgpack.encode(feature)) for feature in features],
            )


def _register(database: sqlite3.Connection, change: Registered | Deleted | Grouped | Ungrouped) -> None:
    match change:
        case Registered(feature, groups):
            _save(database, "features", feature.id, feature)
            _save_groups(database, groups)
        case Deleted(feature, groups):
            database.execute("DELETE FROM features WHERE id = ?", (feature.id,))
            _save(database, "forgotten", feature.id, feature)
            _save_groups(database, groups)
        case Grouped(group):
            _save(database, "groups", group.name, group)
        case Ungrouped(name):
            database.execute("DELETE FROM groups WHERE name = ?", (name,))


def _save(database: sqlite3.Connection, table: str, key: str, record: Feature | Group) -> None:
    database.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, msgspec.msgpack.encode(record)))


def _save_groups(database: sqlite3.Connection, groups: Sequence[Group]) -> None:
    for group in groups:
        _save(database, "groups", group.name, group)
