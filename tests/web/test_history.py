"""Looking back: aggregates over a closed range and its windows, and the observations of one entity."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from tests.live import LiveServer
from tests.model import Model
from tests.web.test_errors import fields, problem

OVER_EVERY_STORE = True

_NUMBERS = count()
VALUES = [3.5, -2.0, 8.25, 8.25, 0.0, 100.0, 41.0]
ARITHMETIC = ("avg", "sum", "min", "max", "std", "median", "p90", "p95", "p99")


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"f{next(_NUMBERS)}"


def at(minute: int, rest: str = "00Z") -> str:
    """A minute after ten."""
    return f"2025-11-07T10:{minute:02}:{rest}"


WHOLE = {"startTime": at(0), "endTime": at(59)}


def fill(server: LiveServer, name: str, *values: Any, value_type: str = "number", **rest: Any) -> str:
    """Register a feature and write one value a minute for u, from ten o'clock on."""
    id_: str = server.register(name, value_type, **rest)["id"]
    if values:
        server.write(*((id_, "u", value, at(minute)) for minute, value in enumerate(values)))
    return id_


def rows(server: LiveServer, *features: str, **rest: Any) -> list[dict[str, Any]]:
    """The results of a historical request about u."""
    asked = {"entityIds": ["u"], "features": list(features), **WHOLE, **rest}
    answer = server.post("/features/historical", asked)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def one(server: LiveServer, feature: str, **rest: Any) -> Any:
    """The one value of a historical request."""
    (row,) = rows(server, feature, **rest)
    return row[feature]


# Aggregations


EXPECTED = {
    "latest": 41,
    "first": 3.5,
    "avg": np.mean(VALUES),
    "sum": np.sum(VALUES),
    "min": -2,
    "max": 100,
    "count": 7,
    "std": np.std(VALUES),
    "median": np.median(VALUES),
    "p90": np.percentile(VALUES, 90),
    "p95": np.percentile(VALUES, 95),
    "p99": np.percentile(VALUES, 99),
    "distinct": 6,
}


@pytest.mark.parametrize("value_type", ["number", "integer"])
@pytest.mark.parametrize("aggregation", EXPECTED)
def test_an_aggregation_of_numbers_is_what_numpy_says(
    shared_server: LiveServer, name: str, aggregation: str, value_type: str
) -> None:
    values: list[Any] = VALUES if value_type == "number" else [int(value * 4) for value in VALUES]
    scale = 1 if value_type == "number" or aggregation in ("count", "distinct") else 4
    fill(shared_server, name, *values, value_type=value_type)
    assert one(shared_server, name, aggregation=aggregation) == pytest.approx(float(EXPECTED[aggregation]) * scale)


@pytest.mark.parametrize("aggregation", EXPECTED)
def test_nulls_are_skipped(shared_server: LiveServer, name: str, aggregation: str) -> None:
    spread = [value for pair in zip([None] * len(VALUES), VALUES, strict=True) for value in pair]
    fill(shared_server, name, *spread, None)
    assert one(shared_server, name, aggregation=aggregation) == pytest.approx(float(EXPECTED[aggregation]))


@pytest.mark.parametrize("values", [[], [None, None]], ids=["nothing", "only nulls"])
@pytest.mark.parametrize("aggregation", EXPECTED)
def test_an_empty_range_gives_null_and_for_counts_and_sums_zero(
    shared_server: LiveServer, name: str, aggregation: str, values: list[None]
) -> None:
    fill(shared_server, name, *values)
    found = one(shared_server, name, aggregation=aggregation)
    assert repr(found) == ("0" if aggregation in ("count", "sum") else "None")


EVERY_TYPE: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("number", {}, [0.5, 5, 0.5]),
    ("integer", {}, [2**63 - 1, -(2**63), 2**63 - 1]),
    ("string", {}, ["ä", "", "ä"]),
    ("boolean", {}, [True, False, True]),
    ("timestamp", {}, ["2020-01-01T00:00:00.000Z", "2020-01-01T00:00:00.000001Z", "2020-01-01T00:00:00.000Z"]),
    ("vector", {"schema": {"dimension": 2}}, [[0.1, 5], [1, 2], [0.1, 5]]),
    ("json", {}, [{"a": [1, None]}, 5, {"a": [1, None]}]),
]


