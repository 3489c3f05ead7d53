"""The OpenAPI document is sound and says what the application answers; health and the page for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import pytest

from actors.router import Router
from actors.settings import Settings
from tests.live import ROOT, LiveServer
from web.app import create_app
from web.routes.document import ROUTES

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


@pytest.fixture(scope="module")
def document(shared_server: LiveServer) -> dict[str, Any]:
    """As it is served."""
    answer = shared_server.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    return dict(answer.json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation)"""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def references(part: Any) -> Iterator[str]:
    """Every $ref, at any depth."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for child in part.values():
            yield from references(child)
    elif isinstance(part, list):
        for child in part:
            yield from references(child)


def test_it_is_openapi_3_1_with_a_title_and_a_version(document: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"]
    assert document["info"]["version"]
    assert set(document) <= {
        "openapi", "info", "jsonSchemaDialect", "servers", "paths", "webhooks", "components", "security", "tags",
        "externalDocs",
    }  # fmt: skip


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert found
    for reference in found:
        part: Any = document
        assert reference.startswith("#/")
        for step in reference.removeprefix("#/").split("/"):
            part = part[step.replace("~1", "/").replace("~0", "~")]
        assert isinstance(part, dict)


def test_every_schema_is_used(document: dict[str, Any]) -> None:
    names = {reference.rpartition("/")[2] for reference in references(document)}
    assert set(document["components"]["schemas"]) == names


def test_every_operation_is_complete(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        assert method in METHODS, path
        assert path.startswith("/")
        assert operation["summary"]
        assert operation["responses"]
        for status, answer in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d|default", status)
            assert answer["description"], (path, status)
            assert all("schema" in content for content in answer.get("content", {}).values())
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)


def test_every_parameter_of_a_path_is_declared_and_required(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        declared = [one for one in operation.get("parameters", []) if one["in"] == "path"]
        assert {one["name"] for one in declared} == set(re.findall(r"{(\w+)}", path))
        assert all(one["required"] is True for one in declared)


def test_every_parameter_is_told_once_with_its_schema(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        parameters = operation.get("parameters", [])
        assert all(one["in"] in ("path", "query", "header") and one["schema"] for one in parameters), path
        keys = [(one["in"], one["name"]) for one in parameters]
        assert len(set(keys)) == len(keys)


def test_no_two_paths_differ_only_in_the_names_of_their_parameters(document: dict[str, Any]) -> None:
    shapes = [re.sub(r"{\w+}", "{}", path) for path in document["paths"]]
    assert len(set(shapes)) == len(shapes)


def test_failures_are_problem_documents(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if status.startswith("4"):
                assert list(answer["content"]) == ["application/problem+json"], (method, path, status)


def test_operations_with_a_body_tell_that_it_can_be_refused(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= set(operation["responses"]), (method, path)


def test_operations_on_a_named_thing_tell_that_it_can_be_unknown(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        if "{" in path:
            assert "404" in operation["responses"], (method, path)


def test_the_document_and_the_application_have_the_same_routes(document: dict[str, Any]) -> None:
    app = create_app(cast(Router, None), Settings())
    answered = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+?)_?>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for method, path, _ in operations(document)} == answered


def test_no_chapter_is_left_out_of_the_document() -> None:
    there = {path.stem for path in (ROOT / "web" / "routes").glob("*.py")} - {"__init__"}
    assert {route.handler.__module__ for route in ROUTES} == {f"web.routes.{name}" for name in there}


def test_the_query_parameters_of_the_document_are_those_that_are_taken(
    shared_server: LiveServer, document: dict[str, Any]
) -> None:
    for method, path, operation in operations(document):
        told = sorted(one["name"] for one in operation["parameters"] if one["in"] == "query")
        if told and method == "get":
            refused = shared_server.get(re.sub(r"{\w+}", "nonesuch", path), unheard="of")
            assert refused.status_code == 400, path
            assert refused.json()["detail"].endswith(f"this route takes {', '.join(told)}")


def test_allow_names_the_methods_of_the_document_and_no_others(
    shared_server: LiveServer, document: dict[str, Any]
) -> None:
    erasing = {"/entities/{name}/ids": document["paths"]["/entities/{entity}/{entityId}"]}
    for path, item in document["paths"].items():
        # An entity may be called `ids`.
        wanted = (
            {method.upper() for method in (*item, *erasing.get(path, ()))}
            | {"OPTIONS"}
            | ({"HEAD"} if "get" in item else set())
        )
        url = re.sub(r"{\w+}", "nonesuch", path)
        options = shared_server.http.options(url)
        assert set(options.headers["Allow"].split(", ")) == wanted, path
        for method in {"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"} - wanted:
            refused = shared_server.http.request(method, url)
            assert refused.status_code == 405, (method, path)
            assert set(refused.headers["Allow"].split(", ")) == wanted, path
            assert refused.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["//nonesuch", "/features//a", "/groups//", "/nonesuch%0A", "/features/"])
def test_a_path_that_is_none_is_answered_where_it_is(shared_server: LiveServer, path: str) -> None:
    answer = shared_server.http.get(shared_server.url + path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_feature_with_the_name_of_a_route_can_be_read(shared_server: LiveServer) -> None:
    shared_server.register("serve")
    assert shared_server.get("/features/serve").json()["id"] == "user.serve.v1"
    assert shared_server.http.put("/features/serve").headers["Allow"] == "OPTIONS, POST"


def test_the_page_for_people_shows_every_operation(shared_server: LiveServer, document: dict[str, Any]) -> None:
    answer = shared_server.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    for _, path, operation in operations(document):
        assert path in answer.text
        assert operation["summary"] in answer.text
    assert answer.text.count("<details>") == len(list(operations(document)))


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_a_running_server_is_live_and_ready(shared_server: LiveServer, path: str) -> None:
    answer = shared_server.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["status"] == path.rpartition("/")[2]
