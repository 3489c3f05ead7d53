"""Serving rows that name several entities: roles, composite keys, services."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.live import LiveServer
from tests.web.test_errors import problem

OVER_EVERY_STORE = True
TEN, ELEVEN = "2025-01-01T10:00:00Z", "2025-01-01T11:00:00Z"


@pytest.fixture
def name() -> str:
    return f"f{uuid4().hex}"


@pytest.fixture
def house(shared_server: LiveServer, name: str) -> House:
    return House(shared_server, name)


class House:
    """Users, merchants and pairs of them under names of their own, with a value or two each."""

    def __init__(self, server: LiveServer, name: str) -> None:
        self.server = server
        self.user, self.merchant, self.pair = (f"{name}_{kind}" for kind in ("user", "merchant", "pair"))
        declared = {"name": self.pair, "keys": [self.user, self.merchant]}
        assert server.post("/entities", declared).status_code == 201
        features = [("spend", self.user), ("risk", self.merchant), ("visits", self.pair)]
        self.spend, self.risk, self.visits = (server.register(one, entity=kind)["id"] for one, kind in features)
        server.write(
            (self.spend, "u1", 10, TEN),
            (self.spend, "u1", 11, ELEVEN),
            (self.spend, "u2", 20, TEN),
            (self.spend, "7", 70, TEN),
            (self.risk, "m9", 0.5, TEN),
            (self.visits, '["u1","m9"]', 3, TEN),
        )

    def ask(self, rows: list[dict[str, Any]], features: list[Any], **rest: Any) -> list[dict[str, Any]]:
        answer = self.server.post("/features/serve", {"rows": rows, "features": features, **rest})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["results"])

    def refused(self, rows: Any, features: list[Any], **rest: Any) -> dict[str, Any]:
        return problem(self.server.post("/features/serve", {"rows": rows, "features": features, **rest}), 400)


def test_a_row_is_answered_of_all_entities_that_it_names_in_the_order_asked(house: House) -> None:
    row = {house.user: "u1", house.merchant: "m9", "amount": 120}
    (result,) = house.ask([row], [house.risk, house.visits, f"{house.user}.spend"])
    assert list(result["features"].items()) == [(house.risk, 0.5), (house.visits, 3), (f"{house.user}.spend", 11)]
    assert result["keys"] == {house.merchant: "m9", house.user: "u1"}
    assert set(result) == {"keys", "features", "timestamp"}


def test_rows_are_answered_one_by_one_in_their_order_unknown_and_repeated_ones_too(house: House) -> None:
    rows = [{house.user: user, house.merchant: "m9"} for user in ("u2", "nobody", "u1", "u2")]
    found = house.ask(rows, [house.spend, house.risk])
    assert [list(one["features"].values()) for one in found] == [[20, 0.5], [None, 0.5], [11, 0.5], [20, 0.5]]
    assert house.ask([], [house.spend, house.risk]) == []


def test_an_integer_is_an_id_by_its_decimal_text_and_null_is_nobody(house: House) -> None:
    rows: list[dict[str, Any]] = [{house.user: 7, house.merchant: "m9"}, {house.user: None, house.merchant: "m9"}]
    known, nobody = house.ask(rows, [house.spend, house.visits, house.risk], includeMetadata=True)
    assert (known["keys"][house.user], known["features"][house.spend]) == (7, 70)
    assert nobody["keys"] == {house.user: None, house.merchant: "m9"}
    assert nobody["features"] == {house.spend: None, house.visits: None, house.risk: 0.5}
    statuses = [nobody["metadata"][one]["status"] for one in (house.spend, house.visits, house.risk)]
    assert statuses == ["missing", "missing", "present"]


def test_one_entity_type_comes_in_two_roles_under_names_of_their_own(house: House) -> None:
    wanted = [{"ref": house.spend, "key": one, "as": f"{one}_spend"} for one in ("sender", "receiver")]
    (result,) = house.ask([{"sender": "u1", "receiver": "u2"}], wanted)
    assert result["features"] == {"sender_spend": 11, "receiver_spend": 20}
    assert result["keys"] == {"sender": "u1", "receiver": "u2"}


def test_the_parts_of_a_composite_id_may_come_from_other_fields(house: House) -> None:
    wanted = [{"ref": house.visits, "key": {house.user: "payer"}}]
    (result,) = house.ask([{"payer": "u1", house.merchant: "m9"}], wanted)
    assert result["features"] == {house.visits: 3}
    by_id = house.server.serve(['["u1","m9"]'], [house.visits])
    assert by_id[0]["features"] == {house.visits: 3}


def test_rows_are_read_as_of_a_moment(house: House) -> None:
    (result,) = house.ask([{house.user: "u1", house.merchant: "m9"}], [house.spend, house.risk], asOf=TEN)
    assert result["features"] == {house.spend: 10, house.risk: 0.5}
    assert result["timestamp"] == "2025-01-01T10:00:00.000Z"


def test_more_rows_than_are_looked_up_at_once_are_answered_in_order(house: House) -> None:
    rows = [{house.user: ("u1", "u2")[place % 2], house.merchant: str(place)} for place in range(9_000)]
    found = house.ask(rows, [house.spend, house.risk, {"ref": house.spend, "as": "again"}])
    assert [one["features"]["again"] for one in found] == [11, 20] * 4_500


def test_what_a_row_lacks_or_what_is_no_id_is_told_with_row_field_and_feature(house: House) -> None:
    rows: list[dict[str, Any]] = [{house.user: "u1", house.merchant: "m9"}, {house.user: "u1"}]
    told = house.refused(rows, [house.spend, house.risk])
    assert told["errors"] == [
        {"index": 1, "field": f"rows.{house.merchant}", "message": f"is missing; {house.risk} needs it"}
    ]
    refused: list[Any] = [1.5, True, "", [], {}, "a\nb", "x" * 513]
    for wrong in refused:
        told = house.refused([{house.user: wrong}], [house.spend])
        assert (told["errors"][0]["index"], told["errors"][0]["field"]) == (0, f"rows.{house.user}")


def test_options_that_do_not_fit_are_told(house: House) -> None:
    row = {house.user: "u1", house.merchant: "m9"}
    assert house.refused([row], [{"ref": house.visits, "key": "pair"}])["errors"][0]["field"] == "key"
    assert house.refused([row], [{"ref": house.visits, "key": {"nothing": "x"}}])["errors"][0]["field"] == "key"
    for second in ({"ref": house.risk, "as": house.spend}, {"ref": house.spend, "key": "other"}):
        assert "`as`" in house.refused([row], [house.spend, second])["detail"]
        assert "`as`" in house.refused([row], [second, house.spend])["detail"]
    assert house.refused([row], [house.spend], entityIds=["u1"])["errors"][0]["field"] == "entityIds"
    problem(house.server.post("/features/serve", {"features": [house.spend]}), 400)


def test_a_composite_entity_is_not_asked_by_what_is_no_id_of_it(house: House) -> None:
    for wrong in ("u1", '["u1"]', '["u1", "m9"]', '["u1","m9","x"]', '["u1",9]', '["u1",""]'):
        answer = house.server.post("/features/serve", {"entityIds": [wrong], "features": [house.visits]})
        assert problem(answer, 400)["errors"][0]["index"] == 0


def test_many_rows_are_counted_and_told_as_few_are(house: House) -> None:
    row = {house.user: "u1", house.merchant: "m9", "more": {"rows": ["},{", None]}}
    one = house.ask([row], [house.spend, house.visits])[0]["features"]
    found = house.ask([row] * 4_000, [house.spend, house.visits])
    assert [result["features"] for result in found] == [one] * 4_000
    too_many = {"rows": [row] * 10_001, "features": [house.spend]}
    assert "10000" in problem(house.server.post("/features/serve", too_many), 413)["detail"]
    told = house.refused([*[row] * 4_000, {house.user: None}], [house.spend, house.risk])
    assert (told["errors"][0]["index"], told["errors"][0]["field"]) == (4_000, f"rows.{house.merchant}")
    answer = house.server.post("/features/serve", {"rows": [row] * 3_000 + [7], "features": [house.spend]})
    assert "rows[3000]" in problem(answer, 400)["detail"]


def test_the_parts_of_an_id_have_to_fit_in_one_together(house: House) -> None:
    row = {house.user: "u" * 300, house.merchant: "m" * 300}
    told = house.refused([row], [house.visits])
    assert "longer than 512 bytes" in told["detail"] and house.visits in told["detail"]


def test_a_name_of_a_column_has_a_length(house: House) -> None:
    for name in ("", "x" * 257):
        told = house.refused([{house.user: "u1"}], [{"ref": house.spend, "as": name}])
        assert told["errors"][0]["field"] == "features[0].as"


def test_nobody_is_answered_null_for_having_asked_history_wrongly(house: House) -> None:
    span = {"startTime": TEN, "endTime": ELEVEN}
    both = {"entityIds": ["u1"], "features": [house.spend, house.risk], **span}
    assert "a request of their own" in problem(house.server.post("/features/historical", both), 400)["detail"]
    pair = {"entityIds": ["u1"], "features": [house.visits], **span}
    assert problem(house.server.post("/features/historical", pair), 400)["errors"][0]["index"] == 0
    problem(house.server.get(f"/features/{house.visits}/history", entityId="u1"), 400)
    found = house.server.get(f"/features/{house.visits}/history", entityId='["u1","m9"]').json()
    assert [one["value"] for one in found["observations"]] == [3]
    asked = {**pair, "entityIds": ['["u1","m9"]']}
    assert house.server.post("/features/historical", asked).json()["results"][0][house.visits] == 3


def test_rows_are_answered_alike_in_both_versions_of_http(house: House) -> None:
    body = {"rows": [{house.user: "u1", house.merchant: "m9"}], "features": [house.risk, house.visits]}
    asked = {**body, "asOf": ELEVEN}
    with httpx.Client(base_url=house.server.url, http1=False, http2=True) as second:
        answer = second.post("/features/serve", json=asked)
        assert answer.http_version == "HTTP/2"
        assert answer.content == house.server.post("/features/serve", asked).content


# Services


def service(house: House, features: list[Any], version: int = 1, **rest: Any) -> dict[str, Any]:
    body = {"name": f"{house.user}_model", "version": version, "features": features, **rest}
    answer = house.server.post("/services", body)
    assert answer.status_code in (200, 201), answer.text
    return dict(answer.json())


def test_a_service_goes_on_reading_the_versions_that_it_was_made_of(house: House) -> None:
    pinned = service(house, [f"{house.user}.spend", {"ref": house.risk, "as": "risk"}])
    second = house.server.register("spend", entity=house.user, version=2)["id"]
    house.server.write((second, "u1", 99, TEN))
    row = {house.user: "u1", house.merchant: "m9"}
    for reference in (pinned["id"], pinned["name"]):
        answer = house.server.post("/features/serve", {"rows": [row], "service": reference})
        assert answer.json()["results"][0]["features"] == {f"{house.user}.spend": 11, "risk": 0.5}
    assert pinned["features"] == [
        {"ref": house.spend, "as": f"{house.user}.spend"},
        {"ref": house.risk, "as": "risk"},
    ]


def test_a_version_of_a_service_keeps_its_features_and_its_name_means_the_highest(house: House) -> None:
    first = service(house, [house.spend], description="old")
    assert service(house, [house.spend], description="new")["description"] == "new"
    other = {"name": first["name"], "features": [house.risk]}
    assert "version 2" in problem(house.server.post("/services", other), 409)["detail"]
    second = service(house, [house.risk], version=2)
    assert house.server.get(f"/services/{first['name']}").json() == second
    listed = house.server.get("/services").json()["services"]
    assert [one["id"] for one in listed if one["name"] == first["name"]] == [first["id"], second["id"]]
    problem(house.server.http.delete(f"/services/{first['name']}"), 404)
    assert house.server.http.delete(f"/services/{second['id']}").status_code == 204
    assert house.server.get(f"/services/{first['name']}").json()["id"] == first["id"]
    problem(house.server.get(f"/services/{second['id']}"), 404)


def test_a_feature_that_a_service_reads_is_deleted_by_force_alone_and_then_the_service_says_so(
    house: House,
) -> None:
    made = service(house, [house.spend, house.risk])
    assert house.server.get(f"/features/{house.risk}").json()["usedBy"]["services"] == [made["id"]]
    assert made["id"] in problem(house.server.http.delete(f"/features/{house.risk}"), 409)["detail"]
    house.server.delete_feature(house.risk)
    row = {house.user: "u1", house.merchant: "m9"}
    told = problem(house.server.post("/features/serve", {"rows": [row], "service": made["id"]}), 404)
    assert made["id"] in told["detail"] and house.risk in told["detail"]


def test_a_service_is_never_answered_with_another_feature_that_has_the_id_of_a_deleted_one(house: House) -> None:
    made = service(house, [house.spend, house.risk])
    house.server.delete_feature(house.risk)
    house.server.register("risk", entity=house.merchant, value_type="string")
    asked = {"rows": [{house.user: "u1", house.merchant: "m9"}], "service": made["id"]}
    at = {**asked, "rows": [{**asked["rows"][0], "timestamp": TEN}]}
    for path, body in (("/features/serve", asked), ("/features/training-set", at)):
        told = problem(house.server.post(path, body), 404)
        assert made["id"] in told["detail"] and house.risk in told["detail"]
    again = {"name": made["name"], "features": [house.spend, house.risk]}
    assert "version 2" in problem(house.server.post("/services", again), 409)["detail"]
    assert house.server.get(f"/features/{house.risk}").json()["usedBy"]["services"] == []
    second = service(house, [house.spend, house.risk], version=2)
    (found,) = house.server.post("/features/serve", {**asked, "service": second["id"]}).json()["results"]
    assert found["features"] == {house.spend: 11, house.risk: None}


def test_a_reference_beside_a_service_means_its_column_only_if_that_is_the_same_feature_and_role(
    house: House,
) -> None:
    spend = f"{house.user}.spend"
    row = {house.user: "u1", house.merchant: "m9", "payee": "u2"}
    other = service(house, [{"ref": house.risk, "as": spend}])
    role = service(house, [{"ref": house.spend, "key": "payee", "as": spend}], version=2)
    for made in (other, role):
        for path, rows in (("/features/serve", [row]), ("/features/training-set", [{**row, "timestamp": ELEVEN}])):
            body = {"rows": rows, "service": made["id"], "features": [spend]}
            assert spend in problem(house.server.post(path, body), 400)["detail"]
    same = service(house, [spend], version=3)
    house.server.register("spend", entity=house.user, version=2)
    (found,) = house.ask([row], [spend, house.risk], service=same["id"])
    assert found["features"] == {spend: 11, house.risk: 0.5}, "the version that the service has pinned"


def test_lists_refuse_what_they_do_not_take(house: House) -> None:
    for path in ("/services", "/groups", "/entities", "/training-sets"):
        assert "limit" in problem(house.server.get(path, limit=1), 400)["detail"]


def test_a_service_that_cannot_be_is_refused(house: House) -> None:
    for features, status in (([], 400), ([house.spend, house.spend], 400), (["nobody.knows"], 404)):
        problem(house.server.post("/services", {"name": f"{house.user}_no", "features": features}), status)
    for taken in ("entityId", "timestamp"):
        named = {"name": f"{house.user}_no", "features": [{"ref": house.spend, "as": taken}]}
        assert taken in problem(house.server.post("/services", named), 400)["detail"]
    problem(house.server.post("/services", {"name": "a b", "features": [house.spend]}), 400)
    problem(house.server.post("/services", {"name": "a", "version": 0, "features": [house.spend]}), 400)
    problem(house.server.get(f"/services/{house.user}_no"), 404)
