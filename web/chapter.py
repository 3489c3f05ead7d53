"""Chapters of the contract: their routes, each described where it is answered.

A description says what the OpenAPI document shows. It changes nothing of how a request is answered, except that a
query is read by the names in it (`Query(RANGE)`), so that the two cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Concatenate, NamedTuple, TypeVar

from quart import Response

from actors.router import Router
from actors.settings import Settings
from web.metrics import Metrics

RANGE = {"startTime": "RFC 3339; from here on", "endTime": "RFC 3339; up to and including"}
PAGE = {"limit": "most items of a page, up to 10000", "cursor": "nextCursor of the page before"}


class PlainText:
    """What an answer carries that is neither JSON nor HTML."""


class Service(NamedTuple):
    """What handlers answer from."""

    router: Router
    settings: Settings
    metrics: Metrics


Handler = Callable[Concatenate[Service, ...], Awaitable[Response | str]]
H = TypeVar("H", bound=Handler)


class Route(NamedTuple):
    """One operation: what a request has to be, what answers it, and what is said of it."""

    method: str
    rule: str
    """The path as Quart matches it."""
    handler: Handler
    chapter: str
    summary: str
    gives: Mapping[int, Any]
    takes: Any
    takes_also: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    lanes: bool
    fails: tuple[int, ...]

    @property
    def path(self) -> str:
        """The path as OpenAPI writes it."""
        return re.sub(r"<(?:\w+:)?(\w+?)_?>", r"{\1}", self.rule)


class Chapter:
    """The routes of a module, in the order of the document."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.routes: list[Route] = []

    def route(
        self,
        operation: str,
        summary: str,
        *,
        gives: Mapping[int, Any],
        takes: Any = None,
        takes_also: tuple[str, ...] = (),
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        lanes: bool = False,
        fails: tuple[int, ...] = (),
    ) -> Callable[[H], H]:
        """Have the function below answer `operation`: a method and a path, such as `GET /groups/<name>`.

        It is called with the service and what the path names. `gives`: what each good status carries. `takes`: the
        body, as JSON; `takes_also`: its other media types. `query`, `headers`: what each parameter means.
        `lanes`: whether the answer also comes as NDJSON, CSV and Arrow. `fails`: the statuses of its failures.
        """
        method, _, rule = operation.partition(" ")
        said = summary, gives, takes, takes_also, query or {}, headers or {}, lanes, fails

        def describe(handler: H) -> H:
            self.routes.append(Route(method.lower(), rule, handler, self._name, *said))
            return handler

        return describe
