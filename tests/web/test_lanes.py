"""The forms of an answer: the same values in each, in lots, for clients that read slowly or leave."""

from __future__ import annotations

import csv
import io
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import trio
import trio.testing

from actors.domain import FeatureChange, ValueSchema
from actors.opening import open_router
from actors.router import Router
from actors.settings import Settings
from actors.table.columns import Times
from actors.timestamps import format_timestamp
from actors.training import Filled, Spine
from tests.actors.test_training import NOW, put
from tests.live import LiveServer
from tests.model import rfc3339
from web.answers.lanes import ARROW_TYPE, CSV_TYPE, LANES, NDJSON_TYPE
from web.app import create_app
from web.bodies.requests import JSON_TYPE
from web.routes import training

PATH = "/features/training-set"
SETTINGS = Settings(storage_type="memory", checkpoint_seconds=1e6, enable_monitoring=False)
FEATURES: dict[str, tuple[Any, list[Any]]] = {
    "number": (pa.float64(), [0.5, 5, -1e300, None]),
    "integer": (pa.int64(), [2**63 - 1, -(2**63), 0, None]),
    "string": (pa.string(), ['ä, "b"\n', "", "None", None]),
    "boolean": (pa.bool_(), [True, False, True, None]),
    "timestamp": (pa.timestamp("us", "UTC"), [format_timestamp(n) for n in (0, 1, NOW)] + [None]),
    "vector": (pa.list_(pa.float32()), [[0.1, 5], [-1, 2], [0.25, 0], None]),
    "json": (pa.string(), [{"a": [1, None]}, "text", 5.5, None]),
}


class Answer(NamedTuple):
    """What came of a request."""

    status: int
    content_type: str
    data: bytes


class Asker:
    """An application that is asked for training sets, and waits while its answer is not taken."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.app = create_app(router, SETTINGS)
        self.taking = trio.Event()
        self.taking.set()
        self.leave = trio.Event()
        self.sent: list[Any] = []
        self.path = PATH

    async def call(self, accept: str | None, **body: Any) -> Answer:
        """The whole answer."""
        incoming = [{"type": "http.request", "body": msgspec.json.encode(body), "more_body": False}]
        self.sent = []

        async def receive() -> Any:
            if incoming:
                return incoming.pop()
            await self.leave.wait()
            return {"type": "http.disconnect"}

        async def send(event: Any) -> None:
            self.sent.append(event)
            await self.taking.wait()

        headers = [(b"host", b"x"), (b"content-type", JSON_TYPE.encode())]
        headers += [] if accept is None else [(b"accept", accept.encode())]
        scope: Any = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "extensions": {},
        }
        await self.app(scope, receive, send)
        start = self.sent[0]
        content_type = dict(start["headers"])[b"content-type"].decode()
        return Answer(start["status"], content_type, self.body())

    def body(self) -> bytes:
        """What has been sent so far."""
        return b"".join(event.get("body", b"") for event in self.sent[1:])

    async def ask(self, rows: Sequence[Any], accept: str | None, status: int = 200, **rest: Any) -> Answer:
        """The answer, which has this status."""
        answer = await self.call(accept, **{"rows": rows, "features": ["number"], **rest})
        assert answer.status == status, answer.data[:500]
        return answer

    async def everything(self, rows: Sequence[Any], **rest: Any) -> dict[str, list[dict[str, Any]]]:
        """The rows of an answer in every form, as one would read them."""
        found = {lane: (await self.ask(rows, lane, **rest)).data for lane in LANES}
        return {
            JSON_TYPE: json.loads(found[JSON_TYPE])["results"],
            NDJSON_TYPE: [json.loads(line) for line in found[NDJSON_TYPE].splitlines()],
            ARROW_TYPE: pa.ipc.open_stream(found[ARROW_TYPE]).read_all().to_pylist(),
            CSV_TYPE: list(csv.DictReader(io.StringIO(found[CSV_TYPE].decode(), newline=""))),
        }


@asynccontextmanager
async def asker() -> AsyncIterator[Asker]:
    """One feature of each type, which u0 .. u3 have a value of, the last a null; u4 has none."""
    async with open_router(SETTINGS, now=lambda: NOW) as router:
        for value_type, (_, values) in FEATURES.items():
            schema = {"schema": ValueSchema(dimension=2)} if value_type == "vector" else {}
            change = FeatureChange(entity="user", name=value_type, value_type=value_type, **schema)  # type: ignore[arg-type]
            feature, _ = await router.register(change)
            await put(router, feature, *((f"u{n}", NOW, value) for n, value in enumerate(values)))
        yield Asker(router)


def rows_of(count: int, **labels: Any) -> list[dict[str, Any]]:
    """Rows about u0 .. u4, in turn."""
    return [{"entityId": f"u{n % 5}", "timestamp": rfc3339(NOW + n), "n": n, **labels} for n in range(count)]


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row of Arrow as the same row of JSON."""
    moments = {
        name: format_timestamp(round(row[name].timestamp() * 1e6))
        for name in ("timestamp_", "timestamp")
        if row.get(name) is not None
    }
    row = {**row, **moments}
    if row["json"] is not None:
        row["json"] = json.loads(row["json"])
    if row["vector"] is not None:
        row["vector"] = [float(str(np.float32(one))) for one in row["vector"]]
    return row


