"""Too much is answered with 413, changes nothing, and the server goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.live import LiveServer
from tests.web.test_errors import JSON, problem

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
    answer = small.post("/features/write-batch", {"values": [item("pair"), item("pair", 2)]})
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
