"""Features that are computed when they are read, from other features and from fields of the request."""

from __future__ import annotations

import io
from itertools import count
from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.live import LiveServer
from tests.web.test_errors import problem
from web.answers.lanes import ARROW_TYPE

OVER_EVERY_STORE = True
_NUMBERS = count()
TEN, ELEVEN, NOON = (f"2025-01-01T{hour}:00:00.000Z" for hour in (10, 11, 12))


class House:
    """Users with a mean spending and shops with a risk, under names of their own."""

    def __init__(self, server: LiveServer) -> None:
        number = next(_NUMBERS)
        self.server = server
        self.user, self.shop = f"user{number}", f"shop{number}"
        self.mean, self.risk = (
            server.register(n, entity=e)["id"] for n, e in (("mean", self.user), ("risk", self.shop))
        )
        server.write(
            (self.mean, "u1", 10, TEN),
            (self.mean, "u1", 20, NOON),
            (self.mean, "u2", 0, TEN),
            (self.risk, "s1", 0.5, TEN),
        )

    def define(self, name: str, expression: str, **rest: Any) -> httpx.Response:
        return self.server.post("/features/register", {"name": name, "expression": expression, **rest})

    def made(self, name: str, expression: str, **rest: Any) -> dict[str, Any]:
        answer = self.define(name, expression, entity=self.user, **rest)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def ratio(self) -> str:
        """How much more than the mean the amount of the request is."""
        named = {"features": {"mean": self.mean}, "request": {"amount": "number"}}
        return str(self.made("ratio", "amount / mean", **named)["id"])

    def serve(self, rows: list[dict[str, Any]], features: list[Any], **rest: Any) -> list[dict[str, Any]]:
        answer = self.server.post("/features/serve", {"rows": rows, "features": features, **rest})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["results"])

    def values(self, rows: list[dict[str, Any]], features: list[Any], **rest: Any) -> list[list[Any]]:
        return [list(one["features"].values()) for one in self.serve(rows, features, **rest)]

    def train(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self.server.post("/features/training-set", body)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["results"])


@pytest.fixture
def house(shared_server: LiveServer) -> House:
    return House(shared_server)


def test_a_definition_is_told_as_it_was_given_with_its_features_pinned(house: House) -> None:
    named = {"features": {"mean": f"{house.user}.mean"}, "request": {"amount": "number"}}
    made = house.made("ratio", "amount / mean", description="how unusual", **named)
    assert made["valueType"] == "number" and made["id"] == f"{house.user}.ratio.v1"
    assert made["features"] == {"mean": house.mean} and made["request"] == {"amount": "number"}
    assert made["expression"] == "amount / mean"
    told = house.server.get(f"/features/{made['id']}").json()
    assert {key: told[key] for key in made} == made
    assert house.server.get(f"/features/{house.mean}").json()["usedBy"]["features"] == [made["id"]]


def test_a_reference_stands_in_an_expression_as_it_is(house: House) -> None:
    made = house.made("both", f"{house.user}.mean * {house.risk} * x", features={"x": house.mean})
    assert made["features"] == {f"{house.user}.mean": house.mean, house.risk: house.risk, "x": house.mean}
    assert house.values([{house.user: "u1", house.shop: "s1"}], [made["id"]]) == [[200]]
    unknown = house.define("wrong", f"{house.user}.men + 1", entity=house.user)
    assert "men" in problem(unknown, 404)["detail"]


def test_without_an_entity_type_it_is_listed_under_request(house: House) -> None:
    made = house.define(f"double{house.user}", "2 * amount", request={"amount": "integer"}).json()
    assert made["id"] == f"request.double{house.user}.v1" and made["valueType"] == "integer"
    assert house.values([{"amount": 21}, {"amount": None}], [made["id"]]) == [[42], [None]]


def test_it_is_served_beside_stored_features_in_the_order_asked(house: House) -> None:
    rows = [{house.user: user, "amount": amount} for user, amount in (("u1", 30), ("u2", 1), ("nobody", 1))]
    found = house.serve(rows, [house.ratio(), house.mean, {"ref": house.mean, "as": "again"}])
    assert [list(one["features"].values()) for one in found] == [[1.5, 20, 20], [None, 0, 0], [None] * 3]
    assert found[0]["keys"] == {house.user: "u1"}


