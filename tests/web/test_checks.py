"""Quality checks over HTTP: add, look at, replace, delete; what each kind finds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from tests.live import LiveServer
from tests.web.test_errors import fields, problem

NOON = "2025-11-07T12:00:00Z"
MEMBERS = {"id", "featureId", "checkType", "config", "status", "observed", "message", "lastRun"}
_NUMBERS = count()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server whose rounds are too far apart to meddle."""
    with LiveServer(tmp_path_factory.mktemp("checks") / "data", MONITOR_SECONDS="100000") as live:
        yield live


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"f{next(_NUMBERS)}"


def put(
    live: LiveServer, reference: str, check_type: str, id_: str | None = None, **config: Any
) -> httpx.Response:
    """Ask for a check."""
    body = {"checkType": check_type, "config": config} | ({} if id_ is None else {"id": id_})
    return live.post(f"/features/{reference}/checks", body)


def added(
    live: LiveServer, reference: str, check_type: str, id_: str | None = None, **config: Any
) -> dict[str, Any]:
    """A check that was added."""
    answer = put(live, reference, check_type, id_, **config)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def checks(live: LiveServer, reference: str) -> list[dict[str, Any]]:
    """The checks of a feature."""
    answer = live.get(f"/features/{reference}/checks")
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"checks"}
    return list(answer.json()["checks"])


def write(live: LiveServer, id_: str, *values: Any, at: str = NOON) -> None:
    """Values of as many entities."""
    live.write(*((id_, f"u{number}", value, at) for number, value in enumerate(values)))


