"""Alerts reach an address of the user's over a real socket: signed, in order, tried again, and given up."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock

from actors.monitoring.webhook import ATTEMPTS, FIRST_RETRY_SECONDS, TIMEOUT_SECONDS, WAITING, Webhook, signature

SECRET = "s3cret"
NOW = 1_762_509_600.75
IDLE_SECONDS = 0.05
"""Real time without anything to do before the clock jumps: the kernel has handed everything over by then."""


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=IDLE_SECONDS)


class Delivery(NamedTuple):
    """One request, when it came by trio's clock, and what came with it."""

    at: float
    line: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """An HTTP server on a free port. `answers` are given in turn, 204 after them; None hangs up instead."""

    def __init__(self, *answers: int | None) -> None:
        self.answers = list(answers)
        self.got: list[Delivery] = []
        self.url = ""
        self._more = trio.Event()

    async def handle(self, stream: trio.SocketStream) -> None:
        """One connection, kept as long as the other side likes."""
        data = b""
        while b"\r\n\r\n" in data or (more := await stream.receive_some()):
            if b"\r\n\r\n" not in data:
                data += more
                continue
            head, _, rest = data.partition(b"\r\n\r\n")
            line, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
            while len(rest) < int(headers["content-length"]):
                rest += await stream.receive_some()
            length = int(headers["content-length"])
            body, data = rest[:length], rest[length:]
            self.got.append(Delivery(trio.current_time(), line, headers, body))
            self._more.set()
            self._more = trio.Event()
            status = self.answers.pop(0) if self.answers else 204
            if status is None:
                return
            if status == 0:
                await trio.sleep_forever()
            await stream.send_all(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status)

    async def until(self, count: int) -> None:
        """Wait until so many requests have come."""
        with trio.fail_after(1_000):
            while len(self.got) < count:
                await self._more.wait()

    def payloads(self) -> list[Any]:
        """What came, decoded."""
        return [json.loads(delivery.body) for delivery in self.got]


@asynccontextmanager
async def receiving(*answers: int | None) -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver(*answers)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, receiver.handle, 0, host="127.0.0.1"))
        receiver.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/hook?a=b"
        yield receiver
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def sending(url: str, secret: str = SECRET) -> AsyncIterator[Webhook]:
    """A webhook that delivers."""
    webhook = Webhook(url, secret, now=lambda: NOW)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(webhook.run)
        yield webhook
        nursery.cancel_scope.cancel()


def verifies(delivery: Delivery, secret: str) -> bool:
    """What a receiver does by the documentation alone."""
    parts = dict(part.split("=", 1) for part in delivery.headers["timewell-signature"].split(","))
    signed = parts["t"].encode() + b"." + delivery.body
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, parts["v1"])


async def test_a_delivery_is_a_post_of_json_to_the_address(clock: MockClock) -> None:
    payload = {"id": "1", "type": "alert.firing", "alert": {"message": "ö", "observed": 0.5}}
    async with receiving() as receiver, sending(receiver.url) as webhook:
        webhook.post(payload)
        await receiver.until(1)
    (delivery,) = receiver.got
    assert delivery.line == "POST /hook?a=b HTTP/1.1"
    assert delivery.headers["content-type"] == "application/json"
    assert receiver.payloads() == [payload]


async def test_the_signature_verifies_with_the_secret_and_with_no_other(clock: MockClock) -> None:
    async with receiving() as receiver, sending(receiver.url) as webhook:
        webhook.post({"n": 1})
        await receiver.until(1)
    (delivery,) = receiver.got
    assert verifies(delivery, SECRET)
    for wrong in ("", "s3cre", "S3CRET", SECRET + " "):
        assert not verifies(delivery, wrong)
    assert f"t={int(NOW)}," in delivery.headers["timewell-signature"]


async def test_a_body_or_a_time_that_was_tampered_with_does_not_verify(clock: MockClock) -> None:
    async with receiving() as receiver, sending(receiver.url) as webhook:
        webhook.post({"n": 1})
        await receiver.until(1)
    (delivery,) = receiver.got
    assert not verifies(delivery._replace(body=delivery.body.replace(b"1", b"2")), SECRET)
    later = delivery.headers["timewell-signature"].replace(str(int(NOW)), str(int(NOW) + 1))
    assert not verifies(delivery._replace(headers={"timewell-signature": later}), SECRET)


async def test_without_a_secret_nothing_is_signed(clock: MockClock) -> None:
    async with receiving() as receiver, sending(receiver.url, secret="") as webhook:
        webhook.post({"n": 1})
        await receiver.until(1)
    assert "timewell-signature" not in receiver.got[0].headers


def test_the_signature_is_the_hmac_of_seconds_and_body_by_rfc_2104() -> None:
    digest = hmac.new(b"key", b"12.{}", "sha256").hexdigest()
    assert signature("key", 12, b"{}") == f"t=12,v1={digest}"
    assert signature("ключ", 1, b"{}") != signature("k", 1, b"{}")


