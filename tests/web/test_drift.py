"""Drift over HTTP: between periods, between given samples, the scores of closed windows, the pinned reference."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tests.live import LiveServer
from tests.model import rfc3339
from tests.web.test_errors import fields, problem

OVER_EVERY_STORE = True

SECOND = 1_000_000
HOUR = 3_600 * SECOND
MONDAY = 1_762_128_000_000_000  # long past
MEMBERS = {
    "featureId", "drift", "score", "method", "threshold", "pValue", "metrics", "reference", "current", "verdict",
    "severity", "reasons",
}  # fmt: skip
_NUMBERS = count()


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"f{next(_NUMBERS)}"


def moment(number: float) -> str:
    return rfc3339(MONDAY + int(number) * SECOND)


SAMPLES: dict[str, tuple[Callable[[random.Random], Any], Callable[[random.Random], Any]]] = {
    "number": (lambda r: r.gauss(0, 1), lambda r: r.gauss(2, 1)),
    "integer": (lambda r: r.randrange(100), lambda r: r.randrange(50, 150)),
    "timestamp": (lambda r: moment(r.randrange(1_000)), lambda r: moment(r.randrange(500, 1_500))),
    "string": (lambda r: r.choice(["a", "b", "c"]), lambda r: r.choice(["a", "b", "b", "b", "d"])),
    "boolean": (lambda r: r.random() < 0.5, lambda r: r.random() < 0.9),
    "json": (lambda r: {"plan": r.choice("xyz")}, lambda r: {"plan": r.choice("xw")}),
    "vector": (lambda r: [r.gauss(0, 1), r.gauss(0, 1)], lambda r: [r.gauss(2, 1), r.gauss(0, 1)]),
}
"""By type: how values usually are, and how they are after a shift."""


def drawn(value_type: str, seed: int, shifted: bool = False, size: int = 400) -> list[Any]:
    source, draw = random.Random(seed), SAMPLES[value_type][shifted]
    return [draw(source) for _ in range(size)]


def registered(live: LiveServer, name: str, value_type: str = "number") -> str:
    rest = {"schema": {"dimension": 2}} if value_type == "vector" else {}
    return str(live.register(name, value_type, **rest)["id"])


def write(live: LiveServer, id_: str, values: list[Any], start: int) -> None:
    """Values of as many entities, a second apart."""
    live.write(*((id_, f"u{n}", value, rfc3339(start + n * SECOND)) for n, value in enumerate(values)))


def hour(number: int) -> str:
    """A period for the query string."""
    return f"{rfc3339(MONDAY + number * HOUR)}/{rfc3339(MONDAY + (number + 1) * HOUR - 1)}"


def drift(live: LiveServer, id_: str, **query: Any) -> dict[str, Any]:
    answer = live.get(f"/features/{id_}/drift", **query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def compared(live: LiveServer, id_: str, reference: list[Any], current: list[Any], **rest: Any) -> dict[str, Any]:
    answer = live.post(f"/features/{id_}/drift", {"reference": reference, "current": current, **rest})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def consistent(found: dict[str, Any]) -> None:
    """What all answers have in common."""
    assert set(found) == MEMBERS
    assert found["drift"] == {"stable": False, "drift": True, "insufficient": None}[found["verdict"]]
    assert (found["score"] is None) == (found["verdict"] == "insufficient")
    assert found["reasons"]
    assert (found["severity"] == "none") == (found["verdict"] != "drift")
    if found["verdict"] == "drift":
        assert found["score"] >= found["threshold"]


# Between periods


@pytest.mark.parametrize("value_type", SAMPLES)
def test_a_shift_is_drift_the_same_distribution_is_stable_and_five_values_are_too_few(
    shared_server: LiveServer, name: str, value_type: str
) -> None:
    id_ = registered(shared_server, name, value_type)
    write(shared_server, id_, drawn(value_type, 1), MONDAY)
    write(shared_server, id_, drawn(value_type, 2), MONDAY + HOUR)
    write(shared_server, id_, drawn(value_type, 3, shifted=True), MONDAY + 2 * HOUR)
    write(shared_server, id_, [*drawn(value_type, 4, size=5), None], MONDAY + 3 * HOUR)
    found = [drift(shared_server, id_, reference=hour(0), current=hour(number)) for number in (1, 2, 3)]
    assert [one["verdict"] for one in found] == ["stable", "drift", "insufficient"]
    for one in found:
        consistent(one)
        assert one["featureId"] == id_
    assert [one["current"]["count"] for one in found] == [400, 400, 5]
    start, end = hour(0).split("/")
    assert found[0]["reference"] == {"startTime": start.replace("000Z", "Z"), "endTime": end, "count": 400}


def test_nulls_that_go_from_none_to_most_are_drift_between_periods_and_samples(
    shared_server: LiveServer, name: str
) -> None:
    id_ = registered(shared_server, name)
    before = drawn("number", 1)
    after = [value if n % 10 == 0 else None for n, value in enumerate(drawn("number", 2))]
    write(shared_server, id_, before, MONDAY)
    write(shared_server, id_, after, MONDAY + HOUR)
    for found in (
        drift(shared_server, id_, reference=hour(0), current=hour(1)),
        shared_server.post(f"/features/{id_}/drift", {"reference": before, "current": after}).json(),
    ):
        assert (found["verdict"], found["drift"], found["severity"]) == ("drift", True, "high")
        assert (found["metrics"]["nullRateReference"], found["metrics"]["nullRateCurrent"]) == (0, 0.9)
        assert "nulls went from 0.00% to 90.00%" in found["reasons"][0]
        assert found["current"]["count"] == 40


def test_the_metrics_of_numbers_have_the_names_of_the_contract(shared_server: LiveServer, name: str) -> None:
    id_ = registered(shared_server, name)
    found = compared(shared_server, id_, drawn("number", 1), drawn("number", 2, shifted=True))
    assert {"psi", "ks", "jensenShannon", "wasserstein"} <= set(found["metrics"])


def test_bounds_that_cut_through_windows_count_exactly(shared_server: LiveServer, name: str) -> None:
    id_ = registered(shared_server, name)
    write(shared_server, id_, drawn("number", 1), MONDAY)
    found = drift(
        shared_server, id_, reference=f"{moment(3)}/{moment(7)}", current=f"{moment(301.0)}/{moment(399)}"
    )
    assert (found["reference"]["count"], found["current"]["count"]) == (5, 99)


def test_nulls_are_left_out_of_the_counts(shared_server: LiveServer, name: str) -> None:
    id_ = registered(shared_server, name)
    write(shared_server, id_, [1, None, 2, None], MONDAY)
    assert drift(shared_server, id_, reference=hour(0), current=hour(0))["current"]["count"] == 2


def test_offsets_in_a_period_mean_what_they_say_escaped_or_not(shared_server: LiveServer, name: str) -> None:
    id_ = registered(shared_server, name)
    write(shared_server, id_, [1, 2, 3], MONDAY)
    local = "2025-11-03T01:00:00+01:00/2025-11-03T01:00:01+01:00"
    assert drift(shared_server, id_, reference=local, current=hour(0))["reference"]["count"] == 2
    answer = shared_server.http.get(f"/features/{id_}/drift?reference={local}&current={hour(0)}")
    assert answer.json()["reference"]["count"] == 2


def test_without_periods_the_window_that_ends_now_is_compared_with_those_before_it(
    shared_server: LiveServer, name: str
) -> None:
    id_ = registered(shared_server, name)
    body = {"featureId": id_, "entityId": "u", "value": 1}
    assert shared_server.post("/features/write", body).status_code == 200
    found = drift(shared_server, id_)
    consistent(found)
    assert (found["verdict"], found["current"]["count"], found["reference"]["count"]) == ("insufficient", 1, 0)
    assert found["reference"]["endTime"] < found["current"]["startTime"]


@pytest.mark.parametrize("method", ["standardisedShift", "psi", "ks", "jensenShannon", "wasserstein", "meanShift"])
def test_a_method_and_a_threshold_may_be_chosen(shared_server: LiveServer, name: str, method: str) -> None:
    id_ = registered(shared_server, name)
    write(shared_server, id_, drawn("number", 1), MONDAY)
    write(shared_server, id_, drawn("number", 3, shifted=True), MONDAY + HOUR)
    asked = {"reference": hour(0), "current": hour(1), "method": method}
    found = drift(shared_server, id_, **asked)
    consistent(found)
    assert (found["method"], found["verdict"]) == (method, "drift")
    beyond = drift(shared_server, id_, **asked, threshold=found["score"] * 1.5)
    assert (beyond["verdict"], beyond["threshold"]) == ("stable", pytest.approx(found["score"] * 1.5))


NOT_PERIODS = ["", "x", "2025-11-03T00:00:00Z", "2025-11-03T00:00:00Z/", "/2025-11-03T00:00:00Z", "a/b", "P1D/P2D"]


@pytest.mark.before_the_store
@pytest.mark.parametrize("side", ["reference", "current"])
@pytest.mark.parametrize("period", NOT_PERIODS[1:])
def test_what_is_not_a_period_is_named(shared_server: LiveServer, name: str, side: str, period: str) -> None:
    id_ = registered(shared_server, name)
    query = {"reference": hour(0), "current": hour(1), side: period}
    assert fields(problem(shared_server.get(f"/features/{id_}/drift", **query), 400)) == [side]


BAD_QUERIES = [
    ({"current": f"{moment(2)}/{moment(1)}"}, "current"),
    ({"reference": f"{moment(2)}/{moment(1)}"}, "reference"),
    ({"method": "guessing"}, "method"),
    ({"method": "chiSquare"}, "method"),
    ({"threshold": "0"}, "threshold"),
    ({"threshold": "-1"}, "threshold"),
    ({"threshold": "nan"}, "threshold"),
    ({"threshold": "inf"}, "threshold"),
    ({"threshold": "much"}, "threshold"),
    ({"window": "1h"}, "window"),
]


@pytest.mark.before_the_store
@pytest.mark.parametrize(("query", "field"), BAD_QUERIES)
def test_a_bad_query_parameter_is_named(
    shared_server: LiveServer, name: str, query: dict[str, str], field: str
) -> None:
    id_ = registered(shared_server, name)
    assert fields(problem(shared_server.get(f"/features/{id_}/drift", **query), 400)) == [field]


@pytest.mark.parametrize(
    "current", ["0001-01-01T00:00:00Z/2025-01-01T00:00:00Z", "0001-01-01T00:00:00Z/9999-12-31T23:59:59.999999Z"]
)
def test_a_period_from_the_beginning_of_time_is_no_error_of_the_server(
    shared_server: LiveServer, name: str, current: str
) -> None:
    id_ = registered(shared_server, name)
    answer = shared_server.get(f"/features/{id_}/drift", current=current)
    assert answer.status_code in (200, 400), answer.text
    wide = drift(shared_server, id_, reference=current, current=current)
    assert wide["verdict"] == "insufficient"


# Given samples


@pytest.mark.parametrize("value_type", SAMPLES)
def test_given_samples_are_judged_like_periods(shared_server: LiveServer, name: str, value_type: str) -> None:
    id_ = registered(shared_server, name, value_type)
    usual = drawn(value_type, 1)
    others = [
        drawn(value_type, 2),
        [*drawn(value_type, 3, shifted=True), None],
        [None, *drawn(value_type, 4, size=5)],
        [],
    ]
    found = [compared(shared_server, id_, usual, other) for other in others]
    assert [one["verdict"] for one in found] == ["stable", "drift", "insufficient", "insufficient"]
    for one in found:
        consistent(one)
    assert [one["current"] for one in found] == [
        {"startTime": None, "endTime": None, "count": size} for size in (400, 400, 5, 0)
    ]


def test_given_samples_are_not_written(shared_server: LiveServer, name: str) -> None:
    id_ = registered(shared_server, name)
    compared(shared_server, id_, [1, 2, 3], [4, 5, 6])
    assert shared_server.get(f"/features/{id_}/stats").json()["count"] == 0


BAD_BODIES: list[tuple[str, dict[str, Any], str]] = [
    ("number", {"current": [1]}, "reference"),
    ("number", {"reference": [1]}, "current"),
    ("number", {"reference": 1, "current": [1]}, "reference"),
    ("number", {"reference": [1], "current": [1], "alpha": 1}, "alpha"),
    ("number", {"reference": [1], "current": [1], "method": "chiSquare"}, "method"),
    ("number", {"reference": [1], "current": [1], "method": 5}, "method"),
    ("number", {"reference": [1], "current": [1], "threshold": 0}, "threshold"),
    ("number", {"reference": [1], "current": [1], "threshold": "1"}, "threshold"),
    ("number", {"reference": [1], "current": [1, None, "x"]}, "current[2]"),
    ("number", {"reference": [True], "current": [1]}, "reference[0]"),
    ("integer", {"reference": [1, 2.5], "current": [1]}, "reference[1]"),
    ("integer", {"reference": [1], "current": [2**63]}, "current[0]"),
    ("string", {"reference": ["a"], "current": [1]}, "current[0]"),
    ("boolean", {"reference": [True, 1], "current": [True]}, "reference[1]"),
    ("timestamp", {"reference": ["noon"], "current": []}, "reference[0]"),
    ("vector", {"reference": [[1, 2]], "current": [[1, 2, 3]]}, "current[0]"),
    ("string", {"reference": ["a"], "current": ["a"], "method": "ks"}, "method"),
    ("vector", {"reference": [[1, 2]], "current": [[1, 2]], "method": "ks"}, "method"),
]


@pytest.mark.before_the_store
@pytest.mark.parametrize(("value_type", "body", "field"), BAD_BODIES)
def test_a_bad_sample_is_named(
    shared_server: LiveServer, name: str, value_type: str, body: dict[str, Any], field: str
) -> None:
    id_ = registered(shared_server, name, value_type)
    assert fields(problem(shared_server.post(f"/features/{id_}/drift", body), 400)) == [field]


# The pinned reference


def pin(live: LiveServer, reference: str, start: str, end: str) -> Any:
    return live.http.put(f"/features/{reference}/reference", json={"startTime": start, "endTime": end})


def test_a_pinned_reference_is_compared_with_until_it_is_let_go(shared_server: LiveServer, name: str) -> None:
    id_ = registered(shared_server, name)
    write(shared_server, id_, drawn("number", 1), MONDAY)
    write(shared_server, id_, drawn("number", 3, shifted=True), MONDAY + HOUR)
    write(shared_server, id_, drawn("number", 4, shifted=True), MONDAY + 2 * HOUR)
    scores = [drift(shared_server, id_, current=hour(2))["score"]]
    start, end = hour(1).split("/")
    answer = pin(shared_server, name, start, end)
    assert answer.status_code == 200
    shown = {"startTime": start.replace("000Z", "Z"), "endTime": end}
    assert answer.json() == {"featureId": id_, **shown}
    pinned = drift(shared_server, id_, current=hour(2))
    assert (pinned["verdict"], pinned["reference"]) == ("stable", {**shown, "count": 400})
    assert drift(shared_server, id_, current=hour(2), reference=hour(0))["verdict"] == "drift"
    assert shared_server.http.delete(f"/features/{id_}/reference").status_code == 204
    scores.append(drift(shared_server, id_, current=hour(2))["score"])
    assert scores[0] == pytest.approx(scores[1], rel=0.05)  # out of sketches
    assert scores[0] > 2 * pinned["score"]
    problem(shared_server.http.delete(f"/features/{id_}/reference"), 404)


def test_the_reference_of_a_deleted_feature_is_not_that_of_a_new_one(shared_server: LiveServer, name: str) -> None:
    id_ = registered(shared_server, name)
    assert pin(shared_server, id_, *hour(0).split("/")).status_code == 200
    shared_server.http.delete(f"/features/{id_}")
    registered(shared_server, name)
    problem(shared_server.http.delete(f"/features/{id_}/reference"), 404)
    assert drift(shared_server, id_)["reference"]["startTime"] != hour(0).split("/", maxsplit=1)[0]


BAD_REFERENCES = [
    ({"startTime": moment(0)}, "endTime"),
    ({"endTime": moment(0)}, "startTime"),
    ({"startTime": "then", "endTime": moment(0)}, "startTime"),
    ({"startTime": moment(0), "endTime": "later"}, "endTime"),
    ({"startTime": 5, "endTime": moment(0)}, "startTime"),
    ({"startTime": moment(1), "endTime": moment(0)}, "startTime"),
    ({"startTime": moment(0), "endTime": moment(1), "window": 5}, "window"),
]


@pytest.mark.parametrize(("body", "field"), BAD_REFERENCES)
def test_a_bad_reference_is_named_and_nothing_is_pinned(
    shared_server: LiveServer, name: str, body: dict[str, Any], field: str
) -> None:
    id_ = registered(shared_server, name)
    answer = shared_server.http.put(f"/features/{id_}/reference", json=body)
    assert fields(problem(answer, 400)) == [field]
    problem(shared_server.http.delete(f"/features/{id_}/reference"), 404)


# Scores of closed windows


def test_a_feature_that_was_not_scored_yet_has_no_scores(shared_server: LiveServer, name: str) -> None:
    id_ = registered(shared_server, name)
    answer = shared_server.get(f"/features/{id_}/drift/history", limit=5)
    assert (answer.status_code, answer.json()) == (200, {"scores": []})


@pytest.mark.before_the_store
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"order": "asc"}, "order"),
    ],
)
def test_a_bad_question_for_scores_is_named(
    shared_server: LiveServer, name: str, query: dict[str, Any], field: str
) -> None:
    id_ = registered(shared_server, name)
    assert fields(problem(shared_server.get(f"/features/{id_}/drift/history", **query), 400)) == [field]


# References


ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/drift", None),
    ("GET", "/drift/history", None),
    ("POST", "/drift", {"reference": [1], "current": [1]}),
    ("PUT", "/reference", {"startTime": moment(0), "endTime": moment(1)}),
    ("DELETE", "/reference", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_an_unknown_feature_is_named_and_an_ambiguous_one_is_a_conflict(
    shared_server: LiveServer, name: str, method: str, path: str, body: Any
) -> None:
    answer = shared_server.http.request(method, f"/features/user.nothing.v1{path}", json=body)
    assert "user.nothing.v1" in problem(answer, 404)["detail"]
    for entity in ("user", "item"):
        shared_server.register(name, entity=entity)
    problem(shared_server.http.request(method, f"/features/{name}{path}", json=body), 409)


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
@pytest.mark.parametrize("shape", ["user.{}.v1", "user.{}", "{}"])
def test_any_reference_will_do(
    shared_server: LiveServer, name: str, method: str, path: str, body: Any, shape: str
) -> None:
    id_ = registered(shared_server, name)
    assert pin(shared_server, id_, moment(0), moment(1)).status_code == 200
    answer = shared_server.http.request(method, f"/features/{shape.format(name)}{path}", json=body)
    assert answer.status_code in (200, 204), answer.text
    if answer.content and "scores" not in answer.json():
        assert answer.json()["featureId"] == id_


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_a_deleted_feature_is_unknown(
    shared_server: LiveServer, name: str, method: str, path: str, body: Any
) -> None:
    id_ = registered(shared_server, name)
    pin(shared_server, id_, moment(0), moment(1))
    assert shared_server.http.delete(f"/features/{id_}").status_code == 204
    problem(shared_server.http.request(method, f"/features/{id_}{path}", json=body), 404)