@pytest.mark.parametrize(("value_type", "rest", "values"), EVERY_TYPE)
def test_latest_first_count_and_distinct_work_for_every_type(
    shared_server: LiveServer, name: str, value_type: str, rest: dict[str, Any], values: list[Any]
) -> None:
    fill(shared_server, name, *values[:2], None, value_type=value_type, **rest)
    found = [one(shared_server, name, aggregation=kind) for kind in ("first", "latest", "count", "distinct")]
    assert repr(found) == repr([values[0], values[1], 2, 2])
    fill(shared_server, name, *values, value_type=value_type, **rest)
    assert one(shared_server, name, aggregation="distinct") == 2


@pytest.mark.parametrize(("value_type", "rest", "values"), EVERY_TYPE)
def test_an_entity_without_values_is_null_beside_one_with_values_for_every_type(
    shared_server: LiveServer, name: str, value_type: str, rest: dict[str, Any], values: list[Any]
) -> None:
    fill(shared_server, name, values[0], value_type=value_type, **rest)
    for kind in ("first", "latest"):
        found = rows(shared_server, name, entityIds=["u", "nobody"], aggregation=kind)
        assert found == [{"entityId": "u", name: values[0]}, {"entityId": "nobody", name: None}]


@pytest.mark.before_the_store
@pytest.mark.parametrize(
    "value_type", ["string", "boolean", "vector", "json", pytest.param("timestamp", id="timestamp")]
)
@pytest.mark.parametrize("aggregation", ["avg", "sum", "std", "median", "p90", "p95", "p99"])
def test_arithmetic_on_what_is_no_number_is_refused(
    shared_server: LiveServer, name: str, aggregation: str, value_type: str
) -> None:
    rest = {"schema": {"dimension": 2}} if value_type == "vector" else {}
    fill(shared_server, name, value_type=value_type, **rest)
    asked = {"entityIds": ["u"], "features": [name], **WHOLE, "aggregation": aggregation}
    body = problem(shared_server.post("/features/historical", asked), 400)
    assert fields(body) == ["aggregation"]
    assert name in body["detail"]


@pytest.mark.before_the_store
@pytest.mark.parametrize("aggregation", ["mean", "LATEST", "", "p50", "p100", "last"])
def test_an_unknown_aggregation_is_refused(shared_server: LiveServer, name: str, aggregation: str) -> None:
    fill(shared_server, name)
    for given in (aggregation, {name: aggregation}):
        asked = {"entityIds": ["u"], "features": [name], **WHOLE, "aggregation": given}
        assert problem(shared_server.post("/features/historical", asked), 400)["errors"]


def test_the_sum_of_integers_is_exact_beyond_64_bits(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, *[2**63 - 1] * 4, value_type="integer")
    assert one(shared_server, name, aggregation="sum") == 4 * (2**63 - 1)


def test_the_average_of_the_largest_numbers_is_not_lost(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1.7e308, 1.7e308, -1.7e308, -1.7e308)
    assert one(shared_server, name, aggregation="avg", endTime=at(1)) == pytest.approx(1.7e308)
    assert one(shared_server, name, aggregation="avg") == 0
    assert one(shared_server, name, aggregation="median") == 0


def test_a_large_offset_costs_the_deviation_no_precision(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, *(1e9 + value for value in (4, 7, 13, 16)))
    assert one(shared_server, name, aggregation="std") == pytest.approx(np.std([4, 7, 13, 16]))


@pytest.mark.parametrize("aggregation", ARITHMETIC)
def test_of_one_value_every_figure_is_that_value_and_the_deviation_zero(
    shared_server: LiveServer, name: str, aggregation: str
) -> None:
    fill(shared_server, name, 7)
    assert repr(one(shared_server, name, aggregation=aggregation)) == ("0" if aggregation == "std" else "7")


