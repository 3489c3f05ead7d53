"""Chapters of the contract: each route is described at its handler.

The OpenAPI document is made from these descriptions. They do not change how a request is answered, with one
exception: a handler reads its query by the described names (`Query(RANGE)`), so that the two cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Concatenate, NamedTuple, TypeVar

from quart import Response

from actors.router import Router
from actors.settings import Settings
from web.metrics import Metrics

RANGE = {"startTime": "RFC 3339; the start, inclusive", "endTime": "RFC 3339; the end, inclusive"}
PAGE = {"limit": "how many items at most, up to 10000", "cursor": "the nextCursor of the page before"}


class PlainText:
    """The type to declare for an answer in plain text."""


class Service(NamedTuple):
    """What every handler is given to answer from."""

    router: Router
    settings: Settings
    metrics: Metrics


Handler = Callable[Concatenate[Service, ...], Awaitable[Response | str]]
H = TypeVar("H", bound=Handler)


class Route(NamedTuple):
    """One operation: what it takes, what answers it, and how it is documented. `Chapter.route` says more."""

    method: str
    rule: str
    """The path in Quart's notation."""
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
        """The path in OpenAPI's notation."""
        return re.sub(r"<(?:\w+:)?(\w+?)_?>", r"{\1}", self.rule)


class Chapter:
    """The routes of a module, in the order in which the document lists them."""

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
        """Register the decorated function as the handler of `operation`, such as `GET /groups/<name>`.

        The handler is called with the service and the parameters of the path. `gives`: the type of the answer by
        successful status, several as a tuple. `takes`: the type of the JSON body; `takes_also`: other media types
        it may have. `query`, `headers`: what each parameter means. `lanes`: whether the answer also comes as
        NDJSON, CSV and Arrow. `fails`: the statuses of failures.
        """
        method, _, rule = operation.partition(" ")
        said = summary, gives, takes, takes_also, query or {}, headers or {}, lanes, fails

        def describe(handler: H) -> H:
            self.routes.append(Route(method.lower(), rule, handler, self._name, *said))
            return handler

        return describe
