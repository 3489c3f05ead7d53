"""What the bulk lanes acknowledged is there whole after a restart, from the journal and from the history."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from tests.live import LiveServer

ROUNDS = 2
ROWS = 1_000
BATCH = "/features/write-batch"
LINES = {"Content-Type": "application/x-ndjson"}
ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}
CLICKS, SHOWN = "user.clicks.v1", "user.shown.v1"
BASE = 1_762_509_600_000_000


def stream_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


class Writer(threading.Thread):
    """Sends bulk bodies one after the other until the server is gone. A body writes one number to each entity."""

    def __init__(self, url: str, name: str, lane: str) -> None:
        super().__init__(name=name)
        self.url = url
        self.lane = lane
        self.acknowledged: list[int] = []
        self.sent = 0

    def entities(self) -> list[str]:
        return [f"{self.name}-{row}" for row in range(ROWS)]

    def run(self) -> None:
        body, headers = (self.table, ARROW) if self.lane == "table" else (self.lines, LINES)
        with httpx.Client(base_url=self.url, timeout=30) as http:
            try:
                while True:
                    self.sent += 1
                    answer = http.post(BATCH, content=body(self.sent), headers=headers)
                    if answer.status_code == 200:
                        assert answer.json()["count"] == 2 * ROWS
                        self.acknowledged.append(self.sent)
            except httpx.TransportError:
                return

    def table(self, number: int) -> bytes:
        """Wide: both features share their ids."""
        numbers = np.full(ROWS, number)
        times = pa.array(np.full(ROWS, BASE + number), pa.timestamp("us", "UTC"))
        return stream_of(
            pa.table({"entityId": self.entities(), "timestamp": times, CLICKS: numbers, SHOWN: -numbers})
        )

    def lines(self, number: int) -> Iterator[bytes]:
        """Without a length, in pieces, so that a kill may come in the middle."""
        moment = f"2025-11-07T10:00:00.{number:06}Z"
        for feature, value in ((CLICKS, number), (SHOWN, -number)):
            item = {"featureId": feature, "value": value, "timestamp": moment}
            lines = [json.dumps({"entityId": entity, **item}) for entity in self.entities()]
            for start in range(0, ROWS, 500):
                yield "".join(f"{line}\n" for line in lines[start : start + 500]).encode()


def numbers_kept(server: LiveServer, feature: str, entity: str) -> list[int]:
    """All numbers that an entity's history holds."""
    answer = server.get(f"/features/{feature}/history", entityId=entity, limit=10_000).json()
    return [item["value"] for item in answer["observations"]]


def latest(server: LiveServer, entities: list[str]) -> list[tuple[Any, Any]]:
    results = server.serve(entities, [CLICKS, SHOWN])
    return [(result["features"][CLICKS], result["features"][SHOWN]) for result in results]


def test_a_server_killed_again_and_again_amid_bulk_writes_has_every_acknowledged_body_whole(
    tmp_path: Path,
) -> None:
    moments = random.Random(11)
    server = LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="0.1")
    writers: list[Writer] = []
    with server:
        server.register("clicks", "integer")
        server.register("shown", "integer")
        for round_ in range(ROUNDS):
            mine = [Writer(server.url, f"round{round_}-{lane}", lane) for lane in ("table", "lines")]
            for thread in mine:
                thread.start()
            while not all(writer.acknowledged or not writer.is_alive() for writer in mine):
                mine[0].join(0.01)
            killer = threading.Timer(moments.uniform(0.01, 0.3), os.kill, (server.pid, signal.SIGKILL))
            killer.start()
            for thread in mine:
                thread.join()
            server.kill()
            server.start()
            writers += mine
        accepted = 0
        for writer in writers:
            some = [writer.entities()[row] for row in (0, 499, 500, ROWS - 1)]
            kept = [numbers_kept(server, CLICKS, entity) for entity in some]
            assert all(numbers == kept[0] for numbers in kept), "a body is half there"
            assert [[-number for number in kept[0]]] * len(some) == [
                numbers_kept(server, SHOWN, entity) for entity in some
            ]
            assert set(writer.acknowledged) <= set(kept[0]) <= set(range(1, writer.sent + 1))
            assert writer.acknowledged
            assert latest(server, writer.entities()) == [(kept[0][-1], -kept[0][-1])] * ROWS
            accepted += len(kept[0]) * ROWS
        for feature in (CLICKS, SHOWN):
            assert server.get(f"/features/{feature}/stats").json()["count"] == accepted


VALUES: dict[str, list[Any]] = {
    "number": [0.5, None, -1e300, 5.0],
    "integer": [2**63 - 1, -(2**63), None, 2**53 + 1],
    "string": ["", "é😀", "a\x00b", None],
    "boolean": [True, False, None, True],
    "timestamp": ["1969-12-31T23:59:59.999999Z", None, "9999-12-31T23:59:59.999Z", "2025-11-07T10:00:00.000Z"],
    "vector": [None, [0.5, -1.5], [3e38, 1e-38], [1.0, 2.0]],
    "json": ['{"a":[1,null]}', "[]", None, '"text"'],
}
ARROW_TYPES = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "timestamp": pa.string(),
    "vector": pa.list_(pa.float32(), 2),
    "json": pa.string(),
}
ENTITIES = ["u1", "u2", "Zoë ✓ 東京", "u1"]
"""The last row is later than the first of the same entity."""


