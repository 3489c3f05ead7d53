"""The client's protocol without I/O: requests, answers, retries, and routes as generators.

A route is a generator: it yields each step (a `Request` to send, a `Pause` to make), is sent the outcome, and
returns the result. `Client` and `AsyncClient` differ only in how they carry out the steps, so each route, with its
paging, slicing and retries, is written once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload
from urllib.parse import quote
from uuid import uuid4

import httpx
import msgspec

from timewell.errors import InvalidInput, ServerFailed, TimewellError, Unavailable, Unreachable, error_of
from timewell.plain import encode_body

P = ParamSpec("P")
T = TypeVar("T")

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
RETRY_SECONDS = 30.0
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
MOST_CUT_OFF = 3
"""How often an answer may be cut off before that is final: the service may have been stopped once, but whatever
fails it midway will do so again."""
BROKEN_OFF = (httpx.ReadError, httpx.RemoteProtocolError)
BROKEN = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError, httpx.ProxyError)


@dataclass(frozen=True)
class Request:
    """One HTTP request. Unless `repeatable`, it is sent again only if the service cannot have acted on it."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True


@dataclass(frozen=True)
class Pause:
    """Time to wait before the next attempt."""

    seconds: float


@dataclass(frozen=True)
class Response:
    """An HTTP answer, and how many attempts it took."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    attempts: int = 1


class CutOff(httpx.RemoteProtocolError):
    """The answer began and did not end."""

    def __init__(self, error: httpx.TransportError) -> None:
        super().__init__(str(error) or type(error).__name__, request=error.request)


Step = Request | Pause
Outcome = Response | httpx.TransportError | None
Talk = Generator[Step, Outcome, T]


def path(*parts: str) -> str:
    """The path made of the parts, each percent-encoded.

    >>> path("features", "user.a/b", "stats")
    '/features/user.a%2Fb/stats'
    """
    return "".join(f"/{quote(_name(part), safe='')}" for part in parts)


def query(**given: object) -> dict[str, str]:
    """Query parameters, without those that are None. Lists are joined by commas.

    >>> query(tags=["a", "b"], limit=5, group=None, partial=True)
    {'tags': 'a,b', 'limit': '5', 'partial': 'true'}
    """
    return {name: _word(value) for name, value in given.items() if value is not None}


def _name(given: object) -> str:
    """A name in an address. Raises InvalidInput for anything but text: `str(b"a")` would be another name."""
    if not isinstance(given, str):
        raise InvalidInput(f"a name must be text, got {given!r}")
    return str(given)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(_name, value))
    return str(value) if isinstance(value, int | float) else _name(value)


def get(route_path: str, **given: object) -> Request:
    """A GET request; parameters that are None are left out."""
    return Request("GET", route_path, query(**given))


def send(method: str, route_path: str, body: Mapping[str, Any], **rest: Any) -> Request:
    """A request with a JSON body. Raises InvalidInput for a value that JSON cannot express."""
    headers = {"Content-Type": JSON, **rest.pop("headers", {})}
    return Request(method, route_path, content=encode_body(body), headers=headers, **rest)


def keyed(key: str | None) -> dict[str, str]:
    """The idempotency header, which makes a write safe to repeat; a new key unless one is given."""
    return {"Idempotency-Key": uuid4().hex if key is None else key}


def is_repeat(answer: Response) -> bool:
    """Whether an earlier request with the same Idempotency-Key, not an attempt of this one, did the write."""
    return answer.attempts == 1 and answer.headers.get("idempotent-replayed") == "true"


def read(answer: Response, kind: type[T]) -> T:
    """The body of a success. Raises ServerFailed if it is not what the route promises."""
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.DecodeError as error:
        raise ServerFailed(f"the answer is not what was expected: {error}", answer.status) from None


@dataclass(frozen=True)
class Retry:
    """How long and how often to retry: on broken connections, 429 and 503.

    `seconds`: no attempt starts later than this after the first. A service with much data needs some to restart.
    `attempts`: the most times that a request is sent; 1 for no retry, None for as many as the time allows.
    `first_pause`, `longest_pause`: in seconds; pauses double from one to the other. Each actual pause is a random
    part of that (jitter), so that clients which failed together do not return together, added to the service's
    `Retry-After`, if it sent one. `clock` (seconds) and `chance` (0 to 1) are parameters for tests.
    """

    attempts: int | None = None
    seconds: float = RETRY_SECONDS
    first_pause: float = 0.1
    longest_pause: float = 5.0
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random

    def ask(self, request: Request) -> Talk[Response]:
        """The successful answer to a request, after as many attempts as it takes. Raises TimewellError."""
        started = self.clock()
        attempt, cut_off = 1, 0
        while True:
            outcome = yield request
            assert outcome is not None
            cut_off += isinstance(outcome, CutOff)
            pause = None if cut_off == MOST_CUT_OFF else self._pause(request, outcome, attempt)
            if pause is None or self.clock() - started + pause > self.seconds:
                return settle(outcome, attempt)
            yield Pause(pause)
            attempt += 1

    def _pause(self, request: Request, outcome: Response | httpx.TransportError, attempt: int) -> float | None:
        """Seconds to wait before the next attempt; None if this outcome is final."""
        if attempt == self.attempts or not _worth_repeating(request, outcome):
            return None
        doubled = min(self.longest_pause, self.first_pause * 2.0 ** min(attempt - 1, 60))
        return (retry_after(outcome) or 0.0) + doubled * self.chance()


def _worth_repeating(request: Request, outcome: Response | httpx.TransportError) -> bool:
    if isinstance(outcome, Response):
        return outcome.status == 429 or (outcome.status == 503 and request.repeatable)
    return isinstance(outcome, BROKEN if request.repeatable else UNSENT)


def settle(outcome: Outcome, attempts: int) -> Response:
    """The answer, if it is a success. Raises TimewellError for anything else."""
    assert outcome is not None
    if isinstance(outcome, CutOff):
        words = f"{_where(outcome)} began its answer and did not end it, in {attempts} attempts"
        words = f"{words}; the log of the service says why ({outcome})"
        raise ServerFailed(words) from outcome
    if isinstance(outcome, httpx.TransportError):
        words = str(outcome) or type(outcome).__name__
        raise Unreachable(f"no answer from {_where(outcome)} after {attempts} attempts: {words}") from outcome
    if outcome.status < 400:
        return Response(outcome.status, outcome.headers, outcome.content, attempts)
    error = error_of(outcome.status, outcome.content)
    if isinstance(error, Unavailable):
        error.retry_after = retry_after(outcome)
    error.attempts = attempts
    raise error


def _where(error: httpx.TransportError) -> str:
    """The address of the service; httpx's `netloc` leaves out user and password."""
    try:
        url = error.request.url
    except RuntimeError:  # it was never sent
        return "the service"
    return f"{url.scheme}://{url.netloc.decode()}"


