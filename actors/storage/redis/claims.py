"""Who alone may write under an idempotency key: whose token a key has, for a minute unless it is renewed."""

from __future__ import annotations

import secrets

from actors.storage.redis.link import RedisLink, call

CLAIM_SECONDS = 60


class RedisClaims:
    """One user at a time of each key."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._token = secrets.token_hex(8).encode()

    def claim(self, key: str) -> bool:
        """See `Claims`."""
        (mine,) = self._link.ask([call("have", [_place(key)], self._token, CLAIM_SECONDS * 1_000)])
        return bool(mine)

    def disclaim(self, key: str) -> None:
        """It goes."""
        self._link.ask([call("release", [_place(key)], self._token)])


def _place(key: str) -> bytes:
    return b"tw:claim:{%b}" % key.encode()
