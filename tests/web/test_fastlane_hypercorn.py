"""The fast lane between Hypercorn and the network: its insides, HTTP/2, encryption, signals."""

from __future__ import annotations

import inspect
import json
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h11
import httpx
import pytest
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamReset
from h2.settings import SettingCodes
from hypercorn.config import Config
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from trio.testing import MockClock

from tests.live import LiveServer
from tests.tls import certificate
from tests.web.hostile_requests import SERVE, WRITE, bare, request
from tests.web.two_lanes import FrontEnd, Lane, Wire, front_end, paths_taken, settled
from web import fastlane
from web.hypercorn.listening import listen

HOT = request(SERVE, b'{"entityIds":["one"],"features":["a"]}')
both_lanes = pytest.mark.parametrize("lane", ["on", "off"])

# Hypercorn's insides


def names_in(function: Callable[..., Any]) -> set[str]:
    """The names of globals and attributes that a function uses."""
    return set(function.__code__.co_names)


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def protocol_of(alpn: str) -> Any:
    """The protocol of a new connection."""
    nothing: Any = None
    wrapper = ProtocolWrapper(
        nothing, Config(), WorkerContext(None), nothing, nothing, False, None, None, nothing, alpn
    )
    return wrapper.protocol


EXPECTED: dict[str, Callable[[], object]] = {
    "TCPServer(app, config, context, state, stream)": lambda: (
        parameters(TCPServer) == ["app", "config", "context", "state", "stream"]
    ),
    "TCPServer.run reads with self._read_data()": lambda: "_read_data" in names_in(TCPServer.run),
    "TCPServer.run starts self.idle_task.restart(self._task_group, ...)": lambda: (
        {"idle_task", "restart", "_task_group"} <= names_in(TCPServer.run)
    ),
    "TCPServer.protocol_send restarts and stops self.idle_task": lambda: (
        {"idle_task", "restart", "stop"} <= names_in(TCPServer.protocol_send)
    ),
    "TCPServer has the coroutines that are called or replaced, without parameters": lambda: all(
        inspect.iscoroutinefunction(method) and parameters(method) == ["self"]
        for method in (TCPServer.run, TCPServer._read_data, TCPServer._close, TCPServer._initiate_server_close)
    ),
    "TCPServer sets app, config, context, stream and idle_task at once, and protocol in run": lambda: (
        {"config", "context", "stream", "idle_task"} <= names_in(TCPServer.__init__)
        and "protocol" in names_in(TCPServer.run)
    ),
    "ProtocolWrapper.protocol is an H11Protocol unless HTTP/2 was agreed on": lambda: (
        type(protocol_of("http/1.1")) is H11Protocol and type(protocol_of("h2")) is not H11Protocol
    ),
    "H11Protocol begins with stream None, keep_alive_requests 0 and an h11 connection that is idle": lambda: (
        (made := protocol_of("http/1.1")).stream is None
        and made.keep_alive_requests == 0
        and made.connection.our_state is made.connection.their_state is h11.IDLE
        and made.connection.trailing_data == (b"", False)
    ),
    "H11Protocol counts requests in keep_alive_requests": lambda: (
        "keep_alive_requests" in names_in(H11Protocol._create_stream)
        and {"keep_alive_requests", "keep_alive_max_requests"} <= names_in(H11Protocol.stream_send)
    ),
    "h11 takes heads as long as the lane does": lambda: (
        Config().h11_max_incomplete_size >= fastlane.MOST_HEAD_BYTES
    ),
    "config.response_headers('h11') are pairs of bytes, added to each response": lambda: (
        all(isinstance(part, bytes) for pair in Config().response_headers("h11") for part in pair)
        and "response_headers" in names_in(H11Protocol.stream_send)
    ),
    "no connection reads with a time-out unless told to": lambda: Config().read_timeout is None,
}


@pytest.mark.parametrize("expected", EXPECTED)
def test_hypercorn_is_as_the_fast_lane_knows_it(expected: str) -> None:
    assert EXPECTED[expected](), f"web/fastlane.py relies on this, and it no longer holds: {expected}"


# HTTP/2 without encryption


