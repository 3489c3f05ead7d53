"""`GET /metrics`: what Prometheus would read."""

from __future__ import annotations

import platform
import re
from importlib.metadata import version
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.live import LiveServer

Figures = dict[tuple[str, ...], float]


def figures(server: LiveServer) -> Figures:
    """Samples by name and the values of their labels."""
    answer = server.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def requests(found: Figures, *labels: str) -> float:
    """How many requests of a method, route and status."""
    return found.get(("timewell_request_seconds_count", *labels), 0)


def test_requests_of_both_lanes_are_counted_by_route_and_status(tmp_path: Path) -> None:
    for lane in ("on", "off"):
        with LiveServer(tmp_path / lane, FAST_LANE=lane) as server:
            server.register("clicks")
            asked = {"entityIds": ["a"], "features": ["clicks"]}
            for _ in range(3):
                assert server.post("/features/serve", asked).status_code == 200
            assert server.post("/features/serve", {**asked, "features": ["views"]}).status_code == 404
            assert server.get("/features/user.clicks.v1").status_code == 200
            found = figures(server)
            assert requests(found, "POST", "/features/serve", "200") == 3
            assert requests(found, "POST", "/features/serve", "404") == 1
            assert requests(found, "GET", "/features/<reference>", "200") == 1


def test_paths_that_lead_nowhere_share_one_line(server: LiveServer) -> None:
    for number in range(5):
        assert server.get(f"/made/up/{number}").status_code == 404
    found = figures(server)
    assert requests(found, "none", "none", "404") == 5
    assert not [labels for labels in found if any("made" in label for label in labels)]


def test_what_the_actors_hold_is_told(server: LiveServer) -> None:
    server.register("clicks")
    for number in range(4):
        body = {"featureId": "user.clicks.v1", "entityId": f"user-{number}", "value": number}
        assert server.post("/features/write", body).status_code == 200
    found = figures(server)
    assert found[("timewell_features",)] == 1
    assert found[("timewell_observations_in_memory",)] == 4
    assert found[("timewell_observations_unflushed",)] == 4
    assert found[("timewell_actors_rebuilding",)] == 0
    assert found[("process_resident_memory_bytes",)] > 0


def test_without_monitoring_there_are_figures_all_the_same(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "data", ENABLE_MONITORING="false") as server:
        assert figures(server)[("timewell_observations_pending",)] == 0


def test_values_features_checks_and_what_runs_here_are_told(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "data", CHECKPOINT_SECONDS="0.05") as server:
        server.register("clicks", maxAge="1h")
        server.register("views", maxAge="1h")
        long_ago = "2025-11-01T00:00:00Z"
        server.write(("user.clicks.v1", "a", 5, long_ago), ("user.clicks.v1", "b", 6, long_ago))
        server.serve(["a", "b", "c"], ["clicks", "views"])
        for id_, most in (("narrow", 5), ("wide", 9)):
            check = {"id": id_, "checkType": "range", "config": {"max": most}}
            assert server.post("/features/clicks/checks", check).status_code == 201
        found = figures(server)
        while not found["timewell_checkpoint_seconds_count",] or not found["timewell_compaction_seconds_count",]:
            found = figures(server)
        (about,) = [labels for labels in found if labels[0] == "timewell_build_info"]
        assert set(about[1:]) >= {version("timewell"), platform.python_version(), "embedded"}
        assert found["timewell_values_written_total",] == 2
        assert found["timewell_values_served_total",] == 6
        assert found["timewell_feature_age_seconds", "user.clicks.v1"] > 86_400
        assert ("timewell_feature_age_seconds", "user.views.v1") not in found
        assert found["timewell_feature_late", "user.clicks.v1"] == 1
        states = {labels for labels, value in found.items() if labels[0] == "timewell_check_state" and value == 1}
        assert {labels[1:] for labels in states} == {
            ("narrow", "user.clicks.v1", "failing", "range"),
            ("wide", "user.clicks.v1", "passing", "range"),
        }


def test_the_text_keeps_the_conventions_of_prometheus(server: LiveServer) -> None:
    text = server.get("/metrics").text
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families), "each is told once"
    for family in families:
        assert family.documentation, family.name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name.endswith("_total")
            else:
                assert not sample.name.endswith("_total")
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
