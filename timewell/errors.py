"""What a client raises, as one tree, made from the service's problem documents.

TimewellError
    InvalidInput        400, or found wrong before it was sent
    Denied              401, 403
    NotFound            404
    Conflict            409
    TooLarge            413
    UnsupportedMediaType  415
    Unavailable         429, 503, and still so after the last attempt
        Unreachable     no answer: no connection, it broke, or it took too long
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
    """An address for a message: without what may be a password; only its scheme where it is not plainly one.

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
"""What people give where the scheme is missing: a host, perhaps a port and a path."""


class TimewellError(Exception):
    """The root.

    `status` is the HTTP status, None where there was no answer. `detail` is a sentence for a person. `errors` are
    the parts of the input to blame, each with `field`, `message` and, in a batch or a frame, `index`. `attempts`
    is how many times it was tried.
    """

    def __init__(self, detail: str, status: int | None = None, errors: Sequence[FaultAnswer] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.errors = list(errors)
        self.attempts = 1


class InvalidInput(TimewellError):
    """Malformed, or against a feature's schema. Nothing was changed."""

    @classmethod
    def at(cls, field: str, message: str, index: int | None = None) -> InvalidInput:
        """One part is to blame; found before anything was sent."""
        return cls(f"{field}: {message}", None, [FaultAnswer(field, message, index)])


class Denied(TimewellError):
    """Not allowed, or not known who asks."""


class NotFound(TimewellError):
    """No such feature, group, check or route."""


class Conflict(TimewellError):
    """It contradicts what is registered, or a bare name means several features."""


class TooLarge(TimewellError):
    """Over a limit of the service; the detail says which."""


class UnsupportedMediaType(TimewellError):
    """The service does not take such a body on this route."""


class Unavailable(TimewellError):
    """Not now; the attempts are used up. Asking again later is safe. `retry_after`: the hint given, seconds."""

    retry_after: float | None = None


class Unreachable(Unavailable):
    """There was no answer. The cause is the exception of httpx."""


class ServerFailed(TimewellError):
    """The service failed. A write may or may not have happened; sending it again is safe."""


_CLASSES: Mapping[int, type[TimewellError]] = {
    400: InvalidInput,
    401: Denied,
    403: Denied,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    415: UnsupportedMediaType,
    422: InvalidInput,
    429: Unavailable,
    503: Unavailable,
}


class _Problem(msgspec.Struct):
    """The members of RFC 9457 that are read. All may be missing: a proxy may have answered."""

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
