"""Clients that send or take nothing, or next to nothing: they are given up, and those who are slow are not."""

from __future__ import annotations

import json
import select
import socket
from pathlib import Path

import h2.errors
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.faults import FaultyStorage
from tests.live import LiveServer
from tests.web.hostile_requests import BATCH, SERVE, WRITE, bare, request
from tests.web.test_fastlane_hypercorn import Http2
from tests.web.two_lanes import FrontEnd, Lane, Wire, front_end, settled
from web.hypercorn import http2, untaken

both_lanes = pytest.mark.parametrize("lane", ["on", "off"])
LONG = json.dumps({"featureId": "b", "entityId": "e", "value": "x" * 60_000}).encode()
MUCH = json.dumps({"entityIds": ["e"] * 100, "features": ["b"]}).encode()
"""Its answer has 6 MB."""
LINE = b'{"featureId":"a","entityId":"e","value":1}\n'
NDJSON = b"Content-Type: application/x-ndjson"


async def asking_for_much(front: FrontEnd) -> Wire:
    """A connection that has asked for 6 MB, and takes nothing of it."""
    wire = front.connect()
    await wire.send(request(WRITE, LONG))
    await wire.take()
    await wire.send(request(SERVE, MUCH))
    await settled()
    return wire


def jump(seconds: float) -> None:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.jump(seconds)


# Heads