def test_each_feature_may_have_an_aggregation_of_its_own_and_else_the_latest(
    shared_server: LiveServer, name: str
) -> None:
    a, b = fill(shared_server, f"{name}a", 1, 2, 6), fill(shared_server, f"{name}b", 1, 2, 6)
    bare = f"{name}a"
    (row,) = rows(shared_server, a, bare, b, aggregation={a: "sum", bare: "count"})
    assert row == {"entityId": "u", a: 9, bare: 3, b: 6}


def test_an_aggregation_for_a_feature_not_asked_for_is_refused(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name)
    asked = {"entityIds": ["u"], "features": [name], **WHOLE, "aggregation": {f"user.{name}": "sum"}}
    assert f"user.{name}" in problem(shared_server.post("/features/historical", asked), 400)["detail"]


# Range, order, references


def test_a_row_has_the_entity_and_the_values_keyed_as_asked(shared_server: LiveServer, name: str) -> None:
    id_ = fill(shared_server, name, 5)
    answer = shared_server.post("/features/historical", {"entityIds": ["u"], "features": [id_, name], **WHOLE})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.text == f'{{"results":[{{"entityId":"u","{id_}":5,"{name}":5}}]}}'


def test_the_range_is_closed_at_both_ends(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    edges = [at(9, "59.999999Z"), at(10), at(20), at(20, "00.000001Z")]
    shared_server.write(*((id_, "u", 10**place, moment) for place, moment in enumerate(edges)))
    assert one(shared_server, id_, startTime=at(10), endTime=at(20), aggregation="sum") == 110
    assert one(shared_server, id_, startTime=at(10), endTime=at(10), aggregation="sum") == 10
    assert one(shared_server, id_, startTime=at(11), endTime=at(19), aggregation="sum") == 0


def test_the_range_is_of_event_time_and_a_correction_counts_once(shared_server: LiveServer, name: str) -> None:
    id_ = fill(shared_server, name, 1, 2, 3)
    shared_server.write((id_, "u", 20, at(1)))
    shared_server.write((id_, "u", 0.5, at(0, "30Z")))
    assert one(shared_server, id_, aggregation="sum") == 24.5
    assert one(shared_server, id_, aggregation="count") == 4
    assert one(shared_server, id_, aggregation="latest", endTime=at(1)) == 20


def test_max_age_does_not_hide_the_past(shared_server: LiveServer, name: str) -> None:
    id_ = fill(shared_server, name, 1, 2, maxAge="1m")
    assert one(shared_server, id_, aggregation="count") == 2


def test_there_is_one_row_per_entity_in_the_order_asked(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write(*((id_, f"e{number}", number, at(0)) for number in range(300)))
    asked = [f"e{number}" for number in range(299, -1, -1)] + ["nobody", "e7", "e7"]
    found = rows(shared_server, id_, entityIds=asked)
    assert [row["entityId"] for row in found] == asked
    assert [row[id_] for row in found] == [*range(299, -1, -1), None, 7, 7]


def test_no_entities_give_no_rows(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 1)
    assert rows(shared_server, name, entityIds=[]) == []


def test_a_group_is_read_in_its_order(shared_server: LiveServer, name: str) -> None:
    a, b, c = (fill(shared_server, name + end, number) for number, end in enumerate("abc"))
    shared_server.post("/groups", {"name": name, "entity": "user", "features": [c, a]})
    (row,) = rows(shared_server, group=name)
    assert list(row.items()) == [("entityId", "u"), (c, 2), (a, 0)]
    (row,) = rows(shared_server, b, group=name)
    assert set(row) == {"entityId", a, b, c}


@pytest.mark.parametrize(
    ("start", "end"), [(at(1), at(0)), (at(0, "00.000001Z"), at(0)), (at(0, "00Z"), at(30, "00+01:00"))]
)
def test_a_range_that_ends_before_it_starts_is_refused(
    shared_server: LiveServer, name: str, start: str, end: str
) -> None:
    fill(shared_server, name)
    asked = {"entityIds": ["u"], "features": [name], "startTime": start, "endTime": end}
    assert fields(problem(shared_server.post("/features/historical", asked), 400)) == ["startTime"]


@pytest.mark.before_the_store
@pytest.mark.parametrize("field", ["startTime", "endTime"])
@pytest.mark.parametrize("given", ["soon", "2025-11-07Z", "", "2025-11-31T00:00:00Z"])
def test_a_bound_that_is_no_timestamp_is_named(
    shared_server: LiveServer, name: str, field: str, given: str
) -> None:
    fill(shared_server, name)
    asked = {"entityIds": ["u"], "features": [name], **WHOLE, field: given}
    assert fields(problem(shared_server.post("/features/historical", asked), 400)) == [field]


def test_unknown_and_ambiguous_references_are_named(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name)
    shared_server.register(name, entity="item")
    asked = {"entityIds": ["u"], **WHOLE}
    unknown = problem(shared_server.post("/features/historical", {**asked, "features": [f"user.{name}.v9"]}), 404)
    assert f"user.{name}.v9" in unknown["detail"]
    ambiguous = problem(shared_server.post("/features/historical", {**asked, "features": [name]}), 409)
    assert f"item.{name}" in ambiguous["detail"]
    problem(shared_server.post("/features/historical", {**asked, "group": "nowhere"}), 404)
    assert fields(problem(shared_server.post("/features/historical", asked), 400)) == ["features"]


def test_an_impossible_entity_id_is_named_by_its_index(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name)
    asked = {"entityIds": ["u", ""], "features": [name], **WHOLE}
    body = problem(shared_server.post("/features/historical", asked), 400)
    assert [(fault["field"], fault["index"]) for fault in body["errors"]] == [("entityIds", 1)]


def test_a_feature_whose_name_is_a_key_of_every_row_is_read_by_its_id(shared_server: LiveServer) -> None:
    id_ = fill(shared_server, "entityId", 5)
    assert rows(shared_server, id_) == [{"entityId": "u", id_: 5}]
    problem(
        shared_server.post("/features/historical", {"entityIds": ["u"], "features": ["entityId"], **WHOLE}), 400
    )


# Windows


def test_windows_tumble_and_the_last_may_be_short(shared_server: LiveServer, name: str) -> None:
    id_ = fill(shared_server, name, *range(26))
    found = rows(shared_server, id_, endTime=at(25), window="10m", aggregation="sum")
    keys = ("windowStart", "windowEnd", id_)
    assert [tuple(row[key] for key in keys) for row in found] == [
        (at(0, "00.000Z"), at(10, "00.000Z"), 45),
        (at(10, "00.000Z"), at(20, "00.000Z"), 145),
        (at(20, "00.000Z"), at(25, "00.000Z"), 135),
    ]
    assert [set(row) for row in found] == [{"entityId", *keys}] * 3


def test_an_event_exactly_on_the_end_belongs_to_the_last_window(shared_server: LiveServer, name: str) -> None:
    id_ = fill(shared_server, name, *range(21))
    found = rows(shared_server, id_, endTime=at(20), window="10m", aggregation="sum")
    assert [row[id_] for row in found] == [45, 145 + 20]
    assert found[-1]["windowEnd"] == "2025-11-07T10:20:00.000Z"


def test_an_event_between_two_windows_belongs_to_the_later(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 1, at(9, "59.999999Z")), (id_, "u", 2, at(10)))
    found = rows(shared_server, id_, endTime=at(20), window="10m", aggregation="latest")
    assert [row[id_] for row in found] == [1, 2]


@pytest.mark.parametrize("window", ["10m", "600s", 600, 600.0])
def test_a_window_is_a_duration(shared_server: LiveServer, name: str, window: str | float) -> None:
    fill(shared_server, name, 1)
    assert len(rows(shared_server, name, endTime=at(30), window=window)) == 3


@pytest.mark.parametrize(("window", "windows"), [("1h", 1), ("7d", 1), ("59m", 1), ("58m", 2), ("1.5m", 40)])
def test_there_are_as_many_windows_as_cover_the_range(
    shared_server: LiveServer, name: str, window: str, windows: int
) -> None:
    fill(shared_server, name, 1)
    found = rows(shared_server, name, window=window)
    assert len(found) == windows
    assert (found[0]["windowStart"], found[-1]["windowEnd"]) == (at(0, "00.000Z"), at(59, "00.000Z"))


CLOSED = ("both", "right", "left", "neither")


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("start", [0, 5])
def test_the_ends_of_a_range_and_of_its_windows_count_as_asked(
    shared_server: LiveServer, name: str, closed: str, start: int
) -> None:
    id_ = fill(shared_server, name, *range(6))
    model, minute = Model(), 60_000_000
    model.register(id_, "number")
    for number in range(6):
        model.write(id_, "u", number, number * minute)
    within = {"startTime": at(start), "endTime": at(5), "closed": closed}
    for aggregation in ("sum", "count", "latest", "avg"):
        for width in (1, 2, 3):
            asked = {**within, "aggregation": aggregation, "window": width * 60}
            found = [row[id_] for row in rows(shared_server, id_, **asked)]
            expected = (id_, "u", start * minute, 5 * minute, width * minute, aggregation, closed)
            assert found == model.closed(*expected), (aggregation, width)
        whole = model.closed(id_, "u", start * minute, 5 * minute, 9 * minute, aggregation, closed)
        assert [one(shared_server, id_, **within, aggregation=aggregation)] == whole


def test_a_range_open_at_its_start_is_the_window_of_a_training_set(shared_server: LiveServer, name: str) -> None:
    id_ = fill(shared_server, name, *range(6))
    asked = {
        "features": [id_],
        "aggregation": "avg",
        "window": "2m",
        "rows": [{"entityId": "u", "timestamp": at(4)}],
    }
    (row,) = shared_server.post("/features/training-set", asked).json()["results"]
    within = {"startTime": at(2), "endTime": at(4), "aggregation": "avg"}
    assert one(shared_server, id_, **within, closed="right") == row[id_] == 3.5
    assert one(shared_server, id_, **within) == 3


def test_the_windows_shown_are_those_asked_for_whichever_end_counts(shared_server: LiveServer, name: str) -> None:
    id_ = fill(shared_server, name, 1)
    (row, _) = rows(shared_server, id_, startTime=at(0), endTime=at(2), window="1m", closed="right")
    assert (row["windowStart"], row["windowEnd"]) == (at(0, "00.000Z"), at(1, "00.000Z"))
    asked = {"entityIds": ["u"], "features": [id_], **WHOLE, "closed": "open"}
    assert fields(problem(shared_server.post("/features/historical", asked), 400)) == ["closed"]


def test_a_range_of_one_moment_has_one_window(shared_server: LiveServer, name: str) -> None:
    fill(shared_server, name, 4)
    (row,) = rows(shared_server, name, endTime=at(0), window="1m")
    assert (row["windowStart"], row["windowEnd"], row[name]) == (at(0, "00.000Z"), at(0, "00.000Z"), 4)


def test_empty_windows_are_there_and_empty(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 1, at(0)), (id_, "u", 3, at(45)))
    for aggregation, empty in (("avg", None), ("count", 0), ("sum", 0), ("latest", None)):
        found = [row[id_] for row in rows(shared_server, id_, window="20m", aggregation=aggregation)]
        assert found[1] == empty
        assert None not in (found[0], found[2])


