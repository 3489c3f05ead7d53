"""The latest values: event time wins, nothing answers from the future, and metadata says what a null means."""

from __future__ import annotations

from datetime import datetime
from itertools import count
from typing import Any

import pytest

from tests.live import LiveServer
from tests.web.test_errors import fields, problem

OVER_EVERY_STORE = True

NINE, TEN, ELEVEN = (f"2025-11-07T{hour}:00:00Z" for hour in ("09", "10", "11"))
FUTURE = "2999-01-01T00:00:00Z"
_NUMBERS = count()


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"f{next(_NUMBERS)}"


def value_of(server: LiveServer, reference: str, entity: str = "u", **rest: Any) -> Any:
    """The value served."""
    return server.serve([entity], [reference], **rest)[0]["features"][reference]


def about(server: LiveServer, reference: str, entity: str = "u", **rest: Any) -> dict[str, Any]:
    """The metadata served."""
    result = server.serve([entity], [reference], includeMetadata=True, **rest)[0]
    return dict(result["metadata"][reference])


# Shapes


def test_a_result_has_the_entity_its_features_and_the_moment(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 5, TEN))
    asked = {"entityIds": ["u"], "features": [id_], "asOf": ELEVEN}
    answer = shared_server.post("/features/serve", asked)
    assert answer.headers["Content-Type"] == "application/json"
    result = f'{{"entityId":"u","features":{{"{id_}":5}},"timestamp":"2025-11-07T11:00:00.000Z"}}'
    assert answer.text == f'{{"results":[{result}]}}'


def test_metadata_comes_only_when_asked_for(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    assert set(shared_server.serve(["u"], [name])[0]) == {"entityId", "features", "timestamp"}
    assert set(shared_server.serve(["u"], [name], includeMetadata=False)[0]) == {
        "entityId",
        "features",
        "timestamp",
    }
    result = shared_server.serve(["u"], [name], includeMetadata=True)[0]
    assert set(result) == {"entityId", "features", "timestamp", "metadata"}
    assert list(result["metadata"]) == [name]


def test_there_is_one_result_per_entity_in_the_order_asked_with_duplicates_and_unknown_ones(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write(*((id_, entity, number, TEN) for number, entity in enumerate("abc")))
    asked = ["c", "nobody", "a", "c", "b", "nobody"]
    results = shared_server.serve(asked, [id_])
    assert [result["entityId"] for result in results] == asked
    assert [result["features"][id_] for result in results] == [2, None, 0, 2, 1, None]


def test_many_entities_keep_their_order(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write(*((id_, f"e{number}", number, TEN) for number in range(1_000)))
    asked = [f"e{number}" for number in range(999, -1, -1)]
    values = [result["features"][id_] for result in shared_server.serve(asked, [id_])]
    assert values == list(range(999, -1, -1))


def test_values_are_keyed_by_the_references_as_asked(shared_server: LiveServer, name: str) -> None:
    for version in (1, 2):
        shared_server.register(name, version=version)
        shared_server.write((f"user.{name}.v{version}", "u", version, TEN))
    asked = [f"user.{name}.v1", name, f"user.{name}", f"user.{name}.v2"]
    result = shared_server.serve(["u"], asked, includeMetadata=True)[0]
    assert list(result["features"].items()) == list(zip(asked, (1, 2, 2, 2), strict=True))
    assert list(result["metadata"]) == asked


def test_no_entities_give_no_results(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    assert shared_server.serve([], [name]) == []


def test_features_of_several_entity_types_are_not_asked_by_one_entity_id(
    shared_server: LiveServer, name: str
) -> None:
    mine = shared_server.register(name)["id"]
    other = shared_server.register(name, entity="item")["id"]
    answer = shared_server.post("/features/serve", {"entityIds": ["same"], "features": [other, mine]})
    told = problem(answer, 400)
    assert told["errors"][0]["field"] == "entityIds"
    assert 'send rows in place of entityIds, such as [{"item": ..., "user": ...}]' in told["detail"]


@pytest.mark.parametrize(
    "entity", ["a b", "a/b?c#d%20", "ü" * 256, "日本語", "😀", "a" * 512, '"', "\\", "user:1"]
)
def test_any_printable_entity_id_will_do(shared_server: LiveServer, name: str, entity: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, entity, 1, TEN))
    result = shared_server.serve([entity], [id_])[0]
    assert (result["entityId"], result["features"]) == (entity, {id_: 1})


@pytest.mark.before_the_store
@pytest.mark.parametrize("entity", ["", "\n", "a\x00b", "\x7f", "\x85", "a" * 513, "ü" * 257])
def test_an_impossible_entity_id_is_named_by_its_index(shared_server: LiveServer, name: str, entity: str) -> None:
    shared_server.register(name)
    asked = {"entityIds": ["good", entity, "good", entity], "features": [name]}
    body = problem(shared_server.post("/features/serve", asked), 400)
    assert [(fault["field"], fault["index"]) for fault in body["errors"]] == [("entityIds", 1), ("entityIds", 3)]


# Event time


def test_the_greatest_event_time_wins_whatever_the_order_of_arrival(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 10, TEN))
    shared_server.write((id_, "u", 9, NINE))
    assert value_of(shared_server, id_) == 10
    shared_server.write((id_, "u", 11, ELEVEN), (id_, "u", 8, "2025-11-07T08:00:00Z"))
    assert value_of(shared_server, id_) == 11


def test_a_late_arrival_is_seen_in_its_place(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 1, NINE), (id_, "u", 3, ELEVEN))
    shared_server.write((id_, "u", 2, TEN))
    assert [value_of(shared_server, id_, asOf=moment) for moment in (NINE, TEN, ELEVEN)] == [1, 2, 3]


def test_of_equal_event_times_in_one_batch_the_later_item_wins(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 1, TEN), (id_, "v", 7, TEN), (id_, "u", 3, TEN), (id_, "u", 2, TEN))
    assert value_of(shared_server, id_) == 2
    assert value_of(shared_server, id_, asOf=TEN) == 2