@both_lanes
@pytest.mark.parametrize("before", [b"", request(SERVE, b'{"entityIds":["e"],"features":["a"]}')])
async def test_a_head_of_which_a_byte_comes_now_and_then_is_given_up(
    lane: Lane, mock_clock: MockClock, before: bytes
) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        await wire.send(before + b"POST /fea")
        for byte in b"ture":
            await wire.linger(4.9)
            await wire.send(bytes([byte]))
        assert b" 408 " not in await wire.take()
        await wire.linger(0.5)
        head, _, body = wire.received[wire.received.rfind(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == 408
        assert wire.ended
        assert front.connections == 0


@both_lanes
async def test_each_head_has_its_own_time(lane: Lane, mock_clock: MockClock) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        asked = request(SERVE, b'{"entityIds":["e"],"features":["a"]}')
        for _ in range(4):
            await wire.send(asked[:20])
            await wire.linger(15)
            await wire.send(asked[20:] + asked[:10])
            await wire.linger(15)
            await wire.send(asked[10:])
        assert (await wire.take()).count(b"HTTP/1.1 200 ") == 8


# Answers


@both_lanes
async def test_an_answer_that_is_not_taken_is_given_up(lane: Lane, mock_clock: MockClock) -> None:
    async with front_end(lane, max_body_bytes=100_000) as front:
        await asking_for_much(front)
        jump(59)
        await settled()
        assert front.connections == 1
        assert front.config.untaken.total > 5_000_000
        jump(2)
        await settled()
        assert (front.connections, front.config.untaken.total, front.under_way.total) == (0, 0, 0)
        assert front.crashes == []


@both_lanes
async def test_an_answer_that_is_taken_slowly_comes_as_a_whole(lane: Lane, mock_clock: MockClock) -> None:
    async with front_end(lane, max_body_bytes=100_000) as front:
        wire = await asking_for_much(front)
        while not wire.received.endswith(b"]}") and not wire.ended:
            jump(50)
            before = len(wire.received)
            while len(wire.received) < before + 1_000_000 and not wire.received.endswith(b"]}"):
                await settled()
                wire.received += wire._end.recv(100_000)
        assert len(wire.received) > 6_000_000
        assert trio.current_time() > 250


@both_lanes
async def test_who_takes_nothing_while_pipelining_is_read_no_further_and_given_up(
    lane: Lane, mock_clock: MockClock
) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        asked = request(SERVE, b'{"entityIds":["e"],"features":["a"]}') * 100_000
        sent = 0
        try:
            while sent < len(asked):
                sent += wire._end.send(asked[sent : sent + 1_000_000])
                await settled()
        except BlockingIOError:
            pass
        assert sent < len(asked) / 2
        jump(61)
        await settled()
        assert front.connections == 0


@both_lanes
async def test_who_pipelines_and_leaves_leaves_nothing_behind(lane: Lane, mock_clock: MockClock) -> None:
    storage = FaultyStorage()
    async with front_end(lane, storage) as front:
        with storage.stalled("commit"):
            wire = front.connect()
            await wire.send(request(WRITE, LINE) * 100 + bare(b"GET", b"/metrics") * 100)
            await wait_all_tasks_blocked()
            wire.close()
            await wait_all_tasks_blocked()
        jump(2)
        await settled()
        assert front.connections == 0


@both_lanes
async def test_what_waits_in_all_is_bounded_and_who_has_waited_longest_goes(
    lane: Lane, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untaken, "ANSWER_BYTES_UNTAKEN", 15_000_000)
    async with front_end(lane, max_body_bytes=100_000) as front:
        wires = []
        for _ in range(4):
            wires.append(await asking_for_much(front))
            jump(1)
        assert front.connections == 2
        assert front.config.untaken.total < 15_000_000
        assert [(await wire.take()).endswith(b"]}") for wire in wires] == [False, False, True, True]


@both_lanes
async def test_an_answer_of_http_2_that_is_granted_no_window_is_given_up(
    lane: Lane, mock_clock: MockClock
) -> None:
    async with front_end(lane) as front:
        client = Http2(front.connect(), window=0)
        asked = b'{"entityIds":["e"],"features":["a"]}'
        await client.post(SERVE, asked)
        assert (client.status, client.body, front.config.untaken.total > 0) == (b"200", b"", True)
        await client.wire.linger(61)
        await client.exchange()
        assert (client.resets, front.config.untaken.total) == ([h2.errors.ErrorCodes.CANCEL], 0)
        await client.widen()
        await client.post(SERVE, asked)
        assert json.loads(client.body)["results"]
        assert front.crashes == []


@both_lanes
async def test_who_takes_back_a_thousand_requests_of_http_2_is_closed(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http2, "MOST_TAKEN_BACK", 20)
    async with front_end(lane) as front:
        client = Http2(front.connect())
        for _ in range(21):
            client.begin(SERVE)
            await client.exchange()
            client.take_back()
            await client.exchange()
        assert client.wire.ended
        assert front.connections == 0
        assert front.crashes == []


def test_a_socket_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "data", STALLED_SECONDS="0.2") as live:
        live.register("b", valueType="string")
        assert live.post("/features/write", json.loads(LONG)).status_code == 200
        with socket.create_connection((live.http.base_url.host, live.http.base_url.port or 0)) as wire:
            wire.sendall(request(SERVE, json.dumps({"entityIds": ["e"] * 1_000, "features": ["b"]}).encode()))
            cut_off = select.poll()
            cut_off.register(wire, select.POLLHUP)
            assert cut_off.poll(30_000)
        assert live.http.get("/health/live").status_code == 200


# Bodies


def upload(path: bytes, kind: bytes, length: int) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\nContent-Length: %d\r\n\r\n" % (path, kind, length)


@both_lanes
@pytest.mark.parametrize("kind", [NDJSON, b"Content-Type: application/json"])
@pytest.mark.parametrize("drip", [b"", b" "])
async def test_a_body_of_which_next_to_nothing_comes_times_out(
    lane: Lane, mock_clock: MockClock, kind: bytes, drip: bytes
) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        await wire.send(upload(BATCH, kind, 4_000) + LINE)
        await wire.linger(2.1)
        for _ in range(3):
            await wire.linger(19)
            await wire.send(drip)
        assert not wire.received
        await wire.linger(4, 2)
        assert wire.received.startswith(b"HTTP/1.1 408 ")
        assert wire.ended
        assert front.under_way.total == 0


@both_lanes
@pytest.mark.parametrize("kind", [NDJSON, b"Content-Type: application/json"])
async def test_a_body_that_comes_slowly_is_waited_for(lane: Lane, mock_clock: MockClock, kind: bytes) -> None:
    piece = b" " * 19_999 + b"\n"
    body = piece * 10 + (LINE if kind == NDJSON else b'{"values":[%b]}' % LINE)
    async with front_end(lane, max_body_bytes=1_000_000) as front:
        wire = front.connect()
        await wire.send(upload(BATCH, kind, len(body)))
        for start in range(0, len(body), len(piece)):
            await wire.linger(20, 20)
            await wire.send(body[start : start + len(piece)])
        assert (await wire.take()).startswith(b"HTTP/1.1 200 ")
        assert b'"count":1' in wire.received
        await wire.send(bare(b"GET", b"/health/live"))
        assert (await wire.take()).count(b"HTTP/1.1 200 ") == 2
