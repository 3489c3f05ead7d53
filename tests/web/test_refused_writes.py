"""Writes that are refused at the door, whatever the values are kept in: so they are tried over one store alone."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from tests.live import LiveServer
from tests.web.test_errors import fields, problem
from tests.web.test_writing import SAME, TYPES, item, raw, register, stored, value_text

_NUMBERS = count()


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"f{next(_NUMBERS)}"


REFUSED = {
    "number": ['"5"', "true", "false", "[]", "{}", "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 400],
    "integer": ['"5"', "true", "5.5", "[]", "9223372036854775808", "-9223372036854775809", "1e999", "NaN", "1e30"],
    "string": ["5", "true", "[]", '["a"]', "{}", r'"\ud800"'],
    "boolean": ["0", "1", '"true"', "[]", "0.0", str(10**30)],
    "timestamp": ["5", '"now"', '"2025-11-07Z"', '""', '"2025-02-30T00:00:00Z"', '"2025-11-07T25:00:00Z"', "true"],
    "vector": [
        "5", "[]", "[1,2]", "[1,2,3,4]", "[1,2,null]", '[1,2,"3"]', "[1,2,true]", "[[1,2,3]]", "[1,2,[3]]",
        "[1,2,1e39]", "[1,2,NaN]", "[1,2,1e999]", '{"0":1}', '"[1,2,3]"',
    ],
    "json": ["NaN", "[1e999]", '{"a":Infinity}', r'{"a":"\ud800"}', "{'a':1}"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("value_type", "text"), [(kind, text) for kind, texts in REFUSED.items() for text in texts]
)
@pytest.mark.parametrize("path", ["/features/write", "/features/write-batch"])
def test_a_value_that_is_not_of_the_type_is_refused_and_changes_nothing(
    shared_server: LiveServer, name: str, value_type: str, text: str, path: str
) -> None:
    id_ = register(shared_server, name, value_type)
    problem(raw(shared_server, id_, text, path), 400)
    assert stored(shared_server, id_) == []
    raw(shared_server, id_, SAME[value_type][0])
    problem(raw(shared_server, id_, text, path), 400)
    assert value_text(shared_server, id_) == SAME[value_type][0]


def test_a_refused_value_is_named_by_its_field(shared_server: LiveServer, name: str) -> None:
    id_ = register(shared_server, name, "number")
    body = problem(shared_server.post("/features/write", item(id_, "x")), 400)
    assert fields(body) == ["value"]
    assert "index" not in body["errors"][0]


@pytest.mark.parametrize(
    ("value_type", "fits", "exceeds"),
    [
        ("string", "a" * 65_536, "a" * 65_537),
        ("string", "ü" * 32_768, "ü" * 32_769),
        ("string", "😀" * 16_384, "😀" * 16_384 + "a"),
        ("json", "a" * 65_534, "a" * 65_535),
        ("json", [1] * 32_767, [1] * 32_768),
    ],
)
def test_a_text_has_at_most_64_kib(
    shared_server: LiveServer, name: str, value_type: str, fits: object, exceeds: object
) -> None:
    id_ = register(shared_server, name, value_type)
    assert shared_server.post("/features/write", item(id_, fits)).status_code == 200
    assert fields(problem(shared_server.post("/features/write", item(id_, exceeds)), 400)) == ["value"]
    assert stored(shared_server, id_) == [fits]


CONSTRAINTS: list[tuple[str, dict[str, Any], list[Any], list[Any]]] = [
    ("number", {"min": 0}, [0, 0.5, 1e300, None], [-1e-9, -1]),
    ("number", {"max": 1.5}, [1.5, -1e300], [1.6, 10**30]),
    ("number", {"min": -1, "max": 1}, [-1, 0, 1], [-1.1, 1.1]),
    ("number", {"enum": [1, 2.5]}, [1, 1.0, 2.5, None], [2, 0]),
    ("integer", {"min": -5, "max": 5}, [-5, 5], [-6, 6, 2**63 - 1, -(2**63)]),
    ("integer", {"min": 1.5}, [2], [1]),
    ("integer", {"max": 2**63 - 2}, [2**63 - 2], [2**63 - 1]),
    ("integer", {"enum": [1, 2**63 - 1]}, [1, 2**63 - 1], [2, 2**63 - 2]),
    ("string", {"enum": ["a", "ü", ""]}, ["a", "ü", ""], ["A", "b", " "]),
    ("string", {"pattern": "^[a-z]+$"}, ["abc"], ["", "aB", "a1"]),
    ("string", {"pattern": "b"}, ["abc", "b"], ["ac", "B"]),
    ("string", {"pattern": "^ü.$"}, ["üx", "ü😀"], ["u", "ü"]),
    ("string", {"maxLength": 3}, ["", "abc", "ü😀ü"], ["abcd", "😀😀😀😀"]),
    ("string", {"maxLength": 0}, [""], ["a"]),
    ("string", {"maxLength": 3, "pattern": "^a"}, ["a", "abc"], ["b", "abcd"]),
    ("boolean", {"enum": [True]}, [True, None], [False]),
    ("timestamp", {"min": "2025-01-01T00:00:00Z"}, ["2025-01-01T00:00:00.000Z"], ["2024-12-31T23:59:59.999999Z"]),
    ("timestamp", {"max": "2025-01-01T01:00:00+01:00"}, ["2025-01-01T00:00:00.000Z"], ["2025-01-01T00:00:01Z"]),
    ("timestamp", {"enum": ["2025-01-01T00:00:00Z"]}, ["2025-01-01T00:00:00.000Z"], ["2025-01-02T00:00:00Z"]),
    ("vector", {"dimension": 1}, [[0.5], None], [[], [1, 2]]),
    ("number", {"nullable": True}, [None, 1], []),
    *((kind, {"nullable": False, **({"dimension": 3} if kind == "vector" else {})}, [], [None]) for kind in TYPES),
]


@pytest.mark.parametrize(("value_type", "schema", "taken", "refused"), CONSTRAINTS)
def test_a_constraint_is_kept(
    shared_server: LiveServer,
    name: str,
    value_type: str,
    schema: dict[str, Any],
    taken: list[Any],
    refused: list[Any],
) -> None:
    id_ = shared_server.register(name, value_type, schema=schema)["id"]
    for place, value in enumerate(taken):
        assert shared_server.post("/features/write", item(id_, value, f"e{place}")).status_code == 200, value
        assert stored(shared_server, id_, f"e{place}") == [value]
    for value in refused:
        assert fields(problem(shared_server.post("/features/write", item(id_, value)), 400)) == ["value"]
    mixed = [*(item(id_, value) for value in taken), *(item(id_, value) for value in refused)]
    answer = shared_server.post("/features/write-batch?partial=true", {"values": mixed}).json()
    assert answer["count"] == len(taken)
    assert [fault["index"] for fault in answer.get("errors", [])] == list(range(len(taken), len(mixed)))


@pytest.mark.parametrize("version", [2, 0, -1, 10**30])
def test_a_version_that_differs_from_that_of_the_id_is_refused(
    shared_server: LiveServer, name: str, version: int
) -> None:
    id_ = shared_server.register(name)["id"]
    other = shared_server.register(name, version=2)["id"]
    body = problem(shared_server.post("/features/write", item(id_, version=version)), 400)
    assert fields(body) == ["version"]
    batch = {"values": [item(id_), item(id_, version=version), item(other, version=2)]}
    body = problem(shared_server.post("/features/write-batch", batch), 400)
    assert [(fault["field"], fault["index"]) for fault in body["errors"]] == [("version", 1)]
    assert stored(shared_server, id_) == stored(shared_server, other) == []


def test_an_unknown_feature_is_a_404_that_names_it(shared_server: LiveServer) -> None:
    body = problem(shared_server.post("/features/write", item("user.nothing.v1")), 404)
    assert "user.nothing.v1" in body["detail"]


@pytest.mark.parametrize("entity", ["", "\n", "a\u0000", "\u007f", "\u0085", "a" * 513, "ü" * 257, "😀" * 129])
def test_an_impossible_entity_id_is_refused(shared_server: LiveServer, name: str, entity: str) -> None:
    id_ = shared_server.register(name)["id"]
    assert fields(problem(shared_server.post("/features/write", item(id_, 1, entity)), 400)) == ["entityId"]
    batch = {"values": [item(id_), item(id_, 1, entity)]}
    body = problem(shared_server.post("/features/write-batch", batch), 400)
    assert [(fault["field"], fault["index"]) for fault in body["errors"]] == [("entityId", 1)]
    assert stored(shared_server, id_) == []


@pytest.mark.parametrize(
    "sent",
    [
        "", "now", "2025-11-07Z", "1762509", "2025-11-07T10:00Z", "2025-11-07T24:00:00Z", "2025-02-29T00:00:00Z",
        "2025-13-01T00:00:00Z", "2025-11-07T10:60:00Z", "2025-11-07T10:00:00+25:00", "0000-01-01T00:00:00Z",
        "0000-12-31T23:59:59.999Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00",
        "10000-01-01T00:00:00Z", "2025-11-07T10:00:00Zx",
    ],
)  # fmt: skip
def test_a_timestamp_that_is_none_is_refused(shared_server: LiveServer, name: str, sent: str) -> None:
    id_ = shared_server.register(name)["id"]
    assert fields(problem(shared_server.post("/features/write", item(id_, timestamp=sent)), 400)) == ["timestamp"]
    batch = {"values": [item(id_), item(id_, timestamp=sent)]}
    body = problem(shared_server.post("/features/write-batch", batch), 400)
    assert [(fault["field"], fault["index"]) for fault in body["errors"]] == [("timestamp", 1)]
    assert stored(shared_server, id_) == []


@pytest.mark.parametrize("wrong", [5, None, "x", []])
def test_an_item_that_is_no_object_is_named_by_its_index(
    shared_server: LiveServer, name: str, wrong: object
) -> None:
    id_ = shared_server.register(name)["id"]
    body = problem(shared_server.post("/features/write-batch", {"values": [item(id_), wrong]}), 400)
    assert [fault["index"] for fault in body["errors"]] == [1]
    assert stored(shared_server, id_) == []


@pytest.mark.parametrize("given", ["maybe", "1", "TRUE"])
def test_partial_is_true_or_false(shared_server: LiveServer, name: str, given: str) -> None:
    id_ = shared_server.register(name)["id"]
    answer = shared_server.post(f"/features/write-batch?partial={given}", {"values": [item(id_)]})
    assert fields(problem(answer, 400)) == ["partial"]
    assert stored(shared_server, id_) == []


@pytest.mark.parametrize("key", ["", "k" * 256])
@pytest.mark.parametrize("path", ["/features/write", "/features/write-batch"])
def test_an_impossible_key_is_refused(shared_server: LiveServer, name: str, key: str, path: str) -> None:
    id_ = shared_server.register(name)["id"]
    body = item(id_) if path == "/features/write" else {"values": [item(id_)]}
    assert fields(problem(shared_server.post(path, body, **{"Idempotency-Key": key}), 400)) == ["Idempotency-Key"]
    assert stored(shared_server, id_) == []
