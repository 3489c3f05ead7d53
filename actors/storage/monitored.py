"""The monitor's summaries by window, in a SQLite database of their own: saving many keeps no commit waiting.

A summary is bytes here. What is saved is what came since the last save, so that saving merges it into what is
there; the position, changed in the same transaction, says how far in the journal the summaries reach.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

from actors.domain import Feature
from actors.stats.windows import FINE_FOR, FIVE_MINUTES, HOUR, HOURLY_FOR, Merge, Window, coarser
from actors.storage.database import Database, set_meta
from actors.storage.protocol import SavedSummaries, SummaryKey

FORMAT = 1
COARSENED_AT_ONCE = 5_000
READ_AT_ONCE = 500

_TABLES = """
CREATE TABLE IF NOT EXISTS windows (
    feature TEXT, created INTEGER, width INTEGER, start INTEGER, state BLOB NOT NULL,
    PRIMARY KEY (feature, created, width, start)
);
"""

_ONE = "feature = ? AND created = ? AND width = ? AND start = ?"


class Monitored(Database):
    """See the module."""

    def __init__(self, path: str) -> None:
        """`path` may be ":memory:"."""
        super().__init__(path, "monitor's database", _TABLES, FORMAT)

    @property
    def position(self) -> int:
        """How far in the journal the summaries reach."""
        return int(self.meta("position", 0))

    def save(self, position: int, parts: Mapping[SummaryKey, bytes], merge: Merge) -> None:
        """Merge the parts into what is saved, which then reaches `position`."""
        with self.transaction() as database:
            for key, part in parts.items():
                found = database.execute(f"SELECT state FROM windows WHERE {_ONE}", key).fetchone()
                state = merge([found[0], part]) if found else part
                database.execute("INSERT OR REPLACE INTO windows VALUES (?, ?, ?, ?, ?)", (*key, state))
            set_meta(database, position=position)

    def read(self, feature: Feature, start: int, end: int) -> SavedSummaries:
        """The windows of a feature that meet a closed range of event time."""
        narrow = max(start, -(2**62)), min(end, 2**62)
        return self._read("width > 0 AND start > ? - width AND start <= ?", feature, *narrow)

    def read_whole(self, feature: Feature) -> SavedSummaries:
        """The summary of a feature's whole stream."""
        return self._read("width = 0", feature)

    def _read(self, which: str, feature: Feature, *bounds: int) -> SavedSummaries:
        query = f"SELECT width, start, state FROM windows WHERE feature = ? AND created = ? AND {which}"
        with self.transaction() as database:  # so that position and summaries belong together
            rows = database.execute(query, (feature.id, feature.created, *bounds)).fetchall()
            position = _position(database)
        states = {Window(width, from_): state for width, from_, state in rows}
        return SavedSummaries(position, states)

    def totals(self) -> tuple[int, dict[SummaryKey, bytes]]:
        """The summary of every feature's whole stream, and the position."""
        with self.transaction() as database:
            query = "SELECT feature, created, width, start, state FROM windows WHERE width = 0"
            rows = database.execute(query).fetchall()
            position = _position(database)
        return position, {SummaryKey(*row[:4]): row[4] for row in rows}

    def all(self) -> Iterator[tuple[SummaryKey, bytes]]:
        """Every summary."""
        last: SummaryKey | tuple[str, int, int, int] = ("", -(2**63), 0, 0)
        query = "SELECT feature, created, width, start, state FROM windows"
        query += " WHERE (feature, created, width, start) > (?, ?, ?, ?)"
        query += " ORDER BY feature, created, width, start LIMIT ?"
        while rows := self.rows(query, *last, READ_AT_ONCE):
            for row in rows:
                last = SummaryKey(*row[:4])
                yield last, row[4]

    def forget(self, feature: str, again: Feature | None) -> None:
        """Delete the summaries of a deleted feature, but for those of the one registered `again` under its id."""
        created = again.created if again is not None else None
        with self.transaction() as database:
            database.execute("DELETE FROM windows WHERE feature = ? AND created IS NOT ?", (feature, created))

    def coarsen(self, now: int, merge: Merge) -> None:
        """Merge windows that have grown old into wider ones."""
        rows = self.rows(
            "SELECT feature, created, width, start, state FROM windows"
            " WHERE (width = ? AND start < ?) OR (width = ? AND start < ?) LIMIT ?",
            *(FIVE_MINUTES, now - FINE_FOR - FIVE_MINUTES),
            *(HOUR, now - HOURLY_FOR - HOUR),
            COARSENED_AT_ONCE,
        )
        merged: dict[SummaryKey, list[bytes]] = {}
        old = []
        for feature, created, width, start, state in rows:
            old.append((feature, created, width, start))
            wider = coarser(Window(width, start), now)
            merged.setdefault(SummaryKey(feature, created, *wider), []).append(state)
        if not old:
            return
        with self.transaction() as database:
            for key, states in merged.items():
                found = database.execute(f"SELECT state FROM windows WHERE {_ONE}", key).fetchone()
                state = merge([*([found[0]] if found else []), *states])
                database.execute("INSERT OR REPLACE INTO windows VALUES (?, ?, ?, ?, ?)", (*key, state))
            database.executemany(f"DELETE FROM windows WHERE {_ONE}", old)


def _position(database: sqlite3.Connection) -> int:
    found = database.execute("SELECT value FROM meta WHERE key = 'position'").fetchone()
    return int(found[0]) if found else 0
