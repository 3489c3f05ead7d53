"""Writing: every type comes back as sent, a bad batch is refused whole, a repeat is no second write."""

from __future__ import annotations

from itertools import count
from typing import Any

import httpx
import pytest

from tests.live import LiveServer
from tests.web.test_errors import JSON, problem

OVER_EVERY_STORE = True

TEN = "2025-11-07T10:00:00Z"
_NUMBERS = count()


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"f{next(_NUMBERS)}"


def raw(server: LiveServer, feature: str, value: str, path: str = "/features/write") -> httpx.Response:
    """Write a value that is given as JSON text."""
    item = f'{{"featureId":"{feature}","entityId":"u","value":{value},"timestamp":"{TEN}"}}'
    body = item if path == "/features/write" else f'{{"values":[{item}]}}'
    return server.http.post(path, content=body.encode(), headers=JSON)


def item(feature: str, value: object = 1, entity: str = "u", **rest: Any) -> dict[str, Any]:
    """A value to write."""
    return {"featureId": feature, "entityId": entity, "value": value, "timestamp": TEN, **rest}


def value_text(server: LiveServer, feature: str, entity: str = "u") -> str:
    """The value served, as JSON text."""
    answer = server.post("/features/serve", {"entityIds": [entity], "features": [feature], "asOf": TEN})
    assert answer.status_code == 200, answer.text
    before = f'{{"results":[{{"entityId":"{entity}","features":{{"{feature}":'
    after = '},"timestamp":"2025-11-07T10:00:00.000Z"}]}'
    assert answer.text.startswith(before)
    assert answer.text.endswith(after)
    return answer.text[len(before) : -len(after)]


def stored(server: LiveServer, id_: str, entity: str = "u") -> list[Any]:
    """All observations of an entity."""
    answer = server.get(f"/features/{id_}/history", entityId=entity)
    return [observed["value"] for observed in answer.json()["observations"]]


# What is answered


