"""What definitions refer to, and how they stand on each other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.live import LiveServer
from tests.web.test_errors import problem
from tests.web.test_on_demand import TEN, House


@pytest.fixture
def house(shared_server: LiveServer) -> House:
    return House(shared_server)


def over(house: House, name: str, expression: str, **features: str) -> dict[str, Any]:
    """A definition over other features of users."""
    named = {alias: f"{house.user}.{one}" for alias, one in features.items()}
    return {"name": name, "entity": house.user, "expression": expression, "features": named}


def test_what_has_the_id_of_a_deleted_feature_is_not_what_others_are_computed_from(house: House) -> None:
    server, user = house.server, house.user
    house.made("first", "mean + 1", features={"mean": house.mean})
    assert server.http.delete(f"/features/{house.mean}?force=true").status_code == 204
    again = server.post("/features/register", over(house, "mean", "first * 2", first="first"))
    assert again.status_code == 201, again.text
    further = server.post("/features/register", over(house, "further", "mean + 1", mean="mean"))
    assert further.status_code == 201, further.text
    assert server.get(f"/features/{house.mean}").json()["usedBy"]["features"] == [f"{user}.further.v1"]
    body = {"rows": [{"payer": "u1"}], "features": [{"ref": f"{user}.further", "key": "payer"}]}
    assert "not computed from any" in problem(server.post("/features/serve", body), 400)["detail"]
    refused = server.post("/features/register", over(house, "first", "mean + 1", mean="mean"))
    assert "defined otherwise" in problem(refused, 409)["detail"]
    assert server.http.delete(f"/features/{user}.further.v1").status_code == 204
    assert server.http.delete(f"/features/{house.mean}").status_code == 204


def test_many_ways_through_few_features_take_no_longer_than_the_features(house: House) -> None:
    names = [f"n{number}" for number in range(20)]
    features: list[dict[str, Any]] = [
        {"name": f"{name}_0", "entity": house.user, "valueType": "number"} for name in names
    ]
    for level in range(1, 8):  # 20 ** 7 ways
        below = {name: f"{name}_{level - 1}" for name in names}
        features += [over(house, f"{name}_{level}", f"max({', '.join(names)})", **below) for name in names]
    assert house.server.post("/registrations", {"features": features}).status_code == 200
    body = {"rows": [{"payer": "u1"}], "features": [{"ref": f"{house.user}.n0_7", "key": "payer", "as": "top"}]}
    assert house.server.post("/features/serve", body).json()["results"][0]["features"] == {"top": None}


def test_nothing_is_computed_from_more_features_than_are_read_at_once(house: House) -> None:
    names = [f"n{number}" for number in range(100)]
    features: list[dict[str, Any]] = []
    for ten in range(10):
        features += [{"name": f"{name}_{ten}", "entity": house.user, "valueType": "number"} for name in names]
        below = {name: f"{name}_{ten}" for name in names}
        features.append(over(house, f"all{ten}", f"max({', '.join(names)})", **below))
    assert house.server.post("/registrations", {"features": features}).status_code == 200
    tops = [f"all{ten}" for ten in range(10)]
    nine = over(house, "nine", f"max({', '.join(tops[:9])})", **{name: name for name in tops[:9]})
    assert house.server.post("/features/register", nine).status_code == 201
    assert house.values([{house.user: "u1"}], [f"{house.user}.nine"]) == [[None]]
    ten_of_them = over(house, "ten", f"max({', '.join(tops)})", **{name: name for name in tops})
    assert "more than 999" in problem(house.server.post("/features/register", ten_of_them), 400)["detail"]


def test_registrations_may_refer_in_their_expressions_to_those_that_come_after_them(house: House) -> None:
    asked = [
        {"name": "c", "entity": house.user, "expression": f"{house.user}.b.v1 + 1"},
        {"name": "b", "entity": house.user, "expression": f"{house.user}.a + 1"},
        {"name": "a", "entity": house.user, "valueType": "number"},
    ]
    for status in ("created", "unchanged"):
        answer = house.server.post("/registrations", {"features": asked})
        assert answer.status_code == 200, answer.text
        assert {one["outcome"] for one in answer.json()["features"]} == {status}


def test_a_version_may_be_computed_from_lower_ones_registered_with_it(house: House) -> None:
    asked = [
        {**over(house, "a", "a + 1", a="a"), "version": 3},
        {**over(house, "a", "a + 1", a="a"), "version": 2},
        {"name": "a", "entity": house.user, "valueType": "number"},
    ]
    for _ in range(2):
        assert house.server.post("/registrations", {"features": asked}).status_code == 200
    house.server.write((f"{house.user}.a.v1", "u1", 1, TEN))
    assert house.values([{house.user: "u1"}], [f"{house.user}.a"]) == [[3]]


def test_those_that_are_computed_from_each_other_are_named_and_no_others(house: House) -> None:
    asked = [
        over(house, "over", "b", b="b"),
        over(house, "b", "c", c="c"),
        over(house, "c", f"{house.user}.b"),
        {"name": "a", "entity": house.user, "valueType": "number"},
    ]
    found = problem(house.server.post("/registrations", {"features": asked}), 400)["detail"]
    assert "computed from each other" in found
    assert f"{house.user}.b" in found and f"{house.user}.over" not in found and f"{house.user}.a" not in found


def test_two_versions_of_one_feature_mean_the_same_when_the_definition_is_given_again(house: House) -> None:
    house.server.register("mean", entity=house.user, version=2, promoted=False)
    body = over(house, "both", "old + new", old="mean", new="mean.v2")
    assert house.server.post("/features/register", body).status_code == 201
    assert house.server.post("/features/register", body).status_code == 200


def test_a_reference_that_means_nothing_is_told_with_its_place(house: House) -> None:
    found = problem(house.server.post("/features/register", over(house, "x", "a", a="none")), 404)
    assert found["errors"] == [{"field": "features.a", "message": f"unknown feature '{house.user}.none'"}]
    body = {"name": "x", "entity": house.user, "expression": f"{house.user}.none"}
    assert problem(house.server.post("/features/register", body), 404)["errors"][0]["field"] == "expression"
    found = problem(house.server.post("/registrations", {"features": [over(house, "x", "a", a="none")]}), 404)
    assert found["errors"][0]["field"] == "features[0].features.a"


def test_what_stands_on_a_refused_definition_is_not_at_fault(house: House) -> None:
    asked = [
        over(house, "c", "length(b)", b="b"),
        over(house, "b", "lower(a)", a="a"),
        {"name": "a", "entity": house.user, "expression": "x +", "request": {"x": "string"}},
    ]
    found = problem(house.server.post("/registrations", {"features": asked}), 400)
    assert [one["field"] for one in found["errors"]] == ["features[2].expression"]


def test_a_stored_feature_is_not_registered_over_a_computed_one(house: House) -> None:
    ratio = house.ratio()
    body = {"name": "ratio", "entity": house.user, "valueType": "number"}
    assert ratio in problem(house.server.post("/features/register", body), 409)["detail"]


def test_a_value_type_is_needed_also_where_there_is_a_feature(house: House) -> None:
    found = problem(house.server.post("/features/register", {"name": "mean", "entity": house.user}), 400)
    assert found["errors"][0]["field"] == "valueType"
