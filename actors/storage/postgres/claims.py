"""Who alone may write under an idempotency key: whoever holds an advisory lock, for as long as it is connected."""

from __future__ import annotations

import psycopg

from actors.storage.postgres.link import Connection, Link

_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))::int"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))::int"


class PostgresClaims:
    """One user at a time of each key."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._held: dict[str, Connection] = {}

    def claim(self, key: str) -> bool:
        """See `Claims`. A connection that was lost is a lock that another may have by now."""
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = self._link.alone()
            mine = _asked(self._link, held, _LOCK, key)
        else:
            mine = _asked(self._link, held, "SELECT length(%s)", key)
        if not mine:
            self.disclaim(key)
        return mine

    def disclaim(self, key: str) -> None:
        """End its connection."""
        held = self._held.pop(key, None)
        if held is not None:
            _asked(self._link, held, _UNLOCK, key)  # a connection that ends gives its locks back a moment later
            held.close()

    def close(self) -> None:
        """Let go of all."""
        for key in list(self._held):
            self.disclaim(key)


def _asked(link: Link, connection: Connection, query: str, key: str) -> bool:
    try:
        with link.watching(connection):
            row = connection.execute(query.encode(), (f"timewell {key}",)).fetchone()
    except psycopg.Error:
        return False
    return row is not None and bool(row[0])