def test_windows_of_several_entities_and_features_come_entity_by_entity(
    shared_server: LiveServer, name: str
) -> None:
    a, b = (shared_server.register(name + end)["id"] for end in "ab")
    shared_server.write((a, "x", 1, at(0)), (b, "x", 2, at(30)), (a, "y", 3, at(30)), (b, "y", 4, at(0)))
    found = rows(shared_server, a, b, entityIds=["y", "x"], window="30m", aggregation={a: "sum", b: "latest"})
    assert [(row["entityId"], row["windowStart"][14:16], row[a], row[b]) for row in found] == [
        ("y", "00", 0, 4),
        ("y", "30", 3, None),
        ("x", "00", 1, None),
        ("x", "30", 0, 2),
    ]


@pytest.mark.before_the_store
@pytest.mark.parametrize("window", [0, -1, "0s", "-1h", "1w", "h", "", "1 h", "7D", 1e300])
def test_a_window_that_is_no_duration_is_named(shared_server: LiveServer, name: str, window: str | float) -> None:
    fill(shared_server, name)
    asked = {"entityIds": ["u"], "features": [name], **WHOLE, "window": window}
    assert fields(problem(shared_server.post("/features/historical", asked), 400)) == ["window"]


# The observations of one entity


def page(server: LiveServer, reference: str, entity: str = "u", **query: Any) -> dict[str, Any]:
    """A page of observations."""
    answer = server.get(f"/features/{reference}/history", entityId=entity, **query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def told(found: dict[str, Any]) -> list[Any]:
    """Its values."""
    return [item["value"] for item in found["observations"]]


def test_a_page_has_the_feature_the_entity_and_its_observations(shared_server: LiveServer, name: str) -> None:
    id_ = fill(shared_server, name, 1, None)
    answer = shared_server.get(f"/features/{id_}/history", entityId="u")
    items = (
        '{"timestamp":"2025-11-07T10:00:00.000Z","value":1},{"timestamp":"2025-11-07T10:01:00.000Z","value":null}'
    )
    assert answer.text == f'{{"featureId":"{id_}","entityId":"u","observations":[{items}]}}'


def test_observations_come_in_either_order_of_event_time(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    for minute in (3, 1, 2, 1):
        shared_server.write((id_, "u", minute, at(minute)))
    assert told(page(shared_server, id_)) == [1, 2, 3]
    assert told(page(shared_server, id_, order="asc")) == [1, 2, 3]
    assert told(page(shared_server, id_, order="desc")) == [3, 2, 1]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 3, 10, 11])
