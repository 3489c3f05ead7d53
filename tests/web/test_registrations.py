"""Registering together: judged as a whole, all or nothing, and the same again changes nothing."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.live import LiveServer
from tests.web.test_errors import problem

OVER_EVERY_STORE = True


@pytest.fixture
def name() -> str:
    return f"f{uuid4().hex}"


def all_kinds(name: str) -> dict[str, Any]:
    """An entity type, features, a group and a service, which refer to each other."""
    return {
        "entities": [{"name": name, "keys": ["user", "shop"]}],
        "features": [
            {"name": "visits", "entity": name, "valueType": "integer", "schema": {"min": 0}, "maxAge": "36500d"},
            {"name": f"{name}_spend", "entity": "user", "valueType": "number"},
        ],
        "groups": [{"name": name, "entity": name, "features": ["visits"]}],
        "services": [
            {
                "name": name,
                "features": [
                    f"{name}_spend",
                    {"ref": f"{name}.visits", "key": {"user": "payer"}, "as": "visits"},
                ],
            }
        ],
    }


def sent(server: LiveServer, body: dict[str, Any], **query: str) -> dict[str, Any]:
    answer = server.http.post("/registrations", json=body, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def outcomes(answer: dict[str, Any]) -> list[str]:
    return [one["outcome"] for kind in ("entities", "features", "groups", "services") for one in answer[kind]]


def everything(server: LiveServer) -> list[Any]:
    return [server.get(path).json() for path in ("/entities", "/features?limit=10000", "/groups", "/services")]


def test_all_kinds_are_registered_together_though_they_refer_to_each_other(
    shared_server: LiveServer, name: str
) -> None:
    answer = sent(shared_server, all_kinds(name))
    assert answer == {
        "entities": [{"id": name, "outcome": "created"}],
        "features": [
            {"id": f"{name}.visits.v1", "outcome": "created"},
            {"id": f"user.{name}_spend.v1", "outcome": "created"},
        ],
        "groups": [{"id": name, "outcome": "created"}],
        "services": [{"id": f"{name}.v1", "outcome": "created"}],
    }
    assert shared_server.get(f"/groups/{name}").json()["features"] == ["visits"]
    pinned = [one["ref"] for one in shared_server.get(f"/services/{name}").json()["features"]]
    assert pinned == [f"user.{name}_spend.v1", f"{name}.visits.v1"]
    shared_server.write((f"{name}.visits.v1", '["u1","s1"]', 3, "2025-01-01T00:00:00Z"))
    body = {"rows": [{"user": "u1", "payer": "u1", "shop": "s1"}], "service": name}
    (row,) = shared_server.post("/features/serve", body).json()["results"]
    assert row["features"] == {f"{name}_spend": None, "visits": 3}


def test_the_same_again_changes_nothing_also_when_another_version_has_been_promoted(
    shared_server: LiveServer, name: str
) -> None:
    sent(shared_server, all_kinds(name))
    shared_server.register("visits", "integer", entity=name, version=2)
    body = all_kinds(name)
    body["features"].append(
        {"name": f"{name}_spend", "entity": "user", "valueType": "number", "version": 2, "promoted": False}
    )
    assert outcomes(sent(shared_server, body)) == ["unchanged"] * 3 + ["created"] + ["unchanged"] * 2
    assert shared_server.feature(f"{name}_spend")["version"] == 1
    assert shared_server.post(f"/features/user.{name}_spend.v2/promote", {}).status_code == 200
    before = everything(shared_server)
    assert outcomes(sent(shared_server, body)) == ["unchanged"] * 6
    assert shared_server.feature(f"{name}_spend")["version"] == 2
    assert everything(shared_server) == before


def test_a_dry_run_tells_what_would_change_and_changes_nothing(shared_server: LiveServer, name: str) -> None:
    before, body = everything(shared_server), all_kinds(name)
    assert outcomes(sent(shared_server, body, dryRun="true")) == ["created"] * 5
    assert everything(shared_server) == before
    sent(shared_server, body)
    before = everything(shared_server)
    body["features"][0] |= {"schema": {"min": 1}, "maxAge": "36500d", "tags": ["new"]}
    body["groups"][0]["features"] = [f"{name}.visits.v1"]
    told = sent(shared_server, body, dryRun="true")
    assert told["features"][0] == {
        "id": f"{name}.visits.v1",
        "outcome": "updated",
        "changes": [
            {"field": "tags", "before": [], "after": ["new"]},
            {"field": "schema", "before": {"min": 0}, "after": {"min": 1}},
        ],
    }
    assert told["groups"][0]["changes"] == [
        {"field": "features", "before": ["visits"], "after": [f"{name}.visits.v1"]}
    ]
    assert everything(shared_server) == before
    assert sent(shared_server, body) == told
    assert shared_server.feature(f"{name}.visits")["tags"] == ["new"]


def test_all_that_is_wrong_is_told_with_its_place_and_nothing_is_registered(
    shared_server: LiveServer, name: str
) -> None:
    shared_server.register("kept", entity=name)
    shared_server.register(f"{name}_read", entity="user")
    shared_server.post("/services", {"name": name, "features": [f"user.{name}_read"]})
    before = everything(shared_server)
    body = {
        "entities": [{"name": name, "keys": ["a", "b"]}, {"name": f"{name}_good", "keys": ["a"]}],
        "features": [
            {"name": "kept", "entity": name, "valueType": "string"},
            {"name": "bad", "entity": f"{name}_good", "valueType": "number", "schema": {"pattern": "x"}},
            {"name": "good", "entity": f"{name}_good", "valueType": "number"},
            {"name": "good", "entity": f"{name}_good", "valueType": "number"},
        ],
        "groups": [
            {"name": f"{name}_g", "entity": name, "features": ["kept", "nothing", f"{name}_good.good"]},
            {"name": f"{name}_h", "entity": f"{name}_good", "features": ["good", "bad"]},
        ],
        "services": [
            {"name": name, "features": [f"{name}_good.good"]},
            {
                "name": name,
                "version": 2,
                "features": [f"{name}_good.good", {"ref": f"{name}_good.bad", "key": {"z": "y"}}, f"{name}.no"],
            },
        ],
    }
    told = problem(shared_server.http.post("/registrations", json=body), 400)
    places = {fault["field"]: fault["message"] for fault in told["errors"]}
    assert list(places) == [
        "entities[0]",
        "features[0]",
        "features[1].schema.pattern",
        "features[3]",
        "groups[0].features[1]",
        "groups[0].features[2]",
        "services[0]",
        "services[1].features[1].key",
        "services[1].features[2]",
    ]
    assert "features[2] already" in places["features[3]"]
    assert "nothing" in places["groups[0].features[1]"]
    assert "reads other features" in places["services[0]"]
    assert everything(shared_server) == before


def test_what_is_wrong_in_one_way_has_the_status_of_that(shared_server: LiveServer, name: str) -> None:
    body = {"groups": [{"name": name, "entity": "user", "features": [f"{name}_no", f"{name}_nor"]}]}
    assert len(problem(shared_server.http.post("/registrations", json=body), 404)["errors"]) == 2
    shared_server.register(name)
    clash = {"features": [{"name": name, "entity": "user", "valueType": "string"}]}
    problem(shared_server.http.post("/registrations", json=clash), 409)


def test_groups_that_features_join_are_told_too(shared_server: LiveServer, name: str) -> None:
    features = [{"name": name, "entity": "user", "valueType": "number", "group": name}]
    answer = sent(shared_server, {"features": features})
    assert answer["groups"] == [{"id": name, "outcome": "created"}]
    assert shared_server.get(f"/groups/{name}").json()["features"] == [f"user.{name}.v1"]
    features.append({"name": f"{name}_b", "entity": "user", "valueType": "number", "group": name})
    answer = sent(shared_server, {"features": features})
    assert outcomes(answer) == ["unchanged", "created", "updated"]
    assert [change["field"] for change in answer["groups"][0]["changes"]] == ["features", "ids"]
