"""What Hypercorn's HTTP/1.1 leaves undone, in a subclass that takes its place.

- What h11 refuses (a malformed or too long head, an unknown Transfer-Encoding) is answered with a problem
  document, as all failures are.
- A request with both Content-Length and Transfer-Encoding is read as chunked, and its connection is closed after
  the answer (RFC 9112, 6.1): a proxy in between may have read it otherwise.
- Bytes after a request that says `Connection: close` are ignored, so that they do not cost it its answer.
- A client that closes its sending half still gets its answers; only sending shows whether it has left altogether.
- When a client that pipelines has left, its waiting requests are dropped.
- A request target that is not a path is answered too.
- No route speaks WebSocket: a handshake is answered as an ordinary request (RFC 9110, 7.8).

Each point could go with the release of Hypercorn, or of h11, that does the same.
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from itertools import chain
from typing import Any

import h11
import trio
from hypercorn import protocol
from hypercorn.config import Config
from hypercorn.events import Closed, RawData
from hypercorn.events import Event as Incoming
from hypercorn.protocol.events import Event, Response
from hypercorn.protocol.h11 import H11Protocol

from actors.settings import HEAD_SECONDS
from web.errors import PROBLEM_TYPE, problem
from web.hypercorn.targets import as_path

EVENTS_TYPE = b"text/event-stream"
_DETAILS = {
    400: "the request is not well-formed HTTP/1.1",
    408: f"the head of the request did not come within {HEAD_SECONDS:.0f} s",
    431: "the head of the request is too long",
    501: "the Transfer-Encoding is not known here; chunked is",
}


class _Connection(h11.Connection):
    closed = False

    def next_event(self) -> Any:
        """The next event, as h11 does; but bytes after a request with `Connection: close` are no error."""
        if self.closed:
            return h11.NEED_DATA
        if self.their_state is h11.MUST_CLOSE and self.trailing_data[0]:
            return h11.NEED_DATA
        return super().next_event()


class Http1(H11Protocol):
    """The requests of one connection."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        most = self.config.h11_max_incomplete_size
        self.connection: Any = _Connection(h11.SERVER, max_incomplete_event_size=most)
        self._ambiguous = self._endless = False
        self._at_rest = trio.Event()

    async def answered(self) -> None:
        """Return once no request is under way, apart from one with an endless answer (server-sent events)."""
        while self.stream is not None and not self._endless:
            self._at_rest = trio.Event()
            await self._at_rest.wait()

    async def handle(self, event: Incoming) -> None:
        """Handle bytes that were read, or the end of the connection."""
        if self.connection.their_state is h11.MUST_CLOSE and isinstance(event, RawData) and event.data:
            return
        await super().handle(event)
        if isinstance(event, Closed):
            self.connection.closed = True
            await self.can_read.set()

    def is_amid_head(self) -> bool:
        """Whether a part of a request's head has arrived."""
        connection = self.connection
        return self.stream is None and connection.their_state is h11.IDLE and bool(connection.trailing_data[0])

    async def give_up_head(self) -> None:
        """Answer that the rest of the head took too long."""
        await self._send_error_response(HTTPStatus.REQUEST_TIMEOUT)

    async def _close_stream(self) -> None:
        await super()._close_stream()
        self._at_rest.set()

    async def _create_stream(self, request: h11.Request) -> None:
        names = {name for name, _ in request.headers}
        self._ambiguous = {b"content-length", b"transfer-encoding"} <= names
        if b"upgrade" in names or not request.target.startswith(b"/"):
            fields = [(name, value) for name, value in request.headers.raw_items() if name.lower() != b"upgrade"]
            request = h11.Request(
                method=request.method,
                target=as_path(request.target),
                headers=fields,
                http_version=request.http_version,
            )
        await super()._create_stream(request)

    async def stream_send(self, event: Event) -> None:
        """Send a part of the answer."""
        if isinstance(event, Response) and event.status_code >= 200:
            self._endless = (b"content-type", EVENTS_TYPE) in event.headers
            if self._ambiguous:
                event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        await super().stream_send(event)

    async def _send_error_response(self, status_code: int) -> None:
        status = HTTPStatus(status_code)
        body = problem(status, _DETAILS.get(status_code, status.description))
        about = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        headers = list(chain(about, self.config.response_headers("h11")))
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


def install(ours: type[Config]) -> None:
    """Have connections whose configuration is of the class `ours` use Http1; others keep Hypercorn's own class."""

    def made(app: Any, config: Config, *rest: Any) -> H11Protocol:
        return (Http1 if isinstance(config, ours) else H11Protocol)(app, config, *rest)

    protocol.H11Protocol = made  # type: ignore[attr-defined, assignment]
