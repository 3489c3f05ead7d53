"""Training sets of rows that name several entities, of services, and of the observations of a feature."""

from __future__ import annotations

import io
import json
from itertools import count
from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.live import LiveServer
from tests.web.test_errors import problem
from web.answers.lanes import ARROW_TYPE, NDJSON_TYPE

OVER_EVERY_STORE = True
_NUMBERS = count()
TEN, ELEVEN, NOON = (f"2025-01-01T{hour}:00:00.000Z" for hour in (10, 11, 12))


class House:
    """Users, shops and pairs of them, with a value or two each, under names of their own."""

    def __init__(self, server: LiveServer) -> None:
        number = next(_NUMBERS)
        self.server = server
        self.user, self.shop, self.pair = (f"{kind}{number}" for kind in ("user", "shop", "pair"))
        declared = server.post("/entities", {"name": self.pair, "keys": [self.user, self.shop]})
        assert declared.status_code == 201
        features = [("spend", self.user), ("risk", self.shop), ("visits", self.pair)]
        self.spend, self.risk, self.visits = (server.register(one, entity=kind)["id"] for one, kind in features)
        server.write(
            (self.spend, "u1", 10, TEN),
            (self.spend, "u1", 11, ELEVEN),
            (self.spend, "u2", 20, ELEVEN),
            (self.spend, "7", 70, TEN),
            (self.risk, "s9", 0.5, TEN),
            (self.visits, '["u1","s9"]', 3, TEN),
            (self.visits, '["u1","s9"]', 4, NOON),
        )

    def row(self, user: Any, shop: Any, timestamp: str, **rest: Any) -> dict[str, Any]:
        return {self.user: user, self.shop: shop, "timestamp": timestamp, **rest}

    def ask(self, features: list[Any] | None, **rest: Any) -> list[dict[str, Any]]:
        answer = self.server.post("/features/training-set", {"features": features, **rest})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["results"])

    def refused(self, features: list[Any], **rest: Any) -> dict[str, Any]:
        return problem(self.server.post("/features/training-set", {"features": features, **rest}), 400)

    def in_arrow(self, columns: dict[str, Any], **query: str) -> pa.Table:
        answer = self.sent(columns, **query)
        assert answer.status_code == 200, answer.text
        return pa.ipc.open_stream(answer.content).read_all()

    def arrow_refused(self, columns: dict[str, Any], **query: str) -> dict[str, Any]:
        return problem(self.sent(columns, **query), 400)

    def sent(self, columns: dict[str, Any], **query: str) -> httpx.Response:
        table = pa.table(columns)
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        headers = {"Content-Type": ARROW_TYPE, "Accept": ARROW_TYPE}
        return self.server.http.post(
            "/features/training-set", params=query, content=sink.getvalue(), headers=headers
        )


@pytest.fixture
def house(shared_server: LiveServer) -> House:
    return House(shared_server)


def test_a_row_has_the_values_of_each_entity_that_it_names_as_of_its_moment(house: House) -> None:
    rows = [
        house.row("u1", "s9", TEN, label=1),
        house.row("u1", "s9", NOON, label=0),
        house.row("u2", "s9", TEN),
        house.row("nobody", "s9", ELEVEN),
    ]
    found = house.ask([house.risk, house.spend, house.visits], rows=rows)
    assert [[one[name] for name in (house.risk, house.spend, house.visits)] for one in found] == [
        [0.5, 10, 3],
        [0.5, 11, 4],
        [0.5, None, None],
        [0.5, None, None],
    ]
    assert list(found[0]) == [house.shop, house.user, "timestamp", "label", house.risk, house.spend, house.visits]
    assert [one["label"] for one in found] == [1, 0, None, None]
    assert found[1]["timestamp"] == NOON


def test_ids_may_be_integers_or_null_and_come_back_as_they_were(house: House) -> None:
    rows = [house.row(7, "s9", NOON), house.row(None, "s9", NOON), house.row("u1", None, NOON)]
    found = house.ask([house.spend, house.risk, house.visits], rows=rows)
    assert [one[house.user] for one in found] == [7, None, "u1"]
    assert [one[house.spend] for one in found] == [70, None, 11]
    assert [one[house.risk] for one in found] == [0.5, 0.5, None]
    assert [one[house.visits] for one in found] == [None, None, None]


def test_one_entity_type_comes_in_two_roles_and_a_pair_from_other_fields(house: House) -> None:
    wanted = [
        {"ref": house.spend, "key": "payer", "as": "payer_spend"},
        {"ref": house.spend, "key": "payee", "as": "payee_spend", "lookback": "30m"},
        {"ref": house.visits, "key": {house.user: "payer"}, "as": "visits"},
        {"ref": house.spend, "key": "payer", "as": "mean", "aggregation": "avg", "window": "3h"},
    ]
    rows = [{"payer": "u1", "payee": "u2", house.shop: "s9", "timestamp": NOON}]
    (found,) = house.ask(wanted, rows=rows)
    assert [found[name] for name in ("payer_spend", "payee_spend", "visits", "mean")] == [11, None, 4, 10.5]


