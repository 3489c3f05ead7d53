"""Every failure as `application/problem+json`. Errors get their status here only: the domain knows no HTTP."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from actors.errors import (
    Conflict,
    Fault,
    Gone,
    InvalidInput,
    NotFound,
    TimewellError,
    TooLarge,
    Unavailable,
    shortage,
)
from timewell.wire import FaultAnswer, Problem

log = logging.getLogger("timewell.web")
PROBLEM_TYPE = "application/problem+json"
LONGEST_WORDS = 2_000


class UnsupportedMediaType(TimewellError):
    """The body is not declared as a type that the route takes."""


class NotAcceptable(TimewellError):
    """The client accepts none of the formats in which the route answers."""


STATUS: dict[type[TimewellError], HTTPStatus] = {
    InvalidInput: HTTPStatus.BAD_REQUEST,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Gone: HTTPStatus.GONE,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}


def status_of(error: TimewellError) -> HTTPStatus:
    """The status of an error, by its nearest ancestor in the table."""
    for ancestor in type(error).__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def fault_answers(faults: Sequence[Fault]) -> list[FaultAnswer]:
    """Faults as the contract shows them."""
    return [FaultAnswer(cut(fault.field), cut(fault.message), fault.index) for fault in faults]


def cut(words: str) -> str:
    """Text short enough for an answer: a name quoted from a request may be megabytes long."""
    return (
        words if len(words) <= LONGEST_WORDS else f"{words[: LONGEST_WORDS // 2]} … {words[-LONGEST_WORDS // 2 :]}"
    )


def problem(status: HTTPStatus, detail: str, faults: Sequence[Fault] = ()) -> bytes:
    """A problem document. Its `type` is the status in words, for clients to switch on."""
    kind = "urn:timewell:" + status.phrase.lower().replace(" ", "-")
    return msgspec.json.encode(
        Problem(kind, status.phrase, status.value, cut(detail), fault_answers(faults) or None)
    )


def problem_of(error: TimewellError) -> tuple[int, bytes]:
    """The status and the problem document of a domain error."""
    status = status_of(error)
    return status.value, problem(status, error.detail, error.faults)


class Failure(NamedTuple):
    """The answer to a failure. `retry_after`: seconds after which to try again, None for no advice."""

    status: int
    body: bytes
    retry_after: int | None


def answer_to(error: Exception) -> Failure:
    """The answer to a domain error, or to an unexpected one, which is logged."""
    lacking = shortage(error)
    if lacking is not None:
        log.warning("a request was refused: %s", lacking.detail)
        error = lacking
    if isinstance(error, TimewellError):
        return Failure(*problem_of(error), error.retry_after_seconds if isinstance(error, Unavailable) else None)
    log.error("unexpected error", exc_info=error)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return Failure(status, problem(status, "an unexpected error; the log has the details"), None)


def _response(status: int, body: bytes) -> Response:
    return Response(body, status, content_type=PROBLEM_TYPE)


def allowed_methods(app: QuartTrio, path: str) -> list[str]:
    """The methods of a path. A fixed path wins over a pattern: `/features/serve` does not have the methods of
    `/features/{ref}`, although it matches that too.
    """
    fixed = [rule.methods or set() for rule in app.url_map.iter_rules() if rule.rule == path]
    if fixed:
        return sorted(set[str]().union(*fixed))
    return sorted(app.url_map.bind("").allowed_methods(path))


def install(app: QuartTrio) -> None:
    """Have the application answer every failure with a problem document."""

    @app.errorhandler(Exception)
    async def _failure(error: Exception) -> Response:
        if isinstance(error, NotFound):
            methods = allowed_methods(app, request.path)
            if methods and request.method not in methods:  # the path was taken for a reference
                return await _http(MethodNotAllowed(methods))
        answer = answer_to(error)
        response = _response(answer.status, answer.body)
        if answer.retry_after is not None:
            response.headers["Retry-After"] = str(answer.retry_after)
        return response

    @app.errorhandler(HTTPException)
    async def _http(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        response = _response(status, problem(status, error.description or error.name))
        for name, value in error.get_headers():
            if name.lower() not in ("content-type", "content-length"):
                response.headers[name] = value
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = ", ".join(allowed_methods(app, request.path))
        return response
