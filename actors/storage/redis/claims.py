"""Claims on idempotency keys: a Redis key with the claimant's token, which expires in a minute unless renewed."""

from __future__ import annotations

import secrets

from actors.storage.redis.link import RedisLink, call

CLAIM_SECONDS = 60


class RedisClaims:
    """See `Claims`."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._token = secrets.token_hex(8).encode()

    def claim(self, key: str) -> bool:
        """Claim a key or renew the claim; returns whether this process has it."""
        (mine,) = self._link.ask([call("have", [_place(key)], self._token, CLAIM_SECONDS * 1_000)])
        return bool(mine)

    def disclaim(self, key: str) -> None:
        """Delete the claim, if it is this process's."""
        self._link.ask([call("release", [_place(key)], self._token)])


def _place(key: str) -> bytes:
    return b"tw:claim:{%b}" % key.encode()