def test_a_check_is_answered_with_all_that_the_contract_says(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    write(live, id_, 1, 2, None)
    check = added(live, id_, "null", "nulls", maxNullRate=0.5)
    assert set(check) == MEMBERS
    assert {key: check[key] for key in MEMBERS - {"message", "lastRun"}} == {
        "id": "nulls", "featureId": id_, "checkType": "null", "config": {"maxNullRate": 0.5}, "status": "passing",
        "observed": pytest.approx(1 / 3),
    }  # fmt: skip
    assert check["message"]
    assert check["lastRun"].endswith("Z")


FOUND: list[tuple[str, str, dict[str, Any], list[Any], str, Any]] = [
    ("number", "null", {"maxNullRate": 0.5}, [1, None], "passing", 0.5),
    ("json", "null", {"maxNullRate": 0}, [{"a": 1}, None, [], "x"], "failing", 0.25),
    ("number", "range", {"min": 0, "max": 10}, [0, 10, 5.5, None], "passing", 0),
    ("number", "range", {"min": 0}, [-1, 1, 2, 3], "failing", 0.25),
    ("integer", "range", {"max": 2**62, "maxViolationRate": 0.5}, [2**62, 2**62 + 1], "passing", 0.5),
    ("timestamp", "range", {"min": "2025-01-01T00:00:00Z"}, [NOON, "2024-01-01T00:00:00Z"], "failing", 0.5),
    ("string", "enum", {"values": ["a", "b"]}, ["a", "b", "c", None], "failing", 1 / 3),
    ("boolean", "enum", {"values": [True]}, [True, True], "passing", 0),
    ("timestamp", "enum", {"values": [NOON]}, ["2025-11-07T13:00:00+01:00"], "passing", 0),
    ("string", "pattern", {"regex": "^[a-z]+$"}, ["abc", "Abc", "", "x"], "failing", 0.5),
    ("string", "unique", {"minUnique": 2}, ["a", "a", "b", None], "passing", 2),
    ("vector", "unique", {"maxUnique": 1}, [[1, 2], [2, 1]], "failing", 2),
    ("number", "volume", {"window": "1h", "min": 1}, [1], "failing", 0),
    ("number", "volume", {"window": "10000d", "min": 2, "max": 3}, [1, None, 3], "passing", 3),
    ("number", "null", {"maxNullRate": 0, "window": "1h"}, [None], "insufficient", None),
    ("number", "range", {"min": 0}, [None], "insufficient", None),
    ("number", "drift", {}, [1, 2, 3], "insufficient", None),
]


@pytest.mark.parametrize(("value_type", "check_type", "config", "values", "status", "observed"), FOUND)
def test_what_each_kind_of_check_finds(
    live: LiveServer,
    name: str,
    value_type: str,
    check_type: str,
    config: Any,
    values: Any,
    status: str,
    observed: Any,
) -> None:
    rest = {"schema": {"dimension": 2}} if value_type == "vector" else {}
    id_ = live.register(name, value_type, **rest)["id"]
    write(live, id_, *values)
    check = added(live, id_, check_type, **config)
    assert (check["status"], check["config"]) == (status, config)
    assert check["observed"] == (observed if observed is None else pytest.approx(observed))
    (again,) = checks(live, id_)
    assert {**again, "lastRun": check["lastRun"]} == check


@pytest.mark.parametrize("value_type", ["number", "integer", "string", "boolean", "timestamp", "vector", "json"])
def test_a_feature_that_was_never_written_is_insufficient_for_all_but_its_volume(
    live: LiveServer, name: str, value_type: str
) -> None:
    rest = {"schema": {"dimension": 2}} if value_type == "vector" else {}
    id_ = live.register(name, value_type, **rest)["id"]
    added(live, id_, "null", maxNullRate=0)
    added(live, id_, "unique", minUnique=1)
    added(live, id_, "freshness", maxAge="1h")
    added(live, id_, "drift")
    assert {check["status"] for check in checks(live, id_)} == {"insufficient"}
    assert added(live, id_, "volume", window="1h", min=1)["status"] == "failing"


def test_freshness_goes_by_the_newest_event_time_that_was_due(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    write(live, id_, 1, at="2999-01-01T00:00:00Z")
    assert added(live, id_, "freshness", maxAge="1h")["status"] == "insufficient"
    write(live, id_, 1, at=NOON)
    assert added(live, id_, "freshness", maxAge="1h")["status"] == "failing"
    live.post("/features/write", {"featureId": id_, "entityId": "u", "value": 1})
    check = added(live, id_, "freshness", maxAge="1h")
    assert check["status"] == "passing"
    assert 0 <= check["observed"] < 60


def test_a_check_follows_the_writes(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    added(live, id_, "range", max=10)
    for value, status in ((5, "passing"), (11, "failing")):
        write(live, id_, value)
        assert [check["status"] for check in checks(live, id_)] == [status]


def test_checks_without_an_id_are_numbered_by_type(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    assert [added(live, id_, "drift")["id"], added(live, id_, "drift")["id"]] == ["drift-1", "drift-2"]
    assert added(live, id_, "null", maxNullRate=0)["id"] == "null-1"
    live.http.delete(f"/features/{id_}/checks/drift-1")
    assert added(live, id_, "drift")["id"] == "drift-1"


def test_the_same_id_again_replaces_the_check(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    write(live, id_, 5)
    assert added(live, id_, "range", "c", max=10)["status"] == "passing"
    assert added(live, id_, "range", "c", max=1)["status"] == "failing"
    assert [check["config"] for check in checks(live, id_)] == [{"max": 1}]


def test_the_same_id_with_another_type_is_a_conflict(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    added(live, id_, "range", "c", max=10)
    assert "range" in problem(put(live, id_, "null", "c", maxNullRate=0), 409)["detail"]
    assert [check["checkType"] for check in checks(live, id_)] == ["range"]


def test_all_checks_are_listed_by_feature_and_id(live: LiveServer, name: str) -> None:
    ids = [live.register(f"{name}_{letter}")["id"] for letter in "ba"]
    for id_ in ids:
        for check in ("y", "x"):
            added(live, id_, "drift", check)
    answer = live.get("/checks")
    assert answer.status_code == 200
    found = [(check["featureId"], check["id"]) for check in answer.json()["checks"] if name in check["featureId"]]
    assert found == [(id_, check) for id_ in sorted(ids) for check in ("x", "y")]


def test_a_deleted_check_is_gone(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    added(live, id_, "drift", "c")
    answer = live.http.delete(f"/features/{id_}/checks/c")
    assert (answer.status_code, answer.content) == (204, b"")
    assert checks(live, id_) == []
    assert "'c'" in problem(live.http.delete(f"/features/{id_}/checks/c"), 404)["detail"]


@pytest.mark.parametrize("shape", ["user.{}.v1", "user.{}", "{}"])
def test_any_reference_will_do(live: LiveServer, name: str, shape: str) -> None:
    live.register(name)
    reference = shape.format(name)
    assert added(live, reference, "drift", "c")["featureId"] == f"user.{name}.v1"
    assert [check["id"] for check in checks(live, reference)] == ["c"]
    assert live.http.delete(f"/features/{reference}/checks/c").status_code == 204


def test_an_ambiguous_name_is_a_conflict(live: LiveServer, name: str) -> None:
    for entity in ("user", "item"):
        live.register(name, entity=entity)
    problem(put(live, name, "drift"), 409)
    problem(live.get(f"/features/{name}/checks"), 409)
    problem(live.http.delete(f"/features/{name}/checks/c"), 409)


def test_an_unknown_feature_is_named(live: LiveServer) -> None:
    for answer in (
        put(live, "user.nothing.v1", "drift"),
        live.get("/features/user.nothing.v1/checks"),
        live.http.delete("/features/user.nothing.v1/checks/c"),
    ):
        assert "user.nothing.v1" in problem(answer, 404)["detail"]


def test_a_deleted_feature_takes_its_checks_along_and_a_new_one_of_its_id_has_none(
    live: LiveServer, name: str
) -> None:
    id_ = live.register(name)["id"]
    added(live, id_, "range", "c", max=1)
    assert live.http.delete(f"/features/{id_}").status_code == 204
    problem(live.get(f"/features/{id_}/checks"), 404)
    assert id_ not in {check["featureId"] for check in live.get("/checks").json()["checks"]}
    live.register(name, "string")
    assert checks(live, id_) == []
    problem(live.http.delete(f"/features/{id_}/checks/c"), 404)
    assert added(live, id_, "enum", "c", values=["a"])["checkType"] == "enum"


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("number", {"config": {}}, "checkType"),
    ("number", {"checkType": "drift"}, "config"),
    ("number", {"checkType": "schema", "config": {}}, "checkType"),
    ("number", {"checkType": 5, "config": {}}, "checkType"),
    ("number", {"checkType": "drift", "config": []}, "config"),
    ("number", {"checkType": "drift", "config": {}, "id": ""}, "id"),
    ("number", {"checkType": "drift", "config": {}, "id": "a b"}, "id"),
    ("number", {"checkType": "drift", "config": {}, "id": None}, "id"),
    ("number", {"checkType": "drift", "config": {}, "name": "x"}, "name"),
    ("number", {"checkType": "pattern", "config": {"regex": "a"}}, "checkType"),
    ("string", {"checkType": "pattern", "config": {"regex": "("}}, "config.regex"),
    ("string", {"checkType": "pattern", "config": {"regex": "a{4294967296}"}}, "config.regex"),
    ("number", {"checkType": "null", "config": {"maxNullRate": 2}}, "config.maxNullRate"),
    ("number", {"checkType": "null", "config": {}}, "config.maxNullRate"),
    ("number", {"checkType": "null", "config": {"maxNullRate": 0, "colour": 1}}, "config.colour"),
    ("number", {"checkType": "range", "config": {"min": 2, "max": 1}}, "config.min"),
    ("number", {"checkType": "volume", "config": {"window": "soon", "min": 1}}, "config.window"),
    ("integer", {"checkType": "enum", "config": {"values": [1, "2"]}}, "config.values[1]"),
    ("vector", {"checkType": "drift", "config": {"method": "psi"}}, "config.method"),
]


@pytest.mark.parametrize(("value_type", "body", "field"), BAD)
def test_a_bad_check_is_refused_names_the_field_and_adds_nothing(
    live: LiveServer, name: str, value_type: str, body: dict[str, Any], field: str
) -> None:
    rest = {"schema": {"dimension": 2}} if value_type == "vector" else {}
    id_ = live.register(name, value_type, **rest)["id"]
    assert fields(problem(live.post(f"/features/{id_}/checks", body), 400)) == [field]
    assert checks(live, id_) == []


def test_a_bound_that_does_not_fit_in_64_bits_is_kept_or_refused(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    answer = put(live, id_, "range", max=10**30)
    if answer.status_code != 201:
        assert fields(problem(answer, 400)) == ["config.max"]


def test_a_body_that_is_not_json_is_refused(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    path = f"/features/{id_}/checks"
    problem(live.http.post(path, content=b"{}", headers={"Content-Type": "text/plain"}), 415)
    problem(live.http.post(path, content=b"{", headers={"Content-Type": "application/json"}), 400)


def test_an_unknown_query_parameter_is_named(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    for path in ("/checks", f"/features/{id_}/checks"):
        assert fields(problem(live.get(path, status="failing"), 400)) == ["status"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/checks"), ("PUT", "/features/f/checks"), ("GET", "/features/f/checks/c")]
)
def test_other_methods_are_not_allowed(live: LiveServer, method: str, path: str) -> None:
    problem(live.http.request(method, path), 405)


def test_checks_survive_a_crash(server: LiveServer) -> None:
    id_ = server.register("f")["id"]
    write(server, id_, 1, 20)
    kept = added(server, id_, "range", "c", max=10)
    added(server, id_, "drift", "gone")
    server.http.delete(f"/features/{id_}/checks/gone")
    server.kill()
    server.start()
    (found,) = checks(server, id_)
    assert {**found, "lastRun": kept["lastRun"]} == kept
