"""What happens in monitoring, for those who listen: each gets every event, or is told that it was too slow."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import trio

from actors.clock import ArrivalClock

REMEMBERED = 1_000
"""Events that a listener which comes back can still be told."""
BEHIND = 256
"""A listener with more events than this before it is let go."""


class Event(NamedTuple):
    """`id` is its time in microseconds, unique; `kind` such as `alert.firing`."""

    id: int
    kind: str
    data: dict[str, Any]


class Events:
    """A hub. `publish` never waits."""

    def __init__(self, clock: ArrivalClock) -> None:
        self._clock = clock
        self._recent: deque[Event] = deque(maxlen=REMEMBERED)
        self._listeners: set[trio.MemorySendChannel[Event]] = set()

    def publish(self, kind: str, data: dict[str, Any]) -> Event:
        """Tell everyone who listens."""
        event = Event(self._clock.tick(), kind, data)
        self._recent.append(event)
        for listener in list(self._listeners):
            try:
                listener.send_nowait(event)
            except trio.WouldBlock:
                listener.close()
                self._listeners.discard(listener)
        return event

    @contextmanager
    def listening(self, after: int | None = None) -> Iterator[AsyncIterator[Event]]:
        """The events from now on, before them those remembered that came later than `after`.

        The iteration ends for a listener that falls behind.
        """
        missed = [event for event in self._recent if after is not None and event.id > after]
        send, receive = trio.open_memory_channel[Event](len(missed) + BEHIND)
        for event in missed:
            send.send_nowait(event)
        self._listeners.add(send)
        try:
            yield receive
        finally:
            self._listeners.discard(send)
            send.close()
            receive.close()

    def close(self) -> None:
        """End every listening: the process stops."""
        for listener in list(self._listeners):
            listener.close()
        self._listeners.clear()
