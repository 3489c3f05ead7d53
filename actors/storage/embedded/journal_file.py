"""The journal, the registry's records, the history's position and the monitor's notes, in one SQLite database.

A batch is one row, so a commit of 1,000 values costs as much as a commit of one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar
from zlib import crc32

import msgspec

from actors.domain import Feature, Group, kind_of, record_of
from actors.errors import Damaged, StartupError, StorageDown
from actors.storage.embedded.database import Database, renewed, set_meta
from actors.storage.embedded.run_files import Change, RunFile
from actors.storage.embedded.sealed import (
    Held,
    Lost,
    everything,
    is_sound,
    packed,
    put,
    readable,
    spans_of,
    unpacked,
)
from actors.storage.entries import (
    Catalogued,
    Deleted,
    Entry,
    Erased,
    Grouped,
    Noted,
    Registered,
    Together,
    Uncatalogued,
    Ungrouped,
    Written,
)
from actors.storage.protocol import Recovered, Trimmed
from actors.table.batch import Table
from actors.table.packing import pack, unpack
from actors.timestamps import FOREVER, NEVER, format_timestamp

T = TypeVar("T")

FORMAT = 2
"""Format 1 had no seals."""
REPLAY_ENTRIES = 64
"""How many batches are read at a time, so that a replay never delays a commit for long."""

_TABLES = """
CREATE TABLE IF NOT EXISTS batches (
    arrived INTEGER PRIMARY KEY, count INTEGER NOT NULL, blocks BLOB NOT NULL, held BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS features (
    id TEXT PRIMARY KEY, record BLOB NOT NULL, seal INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS groups (
    name TEXT PRIMARY KEY, record BLOB NOT NULL, seal INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS catalogue (
    kind TEXT, name TEXT, record BLOB NOT NULL, seal INTEGER NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, arrived INTEGER NOT NULL, answer BLOB NOT NULL, seal INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS forgotten (
    feature TEXT PRIMARY KEY, record BLOB NOT NULL, seal INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erased (
    entity_type TEXT, entity_id TEXT, arrived INTEGER NOT NULL, seal INTEGER NOT NULL,
    PRIMARY KEY (entity_type, entity_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, record BLOB NOT NULL, seal INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (
    name TEXT PRIMARY KEY, sum INTEGER NOT NULL, seal INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (
    kind TEXT, key TEXT, record BLOB NOT NULL, seal INTEGER NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost (place INTEGER PRIMARY KEY, record BLOB NOT NULL, seal INTEGER NOT NULL);
"""
_COLUMNS = {
    "features": "id, record",
    "groups": "name, record",
    "catalogue": "kind, name, record",
    "answers": "key, arrived, answer",
    "forgotten": "feature, record",
    "erased": "entity_type, entity_id, arrived",
    "files": "path, record",
    "log": "name, sum",
    "notes": "kind, key, record",
    "lost": "place, record",
}


_FILES = "SELECT CAST(path AS BLOB), CAST(record AS BLOB), seal FROM files ORDER BY path"


class Journal(Database):
    """The journal's database. Only commits take long.

    Opening it is refused if the registry, positions or notes are damaged. Damaged batches are skipped: see `lost`.
    """

    def __init__(self, path: str) -> None:
        """`path`: may be ":memory:"."""
        super().__init__(path, "journal", _TABLES, FORMAT, _reform)
        self._newest = 0
        self._lost: dict[int, Lost] = {}
        self.unsure: str | None = None
        """Why it is unknown which idempotency keys have been answered; None if it is known."""

    def open(self) -> None:
        """Open or create the database. Raises StartupError for damage that cannot be worked around."""
        super().open()
        try:
            for table, columns in _COLUMNS.items():
                if table not in ("answers", "files", "log"):  # whose damage can be worked around
                    self.sealed(table, columns)
            self._lost = {
                place: msgspec.msgpack.decode(record, type=Lost)
                for place, record in self.sealed("lost", "place, record")
            }
        except (Damaged, StorageDown) as error:
            raise StartupError(f"cannot open the journal {self.path}: {error}") from error
        try:
            self.sealed("answers", _COLUMNS["answers"])
        except (Damaged, StorageDown) as error:
            self.unsure = f"which writes have been answered is not known any more: {error}"
        self._newest = max((row[0] for row in self.rows("SELECT max(arrived) FROM batches") if row[0]), default=0)

    # Entries

    def commit(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Make all entries durable, or none."""
        batches = [_batch(entry) if isinstance(entry, Written) else None for entry in entries]
        newest = self._newest
        with self.transaction() as database:
            for entry, batch in zip(entries, batches, strict=True):
                if batch is not None and batch[1].count:
                    held = msgspec.structs.replace(batch[1], previous=newest if newest < batch[1].arrived else 0)
                    database.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", _row(batch[0], held))
                    newest = max(newest, held.arrived)
                self._put(database, entry)
        self._newest = newest
        return entries

    def _put(self, database: sqlite3.Connection, entry: Entry) -> None:
        match entry:
            case Written(arrived, _, key, answer):
                if key is not None:
                    put(database, "answers", key, arrived, answer)
                for note in entry.notes:
                    self._put(database, note)
            case Erased():
                put(database, "erased", *entry[:3])
            case Noted(kind, key, None):
                database.execute("DELETE FROM notes WHERE kind = ? AND key = ?", (kind, key))
            case Noted(kind, key, record):
                put(database, "notes", kind, key, record)
            case _:
                _register(database, entry)

    def recover(self) -> Recovered:
        """Read the registry and the newest arrival."""
        features = self._records("features", Feature)
        groups = self._records("groups", Group)
        catalogue = [record_of(row[-1]) for row in self.sealed("catalogue", _COLUMNS["catalogue"])]
        arrivals = [
            row[0]
            for row in self.rows("SELECT max(arrived) FROM answers UNION ALL SELECT max(arrived) FROM erased")
        ]
        arrivals += [row[0] for row in self.rows("SELECT arrived FROM batches") if row[0] not in self._lost]
        marks = [
            *arrivals,
            *(feature.updated for feature in features),
            *(group.updated for group in groups),
            *(record.updated for record in catalogue),
            self.position,
            0,
        ]
        last = max(mark for mark in marks if mark is not None)
        return Recovered(features, groups, last, 0, self.meta("moment"), catalogue)

    def _records(self, table: str, kind: type[T]) -> list[T]:
        key = _COLUMNS[table]
        return [msgspec.msgpack.decode(row[1], type=kind) for row in self.sealed(table, key)]

    def answers(self, keys: Sequence[str], given_after: int) -> dict[str, bytes]:
        """The answers given later than `given_after` to those of the idempotency keys that were used.

        Raises Damaged if that is unknown.
        """
        if self.unsure is not None:
            raise Damaged(self.unsure)
        which = "key IN (SELECT value FROM json_each(?)) AND arrived > ?"
        rows = self.sealed("answers", _COLUMNS["answers"], which, msgspec.json.encode(keys).decode(), given_after)
        return {key: answer for key, _, answer in rows}

    def batches(self, after: int) -> Iterator[tuple[int, list[Table]]]:
        """The batches that arrived later than `after`, in order, without lost ones.

        Raises Trimmed if some have been deleted, Damaged if one is damaged that was not known to be.
        """
        while True:
            rows = self._batches(after)
            # Checked after reading the rows, so that a trim in between is noticed.
            if after < self.meta("trimmed", 0):
                raise Trimmed("the journal was trimmed while it was read")
            if not rows:
                return
            for row in rows:
                arrived = row[0]
                if arrived not in self._lost:
                    _check(self.path, row, after, self._lost)
                    yield arrived, unpack(row[2])
                after = arrived

    def _batches(self, after: int) -> list[Any]:
        """Read batches; the casts ensure the types of damaged values."""
        query = "SELECT arrived, count, CAST(blocks AS BLOB), CAST(held AS BLOB) FROM batches"
        return self.rows(f"{query} WHERE arrived > ? ORDER BY arrived LIMIT ?", after, REPLAY_ENTRIES)

    def count(self, after: int) -> int:
        """Count the observations that arrived later than `after`."""
        rows = self.rows("SELECT arrived, count FROM batches WHERE arrived > ?", after)
        return sum(count for arrived, count in rows if arrived not in self._lost)

    # What is lost

    def features(self) -> dict[str, Feature]:
        """The registered features, by id."""
        return {feature.id: feature for feature in self._records("features", Feature)}

    def known(self) -> dict[str, int]:
        """When each registered feature was created, by id."""
        return {feature.id: feature.created for feature in self.features().values()}

    @property
    def lost(self) -> list[Lost]:
        """The damaged batches. What they held is lost, unless there is a backup."""
        return list(self._lost.values())

    def find_lost(self, monitored: int) -> list[Lost]:
        """Read all batches, and note those that turn out to be damaged, which are returned.

        `monitored`: the position of the statistics.
        """
        after, found = NEVER, list[Lost]()
        known = self.known()
        while rows := self._batches(after):
            for row in rows:
                arrived = row[0]
                if arrived not in self._lost and (why := _fault(row, after, self._lost)) is not None:
                    held = unpacked(row[3]) if why != _GAP else None
                    if held is None:
                        found.append(Lost(arrived, everything(known), kept=False, counted=False))
                    else:
                        had = held.arrived <= self.position, held.arrived <= monitored
                        found.append(Lost(arrived, held.spans, *had, held.count))
                after = arrived
        with self.transaction() as database:
            for lost in found:
                put(database, "lost", lost.place, msgspec.msgpack.encode(lost))
        self._lost.update({lost.place: lost for lost in found})
        return found

    def forget_lost(self) -> None:
        """Give up what is lost: no longer report it, and delete damaged records of answers and history files."""
        forgotten = [msgspec.structs.replace(one, kept=True, counted=True) for one in self.lost]
        query = "SELECT rowid, CAST(key AS BLOB), arrived, CAST(answer AS BLOB), seal FROM answers"
        with self.transaction() as database:
            for lost in forgotten:
                put(database, "lost", lost.place, msgspec.msgpack.encode(lost))
            unsound = [
                row[:1]
                for row in database.execute(query).fetchall()
                if not is_sound("answers", (readable(row[1]), *row[2:]))
            ]
            database.executemany("DELETE FROM answers WHERE rowid = ?", unsound)
            set_meta(database, counted=0)
            gone = [row[:1] for row in database.execute(_FILES) if not _is_sound_file(row)]
            database.executemany("DELETE FROM files WHERE CAST(path AS BLOB) = ?", gone)
        self._lost.update({lost.place: lost for lost in forgotten})
        self.unsure = None

    # Positions

    def set_history(self, position: int, change: Change) -> None:
        """Note that the history reaches `position`, and a change of its files. Both must be on disk."""
        with self.transaction() as database:
            set_meta(database, history_position=position, history_version=change.version)
            if change.metadata is not None:
                set_meta(database, history_metadata=change.metadata)
            for file in change.files:
                put(database, "files", file.path, msgspec.msgpack.encode(file))
            database.executemany("DELETE FROM files WHERE path = ?", [(path,) for path in change.gone])
            for name, sum_ in change.log:
                if sum_ is None:
                    database.execute("DELETE FROM log WHERE name = ?", (name,))
                else:
                    put(database, "log", name, sum_)

    def files(self) -> list[RunFile]:
        """The history files, and those replaced but not deleted yet, unless their record is damaged."""
        return [msgspec.msgpack.decode(row[1], type=RunFile) for row in self.rows(_FILES) if _is_sound_file(row)]

    def unsound_files(self) -> list[bytes]:
        """The paths of history files whose record is damaged."""
        return [row[0] for row in self.rows(_FILES) if not _is_sound_file(row)]

    def log_sums(self) -> dict[str, int]:
        """The checksums of the files of the Delta table's log; very old ones have none. Raises Damaged."""
        return dict(self.sealed("log", _COLUMNS["log"]))

    def forget_log_sums(self, but: Sequence[str]) -> None:
        """Delete the checksums of all files but these."""
        with self.transaction() as database:
            query = "DELETE FROM log WHERE name NOT IN (SELECT value FROM json_each(?))"
            database.execute(query, (msgspec.json.encode(but).decode(),))

    @property
    def position(self) -> int:
        """The last arrival in the history."""
        return int(self.meta("history_position", 0))

    @property
    def newest(self) -> int:
        """The newest arrival of all batches ever."""
        return max(self._newest, self.position)

    @property
    def counted(self) -> int:
        """The position of the statistics when the journal was last trimmed accordingly."""
        return int(self.meta("counted", 0))

    def drop(self, until: int, answers_until: int, moment: int, counted: int = FOREVER) -> None:
        """Delete batches that arrived by `until` and answers given by `answers_until`, and note the moment.

        `counted`: the position of the saved statistics; FOREVER if there are none.
        """
        before = int(self.meta("trimmed", 0))
        with self.transaction() as database:
            database.execute("DELETE FROM batches WHERE arrived <= ?", (until,))
            set_meta(database, trimmed=max(before, until), moment=moment)
            if counted != FOREVER:
                set_meta(database, counted=counted)
            database.execute("DELETE FROM answers WHERE arrived <= ?", (answers_until,))

    # Deleted features whose rows the history files still have

    def forgotten(self) -> list[Feature]:
        """The deleted features whose rows the history files may still have."""
        return self._records("forgotten", Feature)

    def erased(self) -> list[Erased]:
        """The erasures that are not complete."""
        return [Erased(*row) for row in self.sealed("erased", _COLUMNS["erased"])]

    def holds(self, until: int) -> bool:
        """Whether the journal has batches that arrived by `until`."""
        return bool(self.rows("SELECT 1 FROM batches WHERE arrived <= ? LIMIT 1", until))

    def erasing_done(self, erasures: Sequence[Erased]) -> None:
        """Note that erasures are complete in the history files, and rewrite this file without deleted content."""
        with self.transaction() as database:
            database.executemany(
                "DELETE FROM erased WHERE entity_type = ? AND entity_id = ? AND arrived = ?",
                [one[:3] for one in erasures],
            )
        self.scrub()

    def notes(self, kind: str) -> dict[str, bytes]:
        """The monitor's records of a kind, by key."""
        return {key: record for _, key, record in self.sealed("notes", _COLUMNS["notes"], "kind = ?", kind)}

    def forgot(self, features: Sequence[Feature]) -> None:
        """Note that the history files have no more rows of deleted features."""
        with self.transaction() as database:
            database.executemany(
                "DELETE FROM forgotten WHERE feature = ? AND record = ?",
                [(feature.id, msgspec.msgpack.encode(feature)) for feature in features],
            )


def _register(database: sqlite3.Connection, change: Entry) -> None:
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
        case Catalogued(record):
            put(database, "catalogue", kind_of(record), record.key, msgspec.msgpack.encode(record))
        case Uncatalogued(kind, key):
            database.execute("DELETE FROM catalogue WHERE kind = ? AND name = ?", (kind, key))
        case Together(changes):
            for one in changes:
                _register(database, one)


def _save(database: sqlite3.Connection, table: str, key: str, record: Feature | Group) -> None:
    put(database, table, key, msgspec.msgpack.encode(record))


def _save_groups(database: sqlite3.Connection, groups: Sequence[Group]) -> None:
    for group in groups:
        _save(database, "groups", group.name, group)


# Detecting damage


def _is_sound_file(row: Sequence[Any]) -> bool:
    return is_sound("files", (readable(row[0]), *row[1:]))


def _batch(entry: Written) -> tuple[bytes, Held]:
    data = pack(entry.batch)
    return data, Held(entry.arrived, 0, entry.observations, crc32(data), spans_of(entry.batch))


def _row(data: bytes, held: Held) -> tuple[int, int, bytes, bytes]:
    return held.arrived, held.count, data, packed(held)


_GAP = "batches before it are gone"


def _fault(row: Sequence[Any], after: int, lost: Mapping[int, Lost]) -> str | None:
    """What is wrong with the batch that follows the one that arrived at `after`; None if nothing is."""
    arrived, count, blocks, held = row
    noted = unpacked(held)
    if noted is None:
        return "what it holds cannot be read"
    if (noted.arrived, noted.count, noted.sum) != (arrived, count, crc32(blocks)):
        return "its values are not those that were written"
    return _GAP if noted.previous > after and after != NEVER and noted.previous not in lost else None


def _check(path: str, row: Sequence[Any], after: int, lost: Mapping[int, Lost]) -> None:
    why = _fault(row, after, lost)
    if why is not None:
        raise Damaged(f"{path} is damaged in the batch of {format_timestamp(row[0])}: {why}")


def _reform(database: sqlite3.Connection) -> None:
    """Convert format 1: add seals to all rows."""
    made = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
    for table, columns in _COLUMNS.items():
        if table in made:
            renewed(database, _TABLES, table, columns)
    database.execute("ALTER TABLE batches RENAME TO unsealed")
    (statement,) = [one for one in _TABLES.split(";") if "EXISTS batches (" in one]
    database.execute(statement)
    previous = 0
    for arrived, count, blocks in database.execute("SELECT arrived, count, blocks FROM unsealed ORDER BY arrived"):
        held = Held(arrived, previous, count, crc32(blocks), spans_of(unpack(blocks)))
        database.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", _row(blocks, held))
        previous = arrived
    database.execute("DROP TABLE unsealed")
