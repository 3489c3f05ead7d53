"""Statistics are those of what was accepted, each observation once, however often the process is killed."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from tests.live import LiveServer
from tests.model import rfc3339

FEATURE = "user.amount.v1"
ROUNDS = 3
WRITERS = 3
NOON = 1_762_516_800_000_000
HOUR = 3_600_000_000
EDGES = [-400 * HOUR, -25 * HOUR, -HOUR, -300_000_000, 0, 300_000_000, HOUR]
"""Rows lie around these, before and after the present: in windows of five minutes, an hour and a day."""


class Row(NamedTuple):
    """An observation as it was sent."""

    time: int
    value: float | None


class Batch(NamedTuple):
    """Rows of one entity, which no other batch writes."""

    entity: str
    rows: list[Row]

    def body(self) -> dict[str, Any]:
        return {
            "values": [
                {"featureId": FEATURE, "entityId": self.entity, "value": row.value, "timestamp": rfc3339(row.time)}
                for row in self.rows
            ]
        }


class Writer(threading.Thread):
    """Sends batches until the server is gone: what was acknowledged, and the one that may or may not be there."""

    def __init__(self, url: str, name: str, base: int) -> None:
        super().__init__(name=name)
        self.url = url
        self.base = base
        self.chance = random.Random(name)
        self.acknowledged: list[Batch] = []
        self.open: Batch | None = None

    def run(self) -> None:
        with httpx.Client(base_url=self.url) as http:
            try:
                while True:
                    self.open = self.batch()
                    answer = http.post("/features/write-batch", json=self.open.body())
                    assert answer.status_code == 200, answer.text
                    self.acknowledged.append(self.open)
            except httpx.TransportError:
                return

    def batch(self) -> Batch:
        times = [
            self.base + self.chance.choice(EDGES) + self.chance.randrange(-3, 4)
            for _ in range(self.chance.randrange(1, 30))
        ]
        values = [None if self.chance.random() < 0.1 else float(self.chance.randrange(500)) for _ in times]
        entity = f"{self.name}-{len(self.acknowledged)}"
        return Batch(entity, [Row(*row) for row in zip(times, values, strict=True)])


def is_there(server: LiveServer, batch: Batch) -> bool:
    """Whether a batch that was not acknowledged was accepted."""
    answer = server.get(f"/features/{FEATURE}/history", entityId=batch.entity, limit=1)
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["observations"])


def check(server: LiveServer, rows: list[Row], start: int | None = None, end: int | None = None) -> None:
    """The statistics, of a period where bounds are given, against numpy."""
    bounds = {name: rfc3339(at) for name, at in (("startTime", start), ("endTime", end)) if at is not None}
    answer = server.get(f"/features/{FEATURE}/stats", **bounds)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    inside = [row for row in rows if (start is None or row.time >= start) and (end is None or row.time <= end)]
    values = [row.value for row in inside if row.value is not None]
    assert (found["count"], found["nullCount"]) == (len(inside), len(inside) - len(values))
    assert found["uniqueValues"] == len(set(values))
    assert (found["min"], found["max"]) == (min(values, default=None), max(values, default=None))
    if values:
        assert found["mean"] == pytest.approx(np.mean(values))
        assert found["std"] == pytest.approx(np.std(values))


def check_all(server: LiveServer, rows: list[Row], base: int) -> None:
    """The whole, and periods whose bounds lie within windows, on their edges and beside them."""
    check(server, rows)
    for start, end in (
        (base, base + 300_000_000),
        (base - 1, base + 299_999_999),
        (base - HOUR + 1, base),
        (base - 25 * HOUR, base - HOUR - 1),
        (base - 400 * HOUR - 1, base - 400 * HOUR + 1),
    ):
        check(server, rows, start, end)
    check(server, rows, start=base + 1)
    check(server, rows, end=base - 2)


def test_a_server_killed_amid_writes_and_saves_has_counted_each_accepted_observation_once(tmp_path: Path) -> None:
    moments = random.Random(5)
    with LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="0.03") as server:
        created = server.register("amount")["createdAt"]
        base = int(np.datetime64(created[:-1], "us").astype(np.int64)) // HOUR * HOUR
        rows: list[Row] = []
        acknowledged = 0
        for round_ in range(ROUNDS):
            writers = [Writer(server.url, f"round{round_}-writer{number}", base) for number in range(WRITERS)]
            killer = threading.Timer(moments.uniform(0.05, 0.4), os.kill, (server.pid, signal.SIGKILL))
            for thread in (*writers, killer):
                thread.start()
            for thread in writers:
                thread.join()
            server.kill()
            server.start()
            for writer in writers:
                acknowledged += len(writer.acknowledged)
                rows += [row for batch in writer.acknowledged for row in batch.rows]
                if writer.open is not None and writer.open not in writer.acknowledged:
                    rows += writer.open.rows if is_there(server, writer.open) else []
            check_all(server, rows, base)
        assert acknowledged > ROUNDS * WRITERS
        server.stop()
        server.start()
        check_all(server, rows, base)


def test_statistics_asked_for_while_saves_go_on_never_lag_behind_an_answer_nor_run_ahead(tmp_path: Path) -> None:
    """Between a save and its acknowledgement the same observations are in two places."""
    with LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="0.001") as server:
        server.register("amount")
        rows: list[Row] = []
        for number in range(20):
            batch = Batch(f"u{number}", [Row(NOON + number, float(number)), Row(NOON + HOUR + number, None)])
            server.write(*((FEATURE, batch.entity, row.value, rfc3339(row.time)) for row in batch.rows))
            rows += batch.rows
            check(server, rows)
            check(server, rows, NOON + 3, NOON + HOUR + 7)
        server.kill()
        server.start()
        check(server, rows)
        check(server, rows, NOON + 3, NOON + HOUR + 7)


def test_a_feature_deleted_before_the_kill_has_left_nothing_to_the_one_of_its_name(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="0.03") as server:
        for life in range(2):
            server.register("amount")
            rows = [Row(NOON + number, float(life)) for number in range(life + 1)]
            server.write(*((FEATURE, "u", row.value, rfc3339(row.time)) for row in rows))
            server.kill()
            server.start()
            check(server, rows)
            check(server, rows, NOON, NOON + 1)
            assert server.http.delete(f"/features/{FEATURE}").status_code == 204
