"""Claims on idempotency keys: advisory locks, each held by a connection of its own for as long as that lasts."""

from __future__ import annotations

import psycopg

from actors.storage.postgres.link import Connection, Link

_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))::int"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))::int"


class PostgresClaims:
    """See `Claims`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._held: dict[str, Connection] = {}

    def claim(self, key: str) -> bool:
        """Claim a key, or check that the connection with its lock still works; returns whether the claim holds."""
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = self._link.alone()
            claimed = _asked(self._link, held, _LOCK, key)
        else:
            claimed = _asked(self._link, held, "SELECT length(%s)", key)
        if not claimed:
            self.disclaim(key)
        return claimed

    def disclaim(self, key: str) -> None:
        """Unlock the key and close the connection."""
        held = self._held.pop(key, None)
        if held is not None:
            _asked(self._link, held, _UNLOCK, key)  # closing a connection releases its locks only a moment later
            held.close()

    def close(self) -> None:
        """Give up all claims."""
        for key in list(self._held):
            self.disclaim(key)


def _asked(link: Link, connection: Connection, query: str, key: str) -> bool:
    try:
        with link.watching(connection):
            row = connection.execute(query.encode(), (f"timewell {key}",)).fetchone()
    except psycopg.Error:
        return False
    return row is not None and bool(row[0])
