"""How many bytes of request bodies may be under way at once: the bound on memory that clients control.

A request is counted with the length that it declares, one that declares none with the largest allowed. What
would go over the bound is answered with 503 before any of its body is read.
"""

from __future__ import annotations

from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

from actors.errors import Overloaded, Unavailable
from actors.settings import BODY_BYTES_UNDER_WAY
from web.errors import PROBLEM_TYPE, answer_to


class BodiesUnderWay:
    """The bytes of bodies that are being read or answered, on whichever lane they came."""

    def __init__(self) -> None:
        self.total = 0

    def admits(self, size: int) -> bool:
        """Whether so many more are within the bound. A single request always is."""
        return not (self.total and size and self.total + size > BODY_BYTES_UNDER_WAY)


def bounding_bodies(app: ASGIFramework, under_way: BodiesUnderWay, max_body_bytes: int) -> ASGIFramework:
    """The application behind the bound."""

    async def asgi(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        size = _declared_bytes(scope, max_body_bytes)
        if not under_way.admits(size):
            await refuse(send, Overloaded("too many bytes of request bodies are under way"))
            return
        under_way.total += size
        try:
            await app(scope, receive, send)
        finally:
            under_way.total -= size

    return asgi


def _declared_bytes(scope: Scope, max_body_bytes: int) -> int:
    if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
        return 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            return min(int(value), max_body_bytes) if value.isdigit() else max_body_bytes
        if name == b"transfer-encoding":
            return max_body_bytes
    return 0


async def refuse(send: ASGISendCallable, why: Unavailable) -> None:
    """Answer without having read the body."""
    answer = answer_to(why)
    more = (b"retry-after", str(answer.retry_after).encode()), (b"connection", b"close")
    await say(send, answer.status, answer.body, PROBLEM_TYPE, *more)


async def say(
    send: ASGISendCallable, status: int, body: bytes, content_type: str, *headers: tuple[bytes, bytes]
) -> None:
    """A whole answer, below the framework."""
    about = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": about, "trailers": False})
    await send({"type": "http.response.body", "body": body, "more_body": False})