def test_of_equal_event_times_over_requests_the_later_write_wins(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    for value in (5, 9, 1):
        shared_server.write((id_, "u", value, TEN))
        assert value_of(shared_server, id_) == value
        assert value_of(shared_server, id_, asOf=TEN) == value


def test_the_same_moment_in_another_offset_is_a_tie(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 1, "2025-11-07T10:00:00Z"))
    shared_server.write((id_, "u", 2, "2025-11-07T15:30:00+05:30"))
    assert value_of(shared_server, id_, asOf=TEN) == 2


def test_a_microsecond_decides(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 2, "2025-11-07T10:00:00.000002Z"), (id_, "u", 1, "2025-11-07T10:00:00.000001Z"))
    assert value_of(shared_server, id_) == 2
    assert value_of(shared_server, id_, asOf="2025-11-07T10:00:00.000001Z") == 1


def test_a_value_can_be_corrected_to_null_and_back(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    for value in (1, None, 2):
        shared_server.write((id_, "u", value, TEN))
        assert value_of(shared_server, id_) == value


def test_entities_do_not_touch_each_other(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "a", 1, TEN), (id_, "A", 2, NINE), (id_, "a ", 3, NINE))
    assert [value_of(shared_server, id_, entity) for entity in ("a", "A", "a ")] == [1, 2, 3]


# As of


def test_a_value_from_the_future_is_served_only_as_of_then(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 1, TEN), (id_, "u", 2, FUTURE))
    assert value_of(shared_server, id_) == 1
    assert value_of(shared_server, id_, asOf=FUTURE) == 2
    assert value_of(shared_server, id_, asOf="2998-12-31T23:59:59.999999Z") == 1


def test_only_a_future_value_is_missing_now(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 2, FUTURE))
    assert about(shared_server, id_)["status"] == "missing"
    assert about(shared_server, id_, asOf=FUTURE)["status"] == "present"


