"""The client that reads slowly."""

from __future__ import annotations

import pytest
import trio

from loadtest.openloop import slow_reader
from loadtest.openloop.slow_reader import SIP_BYTES, Sipped, large_read, read_slowly
from loadtest.workloads.shape import Shape
from tests.loadtest.answering import listening

BODY = b"x" * 30_000
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client with short rests."""
    monkeypatch.setattr(slow_reader, "SIP_SECONDS", 0.0005)


async def test_it_takes_whole_answers_in_sips_and_asks_again() -> None:
    asked = trio.Event()
    times = 0

    async def talk(stream: trio.SocketStream) -> None:
        nonlocal times
        while await stream.receive_some():
            times += 1
            if times == 3:
                asked.set()
                await trio.sleep_forever()
            await stream.send_all(ANSWER)

    sipped = Sipped()
    async with listening(talk) as port, trio.open_nursery() as nursery:
        nursery.start_soon(read_slowly, "127.0.0.1", port, b"more", sipped)
        await asked.wait()
        nursery.cancel_scope.cancel()
    assert sipped == Sipped(bytes=2 * len(ANSWER), answers=2, failures=0)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", ANSWER[:SIP_BYTES], b""])
async def test_it_notes_that_it_was_refused_or_cut_off(answer: bytes) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        if answer:
            await stream.send_all(answer)
        await stream.aclose()

    sipped = Sipped()
    async with listening(talk) as port:
        await read_slowly("127.0.0.1", port, b"more", sipped)
    assert (sipped.answers, sipped.failures) == (0, 1)


def test_it_asks_for_no_more_than_one_read_may_have() -> None:
    shape = Shape(prefix="x", filled_at=0, population=1_000_000)
    assert large_read(shape).count(b'"x') == slow_reader.MOST_ENTITIES
