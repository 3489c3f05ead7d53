"""Events as they happen: server-sent events, read line by line."""

from __future__ import annotations

from typing import Any

import msgspec

from timewell.calls import Request


class Event(msgspec.Struct):
    """An event: `kind` names it, `data` has its `time` and details; pass `id` as `after` to continue from it."""

    id: int
    kind: str
    data: dict[str, Any]


class EventLines:
    """Assembles events from the lines of a stream."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def take(self, line: str) -> Event | None:
        """The event that ends with this line, if one does. Comments (heartbeats) are ignored."""
        if line:
            name, _, value = line.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        return Event(int(fields["id"]), fields["event"], msgspec.json.decode(fields["data"]))


def listening(after: int | None) -> Request:
    """The request for events: from now on, or those that follow the event id `after`."""
    headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": str(after)})
    return Request("GET", "/monitor/events", headers=headers)