def as_csv(row: dict[str, Any]) -> dict[str, str]:
    """A row of JSON as the same row of CSV."""
    return {
        name: ""
        if value is None
        else value
        if isinstance(value, str) and name != "json"
        else json.dumps(value, separators=(",", ":"))
        for name, value in row.items()
    }


# `timestamp` is a key of every row, so the feature of that name needs another.
WANTED = [name for name in FEATURES if name != "timestamp"] + [{"ref": "timestamp", "as": "timestamp_"}]


@pytest.mark.parametrize("cells", [1_000_000, 20, 1], ids=["one lot", "lots of two rows", "a row at a time"])
@pytest.mark.parametrize("count", [0, 1, 4, 23])
async def test_every_form_holds_the_same_values(monkeypatch: pytest.MonkeyPatch, cells: int, count: int) -> None:
    monkeypatch.setattr(training, "CELLS_PER_LOT", cells)
    async with asker() as app:
        rows = rows_of(count, label="x")
        found = await app.everything(rows, features=WANTED)
    assert len(found[JSON_TYPE]) == count
    for n, row in enumerate(found[JSON_TYPE]):
        given = {"entityId": f"u{n % 5}", "timestamp": format_timestamp(NOW + n), "n": n, "label": "x"}
        values = {name: None if n % 5 > 3 else values[n % 5] for name, (_, values) in FEATURES.items()}
        moment = values.pop("timestamp")
        assert row == {**given, **values, "timestamp_": moment}
        assert list(row) == [*given, *values, "timestamp_"]
    assert found[NDJSON_TYPE] == found[JSON_TYPE]
    assert [as_json(row) for row in found[ARROW_TYPE]] == found[JSON_TYPE]
    texts = [as_csv(row) for row in found[JSON_TYPE]]
    assert [{**row, "number": ""} for row in found[CSV_TYPE]] == [{**row, "number": ""} for row in texts]
    numbers = [None if row["number"] == "" else float(row["number"]) for row in found[CSV_TYPE]]
    assert numbers == [row["number"] for row in found[JSON_TYPE]]


