"""Connections as a client and an operator see them: how many there may be, how they end, what is no HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from math import inf
from pathlib import Path

import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.live import ROOT, LiveServer
from tests.web.hostile_requests import BATCH, SERVE, bare, request
from tests.web.two_lanes import Lane, front_end
from web.hypercorn.places import IDLE_SECONDS, ConnectionPlaces

both_lanes = pytest.mark.parametrize("lane", ["on", "off"])
ASKED = b'{"entityIds":["one"],"features":["a"]}'
HOT = request(SERVE, ASKED)
COLD = request(BATCH + b"?partial=true", b'{"values":[]}')


# What is read


@both_lanes
async def test_a_request_with_two_lengths_is_answered_and_its_connection_closed(lane: Lane) -> None:
    both = (
        b"POST /features/serve HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ASKED), ASKED)
    )
    async with front_end(lane) as front:
        wire = front.connect()
        await wire.send(both + HOT)
        received = await wire.take()
        assert received.count(b"HTTP/1.1 ") == 1
        assert received.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in received.lower()
        assert wire.ended


@both_lanes
@pytest.mark.parametrize("asked", [HOT, COLD, bare(b"GET", b"/features/a"), HOT + COLD * 3 + HOT])
async def test_a_client_that_closes_its_sending_half_gets_its_answers(lane: Lane, asked: bytes) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        await wire.send(asked)
        wire.finish()
        assert (await wire.take()).count(b"HTTP/1.1 200 ") == asked.count(b" HTTP/1.1\r\n")
        assert wire.ended
        assert front.connections == 0


@both_lanes
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
async def test_what_is_no_http_is_answered_with_a_problem_too(lane: Lane, sent: bytes, status: int) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        await wire.send(sent)
        head, _, body = (await wire.take()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == status
        assert wire.ended


@both_lanes
async def test_head_of_the_events_ends_at_once(lane: Lane) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        await wire.send(bare(b"HEAD", b"/monitor/events") + HOT)
        received = await wire.take()
        assert received.count(b"HTTP/1.1 200 ") == 2
        assert b"text/event-stream" in received


# How many there may be


class Held:
    """A connection that holds a place."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.dropped = False

    def idle_since(self) -> float:
        return self.since

    def drop(self) -> None:
        self.dropped = True


async def test_a_new_connection_takes_the_place_of_the_one_idle_for_longest_but_of_none_at_work(
    mock_clock: MockClock,
) -> None:
    mock_clock.jump(100)
    now = trio.current_time()
    places = ConnectionPlaces(3)
    busy, fresh, old = Held(inf), Held(now - IDLE_SECONDS / 2), Held(now - 50)
    assert all(map(places.take, (busy, fresh, old)))
    assert places.take(new := Held(now))
    assert (old.dropped, len(places)) == (True, 3)
    assert not places.take(Held(now)), "no other has been idle for long"
    mock_clock.jump(IDLE_SECONDS)
    assert places.take(Held(inf))
    assert (fresh.dropped, new.dropped, busy.dropped) == (True, False, False)
    places.give_back(busy)
    assert places.take(Held(inf)), "what has ended leaves its place"


@both_lanes
async def test_a_connection_beyond_the_bound_is_told_to_come_back(lane: Lane, mock_clock: MockClock) -> None:
    async with front_end(lane) as front:
        front.config.places.most = 2
        kept = [front.connect() for _ in range(2)]
        for wire in kept:
            await wire.send(HOT)
            await wire.linger(0.1)
        third = front.connect()
        await third.send(HOT)
        head, _, body = (await third.take()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in head
        assert json.loads(body)["status"] == 503
        await third.linger(1.1)
        assert not any(wire.ended for wire in kept)
        fourth = front.connect()
        await fourth.send(HOT)
        assert (await fourth.take()).startswith(b"HTTP/1.1 200 ")
        for wire in kept:
            await wire.take()
        assert [wire.ended for wire in kept] == [True, False], "the one that was idle for longest made room"


def test_more_idle_connections_than_descriptors_leave_room_for_those_who_ask(tmp_path: Path) -> None:
    environment = {**os.environ, "PORT": "0", "DATA_DIR": str(tmp_path / "data"), "CHECKPOINT_SECONDS": "0.2"}
    few = 'ulimit -Sn 100 && ulimit -Hn 400 && exec "$0" -m web'
    process = subprocess.Popen(
        ["sh", "-c", few, sys.executable], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    idle: list[socket.socket] = []
    try:
        assert process.stderr is not None
        assert "room for 144 connections" in process.stderr.readline()
        port = int(process.stderr.readline().split(" (storage")[0].rpartition(":")[2])
        idle += [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
        body = {"name": "a", "entity": "user", "valueType": "number"}
        statuses: list[int] = []
        while not statuses or statuses[-1] == 503:
            statuses.append(httpx.post(f"http://127.0.0.1:{port}/features/register", json=body).status_code)
        assert statuses[-1] == 201
        assert httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    finally:
        for one in idle:
            one.close()
        process.terminate()
        _, log = process.communicate()
    assert process.returncode == 0, log
    assert "Traceback" not in log


# Where it cannot listen


@pytest.mark.parametrize("host", ["127.0.0.1", "nonesuch.invalid", "a..b"])
def test_where_it_cannot_listen_one_line_says_so(tmp_path: Path, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = LiveServer(tmp_path / "data", HOST=host, PORT=str(port))
        with pytest.raises(RuntimeError) as caught:
            server.start()
    told = str(caught.value).splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"timewell: cannot listen on {host}:{port}: ")
    assert "sub-exception" not in told[0]
