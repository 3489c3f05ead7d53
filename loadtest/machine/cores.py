"""Which process runs on which core: servers on the first, drivers on the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Cores(NamedTuple):
    """`drivers` is empty on a machine with one core, `server` too if the system does not report cores."""

    server: frozenset[int]
    drivers: tuple[int, ...] = ()

    @property
    def apart(self) -> bool:
        """Whether a driver may spin without taking time from the service."""
        return bool(self.drivers)

    @property
    def driver(self) -> frozenset[int]:
        """The cores of a single driver."""
        return frozenset(self.drivers[-1:]) or self.server

    @property
    def all(self) -> frozenset[int]:
        """The cores of the server and the single driver."""
        return self.server | self.driver

    def of_driver(self, number: int) -> int | None:
        """The core of one of several drivers; None: any core."""
        return self.drivers[number % len(self.drivers)] if self.drivers else None


def cores() -> Cores:
    """The cores of this process. Call it before pinning anything."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return Cores(frozenset(allowed[:1]), tuple(allowed[1:]))


@contextmanager
def placed(where: Iterable[int]) -> Iterator[None]:
    """Pin this thread, and what it starts, to these cores; to none in particular if there are none."""
    if not (chosen := frozenset(where)):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def core_seconds(core: int) -> float:
    """Busy time of a core, and time stolen by the host, in seconds. Raises OSError if /proc/stat lacks it.

    Interrupts do not count: they are mostly our own packets.
    """
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, *_, steal = map(int, fields[:8])
            return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")
    raise OSError(f"/proc/stat has no core {core}")
