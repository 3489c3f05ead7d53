"""HTTP/1.1 as bytes: requests prepared once and sent often, and the heads of answers."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

MOST_HEAD_BYTES = 65_536
Address = tuple[str, int]


def encoded(method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body or method not in ("GET", "DELETE"):
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def get(path: str) -> bytes:
    return encoded("GET", path)


def post(path: str, body: Any) -> bytes:
    """A POST request with a JSON body."""
    return encoded("POST", path, msgspec.json.encode(body))


class Answer(NamedTuple):
    """The answer to a request, of any status."""

    status: int
    body: bytes

    def good(self) -> bytes:
        """The body. Raises RuntimeError with its beginning if the status is not 2xx."""
        if self.status // 100 != 2:
            raise RuntimeError(f"status {self.status}: {self.body[:1_000].decode(errors='replace')}")
        return self.body


class Head(NamedTuple):
    """The head of an answer. `length`: bytes of its body, None if that is chunked. `end`: where it starts."""

    status: int
    length: int | None
    closes: bool
    end: int


def head_of(received: bytes) -> Head | None:
    """The head of the answer that begins here; None if incomplete. Raises ConnectionError if it is not HTTP."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        if len(received) > MOST_HEAD_BYTES:
            raise ConnectionError("the head of the answer does not end")
        return None
    head = received[:end].lower()
    try:
        if not head.startswith(b"http/1."):
            raise ValueError
        status = int(head[9:12])
        length = _declared_length(head, status)
    except ValueError:
        raise ConnectionError(f"not an answer: {received[:100]!r}") from None
    return Head(status, length, b"\r\nconnection: close" in head, end + 4)


def _declared_length(head: bytes, status: int) -> int | None:
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        at += 17
        stop = head.find(b"\r\n", at)
        return int(head[at:] if stop < 0 else head[at:stop])
    if b"\r\ntransfer-encoding: chunked" in head:
        return None
    if status in (204, 304):
        return 0
    raise ValueError
