"""Too much is answered with 413, changes nothing, and the server goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from tests.live import LiveServer
from tests.web.hostile_requests import WRITE, request
from tests.web.test_errors import JSON, problem
from tests.web.two_lanes import Lane, front_end
from web.answers.lanes import ARROW_TYPE

DAY = {"startTime": "2025-11-07T00:00:00Z", "endTime": "2025-11-08T00:00:00Z"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with low limits and two features."""
    limits = {"MAX_BODY_BYTES": "2048", "MAX_ENTITIES": "3", "MAX_BATCH_VALUES": "2", "MAX_CELLS": "8"}
    with LiveServer(tmp_path_factory.mktemp("limits") / "data", **limits) as live:
        for name in ("a", "b", "c"):
            live.register(name)
        yield live


def item(entity: str, value: object = 1) -> dict[str, Any]:
    """One value to write."""
    return {"featureId": "user.a.v1", "entityId": entity, "value": value}


@pytest.mark.parametrize(
    "path",
    [
        "/features/register",
        "/groups",
        "/features/write",
        "/features/write-batch",
        "/features/serve",
        "/features/historical",
    ],
)
def test_a_body_over_the_limit_is_refused(small: LiveServer, path: str) -> None:
    problem(small.http.post(path, content=b"[" + b" " * 2048, headers=JSON), 413)


def test_a_body_over_the_limit_without_a_length_is_refused(small: LiveServer) -> None:
    pieces = iter([b" " * 1000] * 4)
    problem(small.http.post("/features/write", content=pieces, headers=JSON), 413)
    assert small.get("/health/live").status_code == 200


def test_a_body_at_the_limit_is_taken(small: LiveServer) -> None:
    body = b'{"featureId": "user.a.v1", "entityId": "full", "value": 1}'
    answer = small.http.post("/features/write", content=body.ljust(2048), headers=JSON)
    assert answer.status_code == 200
    problem(small.http.post("/features/write", content=body.ljust(2049), headers=JSON), 413)


@pytest.mark.parametrize("query", ["", "?partial=true"])
def test_a_batch_of_too_many_values_is_refused_whole(small: LiveServer, query: str) -> None:
    values = [item("crowd"), item("crowd"), item("crowd")]
    problem(small.post(f"/features/write-batch{query}", {"values": values}), 413)
    assert small.serve(["crowd"], ["a"])[0]["features"] == {"a": None}


def test_bad_values_count_towards_the_limit_of_a_batch(small: LiveServer) -> None:
    values = [item("mixed"), {"nonsense": 1}, item("mixed", "x")]
    problem(small.post("/features/write-batch?partial=true", {"values": values}), 413)
    assert small.serve(["mixed"], ["a"])[0]["features"] == {"a": None}


def test_a_batch_at_the_limit_is_written(small: LiveServer) -> None:
    answer = small.post("/features/write-batch", {"values": [item("pair"), item("other", 2)]})
    assert answer.json() == {"success": True, "count": 2}


def test_too_many_entities_are_refused(small: LiveServer) -> None:
    asked = {"entityIds": ["1", "2", "3", "4"], "features": ["a"]}
    assert "entityIds" in problem(small.post("/features/serve", asked), 413)["detail"]
    assert "entityIds" in problem(small.post("/features/historical", {**asked, **DAY}), 413)["detail"]
    assert len(small.serve(["1", "2", "3"], ["a"])) == 3


def test_an_answer_of_too_many_values_is_refused(small: LiveServer) -> None:
    asked = {"entityIds": ["1", "2", "3"], "features": ["a", "b", "c"]}
    problem(small.post("/features/serve", asked), 413)
    windowed = {"entityIds": ["1"], "features": ["a"], "window": "2h", **DAY}
    problem(small.post("/features/historical", windowed), 413)
    assert len(small.post("/features/historical", {**windowed, "window": "3h"}).json()["results"]) == 8


def test_a_range_of_absurdly_many_windows_is_refused_at_once(small: LiveServer) -> None:
    ages = {"startTime": "0001-01-01T00:00:00Z", "endTime": "9999-12-31T23:59:59Z", "window": 0.000001}
    problem(small.post("/features/historical", {"entityIds": ["1"], "features": ["a"], **ages}), 413)


def test_too_many_features_are_refused(shared_server: LiveServer) -> None:
    shared_server.register("wide")
    references = ["wide"] * 2
    assert list(shared_server.serve(["u"], references)[0]["features"]) == ["wide"]
    versions = [shared_server.register("many", version=version)["id"] for version in range(1, 1_002)]
    problem(shared_server.post("/features/serve", {"entityIds": ["u"], "features": versions}), 413)
    assert len(shared_server.serve(["u"], versions[:1_000])[0]["features"]) == 1_000