@pytest.mark.parametrize("answer", [500, 503, 404, 429, 302, None])
async def test_what_was_not_taken_is_sent_again_signed_anew_until_it_is(
    clock: MockClock, answer: int | None
) -> None:
    async with receiving(answer, answer) as receiver, sending(receiver.url) as webhook:
        webhook.post({"n": 1})
        await receiver.until(3)
    assert receiver.payloads() == [{"n": 1}] * 3
    assert all(verifies(delivery, SECRET) for delivery in receiver.got)
    first, second = (later.at - earlier.at for earlier, later in zip(receiver.got, receiver.got[1:], strict=False))
    assert first == pytest.approx(FIRST_RETRY_SECONDS, abs=0.01)
    assert second == pytest.approx(2 * FIRST_RETRY_SECONDS, abs=0.01)


async def test_a_receiver_that_does_not_answer_is_tried_again_after_the_timeout(clock: MockClock) -> None:
    async with receiving(0) as receiver, sending(receiver.url) as webhook:
        webhook.post({"n": 1})
        await receiver.until(2)
    waited = receiver.got[1].at - receiver.got[0].at
    assert waited == pytest.approx(TIMEOUT_SECONDS + FIRST_RETRY_SECONDS, abs=0.1)


async def test_a_receiver_that_is_not_there_yet_gets_it_once_it_is(clock: MockClock) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = taken.getsockname()[1]
    receiver = Receiver()
    async with trio.open_nursery() as nursery, sending(f"http://127.0.0.1:{port}/") as webhook:
        webhook.post({"n": 1})
        await trio.sleep(FIRST_RETRY_SECONDS * 1.5)  # two attempts have failed
        await nursery.start(partial(trio.serve_tcp, receiver.handle, port, host="127.0.0.1"))
        await receiver.until(1)
        nursery.cancel_scope.cancel()
    assert receiver.payloads() == [{"n": 1}]
    assert receiver.got[0].at == pytest.approx(3 * FIRST_RETRY_SECONDS, abs=0.1)


async def test_order_is_kept_also_over_failures(clock: MockClock) -> None:
    async with receiving(204, 500, 500, 204, 500) as receiver, sending(receiver.url) as webhook:
        for number in range(4):
            webhook.post({"n": number})
        await receiver.until(7)
    assert [payload["n"] for payload in receiver.payloads()] == [0, 1, 1, 1, 2, 2, 3]


async def test_after_so_many_attempts_it_gives_up_says_so_and_goes_on(
    clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving(*[500] * ATTEMPTS) as receiver, sending(receiver.url) as webhook:
        webhook.post({"n": "lost"})
        webhook.post({"n": "next"})
        await receiver.until(ATTEMPTS + 1)
    assert [payload["n"] for payload in receiver.payloads()] == ["lost"] * ATTEMPTS + ["next"]
    given_up = [record for record in caplog.records if "gave up" in record.getMessage()]
    assert len(given_up) == 1
    assert given_up[0].levelno == logging.ERROR
    assert "lost" in given_up[0].getMessage()
    pauses = [FIRST_RETRY_SECONDS * 2**attempt for attempt in range(ATTEMPTS - 1)]
    assert receiver.got[ATTEMPTS - 1].at - receiver.got[0].at == pytest.approx(sum(pauses), abs=0.1)


async def test_more_than_may_wait_is_dropped_and_logged_and_the_first_are_kept(
    clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as receiver:
        webhook = Webhook(receiver.url, SECRET)
        for number in range(WAITING + 2):
            webhook.post({"n": number})
        assert len([record for record in caplog.records if "dropped" in record.getMessage()]) == 2
        async with trio.open_nursery() as nursery:
            nursery.start_soon(webhook.run)
            await receiver.until(3)
            nursery.cancel_scope.cancel()
    assert [payload["n"] for payload in receiver.payloads()][:3] == [0, 1, 2]


async def test_without_an_address_nothing_waits_and_nothing_runs(clock: MockClock) -> None:
    webhook = Webhook("", SECRET)
    for number in range(WAITING + 10):
        webhook.post({"n": number})
    with trio.fail_after(1):
        await webhook.run()


@pytest.mark.parametrize("url", ["http://127.0.0.1:notaport/", "http://[bad/", "ftp://127.0.0.1/", "nowhere"])
async def test_an_address_that_makes_no_sense_fails_the_delivery_and_not_the_process(
    clock: MockClock, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    async with sending(url) as webhook:
        webhook.post({"n": 1})
        await trio.sleep(FIRST_RETRY_SECONDS * 2**ATTEMPTS)
    assert any("gave up" in record.getMessage() for record in caplog.records)
