"""The two clients: they carry out the steps of the routes, blocking or async. The routes are in `routes/`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx

from timewell.arrow import FrameKind, frame_of
from timewell.calls import (
    BROKEN,
    BROKEN_OFF,
    RETRY_SECONDS,
    Awaited,
    Blocking,
    CutOff,
    Outcome,
    Pause,
    Request,
    Response,
    Retry,
    Step,
    Talk,
    settle,
)
from timewell.errors import error_of, shown_address
from timewell.events import Event, EventLines, listening
from timewell.plain import EntityId
from timewell.routes.catalogue import CatalogueRoutes
from timewell.routes.exports import ExportRoutes
from timewell.routes.frames import FrameRoutes
from timewell.routes.monitoring import MonitoringRoutes
from timewell.routes.registry import RegistryRoutes
from timewell.routes.serving import ServingRoutes
from timewell.routes.training_sets import TrainingSetRoutes
from timewell.routes.values import ValueRoutes
from timewell.times import Time

T = TypeVar("T")
BASE_URL = "http://localhost:3001"
TIMEOUT_SECONDS = 30.0


class _Routes(
    ExportRoutes,
    RegistryRoutes,
    CatalogueRoutes,
    ValueRoutes,
    ServingRoutes,
    FrameRoutes,
    TrainingSetRoutes,
    MonitoringRoutes,
):
    """All routes."""


class Client(_Routes, Blocking):
    """The blocking client. It keeps its connections open, so keep it; threads may share one.

    `timeout`: in seconds, per attempt, for connecting and between two parts of the answer. `headers` are sent with
    every request. If the service is away or busy, requests are retried for `retry_seconds` with growing pauses;
    `retry` sets the details. Use the client as a context manager, or `close` it. Raises ValueError for a
    `base_url` that is not an HTTP address.

    Values are those of JSON and their counterparts in numpy, pandas, `decimal` and `uuid`; entity ids are text,
    whole numbers or UUIDs. Bytes, sets, dates and the like raise InvalidInput before anything is sent.

    Times are datetimes (naive ones are UTC), also numpy's or pandas', or RFC 3339 text. Durations are timedeltas,
    seconds, or text such as "7d". Every method may raise Unavailable once its attempts are used up.

        with Client() as client:
            client.register("purchases_7d", "user", "number")
            client.write("user.purchases_7d", "ada", 3)
            client.serve(["ada"], ["user.purchases_7d"])[0].features
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        timeout: float | httpx.Timeout | None = TIMEOUT_SECONDS,
        headers: Mapping[str, str] | None = None,
        retry_seconds: float = RETRY_SECONDS,
        retry: Retry | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retry = retry or Retry(seconds=retry_seconds)
        self._http = httpx.Client(
            base_url=checked_url(base_url), timeout=timeout, headers=headers, transport=transport
        )
        self._sleep: Callable[[float], None] = time.sleep

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def events(self, *, after: int | None = None) -> Iterator[Event]:
        """Checks that fail or recover, alerts and drift as they happen: `.kind`, `.data`, `.id`.

        Starts now, or after the event with the id `after`, as far back as the service remembers events. Ends when
        the service stops. Raises NotFound if monitoring is off, Unreachable if the connection fails or breaks.

            for event in client.events():
                print(event.kind, event.data)
        """
        lines = EventLines()
        try:
            with self._http.stream(**_arguments(listening(after))) as response:
                if response.status_code != HTTPStatus.OK:
                    raise error_of(response.status_code, response.read())
                yield from filter(None, map(lines.take, response.iter_lines()))
        except BROKEN as error:
            settle(error, 1)

    def ids(self, entity: str, *, prefix: str | None = None) -> Iterator[str]:
        """The ids of an entity type that anything is known of, in the order of their code points, page by page.

        `prefix`: only ids that begin with this. Ids that are written or erased meanwhile may be missed or come.
        Raises NotFound for an entity type that the service does not know.

            for user in client.ids("user", prefix="a"):
                print(user)
        """
        cursor, more = None, True
        while more:
            page = self._run(self._page_of_ids(entity, prefix, cursor))
            yield from page.ids
            cursor, more = page.next_cursor, page.next_cursor is not None

    def export(
        self,
        features: Sequence[str] | None = None,
        *,
        group: str | None = None,
        service: str | None = None,
        entity: str | None = None,
        entity_ids: Sequence[EntityId] | None = None,
        start: Time | None = None,
        end: Time | None = None,
        as_frame: FrameKind = "pandas",
    ) -> Iterator[Any]:
        """Everything observed from `start` to `end` of features of one entity type, in frames of some entities.

        `entity`: only features of this type, where a service has those of several. `entity_ids`: of which
        entities; by default of all, in the order of their ids. A row has `entityId` (of a
        type with several keys: a column for each key), `timestamp`, and a column per feature, which is null where
        nothing or a null was observed then. Raises InvalidInput, NotFound, Conflict; ImportError without pyarrow
        or the library `as_frame`.

            for frame in client.export(["user.purchases_7d"]):
                frame.to_parquet(...)
        """
        pages = self._run(self._exporting(features, group, service, entity, entity_ids, start, end))
        while pages.more:
            yield frame_of(self._run(self._export_page(pages)), as_frame)

    def _run(self, talk: Talk[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = talk.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = self._take(step)

    def _take(self, step: Step) -> Outcome:
        if isinstance(step, Pause):
            self._sleep(step.seconds)
            return None
        try:
            with self._http.stream(**_arguments(step)) as response:
                try:
                    response.read()
                except BROKEN_OFF as error:
                    return CutOff(error)
                return _answer(response)
        except BROKEN as error:
            return error


class AsyncClient(_Routes, Awaited):
    """The client for trio and asyncio: the methods of `Client`, to be awaited. Any number of tasks may share one.

    async with AsyncClient() as client:
        served = await client.serve(["ada"], ["user.purchases_7d"])
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        timeout: float | httpx.Timeout | None = TIMEOUT_SECONDS,
        headers: Mapping[str, str] | None = None,
        retry_seconds: float = RETRY_SECONDS,
        retry: Retry | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retry = retry or Retry(seconds=retry_seconds)
        self._http = httpx.AsyncClient(
            base_url=checked_url(base_url), timeout=timeout, headers=headers, transport=transport
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def events(self, *, after: int | None = None) -> AsyncIterator[Event]:
        """The same as in `Client`: `async for event in client.events()`."""
        lines = EventLines()
        try:
            async with self._http.stream(**_arguments(listening(after))) as response:
                if response.status_code != HTTPStatus.OK:
                    raise error_of(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if event := lines.take(line):
                        yield event
        except BROKEN as error:
            settle(error, 1)

    async def ids(self, entity: str, *, prefix: str | None = None) -> AsyncIterator[str]:
        """The same as in `Client`: `async for user in client.ids("user")`."""
        cursor, more = None, True
        while more:
            page = await self._run(self._page_of_ids(entity, prefix, cursor))
            for id_ in page.ids:
                yield id_
            cursor, more = page.next_cursor, page.next_cursor is not None

    async def export(
        self,
        features: Sequence[str] | None = None,
        *,
        group: str | None = None,
        service: str | None = None,
        entity: str | None = None,
        entity_ids: Sequence[EntityId] | None = None,
        start: Time | None = None,
        end: Time | None = None,
        as_frame: FrameKind = "pandas",
    ) -> AsyncIterator[Any]:
        """The same as in `Client`: `async for frame in client.export(["user.purchases_7d"])`."""
        pages = await self._run(self._exporting(features, group, service, entity, entity_ids, start, end))
        while pages.more:
            yield frame_of(await self._run(self._export_page(pages)), as_frame)

    async def _run(self, talk: Talk[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = talk.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = await self._take(step)

    async def _take(self, step: Step) -> Outcome:
        if isinstance(step, Pause):
            await anyio.sleep(step.seconds)
            return None
        try:
            async with self._http.stream(**_arguments(step)) as response:
                try:
                    await response.aread()
                except BROKEN_OFF as error:
                    return CutOff(error)
                return _answer(response)
        except BROKEN as error:
            return error


def checked_url(url: str, name: str = "base_url") -> str:
    """The address of a service, if it is one. Raises ValueError, whose message contains no password."""
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"{name} {shown_address(url)!r} must start with http:// or https://")
    try:
        parts = urlsplit(url)
        if httpx.URL(url).host and parts.port != 0 and "@" not in parts.path + parts.query + parts.fragment:
            return url
    except (httpx.InvalidURL, ValueError):
        pass
    raise ValueError(f"{name} {shown_address(url)!r} is no address such as http://localhost:3001") from None


def _arguments(request: Request) -> dict[str, Any]:
    """A request as arguments of httpx."""
    return {
        "method": request.method,
        "url": request.path,
        "params": request.query,
        "content": request.content,
        "headers": request.headers,
    }


def _answer(response: httpx.Response) -> Response:
    return Response(response.status_code, response.headers, response.content)