@pytest.mark.parametrize("count", [0, 1, 23])
async def test_arrow_has_a_type_for_each_type_of_feature(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(training, "CELLS_PER_LOT", 30)
    async with asker() as app:
        data = (await app.ask(rows_of(count), ARROW_TYPE, features=WANTED)).data
        reader = pa.ipc.open_stream(data)
        types = {name: reader.schema.field(name).type for name in reader.schema.names}
        table = reader.read_all()
        table.validate(full=True)
    moment = types.pop("timestamp_")
    assert moment == FEATURES["timestamp"][0]
    expected = {name: kind for name, (kind, _) in FEATURES.items() if name != "timestamp"}
    assert {name: types[name] for name in expected} == expected
    assert types["timestamp"] == pa.timestamp("us", "UTC")
    assert types["entityId"] == pa.string()
    assert table.num_rows == count


@pytest.mark.parametrize("aggregation", ["count", "avg", "max", "distinct"])
@pytest.mark.parametrize("count", [0, 23])
async def test_aggregates_have_their_own_types_in_arrow(
    monkeypatch: pytest.MonkeyPatch, aggregation: str, count: int
) -> None:
    monkeypatch.setattr(training, "CELLS_PER_LOT", 30)
    async with asker() as app:
        rest: dict[str, Any] = {"aggregation": aggregation, "window": "1h", "features": ["integer"]}
        data = (await app.ask(rows_of(count), ARROW_TYPE, **rest)).data
        text = (await app.ask(rows_of(count), JSON_TYPE, **rest)).data
    table = pa.ipc.open_stream(data).read_all()
    assert table["integer"].type == (pa.float64() if aggregation == "avg" else pa.int64())
    assert table["integer"].to_pylist() == [row["integer"] for row in json.loads(text)["results"]]


@pytest.mark.parametrize("lane", list(LANES))
async def test_a_sum_beyond_64_bits_is_held_or_refused_in_every_form(lane: str) -> None:
    async with asker() as app:
        feature = app.router.registry.resolve("integer")
        await put(app.router, feature, ("u0", NOW - 1, 2**63 - 1))
        rows = rows_of(2)
        rest = {"aggregation": "sum", "window": "1h", "features": ["integer"]}
        answer = await app.call(lane, rows=rows, **rest)
        data = answer.data
    if answer.status != 400:
        held: dict[str, Callable[[], Any]] = {
            JSON_TYPE: lambda: json.loads(data)["results"][0]["integer"],
            NDJSON_TYPE: lambda: json.loads(data.splitlines()[0])["integer"],
            ARROW_TYPE: lambda: pa.ipc.open_stream(data).read_all()["integer"].to_pylist()[0],
            CSV_TYPE: lambda: next(csv.DictReader(io.StringIO(data.decode())))["integer"],
        }
        assert float(held[lane]()) == float(2**64 - 2)


LABELS: list[list[Any]] = [
    [1, 2.5, None],
    [True, False, None],
    [1.5, True, False],
    [True, 1.5, 0],
    ["a", 5, None],
    [2**64, -1, None],
    [{"a": 1}, {"b": 2}, {}],
    [[], [1], ["a"]],
    [None, None, None],
    [{}, {}, {}],
    [json.loads("[" * 80 + "]" * 80), [], None],
]


@pytest.mark.parametrize("labels", LABELS, ids=lambda labels: str(labels)[:40].replace("[[[[", "["))
async def test_labels_of_any_kind_stay_what_they_are_in_every_form(labels: list[Any]) -> None:
    async with asker() as app:
        rows = [{**row, "label": label} for row, label in zip(rows_of(3), labels, strict=True)]
        found = await app.everything(rows, features=["number"])
    assert repr([row["label"] for row in found[JSON_TYPE]]) == repr(labels)
    assert repr([row["label"] for row in found[NDJSON_TYPE]]) == repr(labels)
    assert [row["label"] for row in found[CSV_TYPE]] == [as_csv({"label": one})["label"] for one in labels]
    typed = [row["label"] for row in found[ARROW_TYPE]]
    if any(isinstance(one, str) for one in typed):  # of several types: as their JSON
        typed = [None if one is None else json.loads(one) for one in typed]
    assert [(str(one) if isinstance(one, bool) else one) for one in typed] == [
        str(one) if isinstance(one, bool) else one for one in labels
    ]


# What is accepted


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON_TYPE),
        ("", JSON_TYPE),
        ("*/*", JSON_TYPE),
        ("text/html, */*", JSON_TYPE),
        ("application/*", JSON_TYPE),
        ("text/*", CSV_TYPE),
        ("TEXT/CSV", CSV_TYPE),
        ("text/csv, */*;q=0.1", CSV_TYPE),
        ("text/csv;q=0.5, application/x-ndjson;q=0.9", NDJSON_TYPE),
        ("application/json;q=0.1, application/vnd.apache.arrow.stream", ARROW_TYPE),
        ("image/png, application/vnd.apache.arrow.stream;q=0.001", ARROW_TYPE),
        ("application/json;q=0, */*", NDJSON_TYPE),
        ("application/json; charset=utf-8", JSON_TYPE),
        ("text/csv;charset=utf-8", CSV_TYPE),
        ("text/csv; header=present; q=0.9, image/png", CSV_TYPE),
    ],
)
async def test_the_form_is_the_one_that_the_client_likes_best(accept: str | None, chosen: str) -> None:
    async with asker() as app:
        answer = await app.ask(rows_of(1), accept)
        assert answer.content_type.partition(";")[0] == chosen


@pytest.mark.parametrize(
    "accept", ["image/png", "application/json;q=0", "text/html", "application/vnd.apache.arrow.file"]
)
async def test_a_client_that_takes_none_of_the_forms_is_told_which_there_are(accept: str) -> None:
    async with asker() as app:
        answer = await app.ask(rows_of(1), accept, 406)
        assert answer.content_type == "application/problem+json"
        assert all(lane in json.loads(answer.data)["detail"] for lane in LANES)


async def test_a_request_that_is_wrong_is_a_problem_whatever_form_was_asked_for() -> None:
    async with asker() as app:
        for lane in LANES:
            answer = await app.ask([{"entityId": "u"}], lane, 400)
            assert answer.content_type == "application/problem+json"
            assert json.loads(answer.data)["status"] == 400


