"""HTTP/2 from clients that mean no good, or that know it otherwise: what one does disturbs no other request."""

from __future__ import annotations

import json

import h2.errors
import pytest
import trio
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, PingFrame, SettingsFrame
from trio.testing import MockClock

from tests.web.hostile_requests import SERVE, bare, request
from tests.web.test_fastlane_hypercorn import Http2
from tests.web.test_listening import Passes
from tests.web.two_lanes import Lane, Wire, front_end, settled
from web.hypercorn.targets import as_path

both_lanes = pytest.mark.parametrize("lane", ["on", "off"])
ASKED = b'{"entityIds":["one"],"features":["a"]}'
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frames(*some: Frame) -> bytes:
    return b"".join(one.serialize() for one in some)


def head(stream: int, path: bytes, method: bytes = b"GET", ended: bool = True) -> HeadersFrame:
    fields = [(b":method", method), (b":path", path), (b":scheme", b"http"), (b":authority", b"a")]
    flags = ["END_HEADERS", "END_STREAM"] if ended else ["END_HEADERS"]
    return HeadersFrame(stream, Encoder().encode(fields), flags=flags)


async def answers(wire: Wire, *some: Frame) -> Http2:
    """What comes of these frames, on a connection of their own, as its client understands it."""
    client = Http2(wire)
    await client.exchange()
    await wire.send(frames(*some))
    for one in some:
        if isinstance(one, HeadersFrame):
            client.expect(one.stream_id)
    await client.exchange()
    return client


@both_lanes
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        (b"GET", b"/features/\xff", b"404"),
        (b"GET", "/features/ü".encode(), b"404"),
        (b"GET", b"/features?q=\xff", b"200"),
        (b"GET", b"http://[::host/features/a", b"200"),
        (b"GET", b"?", b"404"),
        (b"\xff", b"/features", b"405"),
    ],
)
async def test_a_target_that_is_no_path_of_ascii_is_answered(
    lane: Lane, method: bytes, path: bytes, status: bytes
) -> None:
    async with front_end(lane) as front:
        client = await answers(front.connect(), head(1, path, method))
        assert client.status == status
        await client.post(SERVE, ASKED)
        assert client.status == b"200"


@both_lanes
@pytest.mark.parametrize("target", [b"?", b"http://[::host/", b"a:80", b"*"])
async def test_a_target_that_is_no_path_is_answered_by_http_1_too(lane: Lane, target: bytes) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        await wire.send(bare(b"GET", target) + request(SERVE, ASKED))
        received = await wire.take()
        assert [received.count(b"HTTP/1.1 %d " % status) for status in (404, 200)] == [1, 1]


@both_lanes
async def test_connect_is_refused_and_ends_no_other_request(lane: Lane) -> None:
    async with front_end(lane) as front:
        asked = HeadersFrame(1, Encoder().encode([(":method", "CONNECT"), (":authority", "a")]))
        asked.flags |= {"END_HEADERS"}
        client = await answers(front.connect(), asked, DataFrame(1, b"hello"))
        assert client.resets == [h2.errors.ErrorCodes.REFUSED_STREAM]
        await client.post(SERVE, ASKED)
        assert client.status == b"200"


@both_lanes
async def test_what_comes_of_a_body_after_its_answer_ends_no_other_request(
    lane: Lane, mock_clock: MockClock
) -> None:
    async with front_end(lane) as front:
        client = await answers(front.connect(), head(1, b"/nonesuch", b"POST", ended=False))
        await client.wire.linger(2)
        await client.exchange()
        assert client.status == b"404"
        await client.wire.send(frames(DataFrame(1, b"late")))
        await client.post(SERVE, ASKED)
        assert client.status == b"200"


@both_lanes
async def test_of_a_thousand_frames_at_once_others_wait_for_some(lane: Lane) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        await wire.send(PREFACE + frames(SettingsFrame(0)))
        passes = Passes()
        trio.lowlevel.add_instrument(passes)
        await wire.send(PingFrame(0, b"12345678").serialize() * 3_600)
        await settled()
        trio.lowlevel.remove_instrument(passes)
        assert passes.count > 10


@both_lanes
@pytest.mark.parametrize(
    "begun",
    [
        b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(20_000),
        frames(HeadersFrame(1, b"\x00"), *[ContinuationFrame(1, bytes(16_000))] * 5),
    ],
    ids=["frame", "head"],
)
async def test_what_will_be_too_long_is_not_waited_for(lane: Lane, begun: bytes) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        await wire.send(PREFACE + frames(SettingsFrame(0)) + begun)
        await wire.take()
        assert wire.ended
        assert front.connections == 0


@both_lanes
async def test_a_body_in_many_frames_comes_as_a_whole(lane: Lane) -> None:
    async with front_end(lane) as front:
        client = Http2(front.connect())
        await client.exchange()
        asked = head(1, SERVE, b"POST", ended=False)
        asked.data += Encoder().encode([(b"content-type", b"application/json")])
        pieces = [DataFrame(1, bytes([byte])) for byte in ASKED + b" " * 2_000]
        pieces[-1].flags.add("END_STREAM")
        await client.wire.send(frames(asked, *pieces))
        client.expect(1)
        await client.exchange()
        assert (client.status, len(json.loads(client.body)["results"])) == (b"200", 1)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a?b=c", b"/a?b=c"),
        (b"https://host:80?b", b"/?b"),
        (b"//host/a", b"//host/a"),
        (b"a/b", b"/a/b"),
        (b"", b"/"),
        ("/ü%20%".encode(), b"/%C3%BC%20%"),
    ],
)
def test_every_target_is_a_path(target: bytes, path: bytes) -> None:
    assert as_path(target) == path