def test_every_row_is_as_it_was_known(house: House) -> None:
    (found,) = house.ask([house.spend, house.risk], rows=[house.row("u1", "s9", NOON)], knownAt=NOON)
    assert (found[house.spend], found[house.risk]) == (None, None), "nothing had arrived then"
    (found,) = house.ask([house.spend, house.risk], rows=[house.row("u1", "s9", NOON)], knownAt="2100-01-01")
    assert (found[house.spend], found[house.risk]) == (11, 0.5)


def test_arrow_rows_have_a_column_for_each_field_and_features_with_options(house: House) -> None:
    users = pa.array(["u1", "u2", None, "u1"]).dictionary_encode()
    keys = {"payer": users, house.shop: pa.array(["s9"] * 4, pa.large_string())}
    moments = pa.array([NOON, NOON, NOON, TEN])
    wanted = [{"ref": house.visits, "key": {house.user: "payer"}, "as": "visits"}, house.risk]
    table = house.in_arrow({**keys, "timestamp": moments, "label": [1, 2, 3, 4]}, features=json.dumps(wanted))
    assert table.column_names == ["payer", house.shop, "timestamp", "label", "visits", house.risk]
    assert table["visits"].to_pylist() == [4, None, None, 3]
    assert table[house.risk].to_pylist() == [0.5] * 4
    assert table["payer"].to_pylist() == ["u1", "u2", None, "u1"]
    numbers = house.in_arrow({house.user: pa.array([7], pa.int32()), "timestamp": [NOON]}, features=house.spend)
    assert (numbers[house.user].to_pylist(), numbers[house.spend].to_pylist()) == ([7], [70])


def test_a_service_has_the_columns_that_it_was_made_with(house: House) -> None:
    features = [{"ref": house.spend, "as": "spend"}, house.risk]
    made = house.server.post("/services", {"name": f"{house.user}_model", "features": features}).json()
    (found,) = house.ask(None, service=made["id"], rows=[house.row("u1", "s9", NOON)])
    assert list(found.items())[-2:] == [("spend", 11), (house.risk, 0.5)]
    table = house.in_arrow({house.user: ["u1"], house.shop: ["s9"], "timestamp": [NOON]}, service=made["name"])
    assert table["spend"].to_pylist() == [11]


def test_the_id_of_a_single_entity_may_be_called_entity_id_composite_or_not(house: House) -> None:
    (found,) = house.ask([house.spend], rows=[{"entityId": "u1", "timestamp": NOON, house.user: "label"}])
    assert found == {"entityId": "u1", "timestamp": NOON, house.user: "label", house.spend: 11}
    (found,) = house.ask([house.visits], rows=[{"entityId": '["u1","s9"]', "timestamp": NOON}])
    assert found == {"entityId": '["u1","s9"]', "timestamp": NOON, house.visits: 4}
    table = house.in_arrow({"entityId": ['["u1","s9"]'], "timestamp": [NOON]}, features=house.visits)
    assert table[house.visits].to_pylist() == [4]


def test_rows_that_do_not_name_the_entities_are_refused_with_what_to_write_instead(house: House) -> None:
    asked = [house.spend, house.risk]
    told = house.refused(asked, rows=[{"entityId": "u1", "timestamp": NOON}])
    assert told["errors"][0]["field"] == "rows.entityId"
    assert f'{{"{house.user}": ..., "{house.shop}": ...}}' in told["detail"]
    told = house.refused(asked, rows=[house.row("u1", "s9", NOON), {house.user: "u1", "timestamp": NOON}])
    assert (told["errors"][0]["index"], told["errors"][0]["field"]) == (1, f"rows.{house.shop}")
    assert house.risk in told["detail"]
    invalid: list[Any] = [1.5, "", [], True, "x" * 600]
    for wrong in invalid:
        told = house.refused([house.spend, house.risk], rows=[house.row(wrong, "s9", NOON)])
        assert told["errors"][0]["field"] == f"rows.{house.user}"
    told = house.refused([house.visits], rows=[{"entityId": "u1", "timestamp": NOON}])
    assert "compact JSON array" in told["detail"]
    taken = house.refused([{"ref": house.spend, "as": house.user}], rows=[house.row("u1", "s9", NOON)])
    assert "column of the rows" in taken["detail"]
    assert house.refused(asked)["errors"][0]["field"] == "rows"


# Rows made of observations


def test_a_spine_has_a_row_for_each_observation_in_the_range(house: House) -> None:
    spine = {"feature": house.spend, "startTime": TEN, "endTime": NOON}
    found = house.ask([house.spend], spine=spine)
    assert found == [
        {"entityId": "7", "timestamp": TEN, house.spend: 70},
        {"entityId": "u1", "timestamp": TEN, house.spend: 10},
        {"entityId": "u1", "timestamp": ELEVEN, house.spend: 11},
        {"entityId": "u2", "timestamp": ELEVEN, house.spend: 20},
    ]
    assert house.ask([house.spend], spine={"feature": house.spend, "startTime": NOON}) == []
    late = house.ask([house.spend], spine=spine, knownAt="2020-01-01")
    assert late == [], "nothing had arrived then"


