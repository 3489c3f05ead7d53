"""How many bytes of request bodies may be under way at once: the bound on memory that clients control.

What counts is what has come, not what is declared, on whichever lane and in whichever request; the bodies of a
connection have a bound of their own, and small ones a room of their own. What would go over is answered with 503.

It could go if Hypercorn bounded what it has received and not handed on, over all connections and for each.
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
    """The bytes of bodies that are being read or answered, on whichever lane they came."""

    def __init__(self) -> None:
        self.small = 0
        self.large = 0
        self.of_connection: dict[object, int] = {}

    @property
    def total(self) -> int:
        """All of them."""
        return self.small + self.large


class BodyUnderWay:
    """What has come of one body. Small until it is too long for that, then large as a whole."""

    def __init__(self, under_way: BodiesUnderWay, connection: object) -> None:
        self._all = under_way
        self._connection = connection
        self._small = self._large = 0

    def takes(self, more: int) -> bool:
        """Whether so many more bytes are within the bounds; then they count. A body alone always is."""
        if self._small + self._large + more <= SMALL_BODY_BYTES:
            if _over(self._all.small, self._small, more, SMALL_BODY_BYTES_UNDER_WAY):
                return False
            self._count(more, 0)
            return True
        more += self._small
        own = self._all.of_connection.get(self._connection, 0)
        if _over(self._all.large, self._large, more, BODY_BYTES_UNDER_WAY):
            return False
        if _over(own, self._large, more, BODY_BYTES_OF_A_CONNECTION):
            return False
        self._count(-self._small, more)
        return True

    def end(self) -> None:
        """It has been answered."""
        self._count(-self._small, -self._large)

    def _count(self, small: int, large: int) -> None:
        self._small += small
        self._large += large
        self._all.small += small
        self._all.large += large
        if large:
            own = self._all.of_connection.get(self._connection, 0) + large
            self._all.of_connection[self._connection] = own
            if not own:
                del self._all.of_connection[self._connection]


def _over(total: int, own: int, more: int, most: int) -> bool:
    return total > own and total + more > most


def counted(scope: Scope, receive: ASGIReceiveCallable, body: BodyUnderWay) -> ASGIReceiveCallable:
    """The events of a request, of which the body counts."""
    return _Counted(scope, receive, body).receive


class _Counted:
    def __init__(self, scope: Scope, receive: ASGIReceiveCallable, body: BodyUnderWay) -> None:
        self._scope = scope
        self._receive = receive
        self._body = body
        self._room = MOST_WAITING_BYTES if is_streamed(scope) else None
        """Of a body that is taken as it comes no more than this is ever held."""
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
    """Answer without having read the body."""
    more = [] if answer.retry_after is None else [(b"retry-after", str(answer.retry_after).encode())]
    await say(send, answer.status, answer.body, PROBLEM_TYPE, *more, (b"connection", b"close"))


async def say(
    send: ASGISendCallable, status: int, body: bytes, content_type: str, *headers: tuple[bytes, bytes]
) -> None:
    """A whole answer, below the framework."""
    about = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": about, "trailers": False})
    await send({"type": "http.response.body", "body": body, "more_body": False})
