"""What Hypercorn's HTTP/2 leaves undone, in a class in its place.

- A client grants a window for each answer. One that grants none, or none any more, would hold the answer for as
  long as its connection lasts; the request is given up instead (`web/untaken.py`).
- A client that begins requests and takes them back has work done for nothing, of which the bound on streams at
  once knows nothing. After so many its connection is closed.
"""

from __future__ import annotations

from typing import Any

import h2.errors
import h2.events
import trio
from hypercorn import protocol
from hypercorn.config import Config
from hypercorn.events import Closed
from hypercorn.protocol.events import Body, EndBody, Event
from hypercorn.protocol.h2 import H2Protocol

from web.untaken import Taking, Untaken

MOST_TAKEN_BACK = 1_000
"""More requests taken back before they were answered than were answered, by so many."""


class Http2(H2Protocol):
    """The requests of one connection."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        config: Any = self.config
        self._untaken: Untaken = config.untaken
        self._taking: dict[int, Taking] = {}
        self._taken_back = 0

    async def stream_send(self, event: Event) -> None:
        """Send a part of an answer, as its client takes it."""
        if not isinstance(event, Body | EndBody):
            await super().stream_send(event)
            return
        size = len(event.data) if isinstance(event, Body) else 0
        if event.stream_id in self.stream_buffers:
            size += len(self.stream_buffers[event.stream_id].buffer)
        try:
            with self._untaken.taking(size) as self._taking[event.stream_id]:
                await super().stream_send(event)
        except trio.BrokenResourceError:
            await self._give_up(event.stream_id)
        else:
            if isinstance(event, EndBody):
                self._taken_back = max(0, self._taken_back - 1)
        finally:
            self._taking.pop(event.stream_id, None)

    async def _send_data(self, stream_id: int) -> None:
        buffer = self.stream_buffers[stream_id].buffer
        before = len(buffer)
        await super()._send_data(stream_id)
        taking, taken = self._taking.get(stream_id), before - len(buffer)
        if taking is not None and taken > 0:
            taking.took(taken)

    async def _give_up(self, stream_id: int) -> None:
        with trio.CancelScope(shield=True):
            if stream_id in self.stream_buffers and not self.closed:
                self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
                await self._flush()
            await self._close_stream(stream_id)
            await self._window_updated(stream_id)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        back = [one for one in events if isinstance(one, h2.events.StreamReset) and one.stream_id in self.streams]
        self._taken_back += len(back)
        await super()._handle_events(events)
        if self._taken_back > MOST_TAKEN_BACK and not self.closed:
            self.connection.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
            await self._flush()
            await self.send(Closed())


def install(ours: type[Config]) -> None:
    """Have connections with a configuration of this class speak so. Others are served by Hypercorn's own."""

    def made(app: Any, config: Config, *rest: Any) -> H2Protocol:
        return (Http2 if isinstance(config, ours) else H2Protocol)(app, config, *rest)

    protocol.H2Protocol = made  # type: ignore[attr-defined, assignment]
