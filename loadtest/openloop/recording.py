"""Shared by parent and drivers: a row for each request, in a file that all map; and messages.

The drivers write while the parent reads, so that watching costs them nothing.
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
"""A row for each request. Instants are seconds from the start, NaN until it has happened.

scheduled   when it was to be sent
ready       when a connection was free for it, or `scheduled` if that is later; the rest is the driver's delay
sent        when the driver began to send it
done        when its answer was complete, or its connection failed
status      of the answer; 0 without one
"""


def empty(instants: Instants) -> Recording:
    """The recording of requests at these instants, in memory."""
    rows = np.zeros(len(instants), ROW)
    for name in INSTANTS:
        rows[name] = instants if name == "scheduled" else np.nan
    return rows.view(np.recarray)


def opened(path: Path) -> Recording:
    """The recording in a file, shared with the other processes that map it."""
    return np.memmap(path, ROW, "r+").view(np.recarray)


# Messages


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One driver's part of a run: rows first, first + step, ... of the recording, over `connections`.

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
    """The result of a part: see `drive.Drive`. `wrong` of the `sampled` answers were wrong."""

    busy: float
    held_up: float
    longest: float
    sampled: int
    wrong: int
    faults: list[str]
    sipped: Sipped
