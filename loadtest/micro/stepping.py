"""`python -m loadtest.micro.stepping FILE`: the service, which notes how long its tasks hold the event loop.

At its end it writes a JSON line for each step of a task that took a while: when it ended by the system's monotonic
clock, and its processor time, both in seconds. That leaves out waiting for the interpreter or for a core.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec
import trio

from actors.settings import from_environment
from web import logs
from web.process import serve

NOTED_SECONDS = 0.0002


class Steps(trio.abc.Instrument):
    """Notes them."""

    def __init__(self) -> None:
        self.noted: list[tuple[float, float]] = []
        self._began = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took = time.thread_time() - self._began
        if took > NOTED_SECONDS:
            self.noted.append((time.monotonic(), took))


def main(file: str) -> None:
    """Serve until told to stop."""
    settings = from_environment(os.environ, {})
    logs.configure(settings)
    steps = Steps()
    trio.run(serve, settings, instruments=[steps])
    Path(file).write_bytes(msgspec.json.Encoder().encode_lines(steps.noted))


if __name__ == "__main__":
    main(sys.argv[1])