def test_it_is_computed_as_of_a_moment_from_what_was_then(house: House) -> None:
    rows = [{house.user: "u1", "amount": 30}]
    assert house.values(rows, [house.ratio()], asOf=ELEVEN) == [[3]]
    (told,) = house.serve(rows, [f"{house.user}.ratio"], asOf=ELEVEN, includeMetadata=True)
    assert told["metadata"][f"{house.user}.ratio"] == {"status": "present", "timestamp": ELEVEN, "ageSeconds": 0}


def test_entity_ids_suffice_where_no_field_of_a_row_is_needed(house: House) -> None:
    made = house.made("doubled", "2 * mean", features={"mean": house.mean})
    body = {"entityIds": ["u1", "nobody"], "features": [made["id"]]}
    found = house.server.post("/features/serve", body).json()["results"]
    assert [one["features"][made["id"]] for one in found] == [40, None]
    asked = {"entityIds": ["u1"], "features": [house.ratio()]}
    assert "amount" in problem(house.server.post("/features/serve", asked), 400)["detail"]


def test_it_reads_features_of_several_entity_types_and_other_computed_ones(house: House) -> None:
    ratio = house.ratio()
    named = {"features": {"ratio": ratio, "risk": house.risk}}
    score = house.made("score", "ratio * risk if ratio > 1 else 0.0", **named)["id"]
    rows = [{house.user: "u1", house.shop: "s1", "amount": amount} for amount in (30, 10)]
    assert house.values(rows, [score, ratio]) == [[0.75, 1.5], [0, 0.5]]


def test_a_role_is_the_role_of_what_it_is_computed_from(house: House) -> None:
    ratio = house.ratio()
    rows = [{"payer": "u1", "payee": "u2", house.user: "u1", "amount": 30}]
    asked = [{"ref": ratio, "key": "payer", "as": "a"}, {"ref": ratio, "key": "payee", "as": "b"}]
    assert house.values(rows, asked) == [[1.5, None]]


def test_a_field_that_a_row_lacks_or_that_is_of_another_type_is_named(house: House) -> None:
    ratio = house.ratio()
    for rest, reason in (({}, "is missing"), ({"amount": "much"}, "expected a number")):
        rows = [{house.user: "u1", "amount": 1}, {house.user: "u1", **rest}]
        found = problem(house.server.post("/features/serve", {"rows": rows, "features": [ratio]}), 400)
        assert found["detail"].startswith(f"rows[1].amount: {reason}") and ratio in found["detail"]


@pytest.mark.parametrize(
    ("expression", "rest", "words"),
    [
        ("amount / ", {"request": {"amount": "number"}}, "expression"),
        ("amuont", {"request": {"amount": "number"}}, "amuont"),
        ("lower(amount)", {"request": {"amount": "number"}}, "expression"),
        ("1.5", {"request": {"amount": "number"}}, "request.amount"),
        ("amount", {"request": {"amount": "vector"}}, "request.amount"),
        ("amount", {"request": {"amount": "number"}, "maxAge": "1d"}, "maxAge"),
        ("amount", {"request": {"amount": "number"}, "valueType": "string"}, "valueType"),
    ],
)
def test_a_definition_that_cannot_be_is_refused(
    house: House, expression: str, rest: dict[str, Any], words: str
) -> None:
    assert words in problem(house.define("wrong", expression, entity=house.user, **rest), 400)["detail"]
    assert house.server.get(f"/features/{house.user}.wrong").status_code == 404


def test_a_feature_without_values_type_or_entity_needs_an_expression(house: House) -> None:
    for body in ({"name": "x", "entity": house.user}, {"name": "x", "valueType": "number"}):
        assert "required" in problem(house.server.post("/features/register", body), 400)["detail"]