def test_a_read_as_of_a_moment_includes_that_moment_and_nothing_later(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 9, NINE), (id_, "u", 10, TEN))
    moments = ["2025-11-07T08:59:59.999999Z", NINE, "2025-11-07T09:59:59.999999Z", TEN, ELEVEN]
    assert [value_of(shared_server, id_, asOf=moment) for moment in moments] == [None, 9, 9, 10, 10]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("2025-11-07T10:00:00Z", "2025-11-07T10:00:00.000Z"),
        ("2025-11-07T10:00:00", "2025-11-07T10:00:00.000Z"),
        ("2025-11-07T12:00:00.5+02:00", "2025-11-07T10:00:00.500Z"),
        ("2025-11-07T10:00:00.000001Z", "2025-11-07T10:00:00.000001Z"),
        ("2025-11-07T10:00:00.120Z", "2025-11-07T10:00:00.120Z"),
    ],
)
def test_the_timestamp_is_the_moment_read_as_of(
    shared_server: LiveServer, name: str, asked: str, told: str
) -> None:
    shared_server.register(name)
    assert shared_server.serve(["u"], [name], asOf=asked)[0]["timestamp"] == told


def test_a_plain_read_is_as_of_one_moment_for_all(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    first = shared_server.serve(["a", "b", "c"], [name])
    assert len({result["timestamp"] for result in first}) == 1
    later = shared_server.serve(["a"], [name])[0]["timestamp"]
    assert datetime.fromisoformat(later) > datetime.fromisoformat(first[0]["timestamp"])


@pytest.mark.before_the_store
@pytest.mark.parametrize("moment", ["yesterday", "2025-11-07Z", "2025-13-01T00:00:00Z", "", "1762509600"])
def test_a_moment_that_is_no_timestamp_is_refused(shared_server: LiveServer, name: str, moment: str) -> None:
    shared_server.register(name)
    asked = {"entityIds": ["u"], "features": [name], "asOf": moment}
    assert fields(problem(shared_server.post("/features/serve", asked), 400)) == ["asOf"]


# Metadata


def test_a_present_value_tells_its_event_time_and_age(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 1, NINE))
    assert about(shared_server, id_, asOf="2025-11-07T09:00:01.5Z") == {
        "status": "present",
        "timestamp": "2025-11-07T09:00:00.000Z",
        "ageSeconds": 1.5,
    }
    assert about(shared_server, id_, asOf=NINE)["ageSeconds"] == 0


def test_a_written_null_serves_as_null_with_status_null(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", None, NINE))
    assert value_of(shared_server, id_) is None
    assert about(shared_server, id_, asOf=TEN) == {
        "status": "null",
        "timestamp": "2025-11-07T09:00:00.000Z",
        "ageSeconds": 3_600,
    }


def test_a_value_never_written_serves_as_null_with_status_missing(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "other", 1, NINE))
    for entity in ("u", "nobody"):
        assert value_of(shared_server, id_, entity) is None
        assert about(shared_server, id_, entity) == {"status": "missing", "timestamp": None, "ageSeconds": None}
    assert about(shared_server, id_, "other", asOf="2025-11-07T08:00:00Z")["status"] == "missing"


def test_each_value_has_its_own_metadata(shared_server: LiveServer, name: str) -> None:
    one, two = (shared_server.register(name + end)["id"] for end in "ab")
    shared_server.write((one, "u", 1, NINE), (two, "v", None, TEN))
    results = shared_server.serve(["u", "v", "w"], [one, two], includeMetadata=True)
    statuses = [[result["metadata"][id_]["status"] for id_ in (one, two)] for result in results]
    assert statuses == [["present", "missing"], ["missing", "null"], ["missing", "missing"]]


# maxAge


def test_a_value_older_than_max_age_serves_as_null_with_status_expired(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name, maxAge="1h")["id"]
    shared_server.write((id_, "u", 1, NINE))
    assert value_of(shared_server, id_) is None
    assert about(shared_server, id_, asOf="2025-11-07T11:00:00Z") == {
        "status": "expired",
        "timestamp": "2025-11-07T09:00:00.000Z",
        "ageSeconds": 7_200,
    }


@pytest.mark.parametrize("max_age", ["1h", "60m", "3600s", 3600, 3600.0])
def test_a_value_expires_just_after_its_max_age(
    shared_server: LiveServer, name: str, max_age: str | float
) -> None:
    id_ = shared_server.register(name, maxAge=max_age)["id"]
    shared_server.write((id_, "u", 1, NINE))
    assert value_of(shared_server, id_, asOf=TEN) == 1
    assert about(shared_server, id_, asOf=TEN)["status"] == "present"
    assert value_of(shared_server, id_, asOf="2025-11-07T10:00:00.000001Z") is None
    assert about(shared_server, id_, asOf="2025-11-07T10:00:00.000001Z")["status"] == "expired"