def test_pages_follow_each_other_without_gaps_or_repeats(
    shared_server: LiveServer, name: str, order: str, limit: int
) -> None:
    id_ = fill(shared_server, name, *range(10))
    seen: list[Any] = []
    query: dict[str, Any] = {"order": order, "limit": limit}
    while True:
        found = page(shared_server, id_, **query)
        seen += told(found)
        if "nextCursor" not in found:
            break
        assert len(found["observations"]) == limit
        query["cursor"] = found["nextCursor"]
    assert seen == (list(range(10)) if order == "asc" else list(range(9, -1, -1)))


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_page_within_a_range_ends_with_the_range(shared_server: LiveServer, name: str, order: str) -> None:
    id_ = fill(shared_server, name, *range(10))
    within = {"startTime": at(2), "endTime": at(5), "order": order}
    assert sorted(told(page(shared_server, id_, **within))) == [2, 3, 4, 5]
    first = page(shared_server, id_, limit=3, **within)
    second = page(shared_server, id_, limit=3, cursor=first["nextCursor"], **within)
    assert sorted(told(first) + told(second)) == [2, 3, 4, 5]
    assert "nextCursor" not in second


def test_one_bound_is_enough(shared_server: LiveServer, name: str) -> None:
    id_ = fill(shared_server, name, *range(5))
    assert told(page(shared_server, id_, startTime=at(3))) == [3, 4]
    assert told(page(shared_server, id_, endTime=at(1))) == [0, 1]
    assert told(page(shared_server, id_, startTime="2025-11-07T12:03:00+02:00")) == [3, 4]


