"""The OpenAPI 3.1 document: the descriptions of the routes, with the schemas that msgspec derives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from timewell.wire import Problem
from web.answers.lanes import LANES
from web.bodies.requests import JSON_TYPE
from web.chapter import PlainText, Route
from web.errors import PROBLEM_TYPE

_MEDIA_TYPES = {str: "text/html", bytes: "text/event-stream", PlainText: "text/plain"}
_REF = "#/components/schemas/{name}"


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document, with the routes in the given order."""
    told = [kind for route in routes for kind in (route.takes, *route.gives.values())]
    bodies = [kind for one in told for kind in (one if isinstance(one, tuple) else (one,)) if _is_struct(kind)]
    _, components = msgspec.json.schema_components([*bodies, Problem], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Timewell", "version": version("timewell"), "description": "A feature store."},
        "paths": paths,
        "components": {"schemas": components},
    }


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _operation(route: Route) -> dict[str, Any]:
    answers = {str(status): _answer(status, kind) for status, kind in route.gives.items()}
    failures = {str(status): _content("see detail and errors", Problem, PROBLEM_TYPE) for status in route.fails}
    operation: dict[str, Any] = {
        "tags": [route.chapter],
        "summary": route.summary,
        "operationId": re.sub(r"\W+", "_", f"{route.method} {route.path}").strip("_"),
        "parameters": _parameters(route),
        "responses": {**answers, **failures},
    }
    if route.takes is not None:
        operation["requestBody"] = {"required": True, **_content("", route.takes, JSON_TYPE)}
        operation["requestBody"].pop("description")
        operation["requestBody"]["content"].update({kind: {"schema": {}} for kind in route.takes_also})
    if route.lanes:
        for answer in answers.values():
            answer["content"].update({kind: {"schema": {}} for kind in LANES if kind != JSON_TYPE})
    return operation


def _answer(status: int, kind: Any) -> dict[str, Any]:
    words = {200: "done", 201: "made", 204: "done; no body", 503: "not ready"}[status]
    if kind is None:
        return {"description": words}
    return _content(words, kind, _MEDIA_TYPES.get(kind, JSON_TYPE))


def _content(description: str, kind: Any, media_type: str) -> dict[str, Any]:
    shape: dict[str, Any] = {"$ref": _REF.format(name=kind.__name__)} if _is_struct(kind) else {}
    if isinstance(kind, tuple):
        shape = {"anyOf": [{"$ref": _REF.format(name=one.__name__)} for one in kind]}
    return {"description": description, "content": {media_type: {"schema": shape}}}


def _parameters(route: Route) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    return [*in_path, *_optional("query", route.query), *_optional("header", route.headers)]


def _optional(where: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": where,
            "required": "(required)" in words,
            "description": words,
            "schema": {"type": "string"},
        }
        for name, words in parameters.items()
    ]