def test_a_spine_of_pairs_reads_the_features_of_their_parts(house: House) -> None:
    found = house.ask([house.spend, house.risk, house.visits], spine={"feature": house.visits})
    assert found == [
        {house.user: "u1", house.shop: "s9", "timestamp": TEN, house.spend: 10, house.risk: 0.5, house.visits: 3},
        {house.user: "u1", house.shop: "s9", "timestamp": NOON, house.spend: 11, house.risk: 0.5, house.visits: 4},
    ]
    told = house.refused([house.risk], spine={"feature": house.spend})
    assert told["errors"][0]["field"] == "spine.feature"
    assert house.shop in told["detail"]
    told = house.refused([house.spend], spine={"feature": house.spend, "startTime": NOON, "endTime": TEN})
    assert told["errors"][0]["field"] == "spine.startTime"
    problem(
        house.server.post("/features/training-set", {"features": [house.spend], "spine": {"feature": "no.f"}}), 404
    )
    assert house.refused([house.spend], spine={"feature": house.spend}, rows=[])["errors"][0]["field"] == "rows"


def test_a_spine_is_streamed_in_every_form(house: House) -> None:
    asked = {"features": [house.visits], "spine": {"feature": house.visits}}
    lines = house.server.http.post("/features/training-set", json=asked, headers={"Accept": NDJSON_TYPE}).text
    assert [json.loads(line)[house.visits] for line in lines.splitlines()] == [3, 4]
    answer = house.server.http.post("/features/training-set", json=asked, headers={"Accept": ARROW_TYPE})
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.column_names == [house.user, house.shop, "timestamp", house.visits]
    assert table[house.visits].to_pylist() == [3, 4]


def in_lines(house: House, text: str, **query: Any) -> httpx.Response:
    headers = {"Content-Type": NDJSON_TYPE}
    return house.server.http.post("/features/training-set", params=query, content=text.encode(), headers=headers)


def test_rows_may_be_lines_with_the_options_in_the_query(house: House) -> None:
    rows = [house.row("u1", "s9", NOON, label=1), house.row(7, "s9", NOON), house.row("u1", None, TEN, label="x")]
    text = "\n".join(json.dumps(row) for row in rows)
    wanted = [house.spend, house.risk, {"ref": house.visits, "as": "visits"}]
    for given in (text, f"\n{text}\r\n\n"):
        answer = in_lines(house, given, features=json.dumps(wanted), lookback="90m")
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"] == house.ask(wanted, rows=rows, lookback="90m")
    by_id = in_lines(house, json.dumps({"entityId": "u1", "timestamp": NOON}), features=house.spend)
    assert by_id.json()["results"] == [{"entityId": "u1", "timestamp": NOON, house.spend: 11}]
    many = [house.row(f"u{number % 3}", "s9", NOON, label=number) for number in range(5_000)]
    answer = in_lines(house, "\n".join(map(json.dumps, many)), features=house.spend)
    assert answer.json()["results"] == house.ask([house.spend], rows=many)
    assert in_lines(house, "", features=house.spend).json() == {"results": []}


def test_a_line_that_is_no_row_is_named(house: House) -> None:
    row = json.dumps(house.row("u1", "s9", NOON))
    for line, reason in (
        ("[1]", "rows[1]: Expected `object`"),
        ("{", "rows[1]: is not valid JSON"),
        (row + row, "rows[1]: is not valid JSON"),
        ('{"timestamp": "x"}', f"rows[1].{house.user}: is missing"),
        ("[" * 5_000, "rows[1]"),
        (json.dumps(house.row("u1", "s9", "x")), "rows[1].timestamp: 'x' is not"),
    ):
        told = problem(in_lines(house, f"{row}\n\n{line}\n{row}", features=house.spend), 400)
        assert told["detail"].startswith(reason) and told["errors"][0]["index"] == 1
    assert "features" in problem(in_lines(house, row, feature=house.spend), 400)["detail"]
    told = problem(house.server.http.post("/features/training-set?features=x", json={}), 400)
    assert "JSON body" in told["detail"]


def test_no_id_is_taken_from_the_moment_of_a_row(house: House) -> None:
    told = house.refused([{"ref": house.spend, "key": "timestamp"}], rows=[{"timestamp": TEN}])
    assert "timestamp" in told["detail"] and "key" in told["detail"]


def test_a_row_that_lacks_the_key_that_others_have_is_told_of(house: House) -> None:
    told = house.refused([house.spend], rows=[{"timestamp": TEN}, {house.user: "u1", "timestamp": TEN}])
    assert told["detail"] == f"rows[0].{house.user}: is missing; {house.spend} needs it"


def test_ids_as_json_in_arrow_are_refused(house: House) -> None:
    ids = pa.array(['"u1"'], pa.string()).cast(pa.json_())
    for name in (house.user, "entityId"):
        told = house.arrow_refused({name: ids, "timestamp": pa.array([TEN])}, features=house.spend)
        assert "JSON" in told["detail"] and name in told["detail"]
