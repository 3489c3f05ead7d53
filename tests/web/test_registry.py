"""Registering, finding and deleting features and groups, and what a reference means."""

from __future__ import annotations

from datetime import datetime
from itertools import count
from typing import Any

import pytest

from tests.live import LiveServer
from tests.web.test_errors import fields, problem

OVER_EVERY_STORE = True

TEN = "2025-11-07T10:00:00Z"
ALWAYS = {"id", "name", "description", "valueType", "entity", "version", "tags", "createdAt", "updatedAt"}
TYPES = ("number", "integer", "string", "boolean", "timestamp", "vector", "json")
_NUMBERS = count()


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"f{next(_NUMBERS)}"


def asked(name: str, value_type: str = "number", **rest: Any) -> dict[str, Any]:
    """A registration."""
    return {"name": name, "entity": "user", "valueType": value_type, **rest}


def ids(server: LiveServer, **query: Any) -> list[str]:
    """The ids of the features listed."""
    answer = server.get("/features", **query)
    assert answer.status_code == 200, answer.text
    return [feature["id"] for feature in answer.json()["features"]]


def put_group(server: LiveServer, name: str, *features: str, **rest: Any) -> dict[str, Any]:
    """A group of features of `user`, or of the entity given."""
    answer = server.post("/groups", {"name": name, "entity": "user", "features": features, **rest})
    assert answer.status_code in (200, 201), answer.text
    return dict(answer.json())


def group(server: LiveServer, name: str) -> dict[str, Any]:
    """A group as it is."""
    answer = server.get(f"/groups/{name}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


# Registering


def test_a_new_feature_is_answered_with_201_and_all_its_fields(shared_server: LiveServer, name: str) -> None:
    answer = shared_server.post("/features/register", asked(name))
    assert answer.status_code == 201
    assert answer.headers["Content-Type"] == "application/json"
    feature = answer.json()
    assert set(feature) == ALWAYS
    assert feature.pop("createdAt") == feature.pop("updatedAt")
    assert feature == {
        "id": f"user.{name}.v1", "name": name, "description": "", "valueType": "number", "entity": "user",
        "version": 1, "tags": [],
    }  # fmt: skip


def test_what_else_was_given_is_told_as_it_was_given(shared_server: LiveServer, name: str) -> None:
    given: dict[str, Any] = {
        "description": "how often, ü", "version": 3, "tags": ["b", "a"], "owner": "ml", "group": f"{name}-group",
        "schema": {"nullable": False, "min": 0, "max": 1.5}, "maxAge": "7d",
        "retention": {"values": 5, "age": "30d"},
    }  # fmt: skip
    feature = shared_server.register(name, **given)
    assert {key: feature[key] for key in given} == given
    assert set(feature) == ALWAYS | set(given)
    assert shared_server.feature(f"user.{name}.v3") == feature


@pytest.mark.parametrize("value_type", TYPES)
def test_every_value_type_can_be_registered(shared_server: LiveServer, name: str, value_type: str) -> None:
    rest = {"schema": {"dimension": 2}} if value_type == "vector" else {}
    assert shared_server.register(name, value_type, **rest)["valueType"] == value_type


def test_the_same_id_again_is_answered_with_200_and_updated(shared_server: LiveServer, name: str) -> None:
    first = shared_server.register(name, description="old", tags=["old"], owner="old", maxAge="1h")
    changes: dict[str, Any] = {
        "description": "new", "tags": ["new"], "owner": "new", "schema": {"min": 1}, "maxAge": 60,
        "retention": {"values": 2},
    }  # fmt: skip
    answer = shared_server.post("/features/register", asked(name, **changes))
    assert answer.status_code == 200
    feature = answer.json()
    assert {key: feature[key] for key in changes} == changes
    assert feature["createdAt"] == first["createdAt"]
    assert datetime.fromisoformat(feature["updatedAt"]) > datetime.fromisoformat(first["updatedAt"])
    assert shared_server.feature(f"{feature['id']}") == feature


def test_values_stay_when_a_feature_is_updated(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 5, TEN))
    shared_server.register(name, description="new")
    assert shared_server.serve(["u"], [id_])[0]["features"] == {id_: 5}


