"""The programs of `examples/` run, and say what they are there to show."""

from __future__ import annotations

import subprocess
import sys

from tests.live import ROOT, LiveServer


def test_flights_are_served_what_their_model_was_trained_on(server: LiveServer) -> None:
    command = [sys.executable, str(ROOT / "examples" / "flights.py"), server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the values are those of training, and so are the predictions" in done.stdout
    assert server.get("/services/lateness").json()["version"] == 1
