"""All routes in order, and the OpenAPI document of them, whose own routes come last."""

from __future__ import annotations

from functools import cache
from typing import Any

from quart import Response, render_template

from web import openapi
from web.bodies.requests import encode
from web.chapter import Chapter, Route, Service
from web.routes import (
    checks,
    drift,
    entities,
    export,
    history,
    ids,
    monitoring,
    operating,
    ranges,
    registrations,
    registry,
    services,
    serving,
    statistics,
    training,
    training_sets,
    writing,
)

chapter = Chapter("Operating")


@chapter.route("GET /openapi.json", "This document.", gives={200: dict})
async def as_json(_: Service) -> Response:
    return encode(document())


@chapter.route("GET /docs", "This document as a page to read.", gives={200: str})
async def for_people(_: Service) -> str:
    return await render_template("docs.html", document=document())


_CHAPTERS = (
    *(registry.chapter, registrations.chapter),
    *(entities.chapter, ids.chapter, services.chapter, writing.chapter, serving.chapter),
    *(ranges.chapter, training.chapter, training_sets.chapter, history.chapter, export.chapter),
    *(statistics.chapter, checks.chapter, drift.chapter, monitoring.chapter),
    *(operating.chapter, chapter),
)
ROUTES: tuple[Route, ...] = tuple(route for one in _CHAPTERS for route in one.routes)


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document of all routes."""
    return openapi.document(ROUTES)