def test_a_changed_definition_is_a_new_version_and_the_same_one_is_no_change(house: House) -> None:
    named: dict[str, Any] = {"entity": house.user, "request": {"amount": "number"}}
    house.made("ratio", "amount", request={"amount": "number"})
    assert house.define("ratio", "amount", **named, description="d").status_code == 200
    problem(house.define("ratio", "amount + 1", **named), 409)
    assert house.define("ratio", "amount + 1", **named, version=2).status_code == 201
    assert house.values([{"amount": 1}], [f"{house.user}.ratio"]) == [[2]]


def test_its_features_stay_what_they_were_when_another_version_is_promoted(house: House) -> None:
    named: dict[str, Any] = {"entity": house.user, "features": {"mean": f"{house.user}.mean"}}
    assert house.define("same", "mean", **named).status_code == 201
    house.server.register("mean", entity=house.user, version=2)
    rows = [{house.user: "u1"}]
    assert house.values(rows, [f"{house.user}.same", f"{house.user}.mean"]) == [[20, None]]
    assert house.define("same", "mean", **named).status_code == 200


def test_what_it_is_computed_from_is_not_deleted_under_it(house: House) -> None:
    ratio = house.ratio()
    refused = problem(house.server.http.delete(f"/features/{house.mean}"), 409)
    assert ratio in refused["detail"]
    assert house.server.http.delete(f"/features/{house.mean}?force=true").status_code == 204
    house.server.register("mean", entity=house.user)
    body = {"rows": [{house.user: "u1", "amount": 1}], "features": [ratio]}
    assert house.mean in problem(house.server.post("/features/serve", body), 404)["detail"]


def test_nothing_is_computed_from_itself(house: House) -> None:
    named: dict[str, Any] = {"entity": house.user, "request": {"amount": "number"}}
    house.define("a", "amount", **named)
    own = house.define("a", "a", entity=house.user, features={"a": f"{house.user}.a"})
    assert "itself" in problem(own, 400)["detail"]
    circle = [
        {"name": one, "entity": house.user, "expression": "x", "features": {"x": f"{house.user}.{other}"}}
        for one, other in (("b", "c"), ("c", "b"))
    ]
    answer = house.server.post("/registrations", {"features": circle})
    assert "computed from each other" in problem(answer, 400)["detail"]


def test_registrations_may_refer_to_those_that_come_after_them(house: House) -> None:
    asked = [
        {"name": "c", "entity": house.user, "expression": "b + 1", "features": {"b": f"{house.user}.b"}},
        {"name": "b", "entity": house.user, "expression": "a + 1", "features": {"a": f"{house.user}.a"}},
        {"name": "a", "entity": house.user, "valueType": "number"},
    ]
    for status in ("created", "unchanged"):
        answer = house.server.post("/registrations", {"features": asked})
        assert answer.status_code == 200, answer.text
        assert {one["outcome"] for one in answer.json()["features"]} == {status}
    house.server.write((f"{house.user}.a", "u1", 1, TEN))
    assert house.values([{house.user: "u1"}], [f"{house.user}.c"]) == [[3]]


def test_groups_and_services_have_them_like_any_other_feature(house: House) -> None:
    ratio = house.ratio()
    group = {"name": f"{house.user}g", "entity": house.user, "features": ["mean", "ratio"]}
    assert house.server.post("/groups", group).status_code == 201
    service = {"name": f"{house.user}s", "features": [{"ref": ratio, "as": "ratio"}, house.risk]}
    assert house.server.post("/services", service).status_code == 201
    rows = [{house.user: "u1", house.shop: "s1", "amount": 40}]
    body = {"rows": rows, "group": group["name"]}
    assert house.server.post("/features/serve", body).json()["results"][0]["features"] == {"mean": 20, "ratio": 2}
    body = {"rows": rows, "service": service["name"]}
    told = {"ratio": 2, house.risk: 0.5}
    assert house.server.post("/features/serve", body).json()["results"][0]["features"] == told


