"""Log lines: text, or one JSON object a line; a line a request at debug only."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Literal

import pytest

from tests.live import LiveServer
from web import logs


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


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_clients_name_cannot_begin_a_line_of_the_log(form: Literal["text", "json"]) -> None:
    forged = "/x\n2026-01-01 00:00:00,000 INFO    timewell: forged\r\x1b[2J\x85\u2028"
    try:
        raise ValueError(forged)
    except ValueError:
        record = logging.LogRecord("timewell.requests", logging.INFO, "", 0, "GET %s", (forged,), sys.exc_info())
    lines = logs.formatter(form).format(record).splitlines()
    assert not any(line.startswith("2026-01-01 00:00:00,000 INFO") for line in lines)
    assert not any(mark in line for line in lines for mark in ("\r", "\x1b"))
    assert form == "text" or json.loads(lines[0])["message"] == f"GET {forged}"
    assert form == "json" or all(line.startswith("    ") for line in lines[1:])
