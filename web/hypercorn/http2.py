"""What Hypercorn's HTTP/2 leaves undone, in a subclass that takes its place.

- A client grants a flow-control window for each answer. If it grants too little, the answer would be held for as
  long as the connection lasts; the request is given up instead (`web/hypercorn/untaken.py`).
- A client that begins requests and resets them causes work for nothing, which the limit on concurrent streams does
  not see. The connection is closed once these outnumber the answered requests by MOST_TAKEN_BACK.
- Received bytes, which may be a thousand frames, are handled in pieces so that other connections get their turn.
- h2 waits for a whole frame or head before it finds it too long. Here it is refused as soon as that is clear.
- An answer that fails midway is reset; its client would wait for the rest for ever.
- Body data for a request already answered, CONNECT, and non-ASCII targets would end the connection with all its
  other requests. The first is ignored, the second refused, the third escaped.

Each point could go with the release of Hypercorn, or of h2, that does the same.
"""

from __future__ import annotations

from typing import Any

import h2.errors
import h2.events
import trio
from hypercorn import protocol
from hypercorn.config import Config
from hypercorn.events import Closed, RawData
from hypercorn.events import Event as Incoming
from hypercorn.protocol.events import Body, EndBody, Event, StreamClosed
from hypercorn.protocol.h2 import H2Protocol

from web.hypercorn.targets import as_path, escaped
from web.hypercorn.untaken import Sending, Untaken

TAKEN_AT_ONCE = 4 * 1024
"""Bytes handled between two turns of the event loop: some hundred small frames, two milliseconds."""
MOST_HEAD_BYTES = 64 * 1024
"""The longest compressed head, over all its frames."""
_FRAME_HEAD_BYTES = 9
MOST_TAKEN_BACK = 1_000
"""How many more requests may be reset before their answer than are answered, before the connection is closed."""


class Http2(H2Protocol):
    """The requests of one connection."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        config: Any = self.config
        self._untaken: Untaken = config.untaken
        self._taking: dict[int, Sending] = {}
        self._taken_back = 0
        self.connection.local_settings.enable_connect_protocol = 0
        self.connection.local_settings.acknowledge()

    async def handle(self, event: Incoming) -> None:
        """Handle bytes that were read, or the end of the connection."""
        if not isinstance(event, RawData):
            await super().handle(event)
            return
        for start in range(0, len(event.data), TAKEN_AT_ONCE):
            if start:
                await trio.lowlevel.checkpoint()
            if not self.closed:
                await super().handle(RawData(event.data[start : start + TAKEN_AT_ONCE]))
            if self._too_long():
                await self._end(h2.errors.ErrorCodes.FRAME_SIZE_ERROR)

    def _too_long(self) -> bool:
        """Whether the part received so far of a frame, or of a head in several frames, is already too long."""
        waiting: Any = self.connection.incoming_buffer
        head = sum(len(frame.data) for frame in waiting._headers_buffer)
        return len(waiting._data) > _FRAME_HEAD_BYTES + waiting.max_frame_size or head > MOST_HEAD_BYTES

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        fields = dict(request.headers)
        if b":path" not in fields or fields[b":method"].upper() == b"CONNECT":
            self.connection.reset_stream(request.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
            return
        asked = {b":method": escaped(fields[b":method"]), b":path": as_path(fields[b":path"])}
        request.headers = [(name, asked.get(name, value)) for name, value in request.headers]
        await super()._create_stream(request)

    async def stream_send(self, event: Event) -> None:
        """Send a part of an answer at the pace of its client."""
        if not isinstance(event, Body | EndBody):
            if isinstance(event, StreamClosed) and self._is_cut_off(event.stream_id):
                await self._give_up(event.stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
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

    def _is_cut_off(self, stream_id: int) -> bool:
        return stream_id in self.stream_buffers and not self.stream_buffers[stream_id]._complete

    async def _give_up(self, stream_id: int, why: h2.errors.ErrorCodes = h2.errors.ErrorCodes.CANCEL) -> None:
        with trio.CancelScope(shield=True):
            if stream_id in self.stream_buffers and not self.closed:
                self.connection.reset_stream(stream_id, why)
                await self._flush()
            await self._close_stream(stream_id)
            await self._window_updated(stream_id)

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        resets = [event for event in events if isinstance(event, h2.events.StreamReset)]
        self._taken_back += sum(event.stream_id in self.streams for event in resets)
        # Lazily: an event may begin the stream of the one that follows.
        wanted: Any = filter(self._is_wanted, events)
        await super()._handle_events(wanted)
        if self._taken_back > MOST_TAKEN_BACK:
            await self._end(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)

    def _is_wanted(self, event: h2.events.Event) -> bool:
        """Whether an event is to be handled: False for body data of a request that was answered already."""
        if not isinstance(event, h2.events.DataReceived) or event.stream_id in self.streams:
            return True
        self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        return False

    async def _end(self, why: h2.errors.ErrorCodes) -> None:
        if not self.closed:
            self.connection.close_connection(why)
            await self._flush()
            await self.send(Closed())


def install(ours: type[Config]) -> None:
    """Have connections whose configuration is of the class `ours` use Http2; others keep Hypercorn's own class."""

    def made(app: Any, config: Config, *rest: Any) -> H2Protocol:
        return (Http2 if isinstance(config, ours) else H2Protocol)(app, config, *rest)

    protocol.H2Protocol = made  # type: ignore[attr-defined, assignment]