def test_values_of_it_are_neither_written_nor_looked_back_on(house: House) -> None:
    ratio = house.ratio()
    written = house.server.post("/features/write", {"featureId": ratio, "entityId": "u1", "value": 1})
    asked = {"features": [ratio], "entityIds": ["u1"], "startTime": TEN, "endTime": NOON}
    answers = [
        written,
        house.server.post("/features/historical", {**asked, "aggregation": "count"}),
        house.server.get(f"/features/{ratio}/stats"),
        house.server.post(f"/features/{ratio}/checks", {"type": "null_rate", "max": 0.1}),
    ]
    for answer in answers:
        assert "computed when it is read" in problem(answer, 400)["detail"], answer.text
    known = [one["featureId"] for one in house.server.get("/monitor/freshness").json()["features"]]
    assert house.mean in known and ratio not in known


def test_its_history_has_a_value_wherever_something_that_it_is_computed_from_was_observed(house: House) -> None:
    house.server.register("limit", entity=house.user)
    house.server.write(
        (f"{house.user}.limit", "u1", 100, ELEVEN), (f"{house.user}.limit", "u1", 200, "2025-01-01T13:00:00Z")
    )
    named = {"features": {"mean": house.mean, "limit": f"{house.user}.limit"}}
    left = house.made("left", "limit - mean", **named)["id"]
    address = f"/features/{left}/history?entityId=u1"
    told = [(one["timestamp"], one["value"]) for one in house.server.http.get(address).json()["observations"]]
    assert told == [(TEN, None), (ELEVEN, 90), (NOON, 80), ("2025-01-01T13:00:00.000Z", 180)]
    rows = [{house.user: "u1", "timestamp": moment} for moment, _ in told]
    assert [one[left] for one in house.train({"rows": rows, "features": [left]})] == [value for _, value in told]
    for order, expected in (("asc", told), ("desc", told[::-1])):
        for size in (1, 2, 3):
            found = list[tuple[str, Any]]()
            cursor: str | None = ""
            while cursor is not None:
                page = house.server.http.get(f"{address}&order={order}&limit={size}{cursor}").json()
                assert len(page["observations"]) <= size
                found += [(one["timestamp"], one["value"]) for one in page["observations"]]
                cursor = f"&cursor={page['nextCursor']}" if "nextCursor" in page else None
            assert found == expected, (order, size)
    lines = house.server.http.get(f"{address}&startTime={ELEVEN}&endTime={NOON}", headers={"Accept": "text/csv"})
    assert [line.split(",")[1] for line in lines.text.split()[1:]] == ["90", "80"]


def test_an_export_has_its_value_beside_what_was_observed(house: House) -> None:
    house.server.register("limit", entity=house.user)
    house.server.write((f"{house.user}.limit", "u1", 100, ELEVEN))
    named = {"features": {"mean": house.mean, "limit": f"{house.user}.limit"}}
    left = house.made("left", "limit - mean", **named)["id"]
    body = {"features": [left, house.mean]}
    found = house.server.post("/features/export", body).json()["results"]
    assert [(one["entityId"], one["timestamp"], one[left], one[house.mean]) for one in found] == [
        ("u1", TEN, None, 10),
        ("u1", ELEVEN, 90, None),
        ("u1", NOON, 80, 20),
        ("u2", TEN, None, 0),
    ]
    alone = house.server.post("/features/export", {"features": [left], "entityIds": ["u1"]}).json()["results"]
    assert [one[left] for one in alone] == [None, 90, 80]
    assert "amount" in problem(house.server.post("/features/export", {"features": [house.ratio()]}), 400)["detail"]


def test_what_needs_a_request_or_several_entities_has_no_history(house: House) -> None:
    refused = problem(house.server.http.get(f"/features/{house.ratio()}/history?entityId=u1"), 400)
    assert "amount" in refused["detail"]
    both = house.made("both", "mean * risk", features={"mean": house.mean, "risk": house.risk})["id"]
    assert house.shop in problem(house.server.http.get(f"/features/{both}/history?entityId=u1"), 400)["detail"]


