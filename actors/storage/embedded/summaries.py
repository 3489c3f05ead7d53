"""The monitor's summaries by window, in a SQLite database of their own, so that saving many delays no commit.

A summary is bytes here. A save merges summaries of what arrived since the last one into the stored ones, and
changes in the same transaction the position in the journal that the summaries cover.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from actors.domain import Feature
from actors.errors import Damaged, StartupError
from actors.stats.windows import Merge, Window, coarser, due
from actors.storage.embedded.database import OF_DAMAGE, Database, renewed, set_meta
from actors.storage.embedded.sealed import is_sound, put, readable
from actors.storage.protocol import SavedSummaries, SummaryKey
from actors.timestamps import FOREVER, NEVER, format_timestamp

FORMAT = 2
"""Format 1 had no seals."""
COARSENED_AT_ONCE = 5_000
READ_AT_ONCE = 500

_TABLES = """
CREATE TABLE IF NOT EXISTS windows (
    feature TEXT, created INTEGER, width INTEGER, start INTEGER, state BLOB NOT NULL, seal INTEGER NOT NULL,
    PRIMARY KEY (feature, created, width, start)
);
"""

_COLUMNS = "feature, created, width, start, state"
_ONE = "feature = ? AND created = ? AND width = ? AND start = ?"


class EmbeddedSummaries(Database):
    """See `Summaries`."""

    def __init__(self, path: str) -> None:
        """`path`: may be ":memory:"."""
        super().__init__(path, "monitor's database", _TABLES, FORMAT, _reform)
        self.damage: str | None = None
        """Why the database cannot be used at all, if so. It is then left as it is, and nothing is saved."""
        self._passed = 0
        self.need_all_counted: Callable[[Feature, int, int], None] = lambda feature, start, end: None
        """Raises Damaged if observations with event times in [start, end] were lost before they were counted."""
        self.unsound: dict[str, str] = {}
        """The features whose statistics have been found damaged, by id, and why."""

    def open(self) -> None:
        """Open or create the database. A damaged one is left alone: only statistics need it."""
        self.damage = None
        try:
            super().open()
        except StartupError as error:
            if type(error.__cause__) not in OF_DAMAGE:
                raise
            self.close()
            self.damage = error.detail

    def reaching(self, counted: int) -> str | None:
        """Check the position of the summaries, and return `damage`.

        `counted`: a position that they had earlier; if it is less now, commits were lost.
        """
        if self.damage is None and self.position < counted:
            end = format_timestamp(self.position) if self.position else "nothing"
            words = f"{self.path} has lost commits: it reaches {end}, and reached {format_timestamp(counted)}"
            self.close()
            self.damage = words
        return self.damage

    @property
    def position(self) -> int:
        """The position in the journal that the summaries cover."""
        return self._passed if self.damage else int(self.meta("position", 0))

    def save(self, position: int, parts: Mapping[SummaryKey, bytes], merge: Merge) -> None:
        """Merge the parts into the saved summaries, which then cover everything up to `position`."""
        if self.damage:
            self._passed = position
            return
        with self.transaction() as database:
            for key, part in parts.items():
                self._add(database, key, [part], merge)
            set_meta(database, position=position)

    def _add(self, database: sqlite3.Connection, key: SummaryKey, parts: Sequence[bytes], merge: Merge) -> None:
        """Merge parts into a summary. A damaged one is not changed, as rewriting it would make it look sound."""
        found = database.execute(f"SELECT {_COLUMNS}, seal FROM windows WHERE {_ONE}", key).fetchone()
        if found is None:
            put(database, "windows", *key, parts[0] if len(parts) == 1 else merge(parts))
        elif is_sound("windows", found):
            put(database, "windows", *key, merge([found[4], *parts]))

    def read(self, feature: Feature, start: int, end: int) -> SavedSummaries:
        """The summaries of a feature's windows that overlap the event times [start, end]."""
        self.need_all_counted(feature, start, end)
        narrow = max(start, -(2**62)), min(end, 2**62)
        return self._read("width > 0 AND start > ? - width AND start <= ?", feature, *narrow)

    def read_whole(self, feature: Feature) -> SavedSummaries:
        """The summary of a feature's whole stream."""
        self.need_all_counted(feature, NEVER, FOREVER)
        return self._read("width = 0", feature)

    def _read(self, which: str, feature: Feature, *bounds: int) -> SavedSummaries:
        query = f"SELECT {_COLUMNS}, seal FROM windows WHERE feature = ? AND created = ? AND {which}"
        if self.damage:
            raise Damaged(self.damage)
        with self.transaction() as database:  # so that position and summaries match
            rows = database.execute(query, (feature.id, feature.created, *bounds)).fetchall()
            position = _position(database)
        for row in rows:
            if not is_sound("windows", row):
                self.unsound[feature.id] = f"{self.path} is damaged in the statistics of {feature.id}"
                raise Damaged(self.unsound[feature.id])
        return SavedSummaries(position, {Window(*row[2:4]): row[4] for row in rows})

    def totals(self) -> tuple[int, dict[SummaryKey, bytes]]:
        """The position, and the summary of every feature's whole stream, except damaged ones."""
        if self.damage:
            return self._passed, {}
        with self.transaction() as database:
            rows = database.execute(f"SELECT {_COLUMNS}, seal FROM windows WHERE width = 0").fetchall()
            position = _position(database)
        for row in rows:
            if not is_sound("windows", row):
                self.unsound[str(row[0])] = f"{self.path} is damaged in the statistics of {row[0]}"
        return position, {SummaryKey(*row[:4]): row[4] for row in rows if is_sound("windows", row)}

    def all(self) -> Iterator[tuple[SummaryKey, bytes]]:
        """Every summary."""
        last: SummaryKey | tuple[str, int, int, int] = ("", -(2**63), 0, 0)
        if self.damage:
            raise Damaged(self.damage)
        which = "(feature, created, width, start) > (?, ?, ?, ?) ORDER BY feature, created, width, start LIMIT ?"
        while rows := self.sealed("windows", _COLUMNS, which, *last, READ_AT_ONCE):
            for row in rows:
                last = SummaryKey(*row[:4])
                yield last, row[4]

    def damaged_windows(self) -> set[str]:
        """The features that have a damaged summary."""
        if self._connection is None:
            return set()
        return {feature for _, feature in _damaged_rows(self._connection)}

    def forget_damaged(self) -> None:
        """Delete all damaged summaries."""
        if self.damage is None:
            with self.transaction() as database:
                unsound = [(place,) for place, _ in _damaged_rows(database)]
                database.executemany("DELETE FROM windows WHERE rowid = ?", unsound)

    def forget(self, feature: str, again: Feature | None) -> None:
        """Delete the summaries of a deleted feature, except those of one registered `again` under its id."""
        created = again.created if again is not None else None
        if self.damage:
            return
        with self.transaction() as database:
            database.execute("DELETE FROM windows WHERE feature = ? AND created IS NOT ?", (feature, created))

    def coarsen(self, now: int, merge: Merge) -> None:
        """Merge windows that have grown old into wider ones."""
        if self.damage:
            return
        bounds = due(now)
        which = " OR ".join(["(width = ? AND (start < ? OR start > ?))"] * len(bounds))
        query = f"SELECT {_COLUMNS}, seal FROM windows WHERE {which} LIMIT ?"
        rows = self.rows(query, *chain(*bounds), COARSENED_AT_ONCE)
        merged: dict[SummaryKey, list[bytes]] = {}
        old = []
        for feature, created, width, start, state, _ in filter(_whole, rows):
            old.append((feature, created, width, start))
            wider = coarser(Window(width, start), now)
            merged.setdefault(SummaryKey(feature, created, *wider), []).append(state)
        if not old:
            self.shrink()
            return
        with self.transaction() as database:
            for key, states in merged.items():
                self._add(database, key, states, merge)
            database.executemany(f"DELETE FROM windows WHERE {_ONE}", old)


def _whole(row: Sequence[Any]) -> bool:
    return is_sound("windows", row)


def _damaged_rows(database: sqlite3.Connection) -> list[tuple[int, str]]:
    """The damaged rows: rowid and feature."""
    rows = database.execute(
        "SELECT rowid, CAST(feature AS BLOB), created, width, start, CAST(state AS BLOB), seal FROM windows"
    )
    named = ((place, readable(feature), rest) for place, feature, *rest in rows)
    return [(place, feature) for place, feature, rest in named if not is_sound("windows", (feature, *rest))]


def _position(database: sqlite3.Connection) -> int:
    found = database.execute("SELECT key, value, seal FROM meta WHERE key = 'position'").fetchone()
    if found is not None and not is_sound("meta", found):
        raise Damaged("the position of the statistics is damaged")
    return int(found[1]) if found else 0


def _reform(database: sqlite3.Connection) -> None:
    """Convert format 1: add seals to all rows."""
    renewed(database, _TABLES, "windows", _COLUMNS)
