"""What the parent says to a driver and hears from it."""

from __future__ import annotations

import msgspec

from loadtest.openloop.slow_reader import Sipped
from loadtest.workloads.shape import Shape

READY = b"ready\n"
MOST_FAULTS = 5
"""Wrong answers told of; the rest are counted."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One driver's part of a run: rows first, first + step, ... of the recording, over so many connections.

    `slow_readers` begin `slow_from` seconds after the start.
    """

    host: str
    port: int
    scenario: str
    shape: Shape
    recording: str
    first: int
    step: int
    connections: int
    core: int | None
    spins: bool
    slow_readers: int = 0
    slow_from: float = 0.0


class PartDone(msgspec.Struct, frozen=True, kw_only=True):
    """How it went: see `drive.Drive`. `wrong` of the `sampled` answers were not what was asked for."""

    busy: float
    held_up: float
    longest: float
    sampled: int
    wrong: int
    faults: list[str]
    sipped: Sipped