def test_a_training_set_computes_it_of_each_row_from_what_was_then(house: House) -> None:
    ratio = house.ratio()
    rows = [
        {house.user: user, "timestamp": moment, "amount": amount, "label": 1}
        for user, moment, amount in (
            ("u1", ELEVEN, 30),
            ("u1", NOON, 30),
            ("u1", "2024-01-01", 1),
            ("u2", NOON, None),
        )
    ]
    found = house.train({"rows": rows, "features": [house.mean, ratio]})
    assert [(one[house.mean], one[ratio], one["amount"]) for one in found] == [
        (10, 3, 30),
        (20, 1.5, 30),
        (None, None, 1),
        (0, None, None),
    ]
    lookback = house.train({"rows": rows, "features": [ratio], "lookback": "30m"})
    assert [one[ratio] for one in lookback] == [None, 1.5, None, None]
    del rows[1]["amount"]
    lacking = house.server.post("/features/training-set", {"rows": rows, "features": [ratio]})
    assert problem(lacking, 400)["detail"].startswith("rows[1].amount: is missing")


def test_what_is_served_is_what_a_training_set_says_of_the_same_moment(house: House) -> None:
    ratio = house.ratio()
    named = {"features": {"ratio": ratio, "risk": house.risk}}
    score = house.made("score", "log1p(ratio) * exp(risk) ** 0.3", **named)["id"]
    amounts = [0.1 * n for n in range(100)]
    rows = [{house.user: "u1", house.shop: "s1", "amount": amount} for amount in amounts]
    served = house.values(rows, [score], asOf=NOON)
    one_by_one = [house.values([row], [score], asOf=NOON)[0] for row in rows[:10]]
    trained = house.train({"rows": [{**row, "timestamp": NOON} for row in rows], "features": [score]})
    assert served == [[one[score]] for one in trained]
    assert served[:10] == one_by_one


def test_arrow_rows_have_its_fields_as_columns(house: House) -> None:
    ratio = house.ratio()
    keys = {house.user: ["u1", "u1", "u2"], "timestamp": [ELEVEN, NOON, NOON]}

    def asked(amounts: pa.Array) -> httpx.Response:
        table, sink = pa.table({**keys, "amount": amounts}), io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return house.server.http.post(
            "/features/training-set",
            params={"features": ratio},
            content=sink.getvalue(),
            headers={"Content-Type": ARROW_TYPE, "Accept": ARROW_TYPE},
        )

    refused = problem(asked(pa.array(["a", "b", "c"])), 400)["detail"]
    assert refused.startswith("amount: ") and ratio in refused
    answer = asked(pa.array([30, None, 1], pa.int32()))
    assert answer.status_code == 200, answer.text
    found = pa.ipc.open_stream(answer.content).read_all()
    assert found[ratio].to_pylist() == [3.0, None, None] and found[ratio].type == pa.float64()
    assert found["amount"].to_pylist() == [30, None, 1]


def test_options_that_look_back_make_no_sense_for_it(house: House) -> None:
    ratio, rows = house.ratio(), [{house.user: "u1", "timestamp": NOON, "amount": 1}]
    for option in ({"aggregation": "avg", "window": "1d"}, {"lookback": "1d"}):
        body = {"rows": rows, "features": [{"ref": ratio, **option}]}
        assert "computed for each row" in problem(house.server.post("/features/training-set", body), 400)["detail"]


def test_observations_make_rows_for_those_that_need_no_field(house: House) -> None:
    doubled = house.made("doubled", "2 * mean", features={"mean": house.mean})["id"]
    found = house.train({"spine": {"feature": house.mean}, "features": [doubled]})
    assert [one[doubled] for one in found] == [20, 40, 0]
    refused = house.server.post(
        "/features/training-set", {"spine": {"feature": house.mean}, "features": [house.ratio()]}
    )
    assert "amount" in problem(refused, 400)["detail"]


