"""A bound on the bytes of request bodies under way, which is the memory that clients control.

Bytes count as they arrive, not as they are declared, over all requests on both lanes. Each connection has a bound
of its own, and small bodies have a budget apart, so that large ones do not keep them out. A request that would
exceed a bound is answered with 503.

It could go if Hypercorn bounded what it has received and not yet handed on, per connection and over all.
"""

from __future__ import annotations

from hypercorn.typing import ASGIReceiveCallable, ASGIReceiveEvent, ASGISendCallable, Scope

from actors.errors import Overloaded
from actors.settings import (
    BODY_BYTES_OF_A_CONNECTION,
    BODY_BYTES_UNDER_WAY,
    SMALL_BODY_BYTES,
    SMALL_BODY_BYTES_UNDER_WAY,
)
from web.errors import PROBLEM_TYPE, Failure
from web.hypercorn.streamed_body import MOST_WAITING_BYTES, is_streamed, refuse_body


class BodiesUnderWay:
    """The bytes of bodies that are being read or answered, on both lanes."""

    def __init__(self) -> None:
        self.small = 0
        self.large = 0
        self.of_connection: dict[object, int] = {}

    @property
    def total(self) -> int:
        """The bytes of all bodies, small and large."""
        return self.small + self.large


class BodyUnderWay:
    """The bytes of one body so far. They count as small up to SMALL_BODY_BYTES, beyond it all as large."""

    def __init__(self, under_way: BodiesUnderWay, connection: object) -> None:
        self._all = under_way
        self._connection = connection
        self._small = self._large = 0

    def takes(self, more: int) -> bool:
        """Count `more` bytes if that is within the bounds; returns whether it is. A lone body always is."""
        if self._small + self._large + more <= SMALL_BODY_BYTES:
            if _over(self._all.small, self._small, more, SMALL_BODY_BYTES_UNDER_WAY):
                return False
            self._count(more, 0)
            return True
        more += self._small
        on_connection = self._all.of_connection.get(self._connection, 0)
        if _over(self._all.large, self._large, more, BODY_BYTES_UNDER_WAY):
            return False
        if _over(on_connection, self._large, more, BODY_BYTES_OF_A_CONNECTION):
            return False
        self._count(-self._small, more)
        return True

    def end(self) -> None:
        """Release the bytes: the request has been answered."""
        self._count(-self._small, -self._large)

    def _count(self, small: int, large: int) -> None:
        self._small += small
        self._large += large
        self._all.small += small
        self._all.large += large
        if large:
            on_connection = self._all.of_connection.get(self._connection, 0) + large
            self._all.of_connection[self._connection] = on_connection
            if not on_connection:
                del self._all.of_connection[self._connection]


def _over(total: int, this_body: int, more: int, most: int) -> bool:
    return total > this_body and total + more > most


def counted(scope: Scope, receive: ASGIReceiveCallable, body: BodyUnderWay) -> ASGIReceiveCallable:
    """The `receive` of a request, with the bytes of its body counted."""
    return _Counted(scope, receive, body).receive


class _Counted:
    def __init__(self, scope: Scope, receive: ASGIReceiveCallable, body: BodyUnderWay) -> None:
        self._scope = scope
        self._receive = receive
        self._body = body
        self._room = MOST_WAITING_BYTES if is_streamed(scope) else None
        """The bytes still to be counted of a streamed body, of which no more than this is ever held at once."""
        self._refused = False

    async def receive(self) -> ASGIReceiveEvent:
        """The next event."""
        event = await self._receive()
        if event["type"] != "http.request":
            return event
        size = len(event.get("body", b""))
        if self._room is not None:
            size = min(size, self._room)
            self._room -= size
        if size and not self._refused and not self._body.takes(size):
            self._refused = True
            refuse_body(self._scope, Overloaded("too many bytes of request bodies are under way"))
        if self._refused:
            return {"type": "http.request", "body": b"", "more_body": bool(event.get("more_body", False))}
        return event


async def refuse(send: ASGISendCallable, answer: Failure) -> None:
    """Answer without reading the body, and close the connection."""
    more = [] if answer.retry_after is None else [(b"retry-after", str(answer.retry_after).encode())]
    await say(send, answer.status, answer.body, PROBLEM_TYPE, *more, (b"connection", b"close"))


async def say(
    send: ASGISendCallable, status: int, body: bytes, content_type: str, *headers: tuple[bytes, bytes]
) -> None:
    """Send a whole answer as ASGI events."""
    about = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": about, "trailers": False})
    await send({"type": "http.response.body", "body": body, "more_body": False})
