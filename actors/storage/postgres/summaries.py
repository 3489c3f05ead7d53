"""The statistics in PostgreSQL, merged over all writers; each observation is counted once.

Each process is a writer: it has a row in `writers`, whose advisory lock it holds for as long as it is connected,
and counts the observations that it committed itself. Its batches are kept, without entity ids, until its summaries
have been merged into the common ones, in one transaction with its position. A process that dies leaves its writer
behind; the next one to start takes over the batches that it had not counted, as if they had just arrived.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain

import psycopg

from actors.domain import Feature
from actors.errors import StorageDown
from actors.stats.windows import Merge, Window, coarser, due
from actors.storage.postgres.link import Connection, Link, T
from actors.storage.protocol import SavedSummaries, SummaryKey
from actors.storage.shared.base import SharedSummaries
from actors.table.batch import Batch, observations, without_ids
from actors.table.packing import pack, unpack

COARSENED_AT_ONCE = 5_000
REPLAYED_AT_ONCE = 64
READ_AT_ONCE = 500
_WRITERS, _LEADER, _MERGING = 726_891_301, 726_891_302, 726_891_303
"""Classes of advisory locks."""
_ONE = "feature = %s AND created = %s AND width = %s AND start = %s"
_PUT = (
    "INSERT INTO summaries VALUES (%s, %s, %s, %s, %s)"
    " ON CONFLICT (feature, created, width, start) DO UPDATE SET state = excluded.state"
)


class Writers:
    """Ensures that this process is a writer, which no other process is."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._current: int | None = None
        self._leads = False

    def current(self) -> int:
        """The id of this process's writer, which is created if there is none. Raises StorageDown."""
        with self._lock:
            if self._connection is None or self._connection.closed or self._current is None:
                self._current = self._taken()
            return self._current

    def lost(self, writer: int) -> None:
        """Note that another process has taken over this writer."""
        with self._lock:
            if self._current == writer:
                self._close()

    def check(self, writer: int, found: psycopg.Cursor[tuple[int, ...]]) -> None:
        """Raise WriterLost if the writer was not found."""
        if found.fetchone() is None:
            self.lost(writer)
            raise WriterLost("another process took over while this one was away")

    def leads(self) -> bool:
        """Whether this process is the leader, which it becomes if there is none. Raises StorageDown."""
        self.current()
        with self._lock, self._guarded() as connection:
            leads = self._leads = self._leads or _tried(connection, _LEADER, 0)
            if leads and _any_dead(connection, self._current):
                self._close()  # the next writer takes over what dead writers and the present one have not counted
            return leads

    def close(self) -> None:
        """Give up the writer; what it has not counted is left to the next one."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._current, self._leads = None, None, False

    @contextmanager
    def _guarded(self) -> Iterator[Connection]:
        try:
            if self._connection is None:
                raise StorageDown("the connection that holds the monitor's place was lost")
            with self._link.watching(self._connection):
                yield self._connection
        except psycopg.Error as error:
            self._close()
            raise StorageDown(f"PostgreSQL went away: {error}") from None

    def _taken(self) -> int:
        self._close()
        self._connection = self._link.alone()
        with self._guarded() as connection, connection.transaction():
            # First, as it locks the clock: no commit of a writer that is taken over can be in progress then.
            now = _later(connection)
            found = connection.execute("SELECT id FROM writers ORDER BY id").fetchall()
            dead = [id_ for (id_,) in found if _tried(connection, _WRITERS, id_)]
            writer = _number(connection.execute("INSERT INTO writers (position) VALUES (%s) RETURNING id", (now,)))
            connection.execute("SELECT pg_advisory_lock(%s, %s)", (_WRITERS, writer))
            for one in dead:
                _adopt(connection, one, writer)
        return writer


class WriterLost(StorageDown):
    """This process's writer no longer exists: another process has taken over what it had not counted."""


def _number(found: psycopg.Cursor[tuple[int, ...]]) -> int:
    row = found.fetchone()
    assert row is not None
    return int(row[0])


def _later(connection: Connection) -> int:
    """A moment later than all commits so far. Locks the clock, so that no commit is in progress."""
    return _number(connection.execute("UPDATE clock SET arrived = arrived + 1 RETURNING arrived"))


def _tried(connection: Connection, class_: int, number: int) -> bool:
    return bool(_number(connection.execute("SELECT pg_try_advisory_lock(%s, %s)::int", (class_, number))))


