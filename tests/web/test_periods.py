"""Statistics of a period over HTTP, and what is said where monitoring is off."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.live import LiveServer
from tests.web.test_errors import fields, problem

_NUMBERS = count()
TEN = "2025-11-07T10:00:00Z"
ELEVEN = "2025-11-07T11:00:00Z"


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"p{next(_NUMBERS)}"


@pytest.fixture(scope="module")
def unwatched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server without monitoring, on a directory of its own."""
    with LiveServer(tmp_path_factory.mktemp("unwatched") / "data", ENABLE_MONITORING="false") as live:
        yield live


def ask(server: LiveServer, reference: str, **query: str) -> httpx.Response:
    return server.get(f"/features/{reference}/stats", **query)


def stats(server: LiveServer, reference: str, start: str | None = None, end: str | None = None) -> dict[str, Any]:
    """The statistics of a period, open where no bound is given."""
    bounds = {name: bound for name, bound in (("startTime", start), ("endTime", end)) if bound is not None}
    answer = ask(server, reference, **bounds)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ago(**age: float) -> str:
    return (datetime.now(UTC) - timedelta(**age)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def write_minutes(server: LiveServer, id_: str, values: list[Any]) -> None:
    """One value a minute from ten o'clock on."""
    server.write(*((id_, "u", value, f"2025-11-07T10:{minute:02}:00Z") for minute, value in enumerate(values)))


def test_a_period_counts_exactly_what_lies_in_it(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    values = [float(value) for value in np.random.default_rng(1).normal(10, 3, 60)]
    write_minutes(shared_server, id_, values)
    for start, end in ((0, 59), (0, 0), (7, 23), (10, 14), (58, 59), (11, 12)):
        found = stats(shared_server, id_, f"2025-11-07T10:{start:02}:00Z", f"2025-11-07T10:{end:02}:00Z")
        inside = values[start : end + 1]
        assert (found["count"], found["uniqueValues"], found["uniqueValuesExact"]) == (
            len(inside),
            len(inside),
            True,
        )
        assert (found["min"], found["max"]) == (min(inside), max(inside))
        assert found["mean"] == pytest.approx(np.mean(inside))
        assert found["std"] == pytest.approx(np.std(inside))
        assert list(found["quantiles"]) == ["p01", "p05", "p25", "p50", "p75", "p95", "p99"]
        shares = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
        assert list(found["quantiles"].values()) == pytest.approx(np.quantile(inside, shares).tolist())
        assert sum(found["histogram"]["counts"]) == len(inside)


def test_both_ends_are_closed_to_the_microsecond(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    moments = [f"2025-11-07T10:00:00.{micro:06}Z" for micro in range(5)]
    shared_server.write(*((id_, "u", number, moment) for number, moment in enumerate(moments)))
    assert stats(shared_server, id_, moments[1], moments[3])["count"] == 3
    assert stats(shared_server, id_, moments[2], moments[2])["mean"] == 2
    assert stats(shared_server, id_, moments[4])["count"] == 1
    assert stats(shared_server, id_, None, moments[0])["count"] == 1


def test_one_bound_leaves_the_other_end_open(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write(
        (id_, "u", 1, "0001-01-01T00:00:00Z"),
        (id_, "u", 2, TEN),
        (id_, "u", 4, ELEVEN),
        (id_, "u", 8, "9999-12-31T23:59:59.999999Z"),
    )
    assert stats(shared_server, id_, TEN)["mean"] == pytest.approx(14 / 3)
    assert stats(shared_server, id_, None, ELEVEN)["mean"] == pytest.approx(7 / 3)
    assert stats(shared_server, id_, ELEVEN)["count"] == 2
    assert stats(shared_server, id_, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z")["count"] == 4


def test_a_period_in_which_nothing_was_written_has_zeros_and_nulls(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    write_minutes(shared_server, id_, [1, 2])
    found = stats(shared_server, id_, "2025-11-07T10:00:00.000001Z", "2025-11-07T10:00:59.999999Z")
    assert (found["count"], found["nullCount"], found["uniqueValues"]) == (0, 0, 0)
    assert [found[key] for key in ("mean", "std", "min", "max", "lastUpdated", "quantiles", "histogram")] == [
        None
    ] * 7


def test_nulls_corrections_and_repeats_count_in_a_period_too(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    for value in (1, 2, 2, None):
        shared_server.write((id_, "u", value, TEN), (id_, "v", 10, ELEVEN))
    found = stats(shared_server, id_, TEN, TEN)
    assert (found["count"], found["nullCount"], found["uniqueValues"]) == (4, 1, 2)
    assert found["mean"] == pytest.approx(5 / 3)


def test_periods_of_all_ages_are_exact(shared_server: LiveServer, name: str) -> None:
    """What is written late lies in windows of five minutes, an hour or a day by its age."""
    id_ = shared_server.register(name)["id"]
    ages = [0.01, 0.5, 0.9, 1.1, 2, 3.3, 13.9, 14.1, 20, 20.01, 400]
    moments = [ago(days=age) for age in ages]
    shared_server.write(*((id_, "u", 2**number, moment) for number, moment in enumerate(moments)))
    for older in range(len(ages)):
        for newer in range(older + 1):
            found = stats(shared_server, id_, moments[older], moments[newer])
            inside = [2**number for number in range(newer, older + 1)]
            assert (found["count"], found["max"]) == (len(inside), max(inside))
            assert found["mean"] == pytest.approx(np.mean(inside))


def test_texts_have_their_most_frequent_values_in_a_period(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name, "string")["id"]
    write_minutes(shared_server, id_, ["a", "b", "b", "a", "b", None])
    found = stats(shared_server, id_, "2025-11-07T10:01:00Z", "2025-11-07T10:05:00Z")
    assert found["topValues"] == [{"value": "b", "count": 3}, {"value": "a", "count": 1}]
    assert (found["count"], found["nullCount"], found["uniqueValues"], found["mean"]) == (5, 1, 2, None)
    assert found["lengths"]["max"] == 1


def test_booleans_have_their_rate_of_truth_in_a_period(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name, "boolean")["id"]
    write_minutes(shared_server, id_, [False, True, True, True, False, None])
    assert stats(shared_server, id_, "2025-11-07T10:01:00Z", "2025-11-07T10:05:00Z")["trueRate"] == 0.75
    assert stats(shared_server, id_, "2025-11-07T10:05:00Z")["trueRate"] is None


def test_vectors_have_norms_in_a_period(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name, "vector", schema={"dimension": 2})["id"]
    write_minutes(shared_server, id_, [[100, 100], [3, 4], [6, 8]])
    norms = stats(shared_server, id_, "2025-11-07T10:01:00Z")["norms"]
    assert (norms["mean"], norms["min"], norms["max"]) == (7.5, 5, 10)


def test_integers_are_exact_in_a_period(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name, "integer")["id"]
    write_minutes(shared_server, id_, [0, 2**53 + 1, 2**63 - 1, -(2**63)])
    found = stats(shared_server, id_, "2025-11-07T10:01:00Z")
    assert (found["min"], found["max"], found["uniqueValues"]) == (-(2**63), 2**63 - 1, 3)


@pytest.mark.parametrize("value", ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000001Z"])
def test_timestamps_from_the_ends_of_time_have_statistics(
    shared_server: LiveServer, name: str, value: str
) -> None:
    id_ = shared_server.register(name, "timestamp")["id"]
    write_minutes(shared_server, id_, ["2025-01-01T00:00:00Z", value, value])
    for found in (stats(shared_server, id_), stats(shared_server, id_, "2025-11-07T10:01:00Z")):
        assert value in (found["min"], found["max"])
        assert sum(found["histogram"]["counts"]) == found["count"]


def test_numbers_from_the_ends_of_the_range_have_quantiles_between_them(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name)["id"]
    write_minutes(shared_server, id_, [-1.7e308, 1.7e308])
    quantiles = list(stats(shared_server, id_)["quantiles"].values())
    assert None not in quantiles
    assert all(-1.7e308 <= quantile <= 1.7e308 for quantile in quantiles)


def test_neighbouring_numbers_have_statistics(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    low = 961657.2320065931
    high = low
    for _ in range(3):
        high = float(np.nextafter(high, np.inf))
    write_minutes(shared_server, id_, [low, high])
    assert sum(stats(shared_server, id_)["histogram"]["counts"]) == 2


def test_the_last_update_of_a_period_is_the_arrival_of_its_last_observation(
    shared_server: LiveServer, name: str
) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 1, TEN))
    then = stats(shared_server, id_)["lastUpdated"]
    shared_server.write((id_, "u", 2, ELEVEN))
    assert stats(shared_server, id_, TEN, TEN)["lastUpdated"] == then
    assert stats(shared_server, id_, ELEVEN)["lastUpdated"] > then


def test_offsets_are_understood(shared_server: LiveServer, name: str) -> None:
    id_ = shared_server.register(name)["id"]
    shared_server.write((id_, "u", 1, TEN), (id_, "u", 2, ELEVEN))
    assert stats(shared_server, id_, "2025-11-07T12:00:00+02:00", "2025-11-07T12:30:00+02:00")["count"] == 1


@pytest.mark.parametrize("shape", ["user.{}.v1", "user.{}", "{}"])
def test_any_reference_will_do_for_a_period(shared_server: LiveServer, name: str, shape: str) -> None:
    shared_server.register(name)
    assert stats(shared_server, shape.format(name), TEN, ELEVEN)["featureId"] == f"user.{name}.v1"


# Refusals


def test_a_start_after_the_end_is_refused(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    assert "startTime" in fields(problem(ask(shared_server, name, startTime=ELEVEN, endTime=TEN), 400))


@pytest.mark.parametrize("bound", ["startTime", "endTime"])
@pytest.mark.parametrize("text", ["yesterday", "2025-13-01T00:00:00Z", "1762509600"])
def test_what_is_no_timestamp_is_refused_by_name(
    shared_server: LiveServer, name: str, bound: str, text: str
) -> None:
    shared_server.register(name)
    assert bound in fields(problem(ask(shared_server, name, **{bound: text}), 400))


def test_an_unknown_parameter_is_refused_by_name(shared_server: LiveServer, name: str) -> None:
    shared_server.register(name)
    assert "start" in problem(ask(shared_server, name, start=TEN), 400)["detail"]


def test_an_unknown_feature_has_no_periods(shared_server: LiveServer) -> None:
    assert "user.nothing.v1" in problem(ask(shared_server, "user.nothing.v1", startTime=TEN), 404)["detail"]


# Restarts


def test_periods_are_the_same_after_checkpoints_and_a_kill(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="0.05") as server:
        id_ = server.register("f")["id"]
        write_minutes(server, id_, [1.5, None, 2.5, 4, 4, 7])
        bounds = [("2025-11-07T10:01:00Z", "2025-11-07T10:03:00Z"), ("2025-11-07T10:02:30Z", None), (None, TEN)]
        before = [stats(server, id_, *period) for period in bounds]
        assert [found["count"] for found in before] == [3, 3, 1]
        while not list((tmp_path / "data" / "history").glob("run=*/*.parquet")):
            server.get("/health/live")
        server.kill()
        server.start()
        assert [stats(server, id_, *period) for period in bounds] == before
        write_minutes(server, id_, [1.5, 9])
        assert [stats(server, id_, *period)["count"] for period in bounds] == [4, 3, 2]


# Without monitoring


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/features/x/stats", None),
        ("GET", f"/features/x/stats?startTime={TEN}&endTime={ELEVEN}", None),
        ("GET", "/features/x/checks", None),
        ("GET", "/checks", None),
        ("POST", "/features/x/checks", {"checkType": "null", "config": {"maxNullRate": 0.1}}),
        ("DELETE", "/features/x/checks/c", None),
        ("GET", f"/features/x/drift?reference={TEN}/{ELEVEN}&current={TEN}/{ELEVEN}", None),
        ("PUT", "/features/x/reference", {"startTime": TEN, "endTime": ELEVEN}),
        ("GET", "/monitor/freshness", None),
        ("GET", "/monitor/alerts", None),
        ("GET", "/monitor/status", None),
        ("GET", "/monitor/events", None),
    ],
)
def test_without_monitoring_its_routes_are_not_found_and_say_why(
    unwatched: LiveServer, method: str, path: str, body: Any
) -> None:
    unwatched.register("x")
    answer = unwatched.http.request(method, path, json=body)
    assert "ENABLE_MONITORING" in problem(answer, 404)["detail"]


def test_without_monitoring_writes_and_reads_go_on(unwatched: LiveServer) -> None:
    id_ = unwatched.register("y")["id"]
    unwatched.write((id_, "u", 5, TEN), (id_, "u", 6, ELEVEN))
    assert unwatched.serve(["u"], [id_])[0]["features"] == {id_: 6}
    unwatched.kill()
    unwatched.start()
    assert unwatched.serve(["u"], [id_])[0]["features"] == {id_: 6}
    assert unwatched.http.delete(f"/features/{id_}").status_code == 204
