"""Log lines: text, or one JSON object a line; a line a request at debug only."""

from __future__ import annotations

import json
from pathlib import Path

from tests.live import LiveServer


def log_of_a_request(tmp_path: Path, **environment: str) -> str:
    """What a server logs that answers one request for an unknown feature."""
    with LiveServer(tmp_path / "data", **environment) as server:
        server.get("/features/user.unknown.v1")
        server.stop()
    return server.log


def test_json_lines_tell_of_each_request_at_debug(tmp_path: Path) -> None:
    lines = [
        json.loads(line) for line in log_of_a_request(tmp_path, LOG_FORMAT="json", LOG_LEVEL="debug").splitlines()
    ]
    (request,) = (line for line in lines if line["logger"] == "timewell.requests")
    assert (request["method"], request["path"], request["status"]) == ("GET", "/features/user.unknown.v1", 404)
    assert request["ms"] > 0
    assert request["level"] == "debug"


def test_requests_are_not_logged_at_info(tmp_path: Path) -> None:
    log = log_of_a_request(tmp_path)
    assert "serving on" in log
    assert "user.unknown" not in log
