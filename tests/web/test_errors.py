"""Every failure is a problem document, says what is to blame, and has changed nothing."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from itertools import count
from typing import Any

import httpx
import pytest

from tests.live import LiveServer

NOON = "2025-11-07T12:00:00Z"
JSON = {"Content-Type": "application/json"}
_NUMBERS = count()


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of an answer, after a look at what all of them have in common."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail"} <= set(body) <= {"type", "title", "status", "detail", "errors"}
    assert body["status"] == status
    assert all(isinstance(body[member], str) and body[member] for member in ("type", "title", "detail"))
    for fault in body.get("errors", []):
        assert {"field", "message"} <= set(fault) <= {"field", "message", "index"}
    return body


def fields(body: dict[str, Any]) -> list[str]:
    """The fields that a problem document blames."""
    return [fault["field"] for fault in body.get("errors", [])]


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"f{next(_NUMBERS)}"


def test_a_problem_has_the_members_of_rfc_9457_and_nothing_else(shared_server: LiveServer) -> None:
    body = problem(shared_server.get("/features/user.nothing.v1"), 404)
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["title"] == "Not Found"
    assert "user.nothing.v1" in body["detail"]


@pytest.mark.parametrize("path", ["/", "/nothing", "/features/a/b", "/features/", "/groups/a/b", "/health"])
def test_an_unknown_route_is_a_404_problem(shared_server: LiveServer, path: str) -> None:
    problem(shared_server.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/features"),
        ("DELETE", "/features"),
        ("PATCH", "/features/user.f.v1"),
        ("POST", "/features/user.f.v1/stats"),
        ("DELETE", "/groups"),
        ("POST", "/health/live"),
        ("DELETE", "/openapi.json"),
    ],
)
def test_a_known_path_with_another_method_is_a_405_problem_that_says_which_are_allowed(
    shared_server: LiveServer, method: str, path: str
) -> None:
    answer = shared_server.http.request(method, path)
    problem(answer, 405)
    assert method not in answer.headers["Allow"].split(", ")
    assert answer.headers["Allow"]


BODY_ROUTES = (
    "/features/register",
    "/groups",
    "/features/write",
    "/features/write-batch",
    "/features/serve",
    "/features/historical",
)


@pytest.mark.parametrize("path", BODY_ROUTES)
@pytest.mark.parametrize(
    "declared", [None, "text/plain", "application/x-www-form-urlencoded", "text/csv", "nonsense"]
)
def test_a_body_of_another_type_is_a_415_problem(
    shared_server: LiveServer, path: str, declared: str | None
) -> None:
    headers = {} if declared is None else {"Content-Type": declared}
    problem(shared_server.http.post(path, content=b"{}", headers=headers), 415)


def test_a_charset_beside_the_type_is_no_other_type(shared_server: LiveServer, name: str) -> None:
    body = {"name": name, "entity": "user", "valueType": "number"}
    headers = {"Content-Type": "application/json; charset=utf-8"}
    answer = shared_server.http.post("/features/register", content=json.dumps(body), headers=headers)
    assert answer.status_code == 201


MALFORMED = {
    "empty": b"",
    "truncated": b'{"a": ',
    "two values": b"{} {}",
    "single quotes": b"{'a': 1}",
    "trailing comma": b'{"a": 1,}',
    "bad UTF-8 in a key": b'{"\xff": 1}',
    "half a surrogate pair": b'{"name": "\\ud800"}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep in a value": b'{"value": ' + b'{"a":' * 40_000 + b"1" + b"}" * 40_001,
}


@pytest.mark.parametrize("path", BODY_ROUTES)
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_body_that_is_not_json_is_a_400_problem(shared_server: LiveServer, path: str, body: bytes) -> None:
    problem(shared_server.http.post(path, content=body, headers=JSON), 400)


@pytest.mark.parametrize("path", BODY_ROUTES)
@pytest.mark.parametrize("body", [[], "x", 5, None, True])
def test_a_body_that_is_not_an_object_is_a_400_problem(shared_server: LiveServer, path: str, body: object) -> None:
    answer = shared_server.http.post(path, content=json.dumps(body), headers=JSON)
    assert problem(answer, 400)["errors"]


RANGE = {"startTime": NOON, "endTime": NOON}
COMPLETE: dict[str, dict[str, Any]] = {
    "/features/register": {"name": "f", "entity": "user", "valueType": "number"},
    "/groups": {"name": "g", "entity": "user", "features": ["user.f.v1"]},
    "/features/write": {"featureId": "user.f.v1", "entityId": "u", "value": 1},
    "/features/write-batch": {"values": []},
    "/features/serve": {"entityIds": ["u"], "features": ["user.f.v1"]},
    "/features/historical": {"entityIds": ["u"], "features": ["user.f.v1"], **RANGE},
}


WITHOUT_EACH = [(path, field) for path, body in COMPLETE.items() for field in body]


@pytest.mark.parametrize(("path", "field"), WITHOUT_EACH)
def test_a_missing_field_is_named(shared_server: LiveServer, path: str, field: str) -> None:
    body = {key: value for key, value in COMPLETE[path].items() if key != field}
    assert field in fields(problem(shared_server.post(path, body), 400))


@pytest.mark.parametrize("path", BODY_ROUTES)
def test_an_unknown_field_is_named(shared_server: LiveServer, path: str) -> None:
    assert "entityid" in fields(problem(shared_server.post(path, {**COMPLETE[path], "entityid": "x"}), 400))


WRONG_TYPES = [
    ("/features/register", "name", 5),
    ("/features/register", "entity", None),
    ("/features/register", "valueType", "float"),
    ("/features/register", "version", "1"),
    ("/features/register", "version", True),
    ("/features/register", "tags", "a,b"),
    ("/features/register", "tags[0]", [1]),
    ("/features/register", "description", 5),
    ("/features/register", "schema", []),
    ("/features/register", "schema.nullable", {"nullable": 1}),
    ("/features/register", "schema.minimum", {"minimum": 1}),
    ("/features/register", "retention.values", {"values": "many"}),
    ("/features/register", "maxAge", True),
    ("/groups", "features", "user.f.v1"),
    ("/groups", "features", {"0": "user.f.v1"}),
    ("/features/write", "featureId", 5),
    ("/features/write", "entityId", 5),
    ("/features/write", "entityId", None),
    ("/features/write", "timestamp", 1_762_509_600),
    ("/features/write", "version", 1.5),
    ("/features/write-batch", "values", {}),
    ("/features/serve", "entityIds", "u"),
    ("/features/serve", "entityIds", None),
    ("/features/serve", "features", "user.f.v1"),
    ("/features/serve", "includeMetadata", 1),
    ("/features/serve", "asOf", 5),
    ("/features/historical", "aggregation", 5),
    ("/features/historical", "window", []),
    ("/features/historical", "startTime", None),
]


@pytest.mark.parametrize(("path", "field", "value"), WRONG_TYPES)
def test_a_field_of_the_wrong_type_is_named(
    shared_server: LiveServer, path: str, field: str, value: object
) -> None:
    top = field.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0]
    body = problem(shared_server.post(path, {**COMPLETE[path], top: value}), 400)
    assert field in fields(body)


def test_bad_utf8_inside_a_value_is_refused_and_nothing_is_written(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name, "string")
    body = b'{"featureId": "user.%s.v1", "entityId": "u", "value": "\xff\xfe"}' % name.encode()
    problem(shared_server.http.post("/features/write", content=body, headers=JSON), 400)
    batch = b'{"values": [%s]}' % body
    problem(shared_server.http.post("/features/write-batch", content=batch, headers=JSON), 400)
    assert shared_server.serve(["u"], [name])[0]["features"] == {name: None}


@pytest.mark.parametrize("depth", [66, 500, 950, 1_000, 3_000])
@pytest.mark.parametrize("value_type", ["json", "number"])
def test_a_value_nested_too_deeply_is_refused_at_any_depth(
    shared_server: LiveServer, name: str, depth: int, value_type: str
) -> None:
    shared_server.register(name, value_type)
    value = "[" * depth + "]" * depth
    body = f'{{"featureId": "{name}", "entityId": "u", "value": {value}}}'
    problem(shared_server.http.post("/features/write", content=body, headers=JSON), 400)
    problem(shared_server.http.post("/features/write-batch", content=f'{{"values": [{body}]}}', headers=JSON), 400)
    assert shared_server.serve(["u"], [name])[0]["features"] == {name: None}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/features"),
        ("POST", "/features/write-batch"),
        ("GET", "/features/{id}/history?entityId=u"),
        ("GET", "/features/{id}/stats"),
    ],
)
def test_an_unknown_query_parameter_is_named(shared_server: LiveServer, name: str, method: str, path: str) -> None:
    id_ = shared_server.register(name)["id"]
    body = {"values": [{"featureId": id_, "entityId": "u", "value": 1}]} if method == "POST" else None
    url = path.format(id=id_)
    answer = shared_server.http.request(method, url + ("&" if "?" in url else "?") + "colour=red", json=body)
    assert fields(problem(answer, 400)) == ["colour"]
    assert shared_server.serve(["u"], [id_])[0]["features"] == {id_: None}


def test_a_409_names_what_it_conflicts_with(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    body = {"name": name, "entity": "user", "valueType": "string"}
    detail = problem(shared_server.post("/features/register", body), 409)["detail"]
    assert f"user.{name}.v1" in detail


EARLY = {
    "404": "POST /nothing HTTP/1.1\r\nContent-Type: application/json",
    "405": "PUT /features HTTP/1.1\r\nContent-Type: application/json",
    "415": "POST /features/write HTTP/1.1\r\nContent-Type: text/plain",
    "400": "POST /features/write-batch?colour=red HTTP/1.1\r\nContent-Type: application/json",
}


@pytest.mark.parametrize("head", EARLY.values(), ids=EARLY.keys())
def test_an_answer_that_comes_before_the_body_is_followed_by_the_next_or_says_that_it_is_the_last(
    shared_server: LiveServer, head: str
) -> None:
    address = (shared_server.http.base_url.host, shared_server.http.base_url.port or 80)
    with socket.create_connection(address, timeout=3) as connection:
        connection.sendall(f"{head}\r\nHost: x\r\nContent-Length: 2\r\n\r\n".encode())
        answer, said = b"", b""
        connection.settimeout(0.3)
        with suppress(TimeoutError):  # an answer may also wait for the body
            while more := connection.recv(65_536):
                answer += more
        connection.settimeout(3)
        with suppress(ConnectionError):
            connection.sendall(b"{}GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while more := connection.recv(65_536):
                said += more
    assert (answer or said).startswith(b"HTTP/1.1 4")
    assert b"live" in said or b"\r\nconnection: close\r\n" in answer.lower()


def test_a_refused_request_leaves_the_connection_usable(shared_server: LiveServer) -> None:
    for _ in range(3):
        problem(shared_server.post("/features/write", {}), 400)
        problem(shared_server.get("/nothing"), 404)
        assert shared_server.get("/health/live").status_code == 200


def test_a_moment_given_as_a_number_is_told_what_to_write(shared_server: LiveServer) -> None:
    asked = {"entityIds": ["u"], "features": ["x"], "asOf": 1762509600}
    body = problem(shared_server.post("/features/serve", asked), 400)
    assert fields(body) == ["asOf"]
    assert "RFC 3339" in body["detail"]