@pytest.mark.parametrize("value_type", ["integer", "string", "json"])
def test_the_same_id_with_another_type_is_a_409_and_changes_nothing(
    shared_server: LiveServer, name: str, value_type: str
) -> None:
    before = shared_server.register(name, description="old")
    body = problem(shared_server.post("/features/register", asked(name, value_type, description="new")), 409)
    assert before["id"] in body["detail"]
    assert shared_server.feature(f"{before['id']}") == before


def test_another_version_may_have_another_type(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    assert shared_server.register(name, "string", version=2)["id"] == f"user.{name}.v2"


def test_another_dimension_is_a_409_and_changes_nothing(shared_server: LiveServer, name: str) -> None:
    before = shared_server.register(name, "vector", schema={"dimension": 2})
    problem(shared_server.post("/features/register", asked(name, "vector", schema={"dimension": 3})), 409)
    assert shared_server.feature(f"{before['id']}") == before


GOOD_NAMES = ["a", "_", "A-b_9", "x" * 128, "v1", "register"]
BAD_NAMES = ["", "1a", "-a", "a.b", "a b", "ü", "a\n", "a/b", "x" * 129]


@pytest.mark.parametrize("given", GOOD_NAMES)
def test_names_of_letters_digits_underscores_and_dashes_are_taken(shared_server: LiveServer, given: str) -> None:
    body = asked(given, entity=f"good_{given}"[:128])
    assert shared_server.post("/features/register", body).status_code == 201
    id_ = f"{body['entity']}.{given}.v1"
    assert shared_server.get(f"/features/{id_}").json()["id"] == id_


@pytest.mark.before_the_store
@pytest.mark.parametrize("given", BAD_NAMES)
@pytest.mark.parametrize("field", ["name", "entity", "group"])
def test_other_names_are_refused(shared_server: LiveServer, name: str, field: str, given: str) -> None:
    body = {**asked(name), field: given}
    assert fields(problem(shared_server.post("/features/register", body), 400)) == [field]
    assert shared_server.get(f"/features/user.{name}.v1").status_code == 404


@pytest.mark.before_the_store
@pytest.mark.parametrize("version", [0, -1, 1.5, "1", None, True])
def test_a_version_is_an_integer_from_1(shared_server: LiveServer, name: str, version: object) -> None:
    body = problem(shared_server.post("/features/register", asked(name, version=version)), 400)
    assert fields(body) == ["version"]
    assert name not in "".join(ids(shared_server, q=name))


NONSENSE: list[tuple[str, dict[str, Any] | None, str]] = [
    ("vector", None, "schema.dimension"),
    ("vector", {}, "schema.dimension"),
    ("vector", {"dimension": 0}, "schema.dimension"),
    ("vector", {"dimension": -1}, "schema.dimension"),
    ("vector", {"dimension": 2.5}, "schema.dimension"),
    ("vector", {"dimension": 10**30}, "schema.dimension"),
    ("vector", {"dimension": 2, "min": 0}, "schema.min"),
    ("vector", {"dimension": 2, "enum": [[1, 2]]}, "schema.enum"),
    ("number", {"dimension": 2}, "schema.dimension"),
    ("number", {"min": 2, "max": 1}, "schema.min"),
    ("number", {"min": "0"}, "schema.min"),
    ("number", {"max": True}, "schema.max"),
    ("number", {"max": [1]}, "schema.max"),
    ("number", {"enum": []}, "schema.enum"),
    ("number", {"enum": [1, "2"]}, "schema.enum[1]"),
    ("number", {"enum": [True]}, "schema.enum[0]"),
    ("number", {"enum": 5}, "schema.enum"),
    ("number", {"pattern": "a"}, "schema.pattern"),
    ("number", {"maxLength": 5}, "schema.maxLength"),
    ("number", {"nullable": "yes"}, "schema.nullable"),
    ("number", {"minimum": 5}, "schema.minimum"),
    ("integer", {"enum": [1.5]}, "schema.enum[0]"),
    ("integer", {"enum": [2**63]}, "schema.enum[0]"),
    ("integer", {"min": "x"}, "schema.min"),
    ("string", {"min": "a"}, "schema.min"),
    ("string", {"pattern": "("}, "schema.pattern"),
    ("string", {"pattern": "[z-a]"}, "schema.pattern"),
    ("string", {"pattern": 5}, "schema.pattern"),
    ("string", {"maxLength": -1}, "schema.maxLength"),
    ("string", {"maxLength": "5"}, "schema.maxLength"),
    ("string", {"enum": ["a", 5]}, "schema.enum[1]"),
    ("boolean", {"min": 0}, "schema.min"),
    ("boolean", {"enum": [1]}, "schema.enum[0]"),
    ("timestamp", {"min": "soon"}, "schema.min"),
    ("timestamp", {"min": 5}, "schema.min"),
    ("timestamp", {"min": "2025-01-02T00:00:00Z", "max": "2025-01-01T00:00:00Z"}, "schema.min"),
    ("timestamp", {"pattern": "2025"}, "schema.pattern"),
    ("json", {"enum": [{}]}, "schema.enum"),
    ("json", {"maxLength": 5}, "schema.maxLength"),
]


@pytest.mark.before_the_store
@pytest.mark.parametrize(("value_type", "schema", "field"), NONSENSE)
def test_a_schema_that_makes_no_sense_is_refused_and_its_field_named(
    shared_server: LiveServer, name: str, value_type: str, schema: dict[str, Any] | None, field: str
) -> None:
    body = problem(shared_server.post("/features/register", asked(name, value_type, schema=schema)), 400)
    assert fields(body) == [field]
    assert shared_server.get(f"/features/user.{name}.v1").status_code == 404


VERY_LARGE: list[tuple[str, dict[str, Any]]] = [
    ("number", {"version": 2**64}),
    ("number", {"version": 10**30}),
    ("number", {"schema": {"min": 10**30}}),
    ("number", {"schema": {"max": 10**30}}),
    ("number", {"schema": {"enum": [10**30]}}),
    ("integer", {"schema": {"min": -(10**30)}}),
    ("integer", {"schema": {"max": 10**30}}),
    ("string", {"schema": {"maxLength": 10**30}}),
    ("number", {"retention": {"values": 10**30}}),
    ("number", {"maxAge": 10**30}),
]


def test_a_very_large_integer_is_either_taken_or_refused_and_harms_nobody(server: LiveServer) -> None:
    # On a server of its own, which is the one to suffer where this does not hold.
    for place, (value_type, rest) in enumerate(VERY_LARGE):
        answer = server.post("/features/register", asked(f"f{place}", value_type, **rest))
        assert answer.status_code in (201, 400), (rest, answer.text)
        assert len(ids(server, q=f".f{place}.")) == (answer.status_code == 201)
    before = ids(server)
    server.kill()
    server.start()
    assert ids(server) == before


def test_a_refused_update_changes_nothing(shared_server: LiveServer, name: str) -> None:
    before = shared_server.register(name, schema={"min": 0}, description="old")
    body = asked(name, schema={"min": 2, "max": 1}, description="new")
    problem(shared_server.post("/features/register", body), 400)
    assert shared_server.feature(f"{before['id']}") == before


@pytest.mark.parametrize("given", [1, 0.5, "1d", "12h", "30m", "45s", "1.5h"])
def test_a_duration_is_told_as_it_was_given(shared_server: LiveServer, name: str, given: str | float) -> None:
    feature = shared_server.register(name, maxAge=given, retention={"age": given})
    assert (feature["maxAge"], feature["retention"]["age"]) == (given, given)


@pytest.mark.before_the_store
@pytest.mark.parametrize("given", [0, -1, "0s", "-1d", "1w", "d", "", "1 d", "one day", 1e300])
def test_a_duration_that_is_none_is_refused(shared_server: LiveServer, name: str, given: str | float) -> None:
    for rest, field in (({"maxAge": given}, "maxAge"), ({"retention": {"age": given}}, "retention.age")):
        assert fields(problem(shared_server.post("/features/register", asked(name, **rest)), 400)) == [field]
    assert ids(shared_server, q=f".{name}.") == []


@pytest.mark.parametrize("values", [0, -1])
def test_a_retention_keeps_at_least_one_value(shared_server: LiveServer, name: str, values: int) -> None:
    body = asked(name, retention={"values": values})
    assert fields(problem(shared_server.post("/features/register", body), 400)) == ["retention.values"]


# References


def test_a_feature_is_found_by_id_by_entity_and_name_and_by_bare_name(
    shared_server: LiveServer, name: str
) -> None:
    feature = shared_server.register(name)
    for reference in (feature["id"], f"user.{name}", name):
        assert shared_server.feature(reference) == feature


def test_without_a_version_the_highest_is_meant(shared_server: LiveServer, name: str) -> None:
    for version in (2, 10, 9):
        shared_server.register(name, version=version)
    for reference in (f"user.{name}", name):
        assert shared_server.get(f"/features/{reference}").json()["version"] == 10
    shared_server.http.delete(f"/features/user.{name}.v10")
    assert shared_server.get(f"/features/{name}").json()["version"] == 9
    shared_server.register(name, version=11)
    assert shared_server.get(f"/features/user.{name}").json()["version"] == 11


def test_an_ambiguous_bare_name_is_a_409_that_names_the_candidates(shared_server: LiveServer, name: str) -> None:
    for entity in ("user", "item"):
        shared_server.register(name, entity=entity)
    for path in (f"/features/{name}", f"/features/{name}/versions"):
        detail = problem(shared_server.get(path), 409)["detail"]
        assert f"user.{name}" in detail
        assert f"item.{name}" in detail
    assert shared_server.get(f"/features/item.{name}").json()["entity"] == "item"
    shared_server.http.delete(f"/features/item.{name}.v1")
    assert shared_server.get(f"/features/{name}").json()["entity"] == "user"


def test_an_unknown_reference_is_a_404_that_names_it(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    for unknown in (
        f"user.{name}.v2",
        f"user.{name}.v01",
        f"user.{name}.1",
        f"item.{name}",
        f"{name}x",
        "a.b.c.d",
    ):
        assert unknown in problem(shared_server.get(f"/features/{unknown}"), 404)["detail"]


def test_the_versions_are_listed_lowest_first(shared_server: LiveServer, name: str) -> None:
    features = {version: shared_server.register(name, version=version) for version in (10, 1, 2)}
    for reference in (f"user.{name}", name):
        answer = shared_server.get(f"/features/{reference}/versions")
        assert (answer.status_code, answer.json()) == (200, {"versions": [features[n] for n in (1, 2, 10)]})
    problem(shared_server.get("/features/user.nothing/versions"), 404)


def test_versions_are_listed_though_none_is_promoted(shared_server: LiveServer, name: str) -> None:
    made = shared_server.register(name, promoted=False)
    for reference in (f"user.{name}", name):
        assert shared_server.get(f"/features/{reference}/versions").json() == {"versions": [made]}
    assert made["id"] in problem(shared_server.get(f"/features/{name}"), 404)["detail"]


# Listing


def test_features_are_listed_sorted_by_id_and_whole(shared_server: LiveServer, name: str) -> None:
    features = [shared_server.register(f"{end}", entity=name) for end in ("c", "a", "b")]
    answer = shared_server.get("/features", entity=name)
    assert answer.json() == {"features": sorted(features, key=lambda feature: str(feature["id"]))}


def test_features_are_filtered_by_any_or_all_tags(shared_server: LiveServer, name: str) -> None:
    for end, tags in (("a", ["x"]), ("b", ["y", "x"]), ("c", ["y"]), ("d", []), ("e", ["X", "xy"])):
        shared_server.register(end, entity=name, tags=tags)

    def found(**query: str) -> str:
        return "".join(id_.split(".")[1] for id_ in ids(shared_server, entity=name, **query))

    assert found(tags="x") == "ab"
    assert found(tags="x,y") == found(tags="x,y", match="any") == "abc"
    assert found(tags="x,y", match="all") == "b"
    assert found(tags="z") == ""
    assert found() == "abcde"


def test_features_are_filtered_by_group_and_by_text(shared_server: LiveServer, name: str) -> None:
    a, b, c = (
        shared_server.register(f"{name}{end}", description=text, tags=tags)["id"]
        for end, text, tags in (("a", f"Clicks {name}", []), ("b", "", [f"Clicks{name}"]), ("c", "", []))
    )
    put_group(shared_server, name, c, a)
    assert ids(shared_server, group=name) == [a, c]
    assert ids(shared_server, q=f"clicks {name}") == [a]
    assert ids(shared_server, q=f"CLICKS{name}") == [b]
    assert ids(shared_server, q=f"user.{name}c") == [c]
    assert ids(shared_server, group=name, q=f"clicks {name}") == [a]
    assert ids(shared_server, q=f"nothing of {name}") == []


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
def test_pages_follow_each_other_without_gaps_or_repeats(shared_server: LiveServer, name: str, limit: int) -> None:
    every = sorted(shared_server.register(f"f{number}", entity=name)["id"] for number in range(5))
    seen: list[str] = []
    query: dict[str, Any] = {"entity": name, "limit": limit}
    while True:
        page = shared_server.get("/features", **query).json()
        seen += [feature["id"] for feature in page["features"]]
        if "nextCursor" not in page:
            break
        assert len(page["features"]) == limit
        query["cursor"] = page["nextCursor"]
    assert seen == every


@pytest.mark.before_the_store
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("match", "some"),
        *(("limit", value) for value in ("0", "-1", "many", "1.5", "10001", "000000000010001000")),
        ("limit", "000000000001" + "0" * 5_000),
        *(("cursor", value) for value in ("!!!", "abc", "ü")),
    ],
)
def test_a_query_that_makes_no_sense_is_named(shared_server: LiveServer, field: str, value: str) -> None:
    assert fields(problem(shared_server.get("/features", **{field: value}), 400)) == [field]


