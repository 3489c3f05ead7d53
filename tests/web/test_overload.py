"""What the front end says when there is too much to do, or when an actor is down."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.errors import Overloaded
from tests.actors.service import FEATURE, ONE, OTHER, SETTINGS, service, write
from tests.actors.test_actors import poison
from tests.faults import FaultyStorage
from web.app import create_app
from web.gate import Gate
from web.hypercorn import admission
from web.hypercorn.streamed_body import ANY_BODY_KEY, _Body

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


class Upload:
    """A request of which the body comes when it is told to, and whose handler waits for all of it."""

    def __init__(self, app: Any, client: str, method: str = "POST") -> None:
        self._send, self._receive = trio.open_memory_channel[Any](100)
        self.body = _Body(None, None)
        self.scope: Any = {"type": "http", "method": method, "path": "/", "headers": [], "client": (client, 1)}
        self.scope[ANY_BODY_KEY] = self.body
        self._app = app

    def come(self, size: int, more: bool = True) -> None:
        """So many bytes."""
        self._send.send_nowait({"type": "http.request", "body": b" " * size, "more_body": more})

    async def run(self) -> None:
        """Until it is answered."""
        await self._app(self.scope, self._receive.receive, None)

    @property
    def refused(self) -> bool:
        """Whether the handler is to answer 503."""
        return isinstance(self.body._must_raise, Overloaded)


async def reading(scope: Any, receive: Any, _: Any) -> None:
    """An application that holds what comes."""
    while (event := await receive())["more_body"]:
        scope[ANY_BODY_KEY].append(event["body"])


async def test_bodies_count_as_far_as_they_have_come(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "SMALL_BODY_BYTES", 100)
    monkeypatch.setattr(admission, "SMALL_BODY_BYTES_UNDER_WAY", 250)
    monkeypatch.setattr(admission, "BODY_BYTES_UNDER_WAY", 1_000)
    monkeypatch.setattr(admission, "BODY_BYTES_OF_A_CONNECTION", 600)
    gate = Gate(trio.Event())
    gate.open(reading)
    under_way = gate.bodies

    async def upload(size: int, client: str, method: str = "POST") -> Upload:
        made = Upload(gate, client, method)
        nursery.start_soon(made.run)
        made.come(size)
        await wait_all_tasks_blocked()
        return made

    silent = [await upload(0, "a") for _ in range(50)]
    assert under_way.total == 0, "what is only declared does not count"
    one = await upload(500, "a")
    assert (await upload(200, "a")).refused, "a connection has a bound of its own"
    other = await upload(400, "b", "GET")
    assert not one.refused and not other.refused
    assert (await upload(200, "c")).refused
    small = [await upload(100, "a"), await upload(100, "c")]
    assert not any(each.refused for each in small), "small ones have a room of their own"
    assert (await upload(100, "c")).refused
    one.come(50)
    await wait_all_tasks_blocked()
    assert (under_way.large, under_way.small, one.refused) == (950, 200, False)
    for each in (one, other, *small, *silent):
        each.come(0, more=False)
    await wait_all_tasks_blocked()
    assert not (await upload(900, "c")).refused
    nursery.cancel_scope.cancel()
