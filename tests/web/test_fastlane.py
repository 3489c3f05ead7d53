"""The fast lane as a client and an operator see it: time-outs, limits, failures, logs, shutdowns."""

from __future__ import annotations

import json
import logging
import os
import re
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.faults import FaultyStorage
from tests.web.hostile_requests import BATCH, SERVE, WRITE, bare, request
from tests.web.two_lanes import FrontEnd, Lane, Wire, front_end, paths_taken, settled
from web import fastlane
from web.hypercorn import admission
from web.routes.serving import serve_latest

LANES: tuple[Lane, Lane] = ("on", "off")
both_lanes = pytest.mark.parametrize("lane", LANES)
ASKED = b'{"entityIds":["one"],"features":["a"]}'
HOT = request(SERVE, ASKED)
COLD = request(b"/features/write-batch?partial=true", b'{"values":[]}')


def write_of(entity: str, *lines: bytes, value: object = 1) -> bytes:
    """A request that writes one value of `a`, or text of `b`."""
    feature = "b" if isinstance(value, str) else "a"
    return request(WRITE, json.dumps({"featureId": feature, "entityId": entity, "value": value}).encode(), *lines)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that took the lane."""
    return paths_taken(monkeypatch)


async def statuses(wire: Wire) -> list[int]:
    """The statuses of what has been answered by now."""
    return [int(part[:3]) for part in (await wire.take()).split(b"HTTP/1.1 ")[1:]]


async def value_of(front: FrontEnd, entity: str) -> Any:
    """The latest value of `a`."""
    asked = json.dumps({"entityIds": [entity], "features": ["a"]}).encode()
    return json.loads(await serve_latest(front.router, front.settings, asked))["results"][0]["features"]["a"]


# Which requests take the lane


async def test_hot_and_ordinary_requests_share_a_connection(taken: list[str]) -> None:
    async with front_end("on") as front:
        wire = front.connect()
        await wire.send(HOT + bare(b"GET", b"/features/a") + HOT)
        assert await statuses(wire) == [200, 200, 200]
        assert taken == [SERVE.decode()], "what comes behind an ordinary request in one piece is the parser's"
        await wire.send(HOT + write_of("x") + request(BATCH, b'{"values":[]}'))
        assert await statuses(wire) == [200] * 6
        assert taken == [path.decode() for path in (SERVE, SERVE, WRITE, BATCH)]


async def test_without_the_lane_no_request_takes_it(taken: list[str]) -> None:
    async with front_end("off") as front:
        wire = front.connect()
        await wire.send(HOT)
        assert await statuses(wire) == [200]
    assert taken == []


# Connections that are kept, and for how long


@both_lanes
async def test_an_idle_connection_is_closed_when_its_time_is_over(lane: Lane, mock_clock: MockClock) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        for _ in range(3):
            await wire.send(HOT)
            await wire.linger(74.9)
            assert not wire.ended, "each request starts the time anew"
        await wire.linger(0.2)
        assert wire.ended
        assert await statuses(wire) == [200] * 3


async def test_a_connection_that_never_asks_is_closed_when_its_time_is_over(mock_clock: MockClock) -> None:
    async with front_end("on") as front:
        silent, halting = front.connect(), front.connect()
        await halting.linger(60)
        await halting.send(HOT[:30])
        await halting.linger(14.9)
        assert not halting.ended
        await halting.linger(0.2)
        await silent.take()
        assert (silent.ended, halting.ended) == (True, True), "a head in pieces is not work"


async def test_a_connection_ends_with_its_client(mock_clock: MockClock) -> None:
    async with front_end("on") as front:
        wire = front.connect()
        await wire.send(HOT)
        await wire.take()
        wire.close()
        await settled()
        assert front.connections == 0, "nothing waits for the end of its idle time"


@both_lanes
async def test_a_connection_takes_only_so_many_requests(lane: Lane, mock_clock: MockClock) -> None:
    async with front_end(lane) as front:
        front.config.keep_alive_max_requests = 4
        wire = front.connect()
        await wire.send(HOT[:-3])
        await wire.linger(3)  # this one goes the ordinary way, and counts once
        await wire.send(HOT[-3:])
        await wire.take()
        for _ in range(3):
            assert not wire.ended
            assert b"connection: close" not in wire.received
            await wire.send(HOT)
            await wire.take()
        assert wire.ended
        assert wire.received.count(b"connection: close") == 1
        assert await statuses(wire) == [200] * 4


# Bodies that come slowly, or not at all


async def test_a_body_that_dawdles_goes_the_ordinary_way(taken: list[str], mock_clock: MockClock) -> None:
    async with front_end("on") as front:
        wire = front.connect()
        await wire.send(HOT[:-3])
        await wire.linger(1.9)
        await wire.send(HOT[-3:] + HOT[:-3])
        assert await statuses(wire) == [200]
        assert len(taken) == 1
        await wire.linger(2.1)
        await wire.send(HOT[-3:])
        assert await statuses(wire) == [200, 200]
        assert len(taken) == 1
        await wire.send(HOT)
        assert await statuses(wire) == [200, 200, 200]
        assert len(taken) == 2, "and the next one takes the lane again"


@both_lanes
async def test_a_body_that_never_comes_times_out(lane: Lane, mock_clock: MockClock) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        await wire.send(write_of("late")[:-3])
        await wire.linger(2.1, 57.8)
        assert not wire.received
        assert front.under_way.total > 0
        await wire.linger(2.2, 1)
        assert await statuses(wire) == [408]
        assert wire.ended
        assert front.under_way.total == 0


async def test_a_client_that_leaves_in_the_middle_of_a_body_writes_nothing() -> None:
    async with front_end("on") as front:
        wire = front.connect()
        await wire.send(write_of("gone")[:-1])
        await settled()
        assert front.under_way.total > 0
        wire.close()
        await settled()
        assert (front.connections, front.under_way.total, front.crashes) == (0, 0, [])
        assert await value_of(front, "gone") is None


async def test_a_write_whose_client_has_left_is_still_done() -> None:
    storage = FaultyStorage()
    async with front_end("on", storage) as front:
        with storage.stalled("commit"):
            wire = front.connect()
            await wire.send(write_of("gone"))
            await wait_all_tasks_blocked()
            wire.close()
            await wait_all_tasks_blocked()
        await settled()
        assert (front.connections, front.under_way.total, front.crashes) == (0, 0, [])
        assert await value_of(front, "gone") == 1


# The bound on bodies under way


@both_lanes
@pytest.mark.parametrize("first", [HOT, COLD], ids=["hot", "ordinary"])
@pytest.mark.parametrize("second", [HOT, COLD], ids=["hot", "ordinary"])
async def test_the_bound_on_bodies_counts_both_lanes(
    monkeypatch: pytest.MonkeyPatch, lane: Lane, first: bytes, second: bytes
) -> None:
    heads = [whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" for whole in (first, second)]
    lengths = [int(head.rpartition(b": ")[2]) for head in heads]
    monkeypatch.setattr(admission, "SMALL_BODY_BYTES_UNDER_WAY", sum(lengths) - 2)
    async with front_end(lane) as front:
        one, other = front.connect(), front.connect()
        await one.send(heads[0] + b" " * (lengths[0] - 1))
        await one.take()
        assert front.under_way.total == lengths[0] - 1
        await other.send(heads[1] + b" " * lengths[1])
        assert await statuses(other) == [503]
        assert b"\r\nretry-after: 1\r\n" in other.received
        await one.send(b" ")
        assert await statuses(one) == [400]
        assert front.under_way.total == 0
        await one.send(HOT)
        assert await statuses(one) == [400, 200]


async def test_a_slow_reader_of_a_large_answer_holds_up_nobody() -> None:
    async with front_end("on") as front:
        text = "x" * 3_000
        wire = front.connect()
        for n in range(100):
            await wire.send(write_of(f"e{n}", value=text))
        assert await statuses(wire) == [200] * 100
        slow, quick = front.connect(), front.connect()
        ids = [f"e{n}" for n in range(100)]
        await slow.send(request(SERVE, json.dumps({"entityIds": ids, "features": ["b"]}).encode()) * 5)
        await settled()
        assert front.under_way.total > 0, "an answer is stuck"
        await quick.send(HOT)
        assert await statuses(quick) == [200]
        assert await statuses(slow) == [200] * 5
        assert slow.received.count(text.encode()) == 500
        assert front.under_way.total == 0


async def test_those_that_pipeline_take_turns(taken: list[str]) -> None:
    async with front_end("on") as front:
        one, other = front.connect(), front.connect()
        await settled()
        await one.send(HOT * 50)
        await other.send(request(WRITE, b"{}") * 50)
        assert await statuses(one) == [200] * 50
        assert await statuses(other) == [400] * 50
        turns = sum(before != after for before, after in pairwise(taken))
        assert turns > 20


# Failures


@both_lanes
@pytest.mark.parametrize("host", [b"a..b", b"a" * 64, b"a_b", b"[::1]:3001", b"a b"])
async def test_any_host_is_answered(lane: Lane, host: bytes) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        for whole in (HOT, bare(b"GET", b"/health/live")):
            await wire.send(re.sub(rb"(?<=Host: )[^\r]+", host, whole))
        assert await statuses(wire) == [200, 200]


async def test_a_wake_up_without_data_is_not_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    false_alarms = [BlockingIOError, BlockingIOError]

    def read(descriptor: int, most: int) -> bytes:
        if false_alarms:
            raise false_alarms.pop()
        return os.read(descriptor, most)

    monkeypatch.setattr(fastlane, "os", SimpleNamespace(read=read, write=os.write))
    async with front_end("on") as front:
        wire = front.connect()
        await wire.send(HOT)
        assert await statuses(wire) == [200]
        assert not false_alarms


@both_lanes
@pytest.mark.parametrize("key", [(), (b"Idempotency-Key: k",)], ids=["plain", "keyed"])
async def test_a_journal_that_fails_is_answered_alike(lane: Lane, key: tuple[bytes, ...]) -> None:
    storage = FaultyStorage()
    async with front_end(lane, storage) as front:
        storage.failing.add("commit")
        wire = front.connect()
        await wire.send(write_of("x", *key))
        head = (await wire.take()).partition(b"date: ")[0]
        assert head.startswith(b"HTTP/1.1 503 \r\ncontent-type: application/problem+json\r\ncontent-length: ")
        assert head.endswith(b"\r\nretry-after: 5\r\n")
        storage.failing.clear()
        await wire.send(write_of("x", *key))
        assert await statuses(wire) == [503, 200]


@both_lanes
async def test_a_bug_is_answered_alike_and_logged(
    lane: Lane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with front_end(lane) as front:
        monkeypatch.setattr(front.router.serving, "latest", lambda *_: 1 / 0)
        wire = front.connect()
        await wire.send(HOT)
        assert await statuses(wire) == [500]
        assert b"an unexpected error; the log has the details" in wire.received
        assert not wire.ended
    assert "ZeroDivisionError" in caplog.text


# The log, and the metrics


@both_lanes
async def test_each_request_has_a_line_in_the_log_at_debug(lane: Lane, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "timewell.requests")
    async with front_end(lane) as front:
        wire = front.connect()
        await wire.send(HOT + request(WRITE, b"{}"))
        await wire.take()
        lines = [vars(record)["fields"] for record in caplog.records if record.name == "timewell.requests"]
        assert [(line["method"], line["path"], line["status"]) for line in lines] == [
            ("POST", SERVE.decode(), 200),
            ("POST", WRITE.decode(), 400),
        ]
        assert all(line["ms"] > 0 for line in lines)
        assert sorted(front.requests().values()) == [1, 1]


@both_lanes
async def test_a_request_whose_client_has_left_is_counted(lane: Lane) -> None:
    storage = FaultyStorage()
    async with front_end(lane, storage) as front:
        with storage.stalled("commit"):
            wire = front.connect()
            await wire.send(write_of("gone"))
            await wait_all_tasks_blocked()
            wire.close()
            await wait_all_tasks_blocked()
        await settled()
        assert sum(front.requests().values()) == 1


# Idempotency keys


@pytest.mark.parametrize("first", LANES)
async def test_a_repeat_is_answered_from_before_whichever_way_it_comes(taken: list[str], first: Lane) -> None:
    key = b"Idempotency-Key: abc"
    hot = write_of("one", key, value=1), write_of("one", key, value=2)
    cold = tuple(whole.replace(b"Content-Type", b"X: \x80\r\nContent-Type") for whole in hot)
    async with front_end("on") as front:
        wire = front.connect()
        await wire.send(hot[0] if first == "on" else cold[0])
        await wire.take()
        await wire.send(cold[1] if first == "on" else hot[1])
        assert await statuses(wire) == [200, 200]
        assert len(taken) == 1
        assert await value_of(front, "one") == 1
        batch = b'{"values":[{"featureId":"a","entityId":"one","value":3}]}'
        await wire.send(request(BATCH, batch, key))
        assert b'"count":1' in await wire.take(), "a key is known by the route"
        assert await value_of(front, "one") == 3


@both_lanes
async def test_an_answer_that_was_given_before_says_so(lane: Lane) -> None:
    async with front_end(lane) as front:
        wire = front.connect()
        for answers in (1, 2):
            await wire.send(write_of("one", b"Idempotency-Key: abc", value=1))
            heads = (await wire.take()).split(b'{"success":true}')[:-1]
            told = [b"\r\nidempotent-replayed: true\r\n" in head for head in heads]
            assert told == [False, True][:answers]


# Shutting down


@both_lanes
async def test_at_a_shutdown_what_is_under_way_is_answered_and_what_comes_behind_is_not_done(lane: Lane) -> None:
    storage = FaultyStorage()
    async with front_end(lane, storage) as front:
        wire, idle = front.connect(), front.connect()
        await idle.send(HOT)
        await idle.take()
        with storage.stalled("commit"):
            await wire.send(write_of("first") + write_of("second"))
            await wait_all_tasks_blocked()
            await front.shut_down()
            await wait_all_tasks_blocked()
        assert await statuses(wire) == [200]
        assert b"\r\nconnection: close\r\n" in wire.received
        await idle.take()
        assert (wire.ended, idle.ended, front.connections) == (True, True, 0)
        assert (await value_of(front, "first"), await value_of(front, "second")) == (1, None)


@both_lanes
async def test_at_a_shutdown_a_body_may_still_come(lane: Lane, mock_clock: MockClock) -> None:
    async with front_end(lane) as front:
        prompt, late = front.connect(), front.connect()
        for wire in (prompt, late):
            await wire.send(HOT[:-1])
            await wire.take()
        await front.shut_down()
        await prompt.send(HOT[-1:])
        assert await statuses(prompt) == [200]
        await late.linger(3)
        await late.send(HOT[-1:])
        assert await statuses(late) == [200]
        for wire in (prompt, late):
            assert b"\r\nconnection: close\r\n" in wire.received
            assert wire.ended
        assert front.connections == 0