# Deleting


def test_a_deleted_feature_is_gone(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 5, TEN))
    answer = shared_server.http.delete(f"/features/{id_}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert ids(shared_server, q=f".{name}.") == []
    reads = [
        shared_server.get(f"/features/{id_}"),
        shared_server.get(f"/features/{name}"),
        shared_server.get(f"/features/user.{name}/versions"),
        shared_server.get(f"/features/{id_}/stats"),
        shared_server.get(f"/features/{id_}/history", entityId="u"),
        shared_server.post("/features/serve", {"entityIds": ["u"], "features": [id_]}),
        shared_server.post(
            "/features/historical", {"entityIds": ["u"], "features": [id_], "startTime": TEN, "endTime": TEN}
        ),
        shared_server.post("/features/write", {"featureId": id_, "entityId": "u", "value": 1}),
        shared_server.http.delete(f"/features/{id_}"),
    ]
    for read in reads:
        problem(read, 404)


def test_a_feature_is_deleted_by_its_id_and_not_by_another_reference(shared_server: LiveServer, name: str) -> None:
    before = shared_server.register(name)
    for reference in (name, f"user.{name}", f"user.{name}.v2"):
        problem(shared_server.http.delete(f"/features/{reference}"), 404)
    assert shared_server.feature(f"{name}") == before


@pytest.mark.parametrize("value_type", ["number", "string", "json"])
def test_a_feature_registered_again_starts_empty(shared_server: LiveServer, name: str, value_type: str) -> None:
    first = shared_server.register(name)
    shared_server.write((first["id"], "u", 5, TEN), (first["id"], "u", 6, "2999-01-01T00:00:00Z"))
    shared_server.http.delete(f"/features/{first['id']}")
    again = shared_server.register(name, value_type)
    assert datetime.fromisoformat(again["createdAt"]) > datetime.fromisoformat(first["createdAt"])
    result = shared_server.serve(["u"], [name], includeMetadata=True, asOf="2999-01-02T00:00:00Z")[0]
    assert result["metadata"][name]["status"] == "missing"
    history = shared_server.get(f"/features/{name}/history", entityId="u").json()
    assert history["observations"] == []
    value = 7 if value_type == "number" else "7"
    shared_server.write((first["id"], "u", value, "2020-01-01T00:00:00Z"))
    assert shared_server.serve(["u"], [name])[0]["features"] == {name: value}


def test_a_deleted_feature_stays_deleted_and_its_values_gone_after_a_restart(server: LiveServer) -> None:
    gone, again = server.register("gone")["id"], server.register("again")["id"]
    server.write((gone, "u", 1, TEN), (again, "u", 1, TEN))
    for id_ in (gone, again):
        assert server.http.delete(f"/features/{id_}").status_code == 204
    server.register("again", "string")
    server.kill()
    server.start()
    problem(server.get(f"/features/{gone}"), 404)
    assert server.serve(["u"], [again])[0]["features"] == {again: None}
    assert server.get(f"/features/{again}/history", entityId="u").json()["observations"] == []
    server.register("gone", "json")
    assert server.serve(["u"], [gone])[0]["features"] == {gone: None}
    server.write((again, "u", "x", TEN), (gone, "u", {"a": 1}, TEN))
    server.kill()
    server.start()
    assert server.serve(["u"], [again, gone])[0]["features"] == {again: "x", gone: {"a": 1}}


def test_the_registry_is_the_same_after_a_restart(server: LiveServer) -> None:
    server.register("a", description="ü", tags=["x"], owner="me", schema={"min": 0, "enum": [1, 2.5]}, maxAge="1h")
    server.register("a", "vector", version=2, schema={"dimension": 2}, group="g", retention={"values": 3})
    server.register("b", "integer", entity="item", schema={"max": 2**63 - 1})
    server.post("/groups", {"name": "h", "entity": "user", "features": ["user.a.v2", "a"], "tags": ["t"]})
    before = server.get("/features").text, server.get("/groups").text
    server.kill()
    server.start()
    assert (server.get("/features").text, server.get("/groups").text) == before


# Groups


def test_a_new_group_is_answered_with_201_and_a_changed_one_with_200(shared_server: LiveServer, name: str) -> None:
    a, b = (shared_server.register(name + end)["id"] for end in "ab")
    body = {"name": name, "entity": "user", "features": [b, a], "description": "both", "tags": ["t"]}
    answer = shared_server.post("/groups", body)
    assert answer.status_code == 201
    assert set(answer.json()) >= set(body)
    assert {key: answer.json()[key] for key in body} == body
    assert shared_server.get(f"/groups/{name}").json() == answer.json()
    changed = shared_server.post("/groups", {**body, "features": [a], "description": "one"})
    assert (changed.status_code, changed.json()["features"]) == (200, [a])
    assert group(shared_server, name) == changed.json()


def test_groups_are_listed(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    made = [put_group(shared_server, name + end, id_) for end in "ba"]
    answer = shared_server.get("/groups")
    assert answer.status_code == 200
    assert list(answer.json()) == ["groups"]
    assert [one for one in answer.json()["groups"] if one["name"].startswith(name)] == made[::-1]


def test_a_deleted_group_is_gone_and_its_features_stay(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    put_group(shared_server, name, id_)
    answer = shared_server.http.delete(f"/groups/{name}")
    assert (answer.status_code, answer.content) == (204, b"")
    problem(shared_server.get(f"/groups/{name}"), 404)
    problem(shared_server.http.delete(f"/groups/{name}"), 404)
    problem(shared_server.post("/features/serve", {"entityIds": ["u"], "group": name}), 404)
    assert shared_server.get(f"/features/{id_}").status_code == 200


def test_a_group_of_an_unknown_feature_is_a_404_that_names_it(shared_server: LiveServer, name: str) -> None:
    body = {"name": name, "entity": "user", "features": [f"user.{name}.v1"]}
    assert f"user.{name}.v1" in problem(shared_server.post("/groups", body), 404)["detail"]
    problem(shared_server.get(f"/groups/{name}"), 404)


def test_a_group_takes_features_of_its_entity_type_only(shared_server: LiveServer, name: str) -> None:
    mine, other = (shared_server.register(name, entity=entity)["id"] for entity in ("user", "item"))
    body = {"name": name, "entity": "user", "features": [mine, other]}
    assert other in problem(shared_server.post("/groups", body), 409)["detail"]
    problem(shared_server.get(f"/groups/{name}"), 404)
    before = put_group(shared_server, name, mine)
    problem(shared_server.post("/groups", body), 409)
    problem(shared_server.post("/groups", {**body, "entity": "item", "features": [other]}), 409)
    assert group(shared_server, name) == before


@pytest.mark.before_the_store
@pytest.mark.parametrize(("field", "given"), [*(("name", bad) for bad in BAD_NAMES), ("entity", "a.b")])
def test_other_names_of_groups_are_refused(shared_server: LiveServer, name: str, field: str, given: str) -> None:
    id_ = shared_server.register(name)["id"]
    body = {"name": name, "entity": "user", "features": [id_], field: given}
    assert fields(problem(shared_server.post("/groups", body), 400)) == [field]


def test_a_feature_joins_the_group_that_it_names(shared_server: LiveServer, name: str) -> None:
    a = shared_server.register(f"{name}a", group=name)["id"]
    assert group(shared_server, name)["features"] == [a]
    assert group(shared_server, name)["entity"] == "user"
    b = shared_server.register(f"{name}b", group=name)["id"]
    shared_server.register(f"{name}a", group=name)
    assert group(shared_server, name)["features"] == [a, b]


def test_a_feature_cannot_join_a_group_of_another_entity_type(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name, group=name)["id"]
    body = {"name": name, "entity": "item", "valueType": "number", "group": name}
    problem(shared_server.post("/features/register", body), 409)
    problem(shared_server.get(f"/features/item.{name}.v1"), 404)
    assert group(shared_server, name)["features"] == [id_]


def test_a_feature_that_a_group_reads_is_deleted_by_force_alone_and_leaves_its_groups(
    shared_server: LiveServer, name: str
) -> None:
    a, b = (shared_server.register(name + end)["id"] for end in "ab")
    put_group(shared_server, name, b, a)
    put_group(shared_server, f"{name}x", f"{name}a", f"{name}b")
    told = problem(shared_server.http.delete(f"/features/{a}"), 409)["detail"]
    assert repr(name) in told and repr(f"{name}x") in told
    problem(shared_server.http.delete(f"/features/{a}?force=maybe"), 400)
    assert group(shared_server, name)["features"] == [b, a]
    shared_server.delete_feature(a)
    assert group(shared_server, name)["features"] == [b]
    assert group(shared_server, f"{name}x")["features"] == [f"{name}b"]
    shared_server.register(f"{name}a")
    assert group(shared_server, name)["features"] == [b]


def test_a_group_keeps_the_versions_that_its_references_meant_when_it_was_made(
    shared_server: LiveServer, name: str
) -> None:
    first = shared_server.register(name)["id"]
    shared_server.write((first, "u", 5, TEN))
    made = put_group(shared_server, name, f"user.{name}")
    assert made["featureIds"] == [first]
    second = shared_server.register(name, version=2)["id"]
    answer = shared_server.post("/features/serve", {"entityIds": ["u"], "group": name, "features": [name]})
    assert answer.json()["results"][0]["features"] == {f"user.{name}": 5, name: None}
    assert group(shared_server, name) == made
    assert shared_server.http.delete(f"/features/{second}").status_code == 204
    shared_server.delete_feature(first)
    assert group(shared_server, name)["features"] == []


def test_a_bare_name_in_a_group_goes_on_meaning_the_feature_of_its_entity_type(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 5, TEN))
    put_group(shared_server, name, name)
    shared_server.register(name, entity="item")
    answer = shared_server.post("/features/serve", {"entityIds": ["u"], "group": name})
    assert answer.status_code == 200, answer.text
    assert list(answer.json()["results"][0]["features"].values()) == [5]
    assert ids(shared_server, group=name) == [id_]


def test_deleting_one_feature_takes_no_other_out_of_a_group(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    before = put_group(shared_server, name, name)["features"]
    shared_server.register(name, entity="item")
    shared_server.http.delete(f"/features/{shared_server.register(f'{name}other')['id']}")
    assert group(shared_server, name)["features"] == before


def test_a_deleted_feature_leaves_its_groups_although_another_entity_type_has_its_name(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name)["id"]
    put_group(shared_server, name, name)
    shared_server.register(name, entity="item")
    shared_server.delete_feature(id_)
    assert group(shared_server, name)["features"] == []
