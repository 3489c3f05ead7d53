"""What a request makes large has a bound in bytes: a 413 that says what to ask instead, or a shorter page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from actors.settings import MAX_ELEMENTS
from actors.storage.embedded.local import MemoryStorage
from tests.actors.service import SETTINGS, service, write
from tests.live import LiveServer
from tests.web.test_errors import JSON, problem
from web.answers import results as rows
from web.app import create_app
from web.routes import history, registry, serving

DAY = {"startTime": "2025-11-07T00:00:00Z", "endTime": "2025-11-08T00:00:00Z"}
AT = "2025-11-07T10:00:00Z"
LONG = "x" * 5_000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of small answers, with a long text and a vector."""
    with LiveServer(tmp_path_factory.mktemp("sizes") / "data", MAX_ANSWER_BYTES="12000") as live:
        live.register("text", valueType="string")
        live.register("place", valueType="vector", schema={"dimension": 400})
        for feature, value in (("text", LONG), ("place", [0.1] * 400)):
            item = {"featureId": f"user.{feature}.v1", "entityId": "a", "value": value, "timestamp": AT}
            assert live.post("/features/write", item).status_code == 200
        yield live


@pytest.mark.parametrize("feature", ["text", "place"])
@pytest.mark.parametrize("path", ["/features/serve", "/features/historical"])
def test_an_answer_of_too_many_bytes_is_refused_with_what_to_ask(
    small: LiveServer, path: str, feature: str
) -> None:
    more: dict[str, Any] = DAY if path.endswith("historical") else {}
    refused = problem(small.post(path, {"entityIds": ["a"] * 3, "features": [feature], **more}), 413)
    assert "at most 12000" in refused["detail"]
    assert "fewer entities" in refused["detail"]
    assert small.post(path, {"entityIds": ["a"] * 2, "features": [feature], **more}).status_code == 200


async def test_a_page_of_long_values_is_shorter_and_says_where_the_next_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "PAGE_BYTES", 12_000)
    async with service(MemoryStorage()) as timewell:
        client = create_app(timewell, SETTINGS).test_client()
        body = {"entity": "user", "name": "text", "valueType": "string"}
        assert (await client.post("/features/register", json=body)).status_code == 201
        values = [
            {
                "featureId": "text",
                "entityId": "a",
                "value": f"{hour}{LONG}",
                "timestamp": f"2025-11-07T1{hour}:00:00Z",
            }
            for hour in range(5)
        ]
        assert (await client.post("/features/write-batch", json={"values": values})).status_code == 200
        found, pages, cursor = list[str](), 0, ""
        while pages == 0 or cursor:
            answer = await client.get(f"/features/text/history?entityId=a&cursor={cursor}")
            page = await answer.get_json()
            found += [one["value"] for one in page["observations"]]
            pages, cursor = pages + 1, page.get("nextCursor")
        assert (found, pages) == ([one["value"] for one in values], 3)


async def test_a_page_of_features_with_long_texts_is_shorter_and_says_where_the_next_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "PAGE_BYTES", 12_000)
    async with service(MemoryStorage()) as timewell:
        client = create_app(timewell, SETTINGS).test_client()
        for name in "abcde":
            body = {"entity": "long", "name": name, "valueType": "string", "description": LONG}
            assert (await client.post("/features/register", json=body)).status_code == 201
        found, cursor = list[list[str]](), ""
        while not found or cursor:
            answer = await client.get(f"/features?entity=long&cursor={cursor}")
            page = await answer.get_json()
            found.append([one["name"] for one in page["features"]])
            cursor = page.get("nextCursor")
        assert found == [["a", "b"], ["c", "d"], ["e"]]


def test_rows_with_a_label_each_are_refused(small: LiveServer) -> None:
    rows = [{"entityId": "a", "timestamp": AT, f"label{row}": 1} for row in range(2_000)]
    refused = problem(small.post("/features/training-set", {"rows": rows, "features": ["text"]}), 413)
    assert "more than 1000 columns" in refused["detail"]
    wide = [{**rows[0], **{f"label{number}": 1 for number in range(1_000)}}, *[rows[0]] * 10_001]
    refused = problem(small.post("/features/training-set", {"rows": wide, "features": ["text"]}), 413)
    assert "send fewer at once" in refused["detail"]


@pytest.mark.parametrize("path", ["serve", "historical", "register"])
def test_a_body_of_absurdly_many_elements_is_refused_before_it_is_decoded(small: LiveServer, path: str) -> None:
    body = b'{"entityIds":[' + b'"",' * (MAX_ELEMENTS + 1) + b'""]}'
    assert "elements" in problem(small.http.post(f"/features/{path}", content=body, headers=JSON), 413)["detail"]
    commas = b'{"entityIds":["' + b"," * (MAX_ELEMENTS + 1) + b'"]}'
    assert small.http.post(f"/features/{path}", content=commas, headers=JSON).status_code == 400


@pytest.mark.parametrize("metadata", [False, True])
async def test_a_wide_read_is_asked_and_answered_in_lots_between_which_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch, metadata: bool
) -> None:
    async with service(MemoryStorage()) as timewell:
        client = create_app(timewell, SETTINGS).test_client()
        for entity in range(20):
            await write(timewell, f"u{entity}", float(entity))
        body = {
            "entityIds": [f"u{entity}" for entity in range(23)],
            "features": ["clicks"],
            "includeMetadata": metadata,
            "asOf": "2100-01-01T00:00:00Z",
        }
        whole = await (await client.post("/features/serve", json=body)).get_json()
        lots, latest = list[int](), timewell.latest_of_rows

        async def noted(ids: list[list[str]], *rest: Any) -> Any:
            lots.append(len(ids[0]))
            return await latest(ids, *rest)

        monkeypatch.setattr(timewell, "latest_of_rows", noted)
        monkeypatch.setattr(serving, "CELLS_PER_QUESTION", 5)
        assert await (await client.post("/features/serve", json=body)).get_json() == whole
        monkeypatch.setattr(rows, "CELLS_PER_TURN", 0)  # encoded some rows at a time, in a worker thread
        monkeypatch.setattr(rows, "SLICE_BYTES", 150)
        assert await (await client.post("/features/serve", json=body)).get_json() == whole
        assert lots == [5, 5, 5, 5, 3] * 2
        assert [one["features"]["clicks"] for one in whole["results"]] == [*range(20), None, None, None]
