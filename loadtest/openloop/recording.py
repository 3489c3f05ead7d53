"""What parent and drivers share: a row for each request, in a file that all map; and messages.

The drivers write while the parent looks on, so that showing progress costs them nothing.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from loadtest.openloop.schedule import Instants
from loadtest.openloop.slow_reader import Sipped
from loadtest.workloads.shape import Shape

READY = b"ready\n"
INSTANTS = ("scheduled", "ready", "sent", "done")
ROW = np.dtype([*((name, np.float64) for name in INSTANTS), ("status", np.uint16)])
Recording = np.recarray[tuple[int], np.dtype[np.void]]
"""A row for each request. Instants are seconds from the start, NaN where it has not come to that.

scheduled   when it was to leave
ready       when a connection was free for it, or `scheduled` if that is later; the rest is the driver's delay
sent        when the driver turned to it
done        when its answer was there, or its connection failed
status      of the answer; 0 without one
"""


def empty(instants: Instants) -> Recording:
    """Of requests at these instants, in memory."""
    rows = np.zeros(len(instants), ROW)
    for name in INSTANTS:
        rows[name] = instants if name == "scheduled" else np.nan
    return rows.view(np.recarray)


def opened(path: Path) -> Recording:
    """The one in the file of another process, or of this one: what is written to either shows in both."""
    return np.memmap(path, ROW, "r+").view(np.recarray)


# Messages


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
