"""Exports: everything observed of some features, of all entities or of some, over every store."""

from __future__ import annotations

import csv
import io
import json
import random
from itertools import count
from typing import Any

import pyarrow as pa
import pytest

from tests.live import LiveServer
from tests.web.test_errors import problem
from web.answers.lanes import ARROW_TYPE, CSV_TYPE, NDJSON_TYPE

OVER_EVERY_STORE = True
_NUMBERS = count()


@pytest.fixture
def kind() -> str:
    """An entity type of its own for each test."""
    return f"export{next(_NUMBERS)}"


def at(minute: int) -> str:
    return f"2025-11-07T{10 + minute // 60:02}:{minute % 60:02}:00.000Z"


def export(server: LiveServer, features: list[str] | None, **rest: Any) -> list[dict[str, Any]]:
    answer = server.post("/features/export", {"features": features, **rest})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


class Oracle:
    """Observations of three features, kept naively beside the server."""

    def __init__(self, server: LiveServer, kind: str, seed: int) -> None:
        self.server = server
        types = {"amount": "number", "town": "string", "place": "vector"}
        self.ids = {
            name: server.register(
                name, type_, entity=kind, **({"schema": {"dimension": 2}} if name == "place" else {})
            )["id"]
            for name, type_ in types.items()
        }
        self.known: dict[tuple[str, str], dict[str, Any]] = {}
        self._chance = random.Random(seed)

    def write(self, rows: int) -> None:
        """Write a batch; some observations correct earlier ones, and some are null."""
        batch = []
        for _ in range(rows):
            name, entity = self._chance.choice([*self.ids]), f"e{self._chance.randrange(12)}"
            moment, value = at(self._chance.randrange(90)), self._value(name)
            self.known.setdefault((entity, moment), {})[self.ids[name]] = value
            batch.append((self.ids[name], entity, value, moment))
        self.server.write(*batch)

    def _value(self, name: str) -> Any:
        if self._chance.random() < 0.1:
            return None
        number = self._chance.randrange(1_000)
        return {"amount": number / 8, "town": f"town {number}", "place": [number / 4, 0.5]}[name]

    def rows(self, *names: str, start: str = at(0), end: str = at(99)) -> list[dict[str, Any]]:
        ids = [self.ids[name] for name in names or self.ids]
        return [
            {"entityId": entity, "timestamp": moment, **{id_: values.get(id_) for id_ in ids}}
            for (entity, moment), values in sorted(self.known.items())
            if start <= moment <= end and any(id_ in values for id_ in ids)
        ]


def test_an_export_has_every_observation_as_a_naive_oracle_keeps_them(
    shared_server: LiveServer, kind: str
) -> None:
    oracle = Oracle(shared_server, kind, 7)
    for rows in (60, 1, 40, 120):
        oracle.write(rows)
        ids = [*oracle.ids.values()]
        assert export(shared_server, ids) == oracle.rows()
    assert export(shared_server, [oracle.ids["town"]]) == oracle.rows("town")
    within = {"startTime": at(20), "endTime": at(61)}
    assert export(shared_server, ids, **within) == oracle.rows(start=at(20), end=at(61))
    some = ["e7", "nobody", "e3", "e7"]
    expected = [row for id_ in ("e7", "e3") for row in oracle.rows() if row["entityId"] == id_]
    assert export(shared_server, ids, entityIds=some) == expected
    assert shared_server.http.delete(f"/entities/{kind}/e3").status_code == 200
    assert export(shared_server, ids) == [row for row in oracle.rows() if row["entityId"] != "e3"]