@pytest.mark.parametrize("text", ["2025-11-07 10:01:00", "2025-11-07 12:01:00 02:00", "2025-11-07T12:01:00 02"])
def test_a_bound_may_have_a_space_before_its_time_and_one_where_its_plus_was(
    shared_server: LiveServer, name: str, text: str
) -> None:
    id_ = fill(shared_server, name, *range(3))
    assert told(page(shared_server, id_, endTime=text)) == [0, 1]


def test_a_late_arrival_between_two_pages_is_neither_lost_nor_a_cause_of_repeats(
    shared_server: LiveServer, name: str
) -> None:
    id_ = fill(shared_server, name, 0, 1, 2, 3)
    first = page(shared_server, id_, limit=2)
    shared_server.write((id_, "u", 0.5, at(0, "30Z")), (id_, "u", 1.5, at(1, "30Z")))
    assert told(first) == [0, 1]
    assert told(page(shared_server, id_, cursor=first["nextCursor"])) == [1.5, 2, 3]


def test_an_unknown_entity_has_no_observations(shared_server: LiveServer, name: str) -> None:
    id_ = fill(shared_server, name, 1)
    assert page(shared_server, id_, "nobody") == {"featureId": id_, "entityId": "nobody", "observations": []}


def test_an_entity_id_may_be_anything_printable(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    for number, entity in enumerate(["a b", "a+b", "a/b", "ü&=?#%", "😀"]):
        shared_server.write((id_, entity, number, at(0)))
        found = page(shared_server, id_, entity)
        assert (found["entityId"], told(found)) == (entity, [number])


def test_the_future_is_part_of_the_history(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 1, "2999-01-01T00:00:00Z"))
    assert told(page(shared_server, id_, endTime="2999-01-01T00:00:00Z")) == [1]


