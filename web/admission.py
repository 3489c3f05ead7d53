"""How many bytes of request bodies may be under way at once: the bound on memory that clients control.

A request is counted with the length that it declares, one that declares none with the largest allowed. What
would go over the bound is answered with 503 before any of its body is read.
"""

from __future__ import annotations

from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

from actors.errors import Overloaded
from actors.settings import BODY_BYTES_UNDER_WAY
from web.errors import PROBLEM_TYPE, problem_of


def bounding_bodies(app: ASGIFramework, max_body_bytes: int) -> ASGIFramework:
    """The application behind the bound. A single request is always let in."""
    under_way = 0

    async def asgi(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        nonlocal under_way
        size = _declared_bytes(scope, max_body_bytes)
        if under_way and size and under_way + size > BODY_BYTES_UNDER_WAY:
            await _refuse(send)
            return
        under_way += size
        try:
            await app(scope, receive, send)
        finally:
            under_way -= size

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


async def _refuse(send: ASGISendCallable) -> None:
    error = Overloaded("too many bytes of request bodies are under way")
    status, body = problem_of(error)
    headers = [
        (b"content-type", PROBLEM_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(error.retry_after_seconds).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": body, "more_body": False})