def test_an_expired_value_does_not_uncover_an_older_one_and_a_new_one_is_served(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name, maxAge="1h")["id"]
    shared_server.write((id_, "u", 1, "2025-11-07T08:00:00Z"), (id_, "u", 2, NINE))
    assert value_of(shared_server, id_, asOf=ELEVEN) is None
    shared_server.write((id_, "u", 3, "2025-11-07T10:30:00Z"))
    assert value_of(shared_server, id_, asOf=ELEVEN) == 3


def test_max_age_can_be_changed_and_taken_away(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name, maxAge="1h")["id"]
    shared_server.write((id_, "u", 1, NINE))
    assert value_of(shared_server, id_, asOf=ELEVEN) is None
    shared_server.register(name, maxAge="2h")
    assert value_of(shared_server, id_, asOf=ELEVEN) == 1
    shared_server.register(name, maxAge=None)
    assert value_of(shared_server, id_) == 1


def test_a_missing_value_of_a_feature_with_max_age_is_missing_and_not_expired(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name, maxAge="1h")["id"]
    assert about(shared_server, id_)["status"] == "missing"


# Groups


def test_a_group_is_read_in_its_order(shared_server: LiveServer, name: str) -> None:
    one, two = (shared_server.register(name + end)["id"] for end in "ab")
    shared_server.write((one, "u", 1, TEN), (two, "u", 2, TEN))
    shared_server.post("/groups", {"name": name, "entity": "user", "features": [two, one]})
    result = shared_server.post("/features/serve", {"entityIds": ["u"], "group": name}).json()["results"][0]
    assert list(result["features"].items()) == [(two, 2), (one, 1)]


def test_a_group_can_be_read_with_features_beside_it(shared_server: LiveServer, name: str) -> None:
    one, two, three = (shared_server.register(name + end)["id"] for end in "abc")
    shared_server.post("/groups", {"name": name, "entity": "user", "features": [two, one]})
    asked = {"entityIds": ["u"], "group": name, "features": [three, one]}
    result = shared_server.post("/features/serve", asked).json()["results"][0]
    assert set(result["features"]) == {one, two, three}


# What cannot be


def test_an_unknown_reference_is_a_404_that_names_it(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    for unknown in (f"user.{name}.v2", f"item.{name}", "nothing_of_this_name", "a.b.c.d", "user..v1", ""):
        asked = {"entityIds": ["u"], "features": [name, unknown]}
        assert unknown in problem(shared_server.post("/features/serve", asked), 404)["detail"]


def test_an_unknown_group_is_a_404_that_names_it(shared_server: LiveServer) -> None:
    asked = {"entityIds": ["u"], "group": "nowhere"}
    assert "nowhere" in problem(shared_server.post("/features/serve", asked), 404)["detail"]


def test_an_ambiguous_name_is_a_409_that_names_the_candidates(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    shared_server.register(name, entity="item")
    detail = problem(shared_server.post("/features/serve", {"entityIds": ["u"], "features": [name]}), 409)[
        "detail"
    ]
    assert f"user.{name}" in detail
    assert f"item.{name}" in detail


@pytest.mark.parametrize("asked", [{}, {"features": []}, {"features": None}])
def test_neither_features_nor_a_group_is_refused(shared_server: LiveServer, asked: dict[str, Any]) -> None:
    body = problem(shared_server.post("/features/serve", {"entityIds": ["u"], **asked}), 400)
    assert fields(body) == ["features"]


def test_what_was_served_is_served_after_a_restart(server: LiveServer) -> None:
    a, b = server.register("a")["id"], server.register("b", "json", maxAge="1h")["id"]
    server.write((a, "u", 1, NINE), (a, "u", None, TEN), (b, "u", {"k": [1]}, NINE), (a, "v", 3, FUTURE))
    asked = {"entityIds": ["u", "v", "w"], "features": [b, a], "asOf": TEN, "includeMetadata": True}
    before = server.post("/features/serve", asked).text
    server.kill()
    server.start()
    assert server.post("/features/serve", asked).text == before
