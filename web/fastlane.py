"""The fast lane: hot requests are answered before Hypercorn looks at them.

Hot requests are POST /features/serve, /write and /write-batch with a JSON body. Through Hypercorn, ASGI and Quart
such a request costs about a millisecond, of which the answer itself takes a twentieth.

The Quart routes remain the definition of the behaviour: this lane calls the same functions and answers with the
same bytes. It takes a request only if the head matches a strict subset of what Hypercorn's parser accepts.
Anything else is handed to Hypercorn unchanged, on the same connection and in its turn: other routes and media
types, query strings, HTTP/1.0, Expect, Upgrade, Transfer-Encoding, malformed heads, heads in pieces, bodies that
are too large or slow, requests that the gate does not admit, and all requests once the process is stopping. So
nothing is refused here.

Hypercorn makes a TCPServer for each connection; `Connection` is a TCPServer that reads differently. What it relies
on of Hypercorn's internals is in its overridden methods and in `_between_requests`; each such reliance has a test,
and pyproject.toml bounds Hypercorn's version.

This file could go if Hypercorn, ASGI and Quart together took a tenth of a millisecond per request. If there are
ever front-end processes, it moves to them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from math import inf
from typing import NamedTuple

import h11
import trio
from hypercorn.trio.tcp_server import MAX_RECV

from actors.errors import TimewellError
from actors.repeats import Repeated
from actors.router import Router
from actors.settings import Settings
from web.bodies.requests import JSON_TYPE
from web.errors import PROBLEM_TYPE, answer_to
from web.gate import Gate, Head, Visit
from web.hypercorn.connections import Guarded
from web.hypercorn.http1 import Http1
from web.routes.serving import serve_latest
from web.routes.writing import MOST_KEY_CHARACTERS, REPLAYED, once, write_many, write_one

BODY_SECONDS = 2.0
"""A request whose body takes longer is handed to Hypercorn, where reading it times out."""
MOST_HEAD_BYTES = 4_096
MOST_HEADS_REMEMBERED = 1_024
MOST_BYTES_AT_ONCE = 1024 * 1024
MOST_COPIED_BYTES = 64 * 1024
"""A longer answer is written separately from its head: joining the two would copy it, 50 ms for 100 MB."""

_HEAD = re.compile(
    rb"POST /features/(serve|write|write-batch) HTTP/1\.1\r\n"
    rb"((?:[-!#$%&'*+.^_`|~0-9a-zA-Z]+:[\t\x20-\x7e]*\r\n)+)\r\n"
)
_FIELDS: dict[bytes, re.Pattern[bytes]] = {
    b"host": re.compile(rb"[a-zA-Z0-9][-a-zA-Z0-9]{,60}(?:\.[a-zA-Z0-9][-a-zA-Z0-9]{,60})*(?::[0-9]{1,5})?"),
    b"content-type": re.compile(rb"application/json(?:; ?charset=utf-8)?", re.IGNORECASE),
    b"content-length": re.compile(rb"[0-9]{1,10}"),
    b"connection": re.compile(rb"keep-alive", re.IGNORECASE),
    b"idempotency-key": re.compile(rb".{1,%d}" % MOST_KEY_CHARACTERS),
}
"""Header fields that matter here, with the values that this lane takes. No field may be given twice."""
_NEEDED = (b"host", b"content-type", b"content-length")
_ELSEWHERE = (b"content-encoding", b"transfer-encoding", b"expect", b"upgrade", b"http2-settings")

_REPLAYED = b"%b: true\r\n" % REPLAYED.encode()

Answering = Callable[[bytes | bytearray, str | None], Awaitable[bytes]]


class Hot(NamedTuple):
    """A hot request: its head for the gate, the function that answers its body, and the body's begin and end."""

    asked: Head
    answer: Callable[[bytes | bytearray], Awaitable[bytes]]
    begin: int
    end: int


