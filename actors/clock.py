"""The clocks. The one on the wall may be set at any moment, forwards or back, and be wrong for a while.

What was acknowledged has to be visible whatever it says, so the present is never before the last arrival
(`ArrivalClock`). What cannot be taken back, such as the removal of old rows, waits until it has said so for a day
(`SteadyClock`). How old a value is when it is read is told by the wall clock alone: an answer that a wrong clock
has spoilt is right again as soon as the clock is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import trio

from actors import timestamps
from actors.settings import CLOCK_DOUBTED_HOURS
from actors.timestamps import SECOND

_HOUR = 3_600 * SECOND


class ArrivalClock:
    """Microseconds. Each tick is later than all before it, also those of earlier processes (see `begin_after`)."""

    def __init__(
        self, now: Callable[[], int] = timestamps.now, elapsed: Callable[[], float] = trio.current_time
    ) -> None:
        """`elapsed`: see `SteadyClock`."""
        self.wall = now
        """What the wall clock says, by which ages are told."""
        self.steady = SteadyClock(now, elapsed)
        self._last = 0

    def begin_after(self, arrived: int, moment: int | None = None) -> None:
        """The last arrival in the storage as it was opened, 0 for none: the clocks go on from there.

        An arrival may be of a wall clock that was ahead. The steady one goes on from its own last moment, if the
        storage has that.
        """
        self.start_after(arrived)
        self.steady.begin_after(arrived if moment is None else moment)

    def start_after(self, arrived: int) -> None:
        """Ticks will be later than this."""
        self._last = max(self._last, arrived)

    def now(self) -> int:
        """The present: what the wall clock says, or the last arrival where that is later."""
        return max(self.wall(), self._last)

    def stamp(self) -> int:
        """The present as the event time of a value that comes without one: never before that of an earlier one."""
        self._last = self.now()
        return self._last

    def tick(self) -> int:
        """The present, or a microsecond after the last tick where the wall clock says less."""
        self._last = max(self.wall(), self._last + 1)
        return self._last


class SteadyClock:
    """The wall clock for what cannot be taken back.

    The machine has another clock, which nobody sets and which tells how much time has passed. How far the one on
    the wall is ahead of it is noted at each look, and the least of the last CLOCK_DOUBTED_HOURS holds. So a wall
    clock that leaps ahead is doubted for so long; one that is behind is believed at once, which removes nothing. A
    start cannot tell a long absence from a wrong clock: for so long it goes on from the last arrival.
    """

    def __init__(self, now: Callable[[], int], elapsed: Callable[[], float] = trio.current_time) -> None:
        """`elapsed`: seconds on the clock that nobody sets."""
        self._now = now
        self._elapsed = elapsed
        self._least: dict[int, int] = {}
        """By hour on that clock."""
        self._lock = threading.Lock()

    def begin_after(self, arrived: int) -> None:
        """The start. `arrived`: a moment that has been, 0 for none."""
        self()
        if arrived > 0:
            self._look(self._passed(), arrived)

    def __call__(self) -> int:
        """The moment, in microseconds. To be asked now and then: what it was not asked for it has not seen."""
        passed = self._passed()  # first: a pause in between must not look like a clock that is behind
        return self._look(passed, self._now())

    def _passed(self) -> int:
        return int(self._elapsed() * SECOND)

    def _look(self, elapsed: int, wall: int) -> int:
        ahead, hour = wall - elapsed, elapsed // _HOUR
        with self._lock:
            if hour not in self._least:
                before = max(self._least, default=hour)  # whatever its age: never is one look alone believed
                self._least = {
                    one: least
                    for one, least in self._least.items()
                    if one == before or one > hour - CLOCK_DOUBTED_HOURS
                }
            self._least[hour] = min(ahead, self._least.get(hour, ahead))
            return elapsed + min(self._least.values())