# Lots


def counting(monkeypatch: pytest.MonkeyPatch, router: Router) -> list[int]:
    """The rows of each lot that the router is asked for."""
    lots: list[int] = []
    fill = router.fill

    async def counted(moments: Spine, wanted: Any) -> list[Filled]:
        lots.append(len(moments.at))
        return await fill(moments, wanted)

    monkeypatch.setattr(router, "fill", counted)
    return lots


@pytest.mark.parametrize("lane", list(LANES))
async def test_an_answer_is_put_together_a_lot_at_a_time(monkeypatch: pytest.MonkeyPatch, lane: str) -> None:
    monkeypatch.setattr(training, "CELLS_PER_LOT", 40)
    async with asker() as app:
        lots = counting(monkeypatch, app.router)
        await app.ask(rows_of(25), lane, features=["number"])  # with the keys and the label four columns
    assert lots == [10, 10, 5]


async def test_the_next_lot_is_not_asked_for_before_the_one_before_was_taken(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr(training, "CELLS_PER_LOT", 40)
    async with asker() as app:
        lots = counting(monkeypatch, app.router)
        app.taking = trio.Event()
        nursery.start_soon(app.ask, rows_of(100), NDJSON_TYPE)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(lots) <= 2
        app.taking.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert lots == [10] * 10 and len(app.body().splitlines()) == 100


async def test_no_lot_is_asked_for_once_the_client_has_left(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr(training, "CELLS_PER_LOT", 40)
    async with asker() as app:
        lots = counting(monkeypatch, app.router)
        app.taking = trio.Event()
        nursery.start_soon(app.ask, rows_of(100), NDJSON_TYPE)
        await trio.testing.wait_all_tasks_blocked(0.01)
        app.leave.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        app.taking.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(lots) <= 2


# Clients that read slowly or leave, over a real connection

ROWS = 40_000


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with a feature that a hundred columns can be made of."""
    with LiveServer(tmp_path_factory.mktemp("wide") / "data") as live:
        live.register("clicks")
        live.write(*(("user.clicks.v1", f"u{n}", 123456.789, "2025-11-07T10:00:00Z") for n in range(100)))
        yield live


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4_096


def worked(pid: int) -> int:
    """Processor time of a process in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def request_of(columns: int, times: Times) -> bytes:
    """A request for many values."""
    rows = [{"entityId": f"u{n % 100}", "timestamp": "2025-11-07T11:00:00Z"} for n in range(len(times))]
    features = [{"ref": "clicks", "as": f"a_column_with_a_rather_long_name_{n}"} for n in range(columns)]
    body = json.dumps({"rows": rows, "features": features}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON_TYPE}\r\nAccept: {NDJSON_TYPE}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def opened(server: LiveServer, request: bytes) -> socket.socket:
    """A connection on which a request was sent and the beginning of its answer has come."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.settimeout(20)
    connection.connect((host, int(port)))
    connection.sendall(request)
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
    return connection


def settled(server: LiveServer) -> None:
    """Returns when the server has done nothing for some while; at most after a few seconds."""
    until, still = time.monotonic() + 6, 0
    before = worked(server.pid)
    while still < 3 and time.monotonic() < until:
        quiet = _pause(0.1)
        now = worked(server.pid)
        still = still + 1 if now - before <= quiet else 0
        before = now


def _pause(seconds: float) -> int:
    """Waits on a connection that never says anything. Returns the hundredths that count as nothing."""
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(seconds)
        with suppress(TimeoutError):
            here.recv(1)
    return 2


def test_a_client_that_stops_reading_does_not_grow_the_server(wide: LiveServer) -> None:
    request = request_of(100, np.zeros(ROWS, np.int64))  # some 200 MB of lines
    with opened(wide, request):
        settled(wide)
        first = resident(wide.pid)
        spent = worked(wide.pid)
        _pause(0.7)
        assert worked(wide.pid) - spent < 30, "it works on though nobody takes its answer"
        assert resident(wide.pid) - first < 50 * 2**20
        assert wide.get("/health/live").status_code == 200


def test_a_client_that_leaves_ends_the_work(wide: LiveServer) -> None:
    request = request_of(100, np.zeros(ROWS, np.int64))
    connection = opened(wide, request)
    connection.close()
    settled(wide)
    spent = worked(wide.pid)
    _pause(0.5)
    assert worked(wide.pid) - spent < 20
    assert wide.get("/health/live").status_code == 200