@pytest.mark.parametrize("form", [NDJSON_TYPE, CSV_TYPE, ARROW_TYPE])
def test_every_form_has_the_same_rows(shared_server: LiveServer, kind: str, form: str) -> None:
    oracle = Oracle(shared_server, kind, 11)
    oracle.write(80)
    asked = {"features": [*oracle.ids.values()]}
    answer = shared_server.http.post("/features/export", json=asked, headers={"Accept": form})
    assert answer.status_code == 200
    expected = oracle.rows()
    if form == NDJSON_TYPE:
        assert [json.loads(line) for line in answer.text.splitlines()] == expected
    elif form == CSV_TYPE:
        rows = [*csv.DictReader(io.StringIO(answer.text))]
        assert [(row["entityId"], row["timestamp"]) for row in rows] == [
            (row["entityId"], row["timestamp"]) for row in expected
        ]
        assert [row[oracle.ids["town"]] or None for row in rows] == [row[oracle.ids["town"]] for row in expected]
    else:
        table = pa.ipc.open_stream(answer.content).read_all()
        for id_ in oracle.ids.values():
            assert table[id_].to_pylist() == [row[id_] for row in expected]


def test_nothing_observed_is_an_empty_export_with_its_columns(shared_server: LiveServer, kind: str) -> None:
    feature = shared_server.register("amount", entity=kind)["id"]
    assert export(shared_server, [feature]) == []
    asked, headers = {"features": [feature]}, {"Accept": ARROW_TYPE}
    table = pa.ipc.open_stream(shared_server.http.post("/features/export", json=asked, headers=headers).content)
    assert table.schema.names == ["entityId", "timestamp", feature]
    shared_server.write((feature, "u", 1, at(5)))
    assert export(shared_server, [feature], startTime=at(6)) == []
    assert export(shared_server, [feature], entityIds=[]) == []


def test_an_entity_of_several_keys_is_exported_by_its_parts(shared_server: LiveServer, kind: str) -> None:
    assert shared_server.post("/entities", {"name": kind, "keys": ["user", "shop"]}).status_code == 201
    feature = shared_server.register("visits", entity=kind)["id"]
    shared_server.write((feature, '["u1","s\\"9"]', 3, at(1)), (feature, '["u0","s1"]', 4, at(2)))
    assert export(shared_server, [feature]) == [
        {"user": "u0", "shop": "s1", "timestamp": at(2), feature: 4},
        {"user": "u1", "shop": 's"9', "timestamp": at(1), feature: 3},
    ]


def test_a_service_over_several_entity_types_is_exported_one_type_at_a_time(
    shared_server: LiveServer, kind: str
) -> None:
    one = shared_server.register("amount", entity=kind)["id"]
    other = shared_server.register("amount", entity=f"{kind}b")["id"]
    body = {"name": kind, "features": [other, {"ref": one, "as": "amount"}]}
    assert shared_server.post("/services", body).status_code == 201
    shared_server.write((one, "u", 1, at(5)), (other, "v", 2, at(6)))
    for entity, row in (
        (kind, {"entityId": "u", "timestamp": at(5), "amount": 1}),
        (f"{kind}b", {"entityId": "v", "timestamp": at(6), other: 2}),
    ):
        assert export(shared_server, None, service=kind, entity=entity) == [row]
    told = problem(shared_server.post("/features/export", {"service": kind}), 400)
    assert "entity" in told["detail"] and f"{kind}, {kind}b" in told["detail"]
    told = problem(shared_server.post("/features/export", {"service": kind, "entity": f"{kind}c"}), 400)
    assert told["errors"][0]["field"] == "entity"


def test_what_cannot_be_exported_is_refused(shared_server: LiveServer, kind: str) -> None:
    one = shared_server.register("amount", entity=kind)["id"]
    other = shared_server.register("amount", entity=f"{kind}b")["id"]
    told = problem(shared_server.post("/features/export", {"features": [one, other]}), 400)
    assert f"{kind}, {kind}b" in told["detail"]
    late = {"features": [one], "startTime": at(2), "endTime": at(1)}
    assert problem(shared_server.post("/features/export", late), 400)["errors"][0]["field"] == "startTime"
    problem(shared_server.post("/features/export", {"features": [one], "entityIds": [""]}), 400)
    problem(shared_server.post("/features/export", {"features": ["nobody.knows"]}), 404)
    problem(shared_server.post("/features/export", {}), 400)
