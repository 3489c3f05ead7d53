"""The client of the load tests, against listeners that send any bytes, in any pieces."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from loadtest.machine.messages import Answer, encoded, head_of
from loadtest.machine.wire import connect
from tests.loadtest.answering import Talk, listening

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\nDate: today\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Busy\r\ncontent-length:0\r\nretry-after: 1\r\n\r\n"
ANSWERS = [
    (PLAIN, Answer(200, b"hello")),
    (CHUNKED, Answer(200, b"hello")),
    (EMPTY, Answer(204, b"")),
    (REFUSED, Answer(503, b"")),
]
REQUEST = encoded("POST", "/echo", b"question")
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


def saying(*pieces: bytes, then_close: bool = False) -> Talk:
    """Answers each request with the pieces, one after the other has been taken."""

    async def talk(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            for piece in pieces:
                await stream.send_all(piece)
                await trio.testing.wait_all_tasks_blocked(0.0005)
            if then_close:
                await stream.aclose()
                break

    return talk


@pytest.mark.parametrize(("sent", "expected"), ANSWERS)
async def test_an_answer_in_two_pieces_is_the_same_wherever_it_is_cut(sent: bytes, expected: Answer) -> None:
    cuts = iter(range(1, len(sent)))

    async def talk(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            cut = next(cuts)
            await stream.send_all(sent[:cut])
            await trio.testing.wait_all_tasks_blocked(0.0005)
            await stream.send_all(sent[cut:])

    async with listening(talk) as port:
        wire = await connect("127.0.0.1", port)
        for _ in range(1, len(sent)):
            assert await wire.ask(REQUEST) == expected
        await wire.aclose()


@pytest.mark.parametrize(("sent", "expected"), ANSWERS)
async def test_an_answer_may_come_byte_by_byte(sent: bytes, expected: Answer) -> None:
    async with listening(saying(*(sent[index : index + 1] for index in range(len(sent))))) as port:
        wire = await connect("127.0.0.1", port)
        assert await wire.ask(REQUEST) == expected
        await wire.aclose()


def test_a_head_is_known_once_its_last_byte_is_there() -> None:
    end = PLAIN.index(b"\r\n\r\n") + 4
    assert [head_of(PLAIN[:cut]) is None for cut in range(len(PLAIN) + 1)] == [
        cut < end for cut in range(len(PLAIN) + 1)
    ]


async def test_bodies_and_requests_larger_than_any_buffer_come_through() -> None:
    body = bytes(range(256)) * 20_000

    async def echo(stream: trio.SocketStream) -> None:
        received = b""
        while len(received) < len(encoded("POST", "/", body)):
            received += await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with listening(echo) as port:
        wire = await connect("127.0.0.1", port)
        assert await wire.ask(encoded("POST", "/", body)) == Answer(200, body)
        await wire.aclose()


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nfour",
        b"HTTP/1.1 200 OK\r\n\r\nwithout a length",
        b"HTTP/1.1 200 OK\r\nContent-Length: some\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_an_error(sent: bytes) -> None:
    async with listening(saying(sent)) as port:
        wire = await connect("127.0.0.1", port)
        with pytest.raises(ConnectionError):
            await wire.ask(REQUEST)
        await wire.aclose()


@pytest.mark.parametrize("cut", [0, 10, len(PLAIN) - 1])
async def test_an_answer_that_breaks_off_is_an_error_and_the_next_request_connects_anew(cut: int) -> None:
    answers = iter([PLAIN[:cut], PLAIN])

    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        if answer := next(answers):
            await stream.send_all(answer)
        await stream.aclose()

    async with listening(talk) as port:
        wire = await connect("127.0.0.1", port)
        with pytest.raises(OSError):
            await wire.ask(REQUEST)
        assert await wire.ask(REQUEST) == Answer(200, b"hello")
        await wire.aclose()


async def test_a_server_that_closes_after_its_answer_is_connected_to_again() -> None:
    async with listening(saying(CLOSING, then_close=True)) as port:
        wire = await connect("127.0.0.1", port)
        for _ in range(3):
            assert await wire.ask(REQUEST) == Answer(200, b"ok")
        await wire.aclose()


async def test_a_request_given_up_leaves_no_answer_behind_for_the_next() -> None:
    bodies: Sequence[bytes] = (b"first", b"second")
    connections = 0

    async def talk(stream: trio.SocketStream) -> None:
        nonlocal connections
        body = bodies[connections]
        connections += 1
        await stream.receive_some()
        if body == b"first":
            await trio.sleep_forever()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with listening(talk) as port:
        wire = await connect("127.0.0.1", port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.ask, REQUEST)
            await trio.testing.wait_all_tasks_blocked(0.0005)
            nursery.cancel_scope.cancel()
        assert await wire.ask(REQUEST) == Answer(200, b"second")
        await wire.aclose()


async def test_nobody_listening_is_an_error() -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError):
            await connect("127.0.0.1", unused.getsockname()[1])


def test_requests_without_a_body_declare_none() -> None:
    assert encoded("GET", "/health/live") == b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert encoded("POST", "/x", b"ab").endswith(b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\nab")
