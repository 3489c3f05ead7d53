"""An erased entity is gone: from answers at once, from every file soon, and it stays gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.live import LiveServer
from tests.web.test_errors import problem
from timewell import Client

SECRET = "ada-lovelace-1815"
DAY = {"startTime": "2025-11-07T00:00:00Z", "endTime": "2025-11-08T00:00:00Z"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server of its own with two features of `user`, a value of each for two entities, and a correction."""
    with LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="3600", CACHE_SIZE="1000") as live:
        live.register("age")
        live.register("town", "string")
        fill(live)
        yield live


def fill(server: LiveServer) -> None:
    when = "2025-11-07T10:00:00Z"
    for entity in (SECRET, "bob"):
        server.write(("age", entity, 36, when), ("town", entity, "London", when), ("age", entity, 37, when))


def erase(server: LiveServer, entity: str, entity_type: str = "user") -> dict[str, Any]:
    answer = server.http.delete(f"/entities/{entity_type}/{quote(entity, safe='')}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def known(server: LiveServer, entity: str) -> list[Any]:
    """What each way of reading says of an entity's age."""
    (served,) = server.serve([entity], ["age"], asOf="2025-11-08T00:00:00Z", includeMetadata=True)
    read = {"entityIds": [entity], "features": ["age"]}
    past = server.post("/features/historical", {**read, **DAY, "aggregation": "count"}).json()["results"]
    page = server.get("/features/age/history", entityId=entity).json()["observations"]
    rows = [{"entityId": entity, "timestamp": "2025-11-08T00:00:00Z"}]
    trained = server.post("/features/training-set", {"rows": rows, "features": ["age"]}).json()["results"]
    row = {"rows": rows, "features": ["age"], "knownAt": "2100-01-01T00:00:00Z"}
    as_known = server.post("/features/training-set", row).json()["results"]
    counts = [past[0]["age"], len(page)]
    return [served["metadata"]["age"]["status"], *counts, trained[0]["age"], as_known[0]["age"]]


GONE, THERE = ["missing", 0, 0, None, None], ["present", 1, 1, 37, 37]


def names_in_files(server: LiveServer) -> list[str]:
    """The files that have the secret id in plain or in Parquet's dictionaries."""
    files = [path for path in server.data_dir.rglob("*") if path.is_file()]
    return [str(path) for path in files if SECRET.encode() in path.read_bytes() and "_delta_log" not in path.parts]


def test_no_way_of_reading_shows_an_erased_entity_and_the_others_are_as_they_were(server: LiveServer) -> None:
    assert known(server, SECRET) == THERE
    answer = erase(server, SECRET)
    assert answer["deleted"] == {"observations": 3, "features": 2}
    assert answer["receipt"].startswith("erasure-")
    assert known(server, SECRET) == GONE
    assert known(server, "bob") == THERE


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_it_stays_gone_after_a_restart(server: LiveServer, how: str) -> None:
    erase(server, SECRET)
    getattr(server, how)()
    server.start()
    assert known(server, SECRET) == GONE
    assert known(server, "bob") == THERE


def test_no_file_has_its_name_or_values_any_more(server: LiveServer) -> None:
    assert names_in_files(server)
    erase(server, SECRET)
    fill_others = [("age", f"other{n}", n, "2025-11-07T11:00:00Z") for n in range(50)]
    server.write(*fill_others)
    assert names_in_files(server) == []
    assert server.stop() == 0
    assert names_in_files(server) == []


def test_no_file_has_its_name_though_it_is_in_the_rows_of_a_training_set_that_is_kept(server: LiveServer) -> None:
    rows = [{"entityId": entity, "timestamp": "2025-11-08T00:00:00Z"} for entity in (SECRET, "bob")]
    assert server.post("/training-sets", {"name": "kept", "features": ["age"], "rows": rows}).status_code == 201
    erase(server, SECRET)
    assert SECRET not in server.get("/training-sets/kept").text
    assert names_in_files(server) == []
    server.kill()
    server.start()
    assert SECRET not in server.get("/training-sets/kept").text


def test_what_is_written_afterwards_is_kept_and_what_was_before_does_not_come_back(server: LiveServer) -> None:
    erase(server, SECRET)
    server.write(("age", SECRET, 1, "2025-11-07T09:00:00Z"))
    assert known(server, SECRET) == ["present", 1, 1, 1, 1]
    server.kill()
    server.start()
    assert known(server, SECRET) == ["present", 1, 1, 1, 1]
    assert erase(server, SECRET)["deleted"] == {"observations": 1, "features": 1}
    assert known(server, SECRET) == GONE


def test_an_entity_that_memory_no_longer_holds_goes_from_the_files(server: LiveServer) -> None:
    many = [("age", f"u{n}", n, f"2025-11-07T11:00:00.{n:06}Z") for n in range(3_000)]
    server.write(*many)
    assert erase(server, "u7")["deleted"] == {"observations": 1, "features": 1}
    assert erase(server, SECRET)["deleted"] == {"observations": 3, "features": 2}
    assert known(server, "u7") == GONE
    assert known(server, SECRET) == GONE
    served = server.serve([f"u{n}" for n in range(3_000)], ["age"], asOf="2025-11-08T00:00:00Z")
    assert [result["features"]["age"] for result in served] == [None if n == 7 else n for n in range(3_000)]


def test_who_was_never_written_is_erased_without_a_trace(server: LiveServer) -> None:
    assert erase(server, "nobody")["deleted"] == {"observations": 0, "features": 0}
    assert erase(server, SECRET)["deleted"] == {"observations": 3, "features": 2}
    assert erase(server, SECRET)["deleted"] == {"observations": 0, "features": 0}


def test_any_id_can_be_named_in_the_path(server: LiveServer) -> None:
    for entity in ("a/b", "/a//b/", "a..b", "Zoë ✓ 東京", "100%", "a?b#c", " "):
        server.write(("age", entity, 5, "2025-11-07T10:00:00Z"))
        assert erase(server, entity)["deleted"] == {"observations": 1, "features": 1}, entity
        assert known(server, entity) == GONE, entity


def test_an_entity_type_of_no_feature_and_an_id_that_cannot_be_are_refused(server: LiveServer) -> None:
    assert "shop" in problem(server.http.delete("/entities/shop/ada"), 404)["detail"]
    refused = problem(server.http.delete(f"/entities/user/{'x' * 513}"), 400)
    assert refused["errors"][0]["field"] == "entityId"
    declared = server.post("/entities", {"name": "pair", "keys": ["user", "shop"]})
    assert declared.status_code == 201
    server.register("visits", entity="pair")
    for entity in (
        "u1",
        '["u1", "m9"]',
        '["u1"]',
    ):  # with a space it would be another id, of which nothing is known
        refused = problem(server.http.delete(f"/entities/pair/{quote(entity, safe='')}"), 400)
        assert '["user id","shop id"]' in refused["detail"]
    problem(server.http.delete("/entities/user"), 409)
    assert known(server, SECRET) == THERE


def test_an_entity_of_the_same_name_of_another_type_stays(server: LiveServer) -> None:
    server.register("rank", entity="userx")
    server.write(("rank", SECRET, 1, "2025-11-07T10:00:00Z"))
    assert erase(server, SECRET)["deleted"] == {"observations": 3, "features": 2}
    assert server.serve([SECRET], ["rank"])[0]["features"] == {"rank": 1}


def test_the_client_erases(server: LiveServer) -> None:
    with Client(server.url) as client:
        found = client.erase("user", SECRET)
    assert (found.deleted.observations, found.deleted.features) == (3, 2)
    assert found.receipt
