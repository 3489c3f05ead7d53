"""A bound on connections, below the limit of descriptors, so that files and storage never lack one.

The limit of descriptors is raised as far as the process may. A connection beyond the bound takes the place of the
one that has been idle for longest; if none has been idle for IDLE_SECONDS, the new one is answered with 503 and
closed.

It could go if Hypercorn had a bound on connections; the raised limit of descriptors would stay.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import nsmallest
from math import inf
from typing import Protocol

import trio

from actors.settings import DESCRIPTORS_RESERVED, MOST_DESCRIPTORS, SHARED_STORE_WORKERS, Settings

IDLE_SECONDS = 1.0
"""A connection that has been idle for less may be about to send a request."""
_DROPPED_AT_ONCE = 32
TURNED_AWAY_AT_ONCE = 32
"""This many refused clients are given a moment to read why; the next one takes the moment of the first."""


class Holder(Protocol):
    """A connection with a place."""

    def idle_since(self) -> float:
        """The time (trio's) since which the connection has been idle; infinite while it is at work."""

    def drop(self) -> None:
        """Close the connection at once."""


class ConnectionPlaces:
    """The open connections, at most `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.turned_away: dict[trio.CancelScope, None] = {}
        """The refused clients that are being told why, the first one first."""
        self._open: set[Holder] = set()
        self._idlest: list[tuple[float, Holder]] = []
        self._look_again = -inf

    def __len__(self) -> int:
        return len(self._open)

    def take(self, connection: Holder) -> bool:
        """Give a connection a place, if need be that of an idle one. Returns whether there was one."""
        if len(self._open) >= self.most and not self._dropped_one():
            return False
        self._open.add(connection)
        return True

    def give_back(self, connection: Holder) -> None:
        """Free the place of a connection that has ended."""
        self._open.discard(connection)

    @contextmanager
    def turning_away(self, seconds: float) -> Iterator[None]:
        """Give a refused client a moment to read why, at most this long."""
        if len(self.turned_away) >= TURNED_AWAY_AT_ONCE:
            first = next(iter(self.turned_away))
            first.cancel()
            del self.turned_away[first]
        with trio.move_on_after(seconds) as moment:
            self.turned_away[moment] = None
            try:
                yield
            finally:
                self.turned_away.pop(moment, None)

    def _dropped_one(self) -> bool:
        now = trio.current_time()
        if not self._idlest and now >= self._look_again:
            candidates = ((holder.idle_since(), id(holder), holder) for holder in self._open)
            idlest = nsmallest(_DROPPED_AT_ONCE, candidates, key=lambda candidate: candidate[:2])
            self._idlest = [
                (since, holder) for since, _, holder in reversed(idlest) if now - since >= IDLE_SECONDS
            ]
            self._look_again = min(idlest[0][0], now) + IDLE_SECONDS if idlest else now
        while self._idlest:
            since, connection = self._idlest.pop()
            if connection in self._open and connection.idle_since() == since:
                connection.drop()
                self._open.discard(connection)
                return True
        return False


def room_for_connections(settings: Settings) -> int:
    """Raise the limit of descriptors; returns how many connections there may be within it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return settings.max_connections
    kept = DESCRIPTORS_RESERVED
    if settings.storage_type in ("redis", "postgresql"):
        kept += settings.shards * SHARED_STORE_WORKERS
    return min(settings.max_connections, max(soft - kept, soft // 4))
