"""Bodies of any length, read as they arrive, with back pressure: the client waits while the handler is behind.

It could go if Quart's `request.body` let its consumer hold up the receiving, as ASGI's `receive` does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import trio
from quart import request
from quart_trio.wrappers import TrioRequest
from quart_trio.wrappers.request import TrioBody
from werkzeug.exceptions import RequestTimeout

from actors.errors import InvalidInput
from actors.settings import BYTES_UNLESS_STALLED

STREAMED_TYPES = ("application/x-ndjson",)
SCOPE_KEY = "timewell.body"
ANY_BODY_KEY = "timewell.any-body"
ROUTE_KEY = "timewell.route"
MOST_WAITING_BYTES = 8 * 1024 * 1024


class _Patience:
    """The time left to wait for more of a body. Each BYTES_UNLESS_STALLED that arrive reset it to `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = self._left = seconds
        self._bytes = 0
        self._scope = trio.CancelScope()

    def came(self, size: int) -> None:
        """Note that `size` bytes have arrived."""
        self._bytes += size
        if self._bytes >= BYTES_UNLESS_STALLED:
            self._bytes, self._left = 0, self._seconds
            self._scope.deadline = trio.current_time() + self._seconds

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait inside this block. Raises RequestTimeout if too little arrives."""
        with trio.move_on_after(self._left) as self._scope:
            yield
        if self._scope.cancelled_caught:
            raise RequestTimeout
        self._left = max(0, self._scope.deadline - trio.current_time())


class _Body(TrioBody):
    """A body whose receiver can wait until the handler has taken data."""

    patience: _Patience | None = None
    taken: trio.Event | None = None
    unwanted = False
    """Whether the answer has been given, so that nobody will take what still arrives."""

    def answered(self) -> None:
        """Drop the rest of the body as it arrives."""
        self.unwanted = True
        self.clear()
        if self.taken is not None:
            self.taken.set()

    def append(self, data: bytes) -> None:
        if not self.unwanted:
            super().append(data)
            if self.patience is not None:
                self.patience.came(len(data))

    def refuse(self, error: Exception) -> None:
        """Have the reader of the body raise the error."""
        if self._must_raise is None:
            self._must_raise = error
        self._data.clear()
        self.set_complete()

    async def __anext__(self) -> bytes:
        try:
            data: bytes = await super().__anext__()
        except StopAsyncIteration:
            if self._must_raise is not None:
                raise self._must_raise from None
            raise
        if self.taken is not None:
            self.taken.set()
        return data

    async def room(self) -> None:
        """Wait until no more than MOST_WAITING_BYTES of the body wait for the handler."""
        while len(self._data) > MOST_WAITING_BYTES and not self.unwanted:
            self.taken = trio.Event()
            await self.taken.wait()


class Request(TrioRequest):
    """Quart's request, without the limit on length for a streamed body, and with a timeout on progress only."""

    body_class = _Body
    _url_rule: Any = None
    host = "localhost"
    """Whatever the client sends: no route depends on it, and an invalid host name would make routing fail."""

    def __init__(self, *positional: Any, **named: Any) -> None:
        headers, scope = positional[4], named["scope"]
        if headers.get("Content-Type", "").partition(";")[0].strip().lower() in STREAMED_TYPES:
            named["max_content_length"] = None
        super().__init__(*positional, **named)
        body: Any = self.body
        body.patience = self.patience = _Patience(self.body_timeout or inf)
        self.body_timeout = None  # it would bound the total time
        scope[ANY_BODY_KEY] = self.body
        if named.get("max_content_length") is None:
            scope[SCOPE_KEY] = self.body

    async def get_data(self, *arguments: Any, **named: Any) -> Any:
        """The body. Raises RequestTimeout if too little of it arrives."""
        with self.patience.waiting():
            return await super().get_data(*arguments, **named)

    @property
    def url_rule(self) -> Any:
        """The matched route. Setting it also puts it into the ASGI scope, where the gate finds it."""
        return self._url_rule

    @url_rule.setter
    def url_rule(self, rule: Any) -> None:
        self._url_rule = rule
        scope: Any = self.scope
        scope[ROUTE_KEY] = rule and rule.rule

    @property
    def blueprints(self) -> list[str]:
        """Empty: no blueprint of ours has hooks, and Quart asks three times per request."""
        return []


def refuse_body(scope: Any, error: Exception) -> None:
    """Have the handler of a request raise the error when it reads the body."""
    body = scope.get(ANY_BODY_KEY)
    if body is not None:
        body.refuse(error)


def is_streamed(scope: Any) -> bool:
    """Whether the body of a request is streamed to its handler."""
    kinds = [value.decode("latin-1") for name, value in scope["headers"] if name == b"content-type"]
    return bool(kinds) and kinds[0].partition(";")[0].strip().lower() in STREAMED_TYPES


async def room_for_more(scope: Any) -> None:
    """Wait until the handler has taken enough of a streamed body for more to be received."""
    body = scope.get(SCOPE_KEY)
    if body is not None:
        await body.room()


def no_more_wanted(scope: Any) -> None:
    """Drop the rest of a streamed body: the answer is about to be sent."""
    body = scope.get(SCOPE_KEY)
    if body is not None:
        body.answered()


async def lots_of_lines(least_bytes: int, longest_bytes: int) -> AsyncGenerator[bytes, None]:
    """The request's body in lots of whole lines, each of at least `least_bytes` except the last.

    Raises InvalidInput for a line longer than `longest_bytes`, RequestTimeout if too little arrives.
    """
    waiting = bytearray()
    asked: Any = request
    while True:
        with asked.patience.waiting():
            data = bytes(await anext(asked.body, b""))
        if not data:
            break
        waiting += data
        if len(waiting) >= least_bytes:
            end = waiting.rfind(b"\n") + 1
            if end:
                yield bytes(waiting[:end])
                del waiting[:end]
            elif len(waiting) > longest_bytes:
                raise InvalidInput(f"a line is longer than {longest_bytes} bytes")
    if waiting.strip():
        yield bytes(waiting)
