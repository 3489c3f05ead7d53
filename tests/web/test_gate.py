"""The gate: no request of either lane, by either version of HTTP, gets round it; each enters and leaves once."""

from __future__ import annotations

import ast
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import pytest
import trio
from h2.errors import ErrorCodes
from quart import Response

from actors.errors import Conflict, TooLarge, Unavailable
from tests.live import ROOT
from tests.web.hostile_requests import BODIES, HOT, SERVE
from tests.web.test_fastlane_hypercorn import Http2
from tests.web.two_lanes import FrontEnd, Lane, Wire, front_end, paths_taken, settled
from web.app import create_app
from web.gate import Gate, Head, Visit
from web.routes.document import ROUTES

Version = Literal["1.1", "2"]
Request = tuple[bytes, bytes, bytes]
"""Method, path, body."""

both_lanes = pytest.mark.parametrize("lane", ["on", "off"])
both_versions = pytest.mark.parametrize("version", ["1.1", "2"])


class Noting(Gate):
    """A gate that knows who entered."""

    def __init__(self, stop: trio.Event) -> None:
        super().__init__(stop)
        self.asked: list[Head] = []

    def enter(self, asked: Head, connection: object) -> Visit:
        self.asked.append(asked)
        return super().enter(asked, connection)


class Shut(Noting):
    """A gate that lets nobody in."""

    def enter(self, asked: Head, connection: object) -> Visit:
        super().enter(asked, connection)
        raise Unavailable("the gate is shut")


class Locked(Gate):
    """A gate that asks for a key: what a check of access has to be."""

    looked_at = frozenset({b"authorization"})

    def enter(self, asked: Head, connection: object) -> Visit:
        if asked.headers.get(b"authorization") != b"Bearer sesame":
            raise Conflict("not without the key")
        return super().enter(asked, connection)


def requests() -> Iterator[Request]:
    """One of each route of the OpenAPI document, and what no route answers."""
    for route in ROUTES:
        path = re.sub(r"{\w+}", "a", route.path).encode()
        body = BODIES[path][0] if path in HOT else b"{}" if route.takes else b""
        yield route.method.upper().encode(), path, body
    yield from [(b"HEAD", b"/health/live", b""), (b"OPTIONS", b"/features", b""), (b"GET", b"/nonesuch", b"")]
    yield from [(b"GET", b"http://a/features", b""), (b"MADE", b"/up", b"")]


async def ask(
    front: FrontEnd, version: Version, request: Request, *fields: tuple[bytes, bytes]
) -> tuple[bytes, bytes]:
    """The status and the rest of the answer, on a connection of its own."""
    method, path, body = request
    wire = front.connect()
    if version == "2":
        client = Http2(wire, window=1_000_000)
        await client.ask(method, path, body, *fields)
        while not client.status:  # something is looked up on a thread that nobody counts
            await client.exchange()
        await _leave(front, wire)
        return client.status, client.body
    about = (
        (b"host", b"a"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *fields,
    )
    lines = b"".join(b"%b: %b\r\n" % field for field in about)
    await wire.send(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, path, lines, body))
    while not (answer := await wire.take()):
        pass
    await _leave(front, wire)
    return answer.split(b" ")[1], answer


async def _leave(front: FrontEnd, wire: Wire) -> None:
    front.router.end_event_streams()  # else they go on, and their requests do not leave
    await settled()
    wire.close()