def wide_of_every_type() -> pa.Table:
    """Features of two entity types, some without gaps, which share their ids, and some with."""
    times = pa.array([BASE, BASE + 1, BASE + 2, BASE + 3], pa.timestamp("us"))
    columns: dict[str, Any] = {"entityId": ENTITIES, "timestamp": times}
    for kind, values in VALUES.items():
        whole = [value if value is not None else values[-1] or values[0] for value in values]
        columns[f"user.{kind}.v1"] = pa.array(values, ARROW_TYPES[kind])
        columns[f"user.{kind}.v2"] = columns[f"item.{kind}.v1"] = pa.array(whole, ARROW_TYPES[kind])
    return pa.table(columns)


def everything(server: LiveServer) -> dict[str, str]:
    """Every observation of every feature, as texts."""
    found = {}
    for name in wide_of_every_type().column_names[2:]:
        for entity in sorted(set(ENTITIES)):
            answer = server.get(f"/features/{name}/history", entityId=entity)
            assert answer.status_code == 200
            found[f"{name} of {entity}"] = answer.text
    features = list(wide_of_every_type().column_names[2:])
    asked = {"entityIds": sorted(set(ENTITIES)), "features": features, "asOf": "2025-11-07T10:00:00.000003Z"}
    return {**found, "served": server.post("/features/serve", asked).text}


def register_all(server: LiveServer) -> None:
    for kind in VALUES:
        for entity, version in (("user", 1), ("user", 2), ("item", 1)):
            schema: dict[str, Any] = {"schema": {"dimension": 2}} if kind == "vector" else {}
            server.register(kind, kind, version=version, entity=entity, **schema)


def write_one_by_one(server: LiveServer) -> None:
    """The same table through the JSON lane."""
    table = wide_of_every_type()
    rows = []
    for name in table.column_names[2:]:
        for row, value in enumerate(table[name].to_pylist()):
            if value is not None:
                sent = json.loads(value) if ".json." in name else value
                rows.append((name, ENTITIES[row], sent, f"2025-11-07T10:00:00.{row:06}Z"))
    server.write(*rows)


@pytest.mark.parametrize("tier", ["journal", "history"])
def test_features_written_wide_come_back_exactly_after_a_restart(tmp_path: Path, tier: str) -> None:
    seconds = "1000" if tier == "journal" else "0.05"
    runs = tmp_path / "data" / "history"
    with LiveServer(tmp_path / "data", CHECKPOINT_SECONDS=seconds) as server:
        register_all(server)
        answer = server.http.post(BATCH, content=stream_of(wide_of_every_type()), headers=ARROW)
        gaps = sum(value is None for values in VALUES.values() for value in values)
        assert answer.json() == {"success": True, "count": 3 * 4 * len(VALUES) - gaps}
        before = everything(server)
        while tier == "history" and not list(runs.glob("run=*/*.parquet")):
            server.get("/health/live")
        server.kill()
        assert bool(list(runs.glob("run=*/*.parquet"))) == (tier == "history")
        server.start()
        assert everything(server) == before
    with LiveServer(tmp_path / "other", CHECKPOINT_SECONDS="1000") as other:
        register_all(other)
        write_one_by_one(other)
        assert everything(other) == before


def test_the_answer_to_a_key_is_kept_with_the_body_that_it_belongs_to(server: LiveServer) -> None:
    server.register("clicks", "integer")
    key = {"Idempotency-Key": "k"}
    table = pa.table({"entityId": [f"e{row}" for row in range(50)], CLICKS: np.arange(50)})
    first = server.http.post(BATCH, content=stream_of(table), headers={**ARROW, **key})
    assert first.json() == {"success": True, "count": 50}
    server.kill()
    server.start()
    again = server.http.post(BATCH, content=b"nonsense", headers={**ARROW, **key})
    assert (again.status_code, again.text) == (200, first.text)
    assert server.get(f"/features/{CLICKS}/stats").json()["count"] == 50


def test_a_body_of_many_slices_survives_the_kill_that_follows_its_answer(server: LiveServer) -> None:
    for place in range(3):
        server.register(f"f{place}", "integer")
    rows = 70_001
    entities = [f"e{row}" for row in range(rows)]
    columns = {f"user.f{place}.v1": np.arange(rows) * (place + 1) for place in range(3)}
    table = pa.table({"entityId": entities, **columns})
    assert server.http.post(BATCH, content=stream_of(table), headers=ARROW).json()["count"] == 3 * rows
    server.kill()
    server.start()
    features = list(columns)
    places = [*range(0, rows, 997), rows - 1]
    results = server.serve([entities[row] for row in places], features)
    assert [list(result["features"].values()) for result in results] == [[row, 2 * row, 3 * row] for row in places]
    assert all(server.get(f"/features/{feature}/stats").json()["count"] == rows for feature in features)