def _any_dead(connection: Connection, current: int | None) -> bool:
    for (writer,) in connection.execute("SELECT id FROM writers WHERE id <> %s", (current,)).fetchall():
        if _tried(connection, _WRITERS, writer):
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", (_WRITERS, writer))
            return True
    return False


def _adopt(connection: Connection, dead: int, writer: int) -> None:
    """Move what a dead writer has not counted to another writer, as if it arrived now."""
    # Locks the row, as the process may not be dead but cut off, and about to save.
    position = _number(connection.execute("SELECT position FROM writers WHERE id = %s FOR UPDATE", (dead,)))
    query = "SELECT arrived FROM batches WHERE writer = %s AND arrived > %s ORDER BY arrived"
    for (arrived,) in connection.execute(query, (dead, position)).fetchall():
        move = "UPDATE batches SET writer = %s, arrived = %s WHERE writer = %s AND arrived = %s"
        connection.execute(move, (writer, _later(connection), dead, arrived))
    connection.execute("DELETE FROM batches WHERE writer = %s", (dead,))
    connection.execute("DELETE FROM writers WHERE id = %s", (dead,))
    connection.execute("SELECT pg_advisory_unlock(%s, %s)", (_WRITERS, dead))


class Uncounted:
    """The batches of this writer that have not been counted yet."""

    def __init__(self, link: Link, writers: Writers) -> None:
        self._link = link
        self._writers = writers

    def keep(
        self, connection: Connection, writer: int, batches: Sequence[tuple[int, Batch]]
    ) -> psycopg.Cursor[tuple[int, ...]]:
        """Within a transaction: keep batches to be counted. The result has to be passed to `Writers.check`."""
        found = connection.execute("SELECT 1 FROM writers WHERE id = %s FOR SHARE", (writer,))
        for arrived, batch in batches:
            bare, count = without_ids(batch), observations(batch)
            insert = "INSERT INTO batches VALUES (%s, %s, %s, %s)"
            connection.execute(insert, (writer, arrived, count, pack(bare)))
        return found

    def replay(self, after: int) -> Iterator[tuple[int, Batch]]:
        """The batches of this writer that arrived later than `after`, without entity ids."""
        writer = self._writers.current()
        query = "SELECT arrived, blocks FROM batches WHERE writer = %s AND arrived > %s ORDER BY arrived LIMIT %s"

        def ask(connection: Connection) -> list[tuple[int, bytes]]:
            return connection.execute(query, (writer, after, REPLAYED_AT_ONCE)).fetchall()

        while rows := self._link.read(ask):
            for arrived, packed in rows:
                yield arrived, unpack(packed)
            after = rows[-1][0]

    def forget_counted(self, monitored: int) -> None:
        """Delete the batches that summaries at position `monitored` cover."""
        writer = self._writers.current()
        with self._link.write() as connection:
            connection.execute("DELETE FROM batches WHERE writer = %s AND arrived <= %s", (writer, monitored))


