"""What the monitor says of itself over HTTP: freshness, alerts, events as they happen, agreement, status."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar

import httpx
import pytest

from actors.settings import Settings
from tests.actors.service import service
from tests.faults import FaultyStorage
from tests.live import LiveServer
from tests.model import rfc3339
from tests.web.test_errors import fields, problem
from web.app import create_app

NOON = "2025-11-07T12:00:00Z"
PATIENCE_SECONDS = 10.0
_NUMBERS = count()
T = TypeVar("T")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that looks at its checks all the time, and at every read."""
    settings = {
        "MONITOR_SECONDS": "0.1",
        "ALERT_WINDOWS": "2",
        "ALERT_COOLDOWN_SECONDS": "0",
        "DRIFT_WINDOW_SECONDS": "1",
        "AGREEMENT_SAMPLE": "1",
    }
    with LiveServer(tmp_path_factory.mktemp("watching") / "data", **settings) as live:
        yield live


@pytest.fixture
def name() -> str:
    """A feature name of its own for each test."""
    return f"f{next(_NUMBERS)}"


def until(question: Callable[[], T]) -> T:
    """Ask until the answer is a good one. Raises AssertionError after PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if answer := question():
            return answer
    raise AssertionError("it did not happen in time")


def ago(**time_: float) -> str:
    """A moment in the past."""
    return (datetime.now(UTC) - timedelta(**time_)).isoformat()


# Freshness


def freshness(live: LiveServer) -> dict[str, Any]:
    answer = live.get("/monitor/freshness")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def fresh(live: LiveServer, id_: str) -> dict[str, Any]:
    """How old one feature is."""
    (found,) = (one for one in freshness(live)["features"] if one["featureId"] == id_)
    return dict(found)


def group(live: LiveServer, name: str) -> dict[str, Any]:
    """How old one group is."""
    (found,) = (one for one in freshness(live)["groups"] if one["name"] == name)
    return dict(found)


def test_a_feature_that_was_never_written_has_no_age(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    assert fresh(live, id_) == {
        "featureId": id_, "lastEventTime": None, "lastArrival": None, "eventAgeSeconds": None,
        "arrivalAgeSeconds": None, "maxAgeSeconds": None, "late": None,
    }  # fmt: skip


def test_the_age_of_a_feature_is_that_of_its_newest_event_time_whatever_the_order(
    live: LiveServer, name: str
) -> None:
    id_ = live.register(name)["id"]
    newest = ago(hours=1)
    for moment in (ago(hours=5), newest, ago(hours=3)):
        live.write((id_, "u", 1, moment))
    found = fresh(live, id_)
    assert found["eventAgeSeconds"] == pytest.approx(3_600, abs=30)
    assert 0 <= found["arrivalAgeSeconds"] < 30
    assert datetime.fromisoformat(found["lastEventTime"]) == datetime.fromisoformat(newest)


def test_a_null_and_a_correction_are_signs_of_life(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    live.write((id_, "u", None, NOON))
    first = fresh(live, id_)
    assert first["lastEventTime"] == "2025-11-07T12:00:00.000Z"
    live.write((id_, "u", 5, NOON))
    again = fresh(live, id_)
    assert again["lastEventTime"] == first["lastEventTime"]
    assert again["lastArrival"] > first["lastArrival"]


def test_a_timestamp_in_the_future_does_not_make_a_feature_fresh(live: LiveServer, name: str) -> None:
    id_ = live.register(name, maxAge="1h")["id"]
    live.write((id_, "u", 1, "2999-01-01T00:00:00Z"))
    found = fresh(live, id_)
    assert (found["lastEventTime"], found["eventAgeSeconds"], found["late"]) == (None, None, None)
    assert found["lastArrival"] is not None
    live.write((id_, "u", 1, ago(hours=2)), (id_, "v", 1, "2999-01-01T00:00:00Z"))
    found = fresh(live, id_)
    assert found["eventAgeSeconds"] == pytest.approx(7_200, abs=30)
    assert found["late"] is True


@pytest.mark.parametrize(("hours", "late"), [(0.9, False), (1.1, True)])
def test_a_feature_is_late_when_it_is_older_than_its_max_age(
    live: LiveServer, name: str, hours: float, late: bool
) -> None:
    id_ = live.register(name, maxAge="1h")["id"]
    live.write((id_, "u", 1, ago(hours=hours)))
    found = fresh(live, id_)
    assert (found["maxAgeSeconds"], found["late"]) == (3_600, late)
    live.register(name, maxAge=None)
    assert fresh(live, id_)["late"] is None


def test_a_group_is_as_old_as_its_oldest_feature_and_names_those_that_are_late(
    live: LiveServer, name: str
) -> None:
    one, other = (live.register(f"{name}_{letter}", maxAge="1h")["id"] for letter in "ab")
    body = {"name": name, "entity": "user", "features": [one, f"{name}_b"]}
    assert live.post("/groups", body).status_code == 201
    live.write((one, "u", 1, ago(hours=3)))
    assert group(live, name) == {
        "name": name, "eventAgeSeconds": None, "arrivalAgeSeconds": None, "lateFeatures": [one],
    }  # fmt: skip
    live.write((other, "u", 1, ago(minutes=5)))
    found = group(live, name)
    assert found["eventAgeSeconds"] == pytest.approx(3 * 3_600, abs=30)
    assert found["lateFeatures"] == [one]
    live.write((one, "u", 1, ago(minutes=1)))
    found = group(live, name)
    assert found["eventAgeSeconds"] == pytest.approx(300, abs=30)
    assert found["lateFeatures"] == []


def test_a_deleted_feature_is_neither_fresh_nor_late_and_a_new_one_of_its_id_starts_without_an_age(
    live: LiveServer, name: str
) -> None:
    id_ = live.register(name)["id"]
    live.write((id_, "u", 1, NOON))
    assert live.http.delete(f"/features/{id_}").status_code == 204
    assert id_ not in {one["featureId"] for one in freshness(live)["features"]}
    live.register(name)
    assert fresh(live, id_)["lastEventTime"] is None


def test_features_and_groups_come_in_order(live: LiveServer, name: str) -> None:
    for letter in "ba":
        live.register(f"{name}_{letter}")
        live.post("/groups", {"name": f"{name}_{letter}", "entity": "user", "features": [f"{name}_{letter}"]})
    found = freshness(live)
    ids = [one["featureId"] for one in found["features"]]
    names = [one["name"] for one in found["groups"]]
    assert (ids, names) == (sorted(ids), sorted(names))


def test_freshness_is_the_same_after_a_crash(server: LiveServer) -> None:
    ids = [server.register(name)["id"] for name in "ab"]
    server.write((ids[0], "u", 1, NOON), (ids[0], "v", 1, "2999-01-01T00:00:00Z"))
    before = [(one["lastEventTime"], one["lastArrival"]) for one in freshness(server)["features"]]
    server.kill()
    server.start()
    assert [(one["lastEventTime"], one["lastArrival"]) for one in freshness(server)["features"]] == before


# Alerts


def add_check(live: LiveServer, id_: str, check_type: str, **config: Any) -> str:
    answer = live.post(f"/features/{id_}/checks", {"checkType": check_type, "config": config})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def alerts(live: LiveServer, id_: str, **query: str) -> list[dict[str, Any]]:
    """The alerts of one feature."""
    answer = live.get("/monitor/alerts", **query)
    assert answer.status_code == 200, answer.text
    return [one for one in answer.json()["alerts"] if one["featureId"] == id_]


def test_an_alert_fires_and_resolves_by_itself_and_is_listed_by_its_state(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    check = add_check(live, id_, "volume", window="10000d", min=1)
    (firing,) = until(lambda: alerts(live, id_, state="firing"))
    assert set(firing) == {
        "id", "featureId", "checkId", "checkType", "state", "observed", "message", "since", "firedAt",
        "resolvedAt",
    }  # fmt: skip
    assert (firing["checkId"], firing["checkType"], firing["state"]) == (check, "volume", "firing")
    assert (firing["observed"], firing["resolvedAt"]) == (0, None)
    assert firing["since"] < firing["firedAt"]
    assert alerts(live, id_, state="resolved") == []
    live.write((id_, "u", 1, NOON))
    (resolved,) = until(lambda: alerts(live, id_, state="resolved"))
    assert (resolved["id"], resolved["firedAt"]) == (firing["id"], firing["firedAt"])
    assert resolved["resolvedAt"] > resolved["firedAt"]
    assert alerts(live, id_, state="firing") == []
    assert alerts(live, id_) == [resolved]


def test_the_alert_of_a_deleted_check_or_feature_is_not_firing_any_more(live: LiveServer, name: str) -> None:
    ids = [live.register(f"{name}_{letter}")["id"] for letter in "ab"]
    checks = [add_check(live, id_, "volume", window="1h", min=1) for id_ in ids]
    for id_ in ids:
        until(lambda id_=id_: alerts(live, id_, state="firing"))  # type: ignore[misc]
    assert live.http.delete(f"/features/{ids[0]}/checks/{checks[0]}").status_code == 204
    assert alerts(live, ids[0]) == []
    assert live.http.delete(f"/features/{ids[1]}").status_code == 204
    until(lambda: not alerts(live, ids[1], state="firing"))


def test_alerts_come_newest_first(live: LiveServer, name: str) -> None:
    for letter in "ab":
        id_ = live.register(f"{name}_{letter}")["id"]
        add_check(live, id_, "volume", window="1h", min=1)
        until(lambda id_=id_: alerts(live, id_))  # type: ignore[misc]
    since = [one["since"] for one in live.get("/monitor/alerts").json()["alerts"]]
    assert since == sorted(since, reverse=True)


@pytest.mark.parametrize("state", ["open", "FIRING", "firing,resolved"])
def test_an_unknown_state_is_named(live: LiveServer, state: str) -> None:
    body = problem(live.get("/monitor/alerts", state=state), 400)
    assert fields(body) == ["state"]
    assert "firing" in body["detail"]


# Events


class Listener:
    """Reads a stream of server-sent events."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.iter_lines()

    def next(self) -> dict[str, str]:
        """The next event; comments are passed over. Raises StopIteration at the end."""
        event: dict[str, str] = {}
        while True:
            line = next(self._lines)
            if line:
                field, _, value = line.partition(":")
                if field:
                    event[field] = value.removeprefix(" ")
            elif event:
                return event

    def of(self, id_: str, kind: str) -> dict[str, str]:
        """The next event of a kind that concerns a feature."""
        while True:
            event = self.next()
            if event["event"] == kind and f'"{id_}"' in event["data"]:
                return event


