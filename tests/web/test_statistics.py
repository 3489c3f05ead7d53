"""Statistics over all accepted observations of a feature."""

from __future__ import annotations

from datetime import datetime
from itertools import count
from typing import Any

import numpy as np
import pytest

from tests.live import LiveServer
from tests.web.test_errors import problem

OVER_EVERY_STORE = True

FIGURES = {"featureId", "count", "nullCount", "uniqueValues", "mean", "std", "min", "max", "lastUpdated"}
NOON = "2025-11-07T12:00:00Z"
_NUMBERS = count()


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"f{next(_NUMBERS)}"


def stats(server: LiveServer, reference: str) -> dict[str, Any]:
    """The statistics of a feature."""
    answer = server.get(f"/features/{reference}/stats")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def write(server: LiveServer, id_: str, *values: object) -> None:
    """Values of one entity, a second apart."""
    server.write(*((id_, "u", value, f"2025-11-07T12:00:{second:02}Z") for second, value in enumerate(values)))


def test_a_feature_without_observations_has_zeros_and_nulls(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    figures = stats(shared_server, id_)
    assert set(figures) >= FIGURES
    assert {key: figures[key] for key in FIGURES} == {
        "featureId": id_, "count": 0, "nullCount": 0, "uniqueValues": 0, "mean": None, "std": None, "min": None,
        "max": None, "lastUpdated": None,
    }  # fmt: skip


@pytest.mark.parametrize("value_type", ["number", "integer"])
def test_the_figures_of_numbers(shared_server: LiveServer, name: str, value_type: str) -> None:
    values = [2, 4, 4, 4, 5, 5, 7, 9]
    id_ = shared_server.register(name, value_type)["id"]
    write(shared_server, id_, *values, None)
    figures = stats(shared_server, id_)
    assert (figures["count"], figures["nullCount"], figures["uniqueValues"]) == (9, 1, 5)
    assert figures["mean"] == pytest.approx(np.mean(values))
    assert figures["std"] == pytest.approx(np.std(values))
    assert (repr(figures["min"]), repr(figures["max"])) == ("2", "9")


def test_all_entities_count_together(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "a", 1, NOON), (id_, "b", 2, NOON), (id_, "c", 6, NOON))
    figures = stats(shared_server, id_)
    assert (figures["count"], figures["mean"], figures["min"], figures["max"]) == (3, 3, 1, 6)