@pytest.mark.before_the_store
@pytest.mark.parametrize(
    ("field", "query"),
    [
        ("entityId", {}),
        ("entityId", {"entityId": ""}),
        ("entityId", {"entityId": "a\nb"}),
        ("order", {"entityId": "u", "order": "up"}),
        ("limit", {"entityId": "u", "limit": "0"}),
        ("limit", {"entityId": "u", "limit": "-1"}),
        ("limit", {"entityId": "u", "limit": "many"}),
        ("limit", {"entityId": "u", "limit": "1.5"}),
        ("limit", {"entityId": "u", "limit": "10001"}),
        ("limit", {"entityId": "u", "limit": "000000000010001000"}),
        ("limit", {"entityId": "u", "limit": "000000000001" + "0" * 5_000}),
        ("startTime", {"entityId": "u", "startTime": "soon"}),
        ("endTime", {"entityId": "u", "endTime": "2025-11-07Z"}),
        ("startTime", {"entityId": "u", "startTime": at(1), "endTime": at(0)}),
        ("cursor", {"entityId": "u", "cursor": "!!!"}),
        ("cursor", {"entityId": "u", "cursor": "abc"}),
    ],
)
def test_a_query_that_makes_no_sense_is_named(
    shared_server: LiveServer, name: str, field: str, query: dict[str, str]
) -> None:
    id_ = fill(shared_server, name, 1)
    assert fields(problem(shared_server.get(f"/features/{id_}/history", **query), 400)) == [field]


def test_the_history_of_an_unknown_feature_is_a_404(shared_server: LiveServer) -> None:
    body = problem(shared_server.get("/features/user.nothing.v1/history", entityId="u"), 404)
    assert "user.nothing.v1" in body["detail"]


def test_history_is_the_same_after_a_restart(server: LiveServer) -> None:
    id_ = fill(server, "f", 1, None, 2.5)
    server.write((id_, "u", 7, at(1)))
    before = page(server, id_), rows(server, id_, window="1m", endTime=at(3), aggregation="sum")
    server.kill()
    server.start()
    assert (page(server, id_), rows(server, id_, window="1m", endTime=at(3), aggregation="sum")) == before


def test_no_entities_are_a_table_of_no_rows_in_every_form(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    asked = {
        "entityIds": [],
        "features": [id_],
        "startTime": "2025-11-01T00:00:00Z",
        "endTime": "2025-11-02T00:00:00Z",
    }
    for form, text in (("application/x-ndjson", ""), ("text/csv", f"entityId,{id_}\r\n")):
        answer = shared_server.post("/features/historical", {**asked, "aggregation": "count"}, Accept=form)
        assert (answer.status_code, answer.text) == (200, text)