def test_a_write_is_answered_with_success(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    answer = shared_server.post("/features/write", item(id_))
    assert (answer.status_code, answer.text) == (200, '{"success":true}')
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("query", ["", "?partial=false", "?partial=true"])
def test_a_batch_is_answered_with_its_count(shared_server: LiveServer, name: str, query: str) -> None:
    id_ = shared_server.register(name)["id"]
    values = [item(id_, 1), item(id_, None, "v"), item(id_, 2, "w")]
    answer = shared_server.post(f"/features/write-batch{query}", {"values": values})
    assert (answer.status_code, answer.text) == (200, '{"success":true,"count":3}')
    answer = shared_server.post(f"/features/write-batch{query}", {"values": [*values, item(id_, 3, "w")]})
    assert (answer.status_code, answer.text) == (200, '{"success":true,"count":4,"overwritten":1}')
    assert answer.headers["Content-Type"] == "application/json"


def test_an_empty_batch_is_written_at_once(shared_server: LiveServer) -> None:
    answer = shared_server.post("/features/write-batch", {"values": []})
    assert (answer.status_code, answer.text) == (200, '{"success":true,"count":0}')


# What comes back

VECTOR = {"schema": {"dimension": 3}}
NO_SCHEMA: dict[str, Any] = {}
SAME = {
    "number": ["5", "0", "-5", "0.1", "-0.25", "123456789.125", "9007199254740992"],
    "integer": ["0", "5", "9223372036854775807", "-9223372036854775808", "9007199254740993"],
    "string": ['""', '"grüße 日本 😀"', r'"a \" b \\ c \n d \t e"', '"5"', '"null"', '"true"'],
    "boolean": ["true", "false"],
    "timestamp": [
        '"2025-11-07T10:00:00.000Z"',
        '"2025-11-07T10:00:00.120Z"',
        '"2025-11-07T10:00:00.000001Z"',
        '"1969-12-31T23:59:59.999999Z"',
        '"0001-01-01T00:00:00.000Z"',
        '"9999-12-31T23:59:59.999999Z"',
    ],
    "vector": ["[0.1,5,-2.5]", "[0,0.3,16777216]", "[0.7,0.01,123456.7]"],
    "json": ["{}", "[]", "5", "0.1", '"x"', "true", '{"a":[1,null,true,{"b":"ü"}]}', "12345678901234567890123"],
}
CANONICAL = [
    ("number", "5.0", "5"),
    ("number", "5e0", "5"),
    ("number", "-0", "0"),
    ("number", "1E3", "1000"),
    ("number", "0.10", "0.1"),
    ("timestamp", '"2025-11-07T12:00:00.5+02:00"', '"2025-11-07T10:00:00.500Z"'),
    ("timestamp", '"2025-11-07T10:00:00"', '"2025-11-07T10:00:00.000Z"'),
    ("timestamp", '"2025-11-07T10:00:00.100000Z"', '"2025-11-07T10:00:00.100Z"'),
    ("vector", "[5.0, 1e0, 0.10]", "[5,1,0.1]"),
    ("string", r'"\u00fc\ud83d\ude00"', '"ü😀"'),
    ("json", '{ "b" : 1, "a" : { "d" : [ 1 , 2 ], "c" : null } }', '{"a":{"c":null,"d":[1,2]},"b":1}'),
    ("json", r'{"\u00fc": "\u00fc"}', '{"ü":"ü"}'),
]
TYPES = tuple(SAME)


def register(server: LiveServer, name: str, value_type: str) -> str:
    """A feature of a type, and its id."""
    id_: str = server.register(name, value_type, **(VECTOR if value_type == "vector" else NO_SCHEMA))["id"]
    return id_


@pytest.mark.parametrize(("value_type", "text"), [(kind, text) for kind, texts in SAME.items() for text in texts])
def test_a_value_comes_back_byte_for_byte(
    shared_server: LiveServer, name: str, value_type: str, text: str
) -> None:
    id_ = register(shared_server, name, value_type)
    assert raw(shared_server, id_, text).status_code == 200
    assert value_text(shared_server, id_) == text
    assert raw(shared_server, id_, text, "/features/write-batch").status_code == 200
    assert value_text(shared_server, id_) == text
    history = shared_server.get(f"/features/{id_}/history", entityId="u").text
    assert f'"value":{text}}}' in history


@pytest.mark.parametrize(("value_type", "sent", "told"), CANONICAL)
def test_a_value_comes_back_in_one_form_however_it_was_spelled(
    shared_server: LiveServer, name: str, value_type: str, sent: str, told: str
) -> None:
    id_ = register(shared_server, name, value_type)
    assert raw(shared_server, id_, sent).status_code == 200
    assert value_text(shared_server, id_) == told


@pytest.mark.parametrize("text", ["1e300", "-1.7976931348623157e308", "5e-324", "1e22", "9007199254740993"])
def test_a_number_of_any_size_is_the_nearest_float64(shared_server: LiveServer, name: str, text: str) -> None:
    id_ = register(shared_server, name, "number")
    assert raw(shared_server, id_, text).status_code == 200
    assert float(value_text(shared_server, id_)) == float(text)


@pytest.mark.parametrize("value_type", TYPES)
def test_a_null_of_every_type_is_written_and_served_as_null(
    shared_server: LiveServer, name: str, value_type: str
) -> None:
    id_ = register(shared_server, name, value_type)
    assert raw(shared_server, id_, "null").status_code == 200
    result = shared_server.serve(["u"], [id_], includeMetadata=True)[0]
    assert result["features"] == {id_: None}
    assert result["metadata"][id_]["status"] == "null"
    assert stored(shared_server, id_) == [None]


@pytest.mark.parametrize("value_type", TYPES)
def test_every_type_survives_a_batch_of_values_and_nulls(
    shared_server: LiveServer, name: str, value_type: str
) -> None:
    id_ = register(shared_server, name, value_type)
    texts = [*SAME[value_type][:2], "null"] * 5
    items = [
        f'{{"featureId":"{id_}","entityId":"e{place}","value":{text},"timestamp":"{TEN}"}}'
        for place, text in enumerate(texts)
    ]
    body = f'{{"values":[{",".join(items)}]}}'.encode()
    assert shared_server.http.post("/features/write-batch", content=body, headers=JSON).json()["count"] == 15
    assert [value_text(shared_server, id_, f"e{place}") for place in range(15)] == texts


def test_every_type_survives_a_restart(server: LiveServer) -> None:
    ids = {value_type: register(server, value_type, value_type) for value_type in TYPES}
    for value_type, id_ in ids.items():
        assert raw(server, id_, SAME[value_type][-1]).status_code == 200
    server.kill()
    server.start()
    for value_type, id_ in ids.items():
        assert value_text(server, id_) == SAME[value_type][-1]


# What is refused


def test_a_changed_schema_rules_the_next_write(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name, schema={"max": 1})["id"]
    problem(shared_server.post("/features/write", item(id_, 2)), 400)
    shared_server.register(name, schema={"max": 2})
    assert shared_server.post("/features/write", item(id_, 2)).status_code == 200


# References and versions


def test_a_write_may_name_a_feature_in_any_way(shared_server: LiveServer, name: str) -> None:
    one, two = (shared_server.register(name, version=version)["id"] for version in (1, 2))
    for number, reference in enumerate((one, two, f"user.{name}", name)):
        assert shared_server.post("/features/write", item(reference, number, f"e{number}")).status_code == 200
    assert [stored(shared_server, one, f"e{number}") for number in range(4)] == [[0], [], [], []]
    assert [stored(shared_server, two, f"e{number}") for number in range(4)] == [[], [1], [2], [3]]


def test_one_feature_under_several_references_in_a_batch_keeps_the_order_of_arrival(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name)["id"]
    values = [item(reference, number) for number, reference in enumerate((name, id_, f"user.{name}", name, id_))]
    assert shared_server.post("/features/write-batch", {"values": values}).json()["count"] == 5
    assert stored(shared_server, id_) == [4]


def test_the_version_may_stand_beside_the_id(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name, version=3)["id"]
    assert shared_server.post("/features/write", item(id_, 1, version=3)).text == '{"success":true}'
    answer = shared_server.post(
        "/features/write-batch", {"values": [item(id_, 2, version=3), item(id_, 3, "other")]}
    )
    assert answer.json() == {"success": True, "count": 2}


def test_an_ambiguous_name_is_a_409_that_names_the_candidates(shared_server: LiveServer, name: str) -> None:
    ids = [shared_server.register(name, entity=entity)["id"] for entity in ("user", "item")]
    detail = problem(shared_server.post("/features/write", item(name)), 409)["detail"]
    assert f"user.{name}" in detail
    assert f"item.{name}" in detail
    assert [stored(shared_server, id_) for id_ in ids] == [[], []]


# Entity ids and timestamps


@pytest.mark.parametrize("entity", ["a" * 512, "ü" * 256, "😀" * 128, " ", "a b", "日本", "null", "0", "e\u0301"])
def test_any_other_entity_id_is_kept_as_it_is(shared_server: LiveServer, name: str, entity: str) -> None:
    id_ = shared_server.register(name)["id"]
    assert shared_server.post("/features/write", item(id_, 1, entity)).status_code == 200
    result = shared_server.serve([entity], [id_])[0]
    assert (result["entityId"], result["features"][id_]) == (entity, 1)


TIMES = [
    ("2025-11-07T10:00:00Z", "2025-11-07T10:00:00.000Z"),
    ("2025-11-07T10:00:00.1Z", "2025-11-07T10:00:00.100Z"),
    ("2025-11-07T10:00:00.123Z", "2025-11-07T10:00:00.123Z"),
    ("2025-11-07T10:00:00.123456Z", "2025-11-07T10:00:00.123456Z"),
    ("2025-11-07T10:00:00.123000Z", "2025-11-07T10:00:00.123Z"),
    ("2025-11-07T10:00:00", "2025-11-07T10:00:00.000Z"),
    ("2025-11-07T10:00:00.5", "2025-11-07T10:00:00.500Z"),
    ("2025-11-07T10:00:00+00:00", "2025-11-07T10:00:00.000Z"),
    ("2025-11-07T12:30:00+02:30", "2025-11-07T10:00:00.000Z"),
    ("2025-11-06T23:00:00.000001-11:00", "2025-11-07T10:00:00.000001Z"),
    ("2024-02-29T23:59:59.999999Z", "2024-02-29T23:59:59.999999Z"),
    ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
    ("1815-12-10T00:00:00Z", "1815-12-10T00:00:00.000Z"),
]


@pytest.mark.parametrize(("sent", "told"), TIMES)
def test_a_timestamp_is_kept_to_the_microsecond_in_utc(
    shared_server: LiveServer, name: str, sent: str, told: str
) -> None:
    id_ = shared_server.register(name)["id"]
    assert shared_server.post("/features/write", item(id_, timestamp=sent)).status_code == 200
    answer = shared_server.get(f"/features/{id_}/history", entityId="u").json()
    assert [observed["timestamp"] for observed in answer["observations"]] == [told]


def test_timestamps_of_all_forms_may_stand_in_one_batch(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    values = [item(id_, 1, f"e{place}", timestamp=sent) for place, (sent, _) in enumerate(TIMES)]
    assert shared_server.post("/features/write-batch", {"values": values}).json()["count"] == len(TIMES)
    for place, (_, told) in enumerate(TIMES):
        answer = shared_server.get(f"/features/{id_}/history", entityId=f"e{place}").json()
        assert answer["observations"][0]["timestamp"] == told


@pytest.mark.parametrize("rest", [{}, {"timestamp": None}])
def test_a_value_without_a_timestamp_happened_when_it_was_written(
    shared_server: LiveServer, name: str, rest: dict[str, None]
) -> None:
    feature = shared_server.register(name)
    body = {"featureId": feature["id"], "entityId": "u", "value": 1, **rest}
    assert shared_server.post("/features/write", body).status_code == 200
    result = shared_server.serve(["u"], [name], includeMetadata=True)[0]
    assert result["features"] == {name: 1}
    assert feature["createdAt"][:19] <= result["metadata"][name]["timestamp"][:19] <= result["timestamp"][:19]


# Batches are all or nothing, unless partial


def _bad_items(id_: str) -> list[tuple[Any, str]]:
    return [
        (item(id_, "x"), "value"),
        (item("user.nothing.v1"), "featureId"),
        (item(id_, 1, ""), "entityId"),
        (item(id_, timestamp="soon"), "timestamp"),
        (item(id_, version=7), "version"),
        ({"featureId": id_, "entityId": "u"}, "value"),
        ({**item(id_), "colour": "red"}, "colour"),
        ({**item(id_), "entityId": 5}, "entityId"),
    ]


def test_every_bad_item_is_named_by_its_index_and_nothing_is_written(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    bad = _bad_items(id_)
    values = [value for wrong, _ in bad for value in (item(id_), wrong)]
    body = problem(shared_server.post("/features/write-batch", {"values": values}), 400)
    named = [(fault["index"], fault["field"]) for fault in body["errors"]]
    assert named == [(2 * place + 1, field) for place, (_, field) in enumerate(bad)]
    assert stored(shared_server, id_) == []


def test_one_bad_value_of_another_feature_holds_back_the_batch(shared_server: LiveServer, name: str) -> None:
    good, other = shared_server.register(name)["id"], shared_server.register(f"{name}b", "string")["id"]
    problem(shared_server.post("/features/write-batch", {"values": [item(good), item(other, 5)]}), 400)
    assert stored(shared_server, good) == []


def test_a_partial_batch_writes_the_good_ones_and_names_the_others(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    bad = _bad_items(id_)
    values = [value for place, (wrong, _) in enumerate(bad) for value in (item(id_, place, f"e{place}"), wrong)]
    answer = shared_server.post("/features/write-batch?partial=true", {"values": values})
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["success", "count", "errors"]
    assert (body["success"], body["count"]) == (False, len(bad))
    named = [(fault["index"], fault["field"]) for fault in body["errors"]]
    assert named == [(2 * place + 1, field) for place, (_, field) in enumerate(bad)]
    assert all(fault["message"] for fault in body["errors"])
    assert [stored(shared_server, id_, f"e{place}") for place in range(len(bad))] == [[n] for n in range(len(bad))]
    assert stored(shared_server, id_) == []


def test_a_partial_batch_without_a_good_one_writes_nothing(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    body = shared_server.post("/features/write-batch?partial=true", {"values": [item(id_, "x"), {}]}).json()
    assert (body["success"], body["count"], [fault["index"] for fault in body["errors"]]) == (False, 0, [0, 1])
    assert stored(shared_server, id_) == []


def test_an_ambiguous_name_in_a_batch_is_named_by_its_index(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.register(name, entity="item")
    body = problem(shared_server.post("/features/write-batch", {"values": [item(id_), item(name)]}), 400)
    assert [(fault["field"], fault["index"]) for fault in body["errors"]] == [("featureId", 1)]
    assert f"item.{name}" in body["errors"][0]["message"]
    assert stored(shared_server, id_) == []


# Idempotency


def keyed(server: LiveServer, key: str, body: dict[str, Any], query: str = "") -> httpx.Response:
    """A write or a batch under an idempotency key."""
    path = "/features/write-batch" if "values" in body else "/features/write"
    return server.post(path + query, body, **{"Idempotency-Key": key})


def test_a_repeat_under_a_key_answers_the_same_and_writes_nothing(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    assert keyed(shared_server, name, item(id_, 1)).text == '{"success":true}'
    shared_server.write((id_, "u", 2, TEN))
    for body in (item(id_, 1), item(id_, 3), item(id_, 4, "other")):
        again = keyed(shared_server, name, body)
        assert (again.status_code, again.text) == (200, '{"success":true}')
    assert stored(shared_server, id_) == [2]
    assert stored(shared_server, id_, "other") == []


def test_a_repeated_batch_answers_the_first_count(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    first = {"values": [item(id_, 1), item(id_, 2, "v")]}
    assert keyed(shared_server, name, first).text == '{"success":true,"count":2}'
    shared_server.write((id_, "u", 9, TEN))
    assert keyed(shared_server, name, first).text == '{"success":true,"count":2}'
    assert keyed(shared_server, name, {"values": [item(id_, 5)]}).text == '{"success":true,"count":2}'
    assert stored(shared_server, id_) == [9]


def test_a_repeated_partial_batch_answers_the_first_errors(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    body = {"values": [item(id_, 1), item(id_, "x")]}
    first = keyed(shared_server, name, body, "?partial=true")
    assert (first.json()["count"], first.json()["errors"][0]["index"]) == (1, 1)
    shared_server.write((id_, "u", 9, TEN))
    assert keyed(shared_server, name, body, "?partial=true").text == first.text
    assert stored(shared_server, id_) == [9]


def test_keys_are_told_apart_exactly(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    for place, key in enumerate((name, name.upper(), f"{name}-", f"{name}-0")):
        keyed(shared_server, key, item(id_, place, f"e{place}"))
    assert [stored(shared_server, id_, f"e{place}") for place in range(4)] == [[0], [1], [2], [3]]


def test_a_refused_write_leaves_its_key_free(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    problem(keyed(shared_server, name, item(id_, "x")), 400)
    problem(keyed(shared_server, name, item("user.nothing.v1")), 404)
    assert keyed(shared_server, name, item(id_, 5)).status_code == 200
    assert stored(shared_server, id_) == [5]


def test_a_repeat_is_answered_although_its_value_could_not_be_written_any_more(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name)["id"]
    batch = {"values": [item(id_, 5)]}
    keyed(shared_server, name, item(id_, 5))
    keyed(shared_server, name, batch)
    shared_server.register(name, schema={"max": 1})
    assert keyed(shared_server, name, item(id_, 5)).text == '{"success":true}'
    assert keyed(shared_server, name, batch).text == '{"success":true,"count":1}'


def test_a_repeat_is_answered_although_its_feature_is_deleted(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    batch = {"values": [item(id_, 5)]}
    keyed(shared_server, name, item(id_, 5))
    keyed(shared_server, name, batch)
    assert shared_server.http.delete(f"/features/{id_}").status_code == 204
    assert keyed(shared_server, name, item(id_, 5)).text == '{"success":true}'
    assert keyed(shared_server, name, batch).text == '{"success":true,"count":1}'


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_repeat_after_a_restart_answers_the_same_and_writes_nothing(server: LiveServer, how: str) -> None:
    id_ = server.register("f")["id"]
    batch = {"values": [item(id_, 1, "v"), item(id_, "x", "v")]}
    keyed(server, "k", item(id_, 1))
    first = keyed(server, "b", batch, "?partial=true").text
    server.write((id_, "u", 2, TEN), (id_, "v", 2, TEN))
    getattr(server, how)()
    server.start()
    assert keyed(server, "k", item(id_, 1)).text == '{"success":true}'
    assert keyed(server, "b", batch, "?partial=true").text == first
    assert (stored(server, id_), stored(server, id_, "v")) == ([2], [2])