def test_writes_add_up_over_requests(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    values = [0.5, -3, 12.25, 7, 7, 1e6, -1e-6]
    for value in values:
        write(shared_server, id_, value)
    figures = stats(shared_server, id_)
    assert figures["count"] == 7
    assert figures["mean"] == pytest.approx(np.mean(values), rel=1e-12)
    assert figures["std"] == pytest.approx(np.std(values), rel=1e-12)


def test_a_large_offset_costs_no_precision(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    write(shared_server, id_, *(1e9 + value for value in (4, 7, 13, 16)))
    assert stats(shared_server, id_)["std"] == pytest.approx(np.std([4, 7, 13, 16]))


def test_the_mean_of_the_largest_numbers_is_not_lost(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    write(shared_server, id_, 1.7e308, 1.7e308)
    assert stats(shared_server, id_)["mean"] == pytest.approx(1.7e308)


def test_integer_extremes_are_exact(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name, "integer")["id"]
    write(shared_server, id_, 2**63 - 1, 2**63 - 2, -(2**63))
    figures = stats(shared_server, id_)
    assert (figures["min"], figures["max"], figures["uniqueValues"]) == (-(2**63), 2**63 - 1, 3)


OTHER_TYPES: list[tuple[str, dict[str, Any], list[Any], int]] = [
    ("string", {}, ["a", "b", "a", ""], 3),
    ("boolean", {}, [True, False, True], 2),
    ("vector", {"schema": {"dimension": 2}}, [[1, 2], [2, 1], [1, 2]], 2),
    ("json", {}, [{"a": 1, "b": 2}, {"b": 2, "a": 1}, [1], "x"], 3),
]


@pytest.mark.parametrize(("value_type", "rest", "values", "unique"), OTHER_TYPES)
def test_arithmetic_is_null_where_it_makes_no_sense(
    shared_server: LiveServer, name: str, value_type: str, rest: dict[str, Any], values: list[Any], unique: int
) -> None:
    id_ = shared_server.register(name, value_type, **rest)["id"]
    write(shared_server, id_, *values, None)
    figures = stats(shared_server, id_)
    assert (figures["count"], figures["nullCount"], figures["uniqueValues"]) == (len(values) + 1, 1, unique)
    assert [figures[key] for key in ("mean", "std", "min", "max")] == [None] * 4


def test_timestamps_have_an_earliest_and_a_latest_but_no_mean(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name, "timestamp")["id"]
    write(shared_server, id_, "2024-01-01T00:00:00+01:00", "2025-01-01T00:00:00.000001Z")
    figures = stats(shared_server, id_)
    assert (figures["min"], figures["max"]) == ("2023-12-31T23:00:00.000Z", "2025-01-01T00:00:00.000001Z")
    assert (figures["mean"], figures["std"]) == (None, None)


def test_only_nulls_are_counted_and_have_no_figures(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    write(shared_server, id_, None, None)
    figures = stats(shared_server, id_)
    assert (figures["count"], figures["nullCount"], figures["uniqueValues"]) == (2, 2, 0)
    assert [figures[key] for key in ("mean", "std", "min", "max")] == [None] * 4
    assert figures["lastUpdated"] is not None


def test_a_correction_counts_as_accepted(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 1, NOON), (id_, "u", 2, NOON))
    shared_server.write((id_, "u", 3, NOON))
    assert stats(shared_server, id_)["count"] == 3


def test_what_was_refused_is_not_counted(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    good, bad = ({"featureId": id_, "entityId": "u", "value": value, "timestamp": NOON} for value in (1, "x"))
    problem(shared_server.post("/features/write", bad), 400)
    problem(shared_server.post("/features/write-batch", {"values": [good, bad]}), 400)
    assert stats(shared_server, id_)["count"] == 0
    shared_server.post("/features/write-batch?partial=true", {"values": [good, bad]})
    assert stats(shared_server, id_)["count"] == 1


def test_a_repeat_under_an_idempotency_key_is_counted_once(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    for _ in range(3):
        body = {"featureId": id_, "entityId": "u", "value": 1}
        assert shared_server.post("/features/write", body, **{"Idempotency-Key": name}).status_code == 200
    assert stats(shared_server, id_)["count"] == 1


def test_the_last_update_is_when_a_value_arrived_and_not_its_event_time(
    shared_server: LiveServer, name: str
) -> None:
    feature = shared_server.register(name)
    seen = [datetime.fromisoformat(feature["createdAt"])]
    for moment in (NOON, "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"):
        shared_server.write((feature["id"], "u", 1, moment))
        seen.append(datetime.fromisoformat(stats(shared_server, name)["lastUpdated"]))
    assert seen == sorted(set(seen))
    assert seen[-1].year < 2999


@pytest.mark.parametrize("shape", ["user.{}.v1", "user.{}", "{}"])
def test_any_reference_will_do(shared_server: LiveServer, name: str, shape: str) -> None:
    shared_server.register(name)
    assert stats(shared_server, shape.format(name))["featureId"] == f"user.{name}.v1"


def test_versions_have_statistics_of_their_own(shared_server: LiveServer, name: str) -> None:
    one, two = (shared_server.register(name, version=version)["id"] for version in (1, 2))
    write(shared_server, one, 1, 2)
    write(shared_server, two, 10)
    assert [stats(shared_server, id_)["count"] for id_ in (one, two)] == [2, 1]


def test_an_unknown_feature_has_no_statistics(shared_server: LiveServer) -> None:
    assert "user.nothing.v1" in problem(shared_server.get("/features/user.nothing.v1/stats"), 404)["detail"]


def test_an_ambiguous_name_has_no_statistics(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    shared_server.register(name, entity="item")
    problem(shared_server.get(f"/features/{name}/stats"), 409)


def test_a_feature_registered_again_starts_from_zero(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    write(shared_server, id_, 1, 2, 3)
    assert shared_server.http.delete(f"/features/{id_}").status_code == 204
    problem(shared_server.get(f"/features/{id_}/stats"), 404)
    shared_server.register(name, "string")
    assert stats(shared_server, id_)["count"] == 0
    write(shared_server, id_, "x")
    assert stats(shared_server, id_)["uniqueValues"] == 1


def test_statistics_are_the_same_after_a_restart(server: LiveServer) -> None:
    id_ = server.register("f")["id"]
    write(server, id_, 1.5, 2.5, None, 4)
    before = stats(server, id_)
    server.kill()
    server.start()
    assert stats(server, id_) == before
    server.stop()
    server.start()
    write(server, id_, 10)
    assert stats(server, id_)["count"] == before["count"] + 1