def test_a_kept_training_set_computes_them_again_whatever_has_come_since(house: House) -> None:
    ratio = house.ratio()
    rows = [{house.user: "u1", "timestamp": moment, "amount": 30} for moment in (ELEVEN, NOON)]
    body = {"name": f"{house.user}kept", "rows": rows, "features": [ratio, {"ref": house.mean, "as": "mean"}]}
    kept = house.server.post("/training-sets", body)
    assert kept.status_code == 201, kept.text
    house.server.write((house.mean, "u1", 5, ELEVEN))
    late = {"name": "mean", "entity": house.user, "valueType": "number", "maxAge": "1m"}
    assert house.server.post("/features/register", late).status_code == 200
    again = house.server.get(f"/training-sets/{body['name']}/rows").json()["results"]
    assert [(one[ratio], one["mean"]) for one in again] == [(3, 10), (1.5, 20)]
    for id_ in (house.mean, ratio):
        assert body["name"] in problem(house.server.http.delete(f"/features/{id_}"), 409)["detail"]


@pytest.mark.parametrize("named", ["by its type", "by entityId", "by a key", "by what is read"])
def test_the_rows_of_an_erased_entity_go_from_a_training_set_that_keeps_computed_features(
    house: House, named: str
) -> None:
    field = {"by entityId": "entityId", "by a key": "payer", "by what is read": house.shop}.get(named, house.user)
    rows = [{field: one, "timestamp": NOON, "amount": 30} for one in ("u1", "u2")]
    over = house.risk if named == "by what is read" else house.mean
    made = house.made("share", "amount / (a + 1)", features={"a": over}, request={"amount": "number"})["id"]
    asked = {"ref": made, "key": "payer"} if named == "by a key" else made
    body = {"name": f"{house.user}kept", "rows": rows, "features": [asked]}
    house.server.write((over, "u1", 1, TEN))
    assert house.server.post("/training-sets", body).status_code == 201
    entity_type = over.partition(".")[0]
    assert house.server.http.delete(f"/entities/{entity_type}/u1").status_code == 200
    kept = house.server.get(f"/training-sets/{body['name']}").json()
    assert [row[field] for row in kept["definition"]["rows"]] == ["u2"]


def test_a_kept_training_set_says_how_far_to_look_back_if_what_is_read_does_not_agree(house: House) -> None:
    house.server.register("a", entity=house.user, maxAge="1d")
    named = {"features": {"mean": house.mean, "a": f"{house.user}.a"}}
    both = house.made("both", "mean + a", **named)["id"]
    rows = [{house.user: "u1", "timestamp": NOON}]
    body = {"name": f"{house.user}kept", "rows": rows, "features": [both]}
    assert "lookback" in problem(house.server.post("/training-sets", body), 400)["detail"]
    assert house.server.post("/training-sets", {**body, "lookback": "1d"}).status_code == 201


def test_what_is_made_of_long_texts_is_answered_in_parts_or_refused(house: House) -> None:
    house.server.register("note", "string", entity=house.user)
    note = f"{house.user}.note"
    moments = [f"2025-01-01T{number // 60:02}:{number % 60:02}:00.000Z" for number in range(70)]
    house.server.write(*((note, "u1", "A" * 60_000, one) for one in moments))
    names = [f"quiet{number}" for number in range(18)]
    for name in names:
        house.made(name, "lower(note)", features={"note": note})
    all_of_them = {name: f"{house.user}.{name}" for name in names}
    size = house.made("size", " + ".join(f"length({name})" for name in names), features=all_of_them)["id"]
    body = {"entityIds": ["u1"] * 1_000, "features": [size]}
    assert "computed" in problem(house.server.post("/features/serve", body), 413)["detail"]
    found = house.train({"rows": [{house.user: "u1", "timestamp": one} for one in moments], "features": [size]})
    assert [one[size] for one in found] == [18 * 60_000] * 70
    exported = house.server.post("/features/export", {"features": [size]}).json()["results"]
    assert [(one["timestamp"], one[size]) for one in exported] == [(one, 18 * 60_000) for one in moments]
    address, seen, cursor = f"/features/{size}/history?entityId=u1", list[str](), ""
    while not seen or cursor:
        page = house.server.http.get(f"{address}{cursor}").json()
        seen += [one["timestamp"] for one in page["observations"]]
        cursor = f"&cursor={page['nextCursor']}" if "nextCursor" in page else ""
    assert seen == moments
