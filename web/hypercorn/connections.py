"""Hypercorn's TCPServer with a bound on connections and on waiting, and with faults that stay in one connection.

All connections run in one nursery, so an exception that leaves one of them would end the process. `Guarded` logs
it and ends that connection only.

It could go if Hypercorn kept an exception of one connection from the nursery of all, and counted connections.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer

from actors.errors import Overloaded
from actors.settings import HEAD_SECONDS, Settings
from web.errors import PROBLEM_TYPE, answer_to
from web.hypercorn import http1, http2
from web.hypercorn.http1 import Http1
from web.hypercorn.keepalive import IdleTimer
from web.hypercorn.places import ConnectionPlaces
from web.hypercorn.untaken import Untaken

log = logging.getLogger("timewell.connections")
SENT_AT_ONCE = 64 * 1024
"""A client that takes less than this in STALLED_SECONDS is given up."""
TURNED_AWAY_SECONDS = 1.0
"""How long a refused client may take to read why. Closing at once could reset the connection, answer lost."""


class Guarded(TCPServer):
    """A connection whose faults do not affect the others."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        config: Any = self.config
        self._places: ConnectionPlaces = config.places
        self._untaken: Untaken = config.untaken
        self._head, self._head_by = -1, inf
        """The number of the request whose head arrives in pieces, and the time by which it must be whole."""
        self._idle = IdleTimer(
            self.config.keep_alive_timeout, self.context.terminated, self._initiate_server_close, self._cut_off
        )
        self.idle_task = self._idle  # type: ignore[assignment]

    async def run(self) -> None:
        """Serve the connection to its end, if there is a place for it; else turn it away."""
        places = self._places
        if not places.take(self):
            await self._turn_away(places)
            return
        try:
            await super().run()
        except* Exception as group:
            log.warning("a connection was given up: %s", _causes(group), exc_info=_if_debugging(group))
        finally:
            places.give_back(self)

    def idle_since(self) -> float:
        """The time (trio's) since which the connection has been idle; infinite while it is at work."""
        return self._idle.since

    def drop(self) -> None:
        """Close the connection at once, to free its descriptor."""
        self._cut_off()

    async def _turn_away(self, places: ConnectionPlaces) -> None:
        stream: Any = self.stream
        if not isinstance(stream, trio.SocketStream):
            return  # with TLS, an explanation would cost more than serving
        with places.turning_away(TURNED_AWAY_SECONDS), suppress(trio.BrokenResourceError, OSError):
            await stream.send_all(self._busy())
            await stream.send_eof()
            while await stream.receive_some(MAX_RECV):
                pass

    def _busy(self) -> bytes:
        answer = answer_to(Overloaded("there are as many connections as there may be (MAX_CONNECTIONS)"))
        about = b"content-type: %b\r\ncontent-length: %d\r\nretry-after: %d\r\nconnection: close\r\n"
        more = b"".join(b"%b: %b\r\n" % header for header in self.config.response_headers("h11"))
        head = about % (PROBLEM_TYPE.encode(), len(answer.body), answer.retry_after)
        return b"HTTP/1.1 %d \r\n%b%b\r\n%b" % (answer.status, head, more, answer.body)

    async def _read_data(self) -> None:
        with self._idle.running(), suppress(OSError, trio.ClosedResourceError, trio.BrokenResourceError):
            # the errors mean that the client has left, or that this side has closed the connection
            while data := await self._in_time():
                await self.protocol.handle(RawData(data))
            await self.protocol.handle(RawData(b""))
            if isinstance(self.protocol.protocol, Http1):
                await self.protocol.protocol.answered()
        await self.protocol.handle(Closed())

    async def _in_time(self) -> bytes:
        """The next bytes from the client; empty at the end, or if the rest of a head takes too long."""
        protocol: Any = self.protocol.protocol
        if not isinstance(protocol, Http1) or not protocol.is_amid_head():
            return await self._next_data()
        if self._head != protocol.keep_alive_requests:
            self._head, self._head_by = protocol.keep_alive_requests, trio.current_time() + HEAD_SECONDS
        with trio.move_on_at(self._head_by):
            return await self._next_data()
        await protocol.give_up_head()
        return b""

    async def _next_data(self) -> bytes:
        """The next bytes from the client; empty at the end."""
        return bytes(await self.stream.receive_some(MAX_RECV))

    async def protocol_send(self, event: Event) -> None:
        """Send as Hypercorn does, but give up a client that takes next to nothing."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                with trio.CancelScope(shield=True):
                    await self._send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self.protocol.handle(Closed())

    async def _send_all(self, data: bytes | memoryview) -> None:
        """Send all of it. Raises BrokenResourceError if the client has left or is given up."""
        with memoryview(data) as view:
            try:
                with self._untaken.taking(len(view)) as taking:
                    for start in range(0, len(view), SENT_AT_ONCE):
                        part = view[start : start + SENT_AT_ONCE]
                        await self.stream.send_all(part)
                        taking.took(len(part))
            except trio.BrokenResourceError:
                self._reset()
                raise

    def _reset(self) -> None:
        """Close the connection and drop what the system still holds to be sent."""
        with suppress(OSError):
            plain = getattr(self.stream, "transport_stream", self.stream).socket
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._cut_off()

    def _cut_off(self) -> None:
        getattr(self.stream, "transport_stream", self.stream).socket.close()


class ConnectionsConfig(Config):
    """Hypercorn's configuration with ours. `connection` makes a connection from the arguments of a TCPServer."""

    connection: Callable[..., TCPServer] = Guarded

    def __init__(self) -> None:
        super().__init__()
        self.places = ConnectionPlaces(Settings().max_connections)
        self.untaken = Untaken(Settings().stalled_seconds)


def install() -> None:
    """Have Hypercorn use `Http1` and `Http2` where the configuration is a ConnectionsConfig, and only there."""
    http1.install(ConnectionsConfig)
    http2.install(ConnectionsConfig)


def _causes(group: BaseExceptionGroup[BaseException]) -> str:
    """The causes in one line: clients can provoke this log entry as often as they like."""
    causes = group.exceptions
    parts = [_causes(cause) if isinstance(cause, BaseExceptionGroup) else repr(cause) for cause in causes]
    return ", ".join(dict.fromkeys(parts))


def _if_debugging(group: BaseExceptionGroup[BaseException]) -> BaseExceptionGroup[BaseException] | None:
    return group if log.isEnabledFor(logging.DEBUG) else None