def test_a_pattern_that_backtracks_and_a_name_made_to_be_slow_hold_nobody_up(shared_server: LiveServer) -> None:
    shared_server.register("address", "string", schema={"pattern": "^(a+)+$"})
    shared_server.register("plain", "string")
    evil = "a" * 27 + "!"
    refused = shared_server.post("/features/write", {"featureId": "address", "entityId": "ada", "value": evil})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "value")
    shared_server.write(("user.plain.v1", "ada", evil, "2025-11-01T00:00:00Z"))
    check = {"checkType": "pattern", "config": {"regex": "^(a+)+$"}}
    assert shared_server.post("/features/plain/checks", check).json()["status"] == "failing"
    name = " - at `$" * 100_000 + "\n"
    refused = shared_server.post("/features/register", {name: 1})
    assert refused.status_code == 400
    assert len(refused.content) < 2_000


@pytest.mark.parametrize(
    ("schema", "rest", "status"),
    [
        (lambda: {"pattern": "a" * 5_000_000}, {}, 400),
        (lambda: {"enum": [str(number) for number in range(1_000_000)]}, {}, 400),
        (lambda: None, {"description": "a" * 300_000}, 413),
        (lambda: None, {"tags": [str(number) for number in range(100_000)]}, 413),
    ],
    ids=["pattern", "enum", "description", "tags"],
)
def test_what_the_registry_keeps_of_a_feature_has_limits(
    shared_server: LiveServer, schema: Callable[[], dict[str, Any] | None], rest: dict[str, Any], status: int
) -> None:
    body = {"name": "large", "entity": "user", "valueType": "string", "schema": schema(), **rest}
    refused = shared_server.post("/features/register", body)
    assert refused.status_code == status
    assert next(iter(rest), "schema") in refused.json()["detail"]
    assert shared_server.get("/features/user.large.v1").status_code == 404


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "text/csv", ARROW_TYPE])
@pytest.mark.parametrize("ids", [[], ["u"]])
def test_windows_are_counted_before_they_are_made_however_few_entities_are_asked_for(
    small: LiveServer, accept: str, ids: list[str]
) -> None:
    asked = {"entityIds": ids, "features": ["a"], "startTime": "2025-01-01T00:00:00Z", "endTime": DAY["endTime"]}
    body = msgspec.json.encode({**asked, "window": 0.000001})
    problem(small.http.post("/features/historical", content=body, headers={**JSON, "Accept": accept}), 413)
    assert small.get("/health/live").status_code == 200


@pytest.mark.parametrize("path", ["/features/serve", "/features/historical", "/features/training-set"])
def test_more_features_than_are_read_at_once_are_refused_also_where_they_are_the_same(
    server: LiveServer, path: str
) -> None:
    server.register("a")
    about: dict[str, dict[str, Any]] = {
        "/features/serve": {"entityIds": ["u"]},
        "/features/historical": {"entityIds": ["u"], **DAY},
        "/features/training-set": {"rows": []},
    }
    for count, status in ((1_000, 200), (1_001, 413)):
        assert server.post(path, {**about[path], "features": ["a"] * count}).status_code == status


@pytest.mark.parametrize("lane", ["on", "off"])
async def test_a_write_that_is_longer_than_any_value_is_refused_undecoded(lane: Lane) -> None:
    async with front_end(lane, max_body_bytes=4_000_000) as front:
        wire = front.connect()
        long = b'{"featureId":"c","entityId":"e","value":{%b}}' % b",".join(b'"k%d":1' % n for n in range(100_000))
        await wire.send(request(WRITE, long))
        head, _, body = (await wire.take()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"which no value is" in body


async def test_rows_of_nothing_are_refused_as_soon_as_there_are_more_than_a_body_has() -> None:
    async with front_end("on", max_body_bytes=100_000) as front:
        wire = front.connect()
        nothing = b'{"rows":[' + b"{}," * 30_000 + b'{}],"features":["a"]}'
        await wire.send(request(b"/features/training-set", nothing))
        head, _, body = (await wire.take()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"a request takes at most 2564 rows" in body


async def test_more_keys_than_are_decoded_in_a_moment_are_refused_and_those_in_texts_are_none() -> None:
    async with front_end("on", max_body_bytes=4_000_000) as front:
        asked = b'{"entityIds":["%b"],"features":["a"],"aggregation":%b,"startTime":"2025-01-01","endTime":%b}'
        many = b"{" + b",".join(b'"k%d":"sum"' % n for n in range(60_000)) + b"}"
        for body, status, words in (
            (asked % (b"e", many, b'"2025-01-02"'), 413, b"more than 50000 keys"),
            (asked % (b":" * 60_000, b'"sum"', b'"2025-01-02"'), 400, b"longer than 512 bytes"),
        ):
            wire = front.connect()
            await wire.send(request(b"/features/historical", body))
            head, _, told = (await wire.take()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert words in told