class Http2:
    """A client of HTTP/2 on a wire."""

    def __init__(self, wire: Wire, window: int = 65_535) -> None:
        self.wire = wire
        self.status = b""
        self.body = b""
        self.resets: list[object] = []
        self._connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._connection.initiate_connection()
        self._connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        if window > 65_535:
            self._connection.increment_flow_control_window(window)
        self._read = self._begun = 0

    async def post(self, path: bytes, body: bytes) -> None:
        """Send a request, and take what is answered."""
        await self.ask(b"POST", path, body)

    async def ask(self, method: bytes, path: bytes, body: bytes, *more: tuple[bytes, bytes]) -> None:
        """The same with any method, and with more fields."""
        stream = self._connection.get_next_available_stream_id()
        pseudo = [(b":method", method), (b":path", path), (b":authority", b"a"), (b":scheme", b"http")]
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *more]
        self._connection.send_headers(stream, pseudo + fields)
        self._connection.send_data(stream, body, end_stream=True)
        await self.exchange()

    def begin(self, path: bytes) -> None:
        """Begin a request of which the body is still to come."""
        self._begun = self._connection.get_next_available_stream_id()
        pseudo = [(b":method", b"POST"), (b":path", path), (b":authority", b"a"), (b":scheme", b"http")]
        self._connection.send_headers(self._begun, pseudo)

    def expect(self, stream: int) -> None:
        """Take the answers to a request that was sent past this client."""
        pseudo = [(b":method", b"POST"), (b":path", b"/"), (b":authority", b"a"), (b":scheme", b"http")]
        self._connection.send_headers(stream, pseudo)
        self._connection.data_to_send()

    def take_back(self) -> None:
        """Take it back."""
        self._connection.reset_stream(self._begun)

    async def exchange(self) -> None:
        """Send what there is to send, and take what is answered."""
        await self.wire.send(self._connection.data_to_send())
        received = (await self.wire.take())[self._read :]
        self._read += len(received)
        for event in self._connection.receive_data(received):
            if isinstance(event, ResponseReceived):
                self.status = dict(event.headers)[b":status"]
            elif isinstance(event, DataReceived):
                self.body += event.data
            elif isinstance(event, StreamReset):
                self.resets.append(event.error_code)

    async def widen(self) -> None:
        """Let the answers come."""
        self._connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 65_535})
        await self.exchange()


async def plain_answer(front: FrontEnd) -> bytes:
    wire = front.connect()
    await wire.send(HOT)
    return (await wire.take()).partition(b"\r\n\r\n")[2]


@both_lanes
async def test_http_2_is_spoken_to_who_knows_of_it_before(lane: Lane) -> None:
    async with front_end(lane) as front:
        client = Http2(front.connect())
        await client.post(SERVE, HOT.partition(b"\r\n\r\n")[2])
        assert (client.status, client.body) == (b"200", await plain_answer(front))


async def test_http_2_may_follow_hot_requests() -> None:
    async with front_end("on") as front:
        wire = front.connect()
        await wire.send(HOT * 2)
        first = len(await wire.take())
        client = Http2(wire)
        client._read = first
        await client.post(SERVE, HOT.partition(b"\r\n\r\n")[2])
        assert (client.status, client.body) == (b"200", await plain_answer(front))


@both_lanes
async def test_a_client_of_http_2_that_leaves_before_its_answer_leaves_nothing_behind(
    lane: Lane, mock_clock: MockClock
) -> None:
    async with front_end(lane) as front:
        client = Http2(front.connect(), window=0)
        await client.post(SERVE, HOT.partition(b"\r\n\r\n")[2])
        assert (client.status, client.body) == (b"200", b"")
        client.wire.close()
        await settled()
        await client.wire.linger(60)
        assert front.connections == 0


@both_lanes
async def test_a_connection_of_http_2_ends_at_a_shutdown_once_it_is_answered(
    lane: Lane, mock_clock: MockClock
) -> None:
    async with front_end(lane) as front:
        client = Http2(front.connect(), window=0)
        await client.post(SERVE, HOT.partition(b"\r\n\r\n")[2])
        await front.shut_down()
        await client.exchange()
        assert front.connections == 1
        await client.widen()
        assert json.loads(client.body)["results"]
        assert front.connections == 0


