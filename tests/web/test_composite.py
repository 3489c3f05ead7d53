"""Writing features of a composite entity type, on every lane."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx
import pyarrow as pa
import pytest

from tests.live import LiveServer
from tests.web.test_errors import problem
from tests.web.test_rows import House
from timewell.arrow import to_stream

OVER_EVERY_STORE = True
TEN = "2025-01-01T12:00:00Z"
BATCH = "/features/write-batch"
LINES = {"Content-Type": "application/x-ndjson"}
ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}
WRONG = ("u1", '["u1"]', '["u1", "m9"]', '["u1","m9","x"]', '["u1",9]', '["u1",""]')


@pytest.fixture
def house(shared_server: LiveServer) -> House:
    return House(shared_server, f"f{uuid4().hex}")


def send(house: House, lane: str, feature: str, ids: list[str]) -> httpx.Response:
    """Write the value 8 for each id on one of the lanes."""
    items = [{"featureId": feature, "entityId": id_, "value": 8, "timestamp": TEN} for id_ in ids]
    http = house.server.http
    match lane:
        case "json":
            return http.post(BATCH, json={"values": items})
        case "lines":
            return http.post(BATCH, content="\n".join(map(json.dumps, items)), headers=LINES)
        case "long":
            return http.post(BATCH, content=to_stream(pa.Table.from_pylist(items)), headers=ARROW)
    wide = [{"entityId": item["entityId"], "timestamp": TEN, feature: 8} for item in items]
    return http.post(BATCH, content=to_stream(pa.Table.from_pylist(wide)), headers=ARROW)


def visits(house: House, *ids: str) -> list[Any]:
    return [one["features"][house.visits] for one in house.server.serve(list(ids), [house.visits])]


@pytest.mark.parametrize("lane", ["json", "lines", "long", "wide"])
def test_what_is_no_id_of_a_composite_type_is_refused_on_every_lane_and_nothing_is_written(
    house: House, lane: str
) -> None:
    ids = ['["u1","m9"]', *WRONG]
    told = problem(send(house, lane, house.visits, ids), 400)
    assert [(one["index"], one["field"]) for one in told["errors"]] == [(at, "entityId") for at in range(1, 7)]
    assert f'["{house.user} id","{house.merchant} id"]' in told["detail"]
    assert visits(house, '["u1","m9"]') == [3]
    assert send(house, lane, house.visits, ['["u1","m9"]', '["ü","m9"]']).json()["count"] == 2
    assert visits(house, '["u1","m9"]', '["ü","m9"]') == [8, 8]
    assert send(house, lane, house.spend, list(WRONG)).json()["count"] == len(WRONG)


def test_a_single_value_needs_an_id_of_its_type_too(house: House) -> None:
    item = {"featureId": house.visits, "value": 8, "timestamp": TEN}
    for wrong in WRONG:
        told = problem(house.server.post("/features/write", {**item, "entityId": wrong}), 400)
        assert told["errors"][0]["field"] == "entityId"
    assert house.server.post("/features/write", {**item, "entityId": '["u1","m9"]'}).status_code == 200
    assert visits(house, '["u1","m9"]') == [8]


def test_a_wide_table_may_have_the_parts_in_columns(house: House) -> None:
    table = pa.table(
        {
            house.user: pa.array(["u1", "u2", "u1"]).dictionary_encode(),
            "visits": [5, 6, 7],
            house.merchant: [9, 9, 10],
            "timestamp": [TEN] * 3,
        }
    )
    answer = house.server.http.post(f"{BATCH}?entity={house.pair}", content=to_stream(table), headers=ARROW)
    assert answer.json() == {"success": True, "count": 3}
    assert visits(house, '["u1","9"]', '["u2","9"]', '["u1","10"]') == [5, 6, 7]
    rows = [{house.user: "u1", house.merchant: 10}]
    assert house.ask(rows, [house.visits])[0]["features"] == {house.visits: 7}
    ids = house.server.get(f"/entities/{house.pair}/ids").json()["ids"]
    assert ids == ['["u1","10"]', '["u1","9"]', '["u1","m9"]', '["u2","9"]']


def test_a_part_that_is_missing_is_told_and_the_other_rows_are_written_if_asked_for(house: House) -> None:
    table = to_stream(pa.table({house.user: ["u5", None], house.merchant: ["m", "m"], "visits": [5, 6]}))
    target = f"{BATCH}?entity={house.pair}"
    told = problem(house.server.http.post(target, content=table, headers=ARROW), 400)
    assert told["errors"] == [{"field": house.user, "message": "is empty", "index": 1}]
    answer = house.server.http.post(f"{target}&partial=true", content=table, headers=ARROW).json()
    assert (answer["count"], answer["errors"]) == (1, told["errors"])
    assert visits(house, '["u5","m"]') == [5]


def test_only_tables_are_told_their_entity_type(shared_server: LiveServer) -> None:
    answer = shared_server.http.post(f"{BATCH}?entity=user", content=b"{}", headers=LINES)
    assert problem(answer, 400)["errors"][0]["field"] == "entity"