def retry_after(outcome: Response | httpx.TransportError) -> float | None:
    """The seconds of the header `Retry-After`, which holds a number or a date; None without one."""
    given = outcome.headers.get("retry-after", "") if isinstance(outcome, Response) else ""
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(given)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


class Blocking:
    """A client whose methods return results."""

    def _run(self, talk: Talk[T]) -> T:
        """Carry out the steps of a route and return its result."""
        raise NotImplementedError


class Awaited:
    """A client whose methods return awaitables of results."""

    async def _run(self, talk: Talk[T]) -> T:
        """Carry out the steps of a route and return its result."""
        raise NotImplementedError


class Route(Generic[P, T]):
    """A method of both clients: it returns the result in one and an awaitable of it in the other."""

    def __init__(self, talk: Callable[Concatenate[Any, P], Talk[T]]) -> None:
        self.__wrapped__ = talk
        self.__doc__ = talk.__doc__
        self.__name__ = talk.__name__
        self.__qualname__ = talk.__qualname__
        self.__module__ = talk.__module__

    @overload
    def __get__(self, client: None, owner: type) -> Route[P, T]: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Awaited, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, client: Any, owner: type) -> Any:
        return self if client is None else MethodType(self, client)

    def __call__(self, client: Any, *args: P.args, **options: P.kwargs) -> Any:
        return client._run(self.__wrapped__(client, *args, **options))


def route(talk: Callable[Concatenate[Any, P], Talk[T]]) -> Route[P, T]:
    """Decorator: make a generator of steps a method of both clients."""
    return Route(talk)


class Asking:
    """The base of the classes that hold the routes."""

    _retry: Retry

    def _ask(self, request: Request, kind: type[T]) -> Talk[T]:
        """Send a request and read its answer as `kind`."""
        return read((yield from self._retry.ask(request)), kind)

    def _delete(self, route_path: str, given: Mapping[str, str] | None = None) -> Talk[None]:
        """Send a DELETE. A 404 after a first attempt without an answer means that that one succeeded."""
        try:
            yield from self._retry.ask(Request("DELETE", route_path, dict(given or {})))
        except TimewellError as error:
            if error.status != 404 or error.attempts == 1:
                raise