@both_lanes
async def test_a_handshake_for_a_websocket_is_answered_as_the_request_that_it_is_otherwise(lane: Lane) -> None:
    fields = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    )
    async with front_end(lane) as front:
        wire = front.connect()
        await wire.send(HOT + bare(b"GET", b"/features/a")[:-2] + fields + b"\r\n" + HOT)
        assert (await wire.take()).count(b"HTTP/1.1 200 ") == 3
        assert (front.connections, front.crashes) == (1, [])


@both_lanes
async def test_a_stalled_reader_is_cut_off_when_the_time_for_a_shutdown_is_over(
    lane: Lane, mock_clock: MockClock
) -> None:
    async with front_end(lane, max_body_bytes=100_000) as front:
        wire = front.connect()
        value = json.dumps({"featureId": "b", "entityId": "e", "value": "x" * 60_000}).encode()
        await wire.send(request(WRITE, value))
        await wire.take()
        await wire.send(request(SERVE, json.dumps({"entityIds": ["e"] * 100, "features": ["b"]}).encode()))
        await settled()
        await front.shut_down()
        await settled()
        assert front.connections == 1
        front.nursery.cancel_scope.cancel()  # as Hypercorn does with all connections then
        with trio.CancelScope(shield=True):
            await settled()
        assert front.connections == 0


# Encryption


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize(("http2", "version"), [(False, "HTTP/1.1"), (True, "HTTP/2")])
async def test_the_lane_is_taken_under_encryption_and_http_2_is_not_disturbed(
    nursery: trio.Nursery,
    files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    http2: bool,
    version: str,
) -> None:
    taken = paths_taken(monkeypatch)
    async with front_end("on", max_body_bytes=200_000) as front:
        front.config.bind = ["127.0.0.1:0"]
        front.config.certfile, front.config.keyfile = map(str, files)
        (bound,) = await nursery.start(listen, front.gate, front.config, front.stop)
        trusted = ssl.create_default_context(cafile=files[0])
        url = bound.replace("127.0.0.1", "localhost")
        async with httpx.AsyncClient(http2=http2, verify=trusted, base_url=url) as client:
            for n in range(3):
                values = [{"featureId": "b", "entityId": f"e{n}", "value": "x" * 50_000}] * 3
                answered = await client.post("/features/write-batch", json={"values": values})
                assert (answered.status_code, answered.http_version) == (200, version)
            asked = {"entityIds": ["e0", "e1", "e2"] * 10, "features": ["b"]}
            results = (await client.post("/features/serve", json=asked)).json()["results"]
            assert [len(result["features"]["b"]) for result in results] == [50_000] * 30
            assert (await client.get("/health/live")).status_code == 200
        assert len(taken) == (0 if http2 else 4)
        front.stop.set()


# A process, and a signal


def test_a_signal_amid_hot_requests_ends_the_process_well_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    answered: list[int] = []

    def client(url: str, number: int, running: threading.Barrier) -> None:
        """Write one value after another, three at a time, until the server says or shows that it ends."""
        host, _, port = url.removeprefix("http://").partition(":")
        done, waited = 0, False
        with socket.create_connection((host, int(port)), timeout=30) as wire:
            while True:
                batch = [b'{"featureId":"a","entityId":"c%d","value":%d}' % (number, done + n) for n in (1, 2, 3)]
                received = b""
                try:
                    wire.sendall(b"".join(request(WRITE, body) for body in batch))
                    while received.count(b'{"success":true}') < 3 and (data := wire.recv(65_536)):
                        received += data
                except OSError:
                    pass
                done += received.count(b'{"success":true}')
                if not waited:
                    waited = True
                    running.wait(30)
                if received.count(b'{"success":true}') < 3:
                    answered[number] = done
                    return
                assert b"connection: close" not in received[: received.rfind(b"HTTP/1.1")]

    with LiveServer(tmp_path / "data") as server:
        server.register("a")
        running = threading.Barrier(4)
        answered.extend([0] * 3)
        clients = [threading.Thread(target=client, args=(server.url, n, running)) for n in range(3)]
        for thread in clients:
            thread.start()
        running.wait(30)
        assert server.stop(signal.SIGTERM) == 0
        for thread in clients:
            thread.join(30)
        assert min(answered) >= 3
        server.start()
        results = server.serve(["c0", "c1", "c2"], ["a"])
        kept = [result["features"]["a"] for result in results]
    assert all(value - count in (0, 1) for value, count in zip(kept, answered, strict=True)), (kept, answered)
