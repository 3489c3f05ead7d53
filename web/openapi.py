"""The OpenAPI 3.1 document: a table of the routes, and the schemas that msgspec derives from `web.schema`."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec

from web import monitor_schema, schema
from web.answers.lanes import ARROW_TYPE, LANES, NDJSON_TYPE
from web.bodies.requests import JSON_TYPE
from web.errors import PROBLEM_TYPE
from web.training_request import TrainingSet


class PlainText:
    """What an answer that is neither JSON nor HTML carries."""


_MEDIA_TYPES = {str: "text/html", bytes: "text/event-stream", PlainText: "text/plain"}
_REF = "#/components/schemas/{name}"


class Route(NamedTuple):
    """One operation. `takes` is the body; `gives` maps the good statuses to what they carry."""

    method: str
    path: str
    chapter: str
    summary: str
    gives: dict[int, Any]
    takes: Any = None
    query: tuple[tuple[str, str], ...] = ()
    fails: tuple[int, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    takes_also: tuple[str, ...] = ()
    """Media types of the body beside JSON."""
    lanes: bool = False
    """Whether the answer also comes as NDJSON, CSV and Arrow, by the Accept header."""


_KEY = (
    (
        "Idempotency-Key",
        "a repeat within 24 hours answers what the first answered and writes nothing, whatever its body;"
        " the answer then has the header Idempotent-Replayed: true",
    ),
)
_PAGE = (("limit", "most items of a page, up to 10000"), ("cursor", "nextCursor of the page before"))
_RANGE = (("startTime", "RFC 3339; from here on"), ("endTime", "RFC 3339; up to and including"))

_OF_ROWS = (
    ("features", "with a body of rows only: comma-separated references"),
    ("group", "with a body of rows only: the features of a group"),
    ("lookback", "with a body of rows only: older values do not count"),
    ("aggregation", "with a body of rows only: aggregate over the window before each row"),
    ("window", "with a body of rows only: that window"),
    ("knownAt", "with a body of rows only: count what had arrived by this timestamp, or by the row's own (`row`)"),
)

_MONITORING = (
    Route(
        "get",
        "/features/{reference}/stats",
        "",
        "Statistics over all accepted observations, or over a period of event time.",
        {200: monitor_schema.StatisticsAnswer},
        query=_RANGE,
        fails=(400, 404, 409, 413, 503),
    ),
    Route(
        "post",
        "/features/{reference}/checks",
        "",
        "Add a quality check, or replace the one of this id.",
        {201: monitor_schema.CheckAnswer},
        monitor_schema.PutCheck,
        fails=(400, 404, 409, 413, 415, 503),
    ),
    Route(
        "get",
        "/features/{reference}/checks",
        "",
        "The checks of a feature and what they find now.",
        {200: monitor_schema.ChecksAnswer},
        fails=(404, 409, 413, 503),
    ),
    Route(
        "delete",
        "/features/{reference}/checks/{id}",
        "",
        "Delete a check, and its alert while that is not resolved.",
        {204: None},
        fails=(404, 409, 503),
    ),
    Route(
        "get",
        "/checks",
        "",
        "All checks and what they find now.",
        {200: monitor_schema.ChecksAnswer},
        fails=(404, 413, 503),
    ),
    Route(
        "get",
        "/features/{reference}/drift",
        "",
        "Drift between two periods of event time.",
        {200: monitor_schema.DriftAnswer},
        query=(
            ("reference", "START/END; by default the pinned reference, else the 24 windows before `current`"),
            ("current", "START/END; by default the window that ends now (DRIFT_WINDOW_SECONDS)"),
            ("method", "score by one measure instead of the default verdict"),
            ("threshold", "the score from which on it is drift"),
        ),
        fails=(400, 404, 409, 413, 503),
    ),
    Route(
        "post",
        "/features/{reference}/drift",
        "",
        "Drift between two given samples.",
        {200: monitor_schema.DriftAnswer},
        monitor_schema.CompareSamples,
        fails=(400, 404, 409, 413, 415, 503),
    ),
    Route(
        "get",
        "/features/{reference}/drift/history",
        "",
        "The scores of the windows that have closed, newest first.",
        {200: monitor_schema.ScoresAnswer},
        query=(("limit", "most scores, up to 10000; 100 by default"),),
        fails=(400, 404, 409),
    ),
    Route(
        "put",
        "/features/{reference}/reference",
        "",
        "Pin the period that drift is measured against.",
        {200: monitor_schema.ReferenceAnswer},
        monitor_schema.PutReference,
        fails=(400, 404, 409, 413, 415, 503),
    ),
    Route(
        "delete",
        "/features/{reference}/reference",
        "",
        "Measure drift against the windows before again.",
        {204: None},
        fails=(404, 409, 503),
    ),
    Route(
        "get",
        "/monitor/freshness",
        "",
        "How old every feature and group is.",
        {200: monitor_schema.FreshnessAnswer},
        fails=(404, 503),
    ),
    Route(
        "get",
        "/monitor/alerts",
        "",
        "The alerts, newest first.",
        {200: monitor_schema.AlertsAnswer},
        query=(("state", "pending, firing or resolved"),),
        fails=(400, 404),
    ),
    Route(
        "get",
        "/monitor/events",
        "",
        "Checks that fail or recover, alerts and drift as they happen, as server-sent events.",
        {200: bytes},
        headers=(("Last-Event-ID", "go on after this event, as far as it is remembered"),),
        fails=(404,),
    ),
    Route(
        "get",
        "/monitor/agreement",
        "",
        "How many served values were compared with a point-in-time read, and how many differed.",
        {200: monitor_schema.AgreementAnswer},
        fails=(404, 503),
    ),
    Route(
        "get",
        "/monitor/status",
        "",
        "How far the monitor is behind the journal.",
        {200: monitor_schema.MonitorAnswer},
        fails=(404, 503),
    ),
)

ROUTES = (
    Route(
        "post",
        "/features/register",
        "Registry",
        "Register a feature, or update the one of this id.",
        {200: schema.FeatureAnswer, 201: schema.FeatureAnswer},
        schema.RegisterFeature,
        fails=(400, 409, 413, 415, 503),
    ),
    Route(
        "get",
        "/features",
        "Registry",
        "The registered features, sorted by id.",
        {200: schema.FeaturesAnswer},
        query=(
            ("entity", "of this entity type"),
            ("tags", "comma-separated"),
            ("match", "any (default) or all of the tags"),
            ("group", "that this group reads"),
            ("q", "with this text in id, description or tags"),
            *_PAGE,
        ),
        fails=(400,),
    ),
    Route(
        "get",
        "/features/{reference}",
        "Registry",
        "One feature.",
        {200: schema.FeatureAnswer},
        fails=(404, 409),
    ),
    Route(
        "get",
        "/features/{reference}/versions",
        "Registry",
        "All versions of entity.name, lowest first.",
        {200: schema.VersionsAnswer},
        fails=(404, 409),
    ),
    Route(
        "delete",
        "/features/{reference}",
        "Registry",
        "Delete a feature by its id, and its values. It leaves the groups that read it.",
        {204: None},
        fails=(404, 503),
    ),
    Route(
        "post",
        "/groups",
        "Registry",
        "Make or replace a group.",
        {200: schema.GroupAnswer, 201: schema.GroupAnswer},
        schema.PutGroup,
        fails=(400, 404, 409, 413, 415, 503),
    ),
    Route("get", "/groups", "Registry", "The groups, sorted by name.", {200: schema.GroupsAnswer}),
    Route("get", "/groups/{name}", "Registry", "One group.", {200: schema.GroupAnswer}, fails=(404,)),
    Route(
        "delete",
        "/groups/{name}",
        "Registry",
        "Delete a group; its features stay.",
        {204: None},
        fails=(404, 503),
    ),
    Route(
        "post",
        "/features/write",
        "Writing",
        "Write one value. Answered once it is on stable storage.",
        {200: schema.Written},
        schema.Observation,
        headers=_KEY,
        fails=(400, 404, 409, 413, 415, 503),
    ),
    Route(
        "post",
        "/features/write-batch",
        "Writing",
        "Write many values, all or none. `overwritten`, where it is there: so many were overwritten by a"
        " later value of the same batch, feature, entity and timestamp.",
        {200: schema.Written},
        schema.Observations,
        (
            ("partial", "true: write the good ones and name the others"),
            (
                "nulls",
                "of a wide Arrow table: skip (default) writes nothing where a field is null or NaN, write nulls",
            ),
        ),
        (400, 413, 415, 503),
        _KEY,
        takes_also=(NDJSON_TYPE, ARROW_TYPE),
    ),
    Route(
        "post",
        "/features/serve",
        "Serving",
        "The latest values as of now, or as of a moment.",
        {200: schema.ServedAnswer},
        schema.Serve,
        fails=(400, 404, 409, 413, 415, 503),
    ),
    Route(
        "post",
        "/features/historical",
        "History",
        "Aggregates over a closed range of event time, whole or in windows.",
        {200: schema.HistoricalAnswer},
        schema.Historical,
        fails=(400, 404, 406, 409, 413, 415, 503),
        lanes=True,
    ),
    Route(
        "post",
        "/features/training-set",
        "History",
        "The value of each feature as of the moment of each row, nothing of its future.",
        {200: schema.TrainingSetAnswer},
        TrainingSet,
        query=_OF_ROWS,
        fails=(400, 404, 406, 409, 413, 415, 503),
        takes_also=(ARROW_TYPE,),
        lanes=True,
    ),
    Route(
        "get",
        "/features/{reference}/history",
        "History",
        "The observations of one entity.",
        {200: schema.HistoryAnswer},
        query=(
            ("entityId", "whose observations (required)"),
            *_RANGE,
            ("order", "asc (default) or desc"),
            *_PAGE,
        ),
        fails=(400, 404, 406, 409, 503),
        lanes=True,
    ),
    *(route._replace(chapter="Monitoring") for route in _MONITORING),
    Route(
        "delete",
        "/entities/{entity}/{entityId}",
        "Operating",
        "Erase an entity from memory, journal and history. What is written of it afterwards is kept.",
        {200: schema.Erasure},
        fails=(400, 404, 503),
    ),
    Route("get", "/health/live", "Operating", "The process runs.", {200: schema.Health}),
    Route("get", "/health/ready", "Operating", "Every actor answers.", {200: schema.Health, 503: schema.Health}),
    Route("get", "/metrics", "Operating", "Figures for Prometheus, as text.", {200: PlainText}),
    Route("get", "/openapi.json", "Operating", "This document.", {200: dict}),
    Route("get", "/docs", "Operating", "This document for people.", {200: str}),
)


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    bodies = [kind for route in ROUTES for kind in (route.takes, *route.gives.values()) if _is_struct(kind)]
    _, components = msgspec.json.schema_components([*bodies, schema.Problem], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
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
    failures = {
        str(status): _content("see detail and errors", schema.Problem, PROBLEM_TYPE) for status in route.fails
    }
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
    shape = {"$ref": _REF.format(name=kind.__name__)} if _is_struct(kind) else {}
    return {"description": description, "content": {media_type: {"schema": shape}}}


def _parameters(route: Route) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    return [*in_path, *_optional("query", route.query), *_optional("header", route.headers)]


def _optional(where: str, parameters: tuple[tuple[str, str], ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": where,
            "required": "(required)" in words,
            "description": words,
            "schema": {"type": "string"},
        }
        for name, words in parameters
    ]