@contextmanager
def listening(live: LiveServer, **headers: str) -> Iterator[Listener]:
    """A stream of events, once it has begun."""
    with httpx.Client(timeout=PATIENCE_SECONDS) as client:
        with client.stream("GET", f"{live.url}/monitor/events", headers=headers) as answer:
            assert answer.status_code == 200
            yield Listener(answer)


def test_events_are_told_as_they_happen(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    with listening(live) as listener:
        assert listener.answer.headers["Content-Type"].startswith("text/event-stream")
        assert listener.answer.headers["Cache-Control"] == "no-cache"
        add_check(live, id_, "volume", window="10000d", min=1)
        found = [listener.of(id_, kind) for kind in ("check.failing", "alert.pending", "alert.firing")]
        live.write((id_, "u", 1, NOON))
        found += [listener.of(id_, kind) for kind in ("check.recovered", "alert.resolved")]
    ids = [int(event["id"]) for event in found]
    assert ids == sorted(set(ids))
    assert '"time":"20' in found[0]["data"]


def test_who_comes_back_with_the_last_id_is_told_what_it_missed_and_nothing_twice(
    live: LiveServer, name: str
) -> None:
    id_ = live.register(name)["id"]
    with listening(live) as listener:
        add_check(live, id_, "volume", window="10000d", min=1)
        seen = listener.of(id_, "alert.pending")
    until(lambda: alerts(live, id_, state="firing"))
    with listening(live, **{"Last-Event-ID": seen["id"]}) as listener:
        missed = listener.next()
        while id_ not in missed["data"]:
            missed = listener.next()
    assert missed["event"] == "alert.firing"
    assert int(missed["id"]) > int(seen["id"])


@pytest.mark.parametrize("given", ["", "x", "-1", "1.5", "\u00b2", "9" * 20, "9" * 5_000])
def test_a_last_id_that_is_none_is_passed_over(live: LiveServer, given: str) -> None:
    with httpx.Client(timeout=PATIENCE_SECONDS) as client:
        headers = {b"Last-Event-ID": given.encode("latin-1")}
        with client.stream("GET", f"{live.url}/monitor/events", headers=headers) as answer:
            assert answer.status_code == 200
            assert next(answer.iter_lines()).startswith(":")


def test_the_end_of_the_process_ends_a_listening_stream_at_once(server: LiveServer) -> None:
    with listening(server) as one, listening(server) as other:
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
        for listener in (one, other):
            with pytest.raises(StopIteration):
                listener.next()


# Drift of closed windows


def test_windows_are_scored_as_they_close(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    body = {"featureId": id_, "entityId": "u", "value": 1}
    assert live.post("/features/write", body).status_code == 200

    def scores() -> list[dict[str, Any]]:
        return list(live.get(f"/features/{name}/drift/history").json()["scores"])

    (score, *_) = until(scores)
    assert (score["featureId"], score["verdict"], score["drift"]) == (id_, "insufficient", None)
    assert score["reference"]["endTime"] < score["current"]["startTime"]
    assert len(live.get(f"/features/{name}/drift/history", limit=1).json()["scores"]) == 1


# Agreement


def agreement(live: LiveServer) -> dict[str, tuple[int, int]]:
    answer = live.get("/monitor/agreement")
    assert answer.status_code == 200, answer.text
    return {one["featureId"]: (one["compared"], one["mismatched"]) for one in answer.json()["features"]}


VALUES: dict[str, Callable[[random.Random], Any]] = {
    "number": lambda r: r.choice([0, -0.0, 0.1, 5, -1e300, r.random()]),
    "integer": lambda r: r.choice([0, 1, -(2**63), 2**63 - 1, r.getrandbits(40)]),
    "string": lambda r: r.choice(["", "a", "é", "x" * 100]),
    "boolean": lambda r: r.random() < 0.5,
    "timestamp": lambda r: rfc3339(r.getrandbits(50)),
    "vector": lambda r: [r.random(), r.choice([0.0, -0.0, 0.1])],
    "json": lambda r: r.choice([{"a": [1, None]}, [], "x", 5, None, {}]),
}


@pytest.mark.parametrize("seed", range(4))
def test_what_is_served_agrees_with_point_in_time_reads_under_random_writes(
    live: LiveServer, name: str, seed: int
) -> None:
    source = random.Random(seed)
    ids = {}
    for value_type in VALUES:
        rest: dict[str, Any] = {"schema": {"dimension": 2}} if value_type == "vector" else {}
        if source.random() < 0.5:
            rest["retention"] = {"values": source.choice([1, 2, 5])}
        if source.random() < 0.3:
            rest["maxAge"] = "1h"
        ids[value_type] = str(live.register(f"{name}_{value_type}", value_type, **rest)["id"])
    entities = ["a", "b", "c", "never"]
    # Few moments, so that there are late arrivals, corrections, and some of the future.
    moments = [ago(hours=hours) for hours in (30, 2, 1.01, 0.5, 0.1, -5)] + [ago(seconds=0)]
    reads = 0
    for _ in range(12):
        rows = []
        for _ in range(source.randrange(1, 30)):
            value_type = source.choice(list(VALUES))
            value = None if source.random() < 0.2 else VALUES[value_type](source)
            rows.append((ids[value_type], source.choice(entities[:3]), value, source.choice(moments)))
        live.write(*rows)
        live.serve(entities, list(ids.values()))
        reads += 1
    found = agreement(live)
    assert {id_: found[id_] for id_ in ids.values()} == {id_: (len(entities) * reads, 0) for id_ in ids.values()}


def test_a_read_of_the_past_is_not_compared(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    live.write((id_, "u", 1, NOON))
    live.serve(["u"], [id_], asOf=NOON)
    assert id_ not in agreement(live)
    live.serve(["u"], [id_])
    assert agreement(live)[id_] == (1, 0)


def test_the_agreement_of_a_feature_is_listed_by_id(live: LiveServer, name: str) -> None:
    for letter in "ba":
        live.serve(["u"], [live.register(f"{name}_{letter}")["id"]])
    ids = [one["featureId"] for one in live.get("/monitor/agreement").json()["features"]]
    assert ids == sorted(ids)
    assert {f"user.{name}_a.v1", f"user.{name}_b.v1"} <= set(ids)


# Status, and what all routes have in common


def test_the_monitor_says_how_far_behind_it_is(live: LiveServer, name: str) -> None:
    id_ = live.register(name)["id"]
    live.write((id_, "u", 1, NOON))
    answer = live.get("/monitor/status")
    assert answer.status_code == 200
    status = answer.json()
    assert set(status) == {"position", "lagSeconds", "waitingObservations", "waitingMessages"}
    until(lambda: live.get("/monitor/status").json()["lagSeconds"] == 0)
    assert datetime.fromisoformat(status["position"]) > datetime.now(UTC) - timedelta(minutes=5)


ROUTES = ["freshness", "alerts", "events", "agreement", "status"]


@pytest.mark.parametrize("route", ROUTES)
def test_an_unknown_query_parameter_is_named(live: LiveServer, route: str) -> None:
    assert fields(problem(live.get(f"/monitor/{route}", colour="red"), 400)) == ["colour"]


@pytest.mark.parametrize("route", ROUTES)
def test_other_methods_are_not_allowed(live: LiveServer, route: str) -> None:
    answer = live.post(f"/monitor/{route}", {})
    problem(answer, 405)
    assert "GET" in answer.headers["Allow"]


OFF: list[tuple[str, str, Any]] = [
    *(("GET", f"/monitor/{route}", None) for route in ROUTES),
    ("GET", "/checks", None),
    ("GET", "/features/clicks/checks", None),
    ("GET", "/features/clicks/stats", None),
    ("POST", "/features/clicks/checks", {"checkType": "drift", "config": {}}),
    ("DELETE", "/features/clicks/checks/c", None),
    ("GET", "/features/clicks/drift", None),
    ("GET", "/features/clicks/drift/history", None),
    ("POST", "/features/clicks/drift", {"reference": [1], "current": [1]}),
    ("PUT", "/features/clicks/reference", {"startTime": NOON, "endTime": NOON}),
    ("DELETE", "/features/clicks/reference", None),
]


async def test_where_monitoring_is_off_every_route_says_so_and_reads_go_on() -> None:
    settings = Settings(storage_type="memory", checkpoint_seconds=1e6, enable_monitoring=False, agreement_sample=1)
    async with service(FaultyStorage(), settings) as router:
        client = create_app(router, settings).test_client()
        for method, path, body in OFF:
            answer = await client.open(path, method=method, json=body)
            assert (answer.status_code, answer.content_type) == (404, "application/problem+json"), path
            assert "monitoring is off" in (await answer.get_json())["detail"], path
        answer = await client.post("/features/serve", json={"entityIds": ["u"], "features": ["clicks"]})
        assert answer.status_code == 200
