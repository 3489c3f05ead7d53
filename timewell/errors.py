"""The exceptions of the client, made from the service's problem documents.

TimewellError
    InvalidInput        400, or found invalid before it was sent
    Denied              401, 403
    NotFound            404
    Conflict            409
    Gone                410
    TooLarge            413
    UnsupportedMediaType  415
    Unavailable         429, 503, after the last attempt
        Unreachable     no answer: the connection failed, broke or timed out
    ServerFailed        any other 5xx
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec

from timewell.wire import FaultAnswer

MOST_SHOWN_CHARACTERS = 200


def shown_address(url: str) -> str:
    """An address for a message, without what may be a password; only the scheme of a malformed address.

    >>> shown_address("http://ada:secret@host:3001/store?key=1"), shown_address("http:/ada:secret@host")
    ('http://host:3001/store', 'http:...')
    """
    scheme = url.partition(":")[0]
    try:
        parts = urlsplit(url)
        if (
            parts.hostname
            and (parts.port is None or parts.port > 0)
            and "@" not in parts.path + parts.query + parts.fragment
        ):
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        pass
    return url if _PLAIN_HOST.fullmatch(url) else f"{scheme}:..." if scheme.isalpha() else "..."


_PLAIN_HOST = re.compile(r"[\w.-]*(:\d{1,5})?(/[\w./-]*)?", re.ASCII)
"""An address without a scheme that holds no password: a host, perhaps with a port and a path."""


def place_of(fault: FaultAnswer) -> str:
    """Where a fault is, as the service says it: `features`, `[3].entityId`, `rows[3].user`."""
    if fault.index is None:
        return fault.field
    field = fault.field.removeprefix("rows.")
    return f"[{fault.index}].{field}" if field == fault.field else f"rows[{fault.index}].{field}"


class TimewellError(Exception):
    """The base of all exceptions of the client.

    `status`: the HTTP status, None without an answer. `detail`: a sentence for people. `errors`: the parts of the
    input at fault, each with `field`, `message` and, in a batch or a frame, `index`. `attempts`: how many times
    the request was sent.
    """

    def __init__(self, detail: str, status: int | None = None, errors: Sequence[FaultAnswer] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.errors = list(errors)
        self.attempts = 1


class InvalidInput(TimewellError):
    """The input is malformed or violates a feature's schema. Nothing was changed."""

    @classmethod
    def at(cls, field: str, message: str, index: int | None = None) -> InvalidInput:
        """An error in one field, of row `index` if there are several; found before anything was sent."""
        fault = FaultAnswer(field, message, index)
        return cls(f"{place_of(fault)}: {message}", None, [fault])


class Denied(TimewellError):
    """The caller is unknown or not allowed to do this."""


class NotFound(TimewellError):
    """There is no such feature, group, check or route."""


class Conflict(TimewellError):
    """The request contradicts what is registered, or a bare name means several features."""


class Gone(TimewellError):
    """A kept training set cannot be made again, as what it read is no longer there."""


class TooLarge(TimewellError):
    """The request exceeds a limit of the service; the detail says which."""


class UnsupportedMediaType(TimewellError):
    """The route does not take a body of this media type."""


class Unavailable(TimewellError):
    """The service is busy or away, after all attempts. Trying again is safe. `retry_after`: its hint, seconds."""

    retry_after: float | None = None


class Unreachable(Unavailable):
    """There was no answer. `__cause__` is httpx's exception."""


class ServerFailed(TimewellError):
    """The service failed. A write may or may not have been done; sending it again is safe."""


_CLASSES: Mapping[int, type[TimewellError]] = {
    400: InvalidInput,
    401: Denied,
    403: Denied,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    415: UnsupportedMediaType,
    422: InvalidInput,
    429: Unavailable,
    503: Unavailable,
}


class _Problem(msgspec.Struct):
    """The members of a problem document (RFC 9457) that are used. A proxy's answer may lack all of them."""

    detail: str = ""
    title: str = ""
    errors: list[FaultAnswer] = []


def error_of(status: int, content: bytes) -> TimewellError:
    """The exception for an answer that is not a success."""
    kind = _CLASSES.get(status, ServerFailed if status >= 500 else TimewellError)
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem(content.decode(errors="replace").strip()[:MOST_SHOWN_CHARACTERS])
    return kind(problem.detail or problem.title or _phrase(status), status, problem.errors)


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else f"HTTP status {status}"
