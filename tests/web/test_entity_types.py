"""Entity types: declared with keys, listed, forgotten; promoted versions."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.live import LiveServer
from tests.web.test_errors import problem

OVER_EVERY_STORE = True
TEN = "2025-01-01T10:00:00Z"


@pytest.fixture
def name() -> str:
    return f"f{uuid4().hex}"


def test_an_entity_type_is_told_as_it_was_declared(shared_server: LiveServer, name: str) -> None:
    body = {"name": name, "keys": ["user", "merchant"], "description": "ü", "tags": ["b", "a"], "owner": "ml"}
    answer = shared_server.post("/entities", body)
    assert answer.status_code == 201
    made = answer.json()
    assert {key: made[key] for key in body} == body and made["features"] == 0
    assert shared_server.get(f"/entities/{name}").json() == made
    again = shared_server.post("/entities", {**body, "owner": "we"})
    assert (again.status_code, again.json()["owner"]) == (200, "we")
    assert again.json()["createdAt"] == made["createdAt"]


def test_an_entity_type_that_is_not_declared_has_one_key_named_like_itself(
    shared_server: LiveServer, name: str
) -> None:
    problem(shared_server.get(f"/entities/{name}"), 404)
    shared_server.register("x", entity=name)
    told = {"name": name, "keys": [name], "description": "", "tags": [], "features": 1}
    assert shared_server.get(f"/entities/{name}").json() == told
    assert told in shared_server.get("/entities").json()["entities"]


def test_keys_stay_while_features_are_of_them_and_so_does_the_type(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register("x", entity=name)["id"]
    problem(shared_server.post("/entities", {"name": name, "keys": ["id"]}), 409)
    assert shared_server.post("/entities", {"name": name, "keys": [name]}).status_code == 201
    problem(shared_server.http.delete(f"/entities/{name}"), 409)
    shared_server.delete_feature(id_)
    assert shared_server.post("/entities", {"name": name, "keys": ["id"]}).status_code == 200
    assert shared_server.http.delete(f"/entities/{name}").status_code == 204
    problem(shared_server.get(f"/entities/{name}"), 404)
    problem(shared_server.http.delete(f"/entities/{name}"), 404)


def test_an_entity_type_that_cannot_be_is_refused(shared_server: LiveServer, name: str) -> None:
    for keys in ([], ["a", "a"], ["a b"], [""], [f"k{place}" for place in range(9)]):
        assert problem(shared_server.post("/entities", {"name": name, "keys": keys}), 400)["errors"]
    for taken in ("entityId", "timestamp"):
        told = problem(shared_server.post("/entities", {"name": name, "keys": ["user", taken]}), 400)
        assert taken in told["detail"] and told["errors"][0]["field"] == "keys"
    problem(shared_server.post("/entities", {"name": "a.b", "keys": ["a"]}), 400)
    problem(shared_server.get(f"/entities/{name}"), 404)


def test_a_version_registered_without_promotion_blanks_nothing_until_it_is_promoted(
    shared_server: LiveServer, name: str
) -> None:
    first = shared_server.register(name)
    assert "promoted" not in first
    shared_server.write((first["id"], "u", 5, TEN))
    second = shared_server.register(name, version=2, promoted=False)
    assert second["promoted"] is False
    assert shared_server.serve(["u"], [f"user.{name}"])[0]["features"] == {f"user.{name}": 5}
    shared_server.write((second["id"], "u", 6, TEN))
    answer = shared_server.post(f"/features/{second['id']}/promote", {})
    assert (answer.status_code, answer.json()["id"]) == (200, second["id"])
    assert shared_server.serve(["u"], [f"user.{name}", name])[0]["features"] == {f"user.{name}": 6, name: 6}
    for reference in (name, f"user.{name}", f"user.{name}.v3"):
        problem(shared_server.post(f"/features/{reference}/promote", {}), 404)


def test_what_stands_on_a_feature_is_told(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    assert shared_server.get(f"/features/{id_}").json()["usedBy"] == {
        "groups": [],
        "services": [],
        "features": [],
        "checks": [],
    }
    shared_server.post("/groups", {"name": name, "entity": "user", "features": [name]})
    shared_server.post("/services", {"name": name, "features": [name]})
    check = shared_server.post(f"/features/{id_}/checks", {"checkType": "null", "config": {"maxNullRate": 0.1}})
    assert shared_server.get(f"/features/{id_}").json()["usedBy"] == {
        "groups": [name],
        "services": [f"{name}.v1"],
        "features": [],
        "checks": [check.json()["id"]],
    }


def test_entity_types_and_services_are_there_after_a_restart(server: LiveServer) -> None:
    server.post("/entities", {"name": "pair", "keys": ["a", "b"]})
    server.post("/entities", {"name": "gone", "keys": ["a"]})
    server.http.delete("/entities/gone")
    server.register("x", entity="pair")
    server.register("x", entity="pair", version=2, promoted=False)
    server.post("/services", {"name": "model", "features": [{"ref": "pair.x", "key": {"a": "c"}, "as": "y"}]})
    before = [server.get(path).json() for path in ("/entities", "/services", "/features")]
    server.kill()
    server.start()
    assert [server.get(path).json() for path in ("/entities", "/services", "/features")] == before
    assert before[1]["services"][0]["features"] == [{"ref": "pair.x.v1", "as": "y", "key": {"a": "c"}}]
