"""Events of monitoring. Every listener gets every event, or is disconnected because it is too slow."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import trio

from actors.clock import ArrivalClock

REMEMBERED = 1_000
"""How many past events a listener that reconnects can still get."""
BEHIND = 256
"""A listener with more unread events than this is disconnected."""


class Event(NamedTuple):
    """An event. `id`: its time in microseconds, which is unique; `kind`: for example `alert.firing`."""

    id: int
    kind: str
    data: dict[str, Any]


class Events:
    """Distributes events to listeners. `publish` never waits for one."""

    def __init__(self, clock: ArrivalClock) -> None:
        self._clock = clock
        self._recent: deque[Event] = deque(maxlen=REMEMBERED)
        self._listeners: set[trio.MemorySendChannel[Event]] = set()

    def publish(self, kind: str, data: dict[str, Any]) -> Event:
        """Send an event to all listeners."""
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
        """Iterate over all events from now on, preceded by those kept whose id is greater than `after`.

        The iteration ends early for a listener that falls behind.
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
        """Disconnect all listeners, as the process is stopping."""
        for listener in list(self._listeners):
            listener.close()
        self._listeners.clear()