class PostgresSummaries(SharedSummaries):
    """See `Summaries`. Positions are those of this process's writer."""

    def __init__(self, link: Link, writers: Writers) -> None:
        self._link = link
        self._writers = writers

    @property
    def position(self) -> int:
        """The position up to which this writer's batches have been counted.

        A save whose connection was lost may still succeed. It locks the writer's row until that is decided, so
        this waits for it.
        """

        def ask(connection: Connection, writer: int) -> int:
            return self._position(connection, writer, " FOR SHARE")

        return self._as_writer(ask)

    def _as_writer(self, ask: Callable[[Connection, int], T]) -> T:
        """Run `ask` with this process's writer, again with a new one if it was taken over. Raises StorageDown."""
        with suppress(WriterLost):
            return self._as_writer_now(ask)
        return self._as_writer_now(ask)

    def _as_writer_now(self, ask: Callable[[Connection, int], T]) -> T:
        writer = self._writers.current()
        return self._link.read(lambda connection: ask(connection, writer))

    def _position(self, connection: Connection, writer: int, how: str = "") -> int:
        query = f"SELECT position FROM writers WHERE id = %s{how}"
        found = connection.execute(query.encode(), (writer,)).fetchone()
        if found is None:
            self._writers.lost(writer)
            raise WriterLost("another process took over while this one was away")
        return int(found[0])

    def save(self, position: int, parts: Mapping[SummaryKey, bytes], merge: Merge) -> None:
        """Merge the parts into the saved summaries, and save this writer's position with them."""
        writer = self._writers.current()
        with self._link.write() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_MERGING,))
            held = connection.execute("SELECT 1 FROM writers WHERE id = %s FOR UPDATE", (writer,))
            self._writers.check(writer, held)
            update = "UPDATE writers SET position = %s WHERE id = %s AND position <= %s RETURNING id"
            if connection.execute(update, (position, writer, position)).fetchone() is None:
                # From an earlier writer of this process, whose unsaved batches this writer will count.
                raise StorageDown("these statistics are no longer this process's to save")
            for key, part in parts.items():
                _merge_in(connection, key, [part], merge)

    def read(self, feature: Feature, start: int, end: int) -> SavedSummaries:
        """The summaries of a feature's windows that overlap the event times [start, end]."""
        narrow = max(start, -(2**62)), min(end, 2**62)
        return self._read("width > 0 AND start > %s - width AND start <= %s", feature, *narrow)

    def read_whole(self, feature: Feature) -> SavedSummaries:
        """The summary of a feature's whole stream."""
        return self._read("width = 0", feature)

    def _read(self, which: str, feature: Feature, *bounds: int) -> SavedSummaries:
        query = f"SELECT width, start, state FROM summaries WHERE feature = %s AND created = %s AND {which}"

        def ask(connection: Connection, writer: int) -> SavedSummaries:
            with _snapshot(connection):  # so that position and summaries match
                rows = connection.execute(query.encode(), (feature.id, feature.created, *bounds)).fetchall()
                position = self._position(connection, writer)
            return SavedSummaries(position, {Window(width, from_): state for width, from_, state in rows})

        return self._as_writer(ask)

    def totals(self) -> tuple[int, dict[SummaryKey, bytes]]:
        """The summary of every feature's whole stream, and this writer's position."""

        def ask(connection: Connection, writer: int) -> tuple[int, dict[SummaryKey, bytes]]:
            with _snapshot(connection):
                query = "SELECT feature, created, width, start, state FROM summaries WHERE width = 0"
                rows = connection.execute(query).fetchall()
                position = self._position(connection, writer)
            return position, {SummaryKey(*row[:4]): row[4] for row in rows}

        return self._as_writer(ask)

    def all(self) -> Iterator[tuple[SummaryKey, bytes]]:
        """Every summary."""
        last: SummaryKey | tuple[str, int, int, int] = ("", -(2**63), 0, 0)
        query = "SELECT feature, created, width, start, state FROM summaries"
        query += " WHERE (feature, created, width, start) > (%s, %s, %s, %s)"
        query += " ORDER BY feature, created, width, start LIMIT %s"

        def ask(connection: Connection) -> list[tuple[str, int, int, int, bytes]]:
            return connection.execute(query.encode(), (*last, READ_AT_ONCE)).fetchall()

        while rows := self._link.read(ask):
            for feature, created, width, start, state in rows:
                last = SummaryKey(feature, created, width, start)
                yield last, state

    def forget(self, connection: Connection, feature: str, created: int) -> None:
        """Within a transaction: delete the summaries of a deleted feature."""
        connection.execute("DELETE FROM summaries WHERE feature = %s AND created = %s", (feature, created))

    def coarsen_now(self, now: int, merge: Merge) -> None:
        """Merge windows that have grown old into wider ones."""
        bounds = due(now)
        old = " OR ".join(["(width = %s AND (start < %s OR start > %s))"] * len(bounds))
        with self._link.write() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_MERGING,))
            query = (
                f"DELETE FROM summaries WHERE ctid = ANY(ARRAY(SELECT ctid FROM summaries WHERE {old} LIMIT %s))"
            )
            query += " RETURNING feature, created, width, start, state"
            rows = connection.execute(query.encode(), (*chain(*bounds), COARSENED_AT_ONCE)).fetchall()
            merged: dict[SummaryKey, list[bytes]] = {}
            for feature, created, width, start, state in rows:
                wider = coarser(Window(width, start), now)
                merged.setdefault(SummaryKey(feature, created, *wider), []).append(state)
            for key, states in merged.items():
                _merge_in(connection, key, states, merge)


def _merge_in(connection: Connection, key: SummaryKey, states: Sequence[bytes], merge: Merge) -> None:
    found = connection.execute(f"SELECT state FROM summaries WHERE {_ONE}", key).fetchone()
    together = [*([found[0]] if found else []), *states]
    connection.execute(_PUT, (*key, together[0] if len(together) == 1 else merge(together)))


@contextmanager
def _snapshot(connection: Connection) -> Iterator[None]:
    """A transaction in which all queries see the same state of the database."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