@both_lanes
@both_versions
async def test_a_gate_that_refuses_all_refuses_every_route(
    lane: Lane, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = paths_taken(monkeypatch)
    async with front_end(lane, gate=Shut) as front:
        for request in requests():
            status, answer = await ask(front, version, request)
            assert status == b"503", request
            assert b"the gate is shut" in answer or request[0] == b"HEAD"
        assert isinstance(front.gate, Shut)
        asked = {(one.method.encode(), one.path.encode()) for one in front.gate.asked}
        assert asked == {(method, path.removeprefix(b"http://a")) for method, path, _ in requests()}
        assert not taken
        assert set(front.requests()) == {str({"method": "none", "route": "none", "status": "503"})}
        assert front.router.values_written == 0


@both_lanes
@both_versions
async def test_each_request_enters_once_and_leaves_once(
    lane: Lane, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = paths_taken(monkeypatch)
    async with front_end(lane, gate=Noting) as front:
        for request in requests():
            await ask(front, version, request)
        await settled()
        assert isinstance(front.gate, Noting)
        assert len(front.gate.asked) == len(list(requests())) == sum(front.requests().values())
        assert front.under_way.total == 0
        assert {path.encode() for path in taken} == ({*HOT} if (lane, version) == ("on", "1.1") else set())


@both_lanes
async def test_requests_that_come_together_enter_one_by_one(lane: Lane) -> None:
    async with front_end(lane, gate=Noting) as front:
        wire = front.connect()
        head = b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        await wire.send(b"".join(head % (path, len(BODIES[path][0]), BODIES[path][0]) for path in HOT))
        assert (await wire.take()).count(b"HTTP/1.1 200") == len(HOT)
        assert isinstance(front.gate, Noting)
        assert [one.path.encode() for one in front.gate.asked] == [*HOT]


@both_lanes
@both_versions
async def test_a_check_of_access_holds_on_both_lanes(
    lane: Lane, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = paths_taken(monkeypatch)
    key, other = (b"authorization", b"Bearer sesame"), (b"authorization", b"Bearer guess")
    async with front_end(lane, gate=Locked) as front:
        for path in HOT:
            request = b"POST", path, BODIES[path][0]
            for given, status in (((), b"409"), ((other,), b"409"), ((key,), b"200")):
                assert (await ask(front, version, request, *given))[0] == status
        assert (await ask(front, version, (b"GET", b"/features", b"")))[0] == b"409"
        assert (await ask(front, version, (b"GET", b"/features", b""), key))[0] == b"200"
        await ask(front, version, (b"POST", SERVE, BODIES[SERVE][0]), key, key)  # not for the fast lane
        assert [path.encode() for path in taken] == ([*HOT] if (lane, version) == ("on", "1.1") else [])


async def test_before_the_service_is_there_only_health_gets_through() -> None:
    gate, said = Gate(trio.Event()), list[Any]()

    async def send(event: Any) -> None:
        said.append(event)

    for path in ("/health/live", "/health/ready", "/features"):
        scope: Any = {"type": "http", "method": "GET", "path": path, "headers": []}
        await gate(scope, trio.sleep_forever, send)
    statuses = [event["status"] for event in said if event["type"] == "http.response.start"]
    bodies = b"".join(event["body"] for event in said if event["type"] == "http.response.body")
    assert statuses == [200, 503, 503]
    assert b'{"status":"live"}{"status":"waiting for the storage"}{' in bodies
    assert b"its storage is not open yet" in bodies
    (seen,) = gate.traffic.registry.collect()
    assert sum(one.value for one in seen.samples if one.name.endswith("_count")) == 3


# Where the source leads to a handler


def web() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "web").rglob("*.py")):
        yield str(path.relative_to(ROOT / "web")), ast.parse(path.read_text())


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    """Those of a function or method of this name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name:
            yield node


def test_only_the_application_and_the_fast_lane_know_the_handlers() -> None:
    knowing = {
        name
        for name, tree in web()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("web.routes")
    }
    assert {name for name in knowing if not name.startswith("routes/")} == {"app.py", "fastlane.py"}


def test_the_application_is_behind_the_gate_and_nothing_else_listens() -> None:
    (made,) = [ast.unparse(call) for _, tree in web() for call in calls(tree, "create_app")]
    process = dict(web())["process.py"]
    assert f"gate.open({made})" in [ast.unparse(call) for call in calls(process, "open")]
    assert [ast.unparse(call.args[0]) for call in calls(process, "listen")] == ["gate"]


def test_the_fast_lane_answers_nothing_without_a_visit_which_only_the_gate_gives() -> None:
    assert [name for name, tree in web() for _ in calls(tree, "Visit")] == ["gate.py"]
    lane = dict(web())["fastlane.py"]
    answering = [
        function
        for function in ast.walk(lane)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and [*calls(function, "answer")]
    ]
    assert answering
    for function in answering:
        assert "Visit" in [ast.unparse(one.annotation) for one in function.args.args if one.annotation], (
            function.name
        )


@both_lanes
@both_versions
@pytest.mark.parametrize("error", [TooLarge("the second part is too large"), ValueError("no one thought of it")])
async def test_an_answer_that_fails_midway_is_cut_off_and_the_log_says_why(
    lane: Lane, version: Version, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"the first part"
        raise error

    async def failing() -> Response:
        return Response(parts(), 200)

    async with front_end(lane) as front:
        app = create_app(front.router, front.settings)
        app.add_url_rule("/failing", "failing", failing)
        front.gate.open(app)
        wire = front.connect()
        if version == "2":
            client = Http2(wire)
            await client.ask(b"GET", b"/failing", b"")
            assert client.resets == [ErrorCodes.INTERNAL_ERROR]
            await client.ask(b"GET", b"/features", b"")
            assert client.status == b"200", "the connection goes on"
            assert len(client.resets) == 1
        else:
            await wire.send(b"GET /failing HTTP/1.1\r\nhost: a\r\n\r\n")
            received = await wire.take()
            assert received.endswith(b"the first part\r\n")
            assert wire.ended
    (record,) = [one for one in caplog.records if one.name == "timewell.requests"]
    expected = isinstance(error, TooLarge)
    assert ("the second part is too large" if expected else "an unexpected error") in record.getMessage()
    assert (record.exc_info is None) == expected
    assert "Error in ASGI" not in caplog.text