class FastLane:
    """What all connections share: the recognised heads, the answering functions, the headers of answers."""

    def __init__(self, router: Router, settings: Settings, gate: Gate) -> None:
        self.gate = gate
        self._most_body_bytes = settings.max_body_bytes
        self._answering: dict[bytes, Answering] = {
            b"serve": lambda body, _: serve_latest(router, settings, body),
            b"write": lambda body, key: once(router, key, lambda: write_one(router, body, key)),
            b"write-batch": lambda body, key: once(router, key, lambda: write_many(router, settings, body, key)),
        }
        self._heads: dict[bytes, Hot | None] = {}
        self.second = 0
        self.headers = b""

    def recognise(self, data: bytes) -> Hot | None:
        """The hot request that `data` begins with, if any. Clients repeat their heads, so parsed ones are kept."""
        head = data[: data.find(b"\r\n\r\n", 0, MOST_HEAD_BYTES) + 4]
        if head not in self._heads:
            if len(self._heads) >= MOST_HEADS_REMEMBERED:
                self._heads.clear()
            self._heads[head] = self._parse(head)
        return self._heads[head]

    def _parse(self, head: bytes) -> Hot | None:
        match = _HEAD.fullmatch(head)
        fields = _plain_fields(match[2], self.gate.looked_at) if match else None
        if match is None or fields is None or not all(name in fields for name in _NEEDED):
            return None
        length = int(fields[b"content-length"])
        if length > self._most_body_bytes:
            return None
        key = fields.get(b"idempotency-key")
        named = None if key is None or match[1] == b"serve" else f"{match[1].decode()} {key.decode()}"
        answering = self._answering[match[1]]
        headers = {name: fields[name] for name in self.gate.looked_at if name in fields}
        asked = Head("POST", f"/features/{match[1].decode()}", headers)
        return Hot(asked, lambda body: answering(body, named), len(head), len(head) + length)


def _plain_fields(lines: bytes, looked_at: Collection[bytes]) -> dict[bytes, bytes] | None:
    """The header fields that matter here or at the gate, by name; None if this lane cannot take one of them."""
    found: dict[bytes, bytes] = {}
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in _ELSEWHERE:
            return None
        if name in _FIELDS or name in looked_at:
            if name in found or (name in _FIELDS and not _FIELDS[name].fullmatch(value)):
                return None
            found[name] = value
    return found


