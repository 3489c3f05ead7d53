"""What parent and drivers share: a row of arrays for each request, in a file that all map; and messages.

The drivers write while the parent looks on, so that showing progress costs them nothing.
"""

from __future__ import annotations

import mmap
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadtest.openloop.schedule import Instants
from loadtest.openloop.slow_reader import Sipped
from loadtest.workloads.shape import Shape

_DOUBLES = 4
_ROW_BYTES = 8 * _DOUBLES + 2
READY = b"ready\n"


class Recording:
    """Of `count` requests. Instants are seconds from the start, NaN where it has not come to that.

    scheduled   when it was to leave
    ready       when a connection was free for it, or `scheduled` if that is later; the rest is the driver's delay
    sent        when the driver turned to it
    done        when its answer was there, or its connection failed
    status      of the answer; 0 without one
    """

    def __init__(self, memory: memoryview, count: int) -> None:
        ends = [8 * count * number for number in range(_DOUBLES + 1)]
        columns = [memory[start:end].cast("d") for start, end in pairwise(ends)]
        self.scheduled, self.ready, self.sent, self.done = columns
        self.status = memory[ends[-1] : ends[-1] + 2 * count].cast("H")
        self.count = count

    @classmethod
    def create(cls, path: Path, instants: Instants) -> Self:
        """A new file for requests at these instants."""
        with path.open("wb") as file:
            file.truncate(len(instants) * _ROW_BYTES)
        recording = cls.open(path)
        recording._begin(instants)
        return recording

    @classmethod
    def open(cls, path: Path) -> Self:
        with path.open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
        return cls(memoryview(mapped), len(mapped) // _ROW_BYTES)

    @classmethod
    def in_memory(cls, instants: Instants) -> Self:
        recording = cls(memoryview(bytearray(len(instants) * _ROW_BYTES)), len(instants))
        recording._begin(instants)
        return recording

    def _begin(self, instants: Instants) -> None:
        arrays = self.arrays()
        arrays.scheduled[:] = instants
        for column in (arrays.ready, arrays.sent, arrays.done):
            column[:] = np.nan

    def arrays(self) -> Arrays:
        """Views as numpy arrays; what is written later shows in them."""
        scheduled, ready, sent, done = map(_array, (self.scheduled, self.ready, self.sent, self.done))
        return Arrays(scheduled, ready, sent, done, np.frombuffer(self.status.cast("B"), np.uint16))


def _array(column: memoryview[float]) -> NDArray[np.float64]:
    return np.frombuffer(column.cast("B"), np.float64)


class Arrays(NamedTuple):
    """The columns of a recording, or of some of its rows."""

    scheduled: NDArray[np.float64]
    ready: NDArray[np.float64]
    sent: NDArray[np.float64]
    done: NDArray[np.float64]
    status: NDArray[np.uint16]

    def rows(self, chosen: slice | NDArray[np.bool_]) -> Arrays:
        scheduled, ready, sent, done = (
            column[chosen] for column in (self.scheduled, self.ready, self.sent, self.done)
        )
        return Arrays(scheduled, ready, sent, done, self.status[chosen])


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
