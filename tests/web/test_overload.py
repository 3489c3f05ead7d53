"""What the front end says when there is too much to do, or when an actor is down."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.actors.service import FEATURE, ONE, OTHER, SETTINGS, service, write
from tests.actors.test_actors import poison
from tests.faults import FaultyStorage
from web import admission
from web.admission import BodiesUnderWay, bounding_bodies
from web.app import create_app

BODY = {"entityIds": [ONE], "features": [FEATURE]}


async def test_a_crashed_store_is_answered_with_503_and_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FaultyStorage()
    async with service(storage) as timewell:
        client = create_app(timewell, SETTINGS).test_client()
        await write(timewell, OTHER, 2.0)
        armed = poison(monkeypatch, ONE)
        with storage.stalled("plan"):
            answer = await client.post("/features/serve", json=BODY)
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.content_type == "application/problem+json"
            assert (await client.get("/health/ready")).status_code == 503
            assert (await client.get("/health/live")).status_code == 200
            other = await client.post("/features/serve", json={**BODY, "entityIds": [OTHER]})
            assert (await other.get_json())["results"][0]["features"] == {FEATURE: 2}
            armed.clear()


async def test_a_journal_that_cannot_be_written_is_answered_with_503(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FaultyStorage()
    async with service(storage) as timewell:
        client = create_app(timewell, SETTINGS).test_client()
        storage.failing.add("commit")
        answer = await client.post("/features/write", json={"featureId": FEATURE, "entityId": ONE, "value": 1})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        storage.failing.clear()


async def test_a_bug_is_answered_with_500_and_no_detail_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with service(FaultyStorage()) as timewell:
        app = create_app(timewell, SETTINGS)
        monkeypatch.setattr(timewell.registry, "resolve", lambda _: 1 / 0)
        answer = await app.test_client().get(f"/features/{FEATURE}")
        assert answer.status_code == 500
        assert "ZeroDivisionError" not in await answer.get_data(as_text=True)


class Waiting:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.entered = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.entered += 1
        await self.go.wait()


async def call(app: Any, length: int) -> list[dict[str, Any]]:
    """POST a body of a declared length (0: chunked): what was sent back."""
    sent: list[dict[str, Any]] = []

    async def send(event: Any) -> None:
        sent.append(event)

    header = (b"content-length", str(length).encode()) if length else (b"transfer-encoding", b"chunked")
    await app({"type": "http", "method": "POST", "headers": [header]}, None, send)
    return sent


async def test_bodies_beyond_the_bound_are_refused_before_they_are_read(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "BODY_BYTES_UNDER_WAY", 1_000)
    waiting = Waiting()
    app = bounding_bodies(waiting, BodiesUnderWay(), max_body_bytes=600)
    nursery.start_soon(call, app, 500)
    await wait_all_tasks_blocked()
    for length in (501, 0):
        refusal = await call(app, length)
        assert refusal[0]["status"] == 503
        assert (b"retry-after", b"1") in refusal[0]["headers"]
    nursery.start_soon(call, app, 500)
    await wait_all_tasks_blocked()
    assert waiting.entered == 2
    waiting.go.set()
    await wait_all_tasks_blocked()
    assert await call(app, 0) == [], "the bound counts only what is under way"