class Connection(Guarded):
    """A connection whose hot requests take the fast lane. `arguments`: those of a TCPServer."""

    def __init__(self, lane: FastLane, *arguments: object) -> None:
        super().__init__(*arguments)
        self._lane = lane
        self._plain = getattr(self.stream, "socket", None)
        """The socket, None under TLS. Used directly, reading and writing cost a quarter less than through trio."""
        self._ended = False

    async def _next_data(self) -> bytes:
        while not self._ended:
            if data := await self._take_hot(await self._read(MAX_RECV)):
                return data
        return b""

    async def _read(self, most: int) -> bytes:
        if self._plain is None:
            data = bytes(await self.stream.receive_some(most))
        else:
            if self._plain.fileno() < 0:
                raise trio.ClosedResourceError
            data = await self._read_plain(self._plain, most)
        self._ended = not data
        return data

    async def _read_plain(self, plain: trio.socket.SocketType, most: int) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(plain)
            with suppress(BlockingIOError):  # the wakeup may be spurious
                return os.read(plain.fileno(), most)

    async def _read_into(self, room: memoryview) -> int:
        """Read some bytes directly into place and return how many; this spares a body of a megabyte two copies."""
        if self._plain is None:
            data = await self._read(min(len(room), MOST_BYTES_AT_ONCE))
            room[: len(data)] = data
            return len(data)
        if self._plain.fileno() < 0:
            raise trio.ClosedResourceError
        count = int(await self._plain.recv_into(room))
        self._ended = count == 0
        return count

    async def _write(self, data: bytes) -> None:
        sent = 0
        if self._plain is not None:
            with suppress(BlockingIOError):
                sent = os.write(self._plain.fileno(), data)
        if sent < len(data):
            await self._send_all(memoryview(data)[sent:])

    def _between_requests(self) -> bool:
        """Whether Hypercorn is idle on this connection, so that the next byte begins a request."""
        protocol = self.protocol.protocol
        if type(protocol) is not Http1 or protocol.stream is not None:
            return False
        connection = protocol.connection
        return (
            connection.our_state is h11.IDLE
            and connection.their_state is h11.IDLE
            and connection.trailing_data == (b"", False)
        )

    async def _take_hot(self, data: bytes) -> bytes:
        """Answer the hot requests at the beginning of `data`; return the rest, which is for Hypercorn."""
        lane, stop = self._lane, self._lane.gate.stop
        while data and self._between_requests() and not stop.is_set():
            hot = lane.recognise(data)
            if hot is None or self._used_up():
                break
            visit = self._enter(hot, min(len(data), hot.end) - hot.begin)
            if visit is None:
                break
            self._idle.since = inf
            try:
                if len(data) < hot.end:
                    body = await self._body(data[hot.begin :], hot.end - hot.begin, visit)
                    if len(body) < hot.end - hot.begin:
                        data = data[: hot.begin] + body
                        visit.turn_back()
                        break
                    await self._answer(hot, body, visit)
                else:
                    await self._answer(hot, data[hot.begin : hot.end], visit)
            finally:
                visit.leave(hot.asked.path)
                self._idle.since = trio.current_time()
            if stop.is_set():
                await self._close()
                return b""
            data = data[hot.end :]
            if data:
                await trio.lowlevel.checkpoint()  # a client that pipelines takes turns with the others
        return data

    def _enter(self, hot: Hot, size: int) -> Visit | None:
        """Pass the gate with `size` bytes of the body. None if refused: Hypercorn's lane then says why."""
        try:
            visit = self._lane.gate.enter(hot.asked, self)
        except TimewellError:
            return None
        return visit if visit.body.takes(size) else None

    def _used_up(self) -> bool:
        """Whether this is the last request that the connection may carry: Hypercorn's answer to it says so."""
        protocol = self.protocol.protocol
        return protocol.keep_alive_requests + 1 >= self.config.keep_alive_max_requests

    async def _body(self, begun: bytes, size: int, visit: Visit) -> bytes | bytearray:
        """The body that began with `begun`; shorter than `size` if it is late or there is no room for it."""
        whole, have, room = bytearray(begun), len(begun), True
        with trio.move_on_after(BODY_SECONDS):
            while room and have < size and not self._ended:
                if have == len(whole):  # grow as bytes arrive, so that a declared length takes no memory
                    whole.extend(bytes(min(size - have, max(have, MAX_RECV))))
                with memoryview(whole) as all_of_it:
                    more = await self._read_into(all_of_it[have:])
                have, room = have + more, visit.body.takes(more)
        return whole if have == len(whole) else whole[:have]

    async def _answer(self, hot: Hot, asked: bytes | bytearray, visit: Visit) -> None:
        self.protocol.protocol.keep_alive_requests += 1
        status, kind, more = 200, JSON_TYPE, b""
        try:
            body = await hot.answer(asked)
            if isinstance(body, Repeated):
                more = _REPLAYED
        except Exception as error:
            status, body, retry_after = answer_to(error)
            kind = PROBLEM_TYPE
            if retry_after is not None:
                more = b"retry-after: %d\r\n" % retry_after
        if self._lane.gate.stop.is_set():
            more += b"connection: close\r\n"
        head = b"HTTP/1.1 %d \r\ncontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n"
        visit.status = status
        begun = head % (status, kind.encode(), len(body), more, self._headers())
        if len(body) <= MOST_COPIED_BYTES:
            begun += body
        await self._write(begun)
        if len(body) > MOST_COPIED_BYTES:
            await self._write(body)

    def _headers(self) -> bytes:
        """The headers that Hypercorn adds to every answer (Date), encoded once a second."""
        second = int(time.time())
        if second != self._lane.second:
            lines = (b"%b: %b\r\n" % header for header in self.config.response_headers("h11"))
            self._lane.second, self._lane.headers = second, b"".join(lines)
        return self._lane.headers
