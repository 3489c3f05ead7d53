"""`GET /metrics`: what Prometheus would read."""

from __future__ import annotations

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
