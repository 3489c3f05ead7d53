"""What was acknowledged survives whatever happens to the process and its files."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.live import LiveServer


def test_a_value_written_before_a_sigkill_is_served_after_the_restart(server: LiveServer) -> None:
    server.register("clicks")
    server.write(("user.clicks.v1", "u1", 5, "2025-11-07T10:00:00Z"))
    server.kill()
    server.start()
    assert server.serve(["u1"], ["user.clicks.v1"])[0]["features"] == {"user.clicks.v1": 5}


def test_sigterm_ends_the_process_cleanly(server: LiveServer) -> None:
    assert server.stop(signal.SIGTERM) == 0
    assert "Traceback" not in server.log


def test_a_second_process_on_the_same_data_directory_is_refused_by_name(
    server: LiveServer, tmp_path: Path
) -> None:
    second = LiveServer(tmp_path / "data")
    try:
        second.start()
    except RuntimeError as error:
        assert f"is in use by process {server.pid}" in str(error)
    else:
        second.kill()
        raise AssertionError("two processes share a data directory")
