"""The clocks. The wall clock may be set forwards or back at any moment, and be wrong for a while.

An acknowledged write has to be visible whatever the wall clock says, so the present is never before the last
arrival (`ArrivalClock`). What cannot be undone, such as removing old rows, waits until the wall clock has called
for it for a day (`SteadyClock`). How old a value is when it is read goes by the wall clock alone: an answer that a
wrong clock has spoilt is right again as soon as the clock is.
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
    """Issues arrival times: microseconds, strictly increasing, across restarts too (see `begin_after`)."""

    def __init__(
        self, now: Callable[[], int] = timestamps.now, elapsed: Callable[[], float] = trio.current_time
    ) -> None:
        """`elapsed`: see `SteadyClock`."""
        self.wall = now
        """The wall clock, in microseconds, by which the ages of values are measured."""
        self.steady = SteadyClock(now, elapsed)
        self._last = 0

    def begin_after(self, arrived: int, moment: int | None = None) -> None:
        """Continue from the last arrival in the storage that was opened, 0 for none.

        That arrival may come from a wall clock that was ahead, so the steady clock continues from its own last
        reading, `moment`, if the storage has one.
        """
        self.start_after(arrived)
        self.steady.begin_after(arrived if moment is None else moment)

    def start_after(self, arrived: int) -> None:
        """Make all further ticks later than `arrived`."""
        self._last = max(self._last, arrived)

    def now(self) -> int:
        """The present: the wall clock or the last arrival, whichever is later."""
        return max(self.wall(), self._last)

    def stamp(self) -> int:
        """The present as event time of a value that comes without one; never earlier than a previous stamp."""
        self._last = self.now()
        return self._last

    def tick(self) -> int:
        """The next arrival time: the wall clock, or one microsecond after the last tick if that is later."""
        self._last = max(self.wall(), self._last + 1)
        return self._last


class SteadyClock:
    """A wall clock that does not leap ahead, for decisions that cannot be undone.

    Each reading notes how far the wall clock is ahead of the machine's monotonic clock, and goes by the smallest
    lead noted in the last CLOCK_DOUBTED_HOURS. So a wall clock that leaps ahead is not believed for that long; one
    that falls behind is believed at once, as that removes nothing. A start cannot tell a long downtime from a
    wrong clock, so for that long it continues from the moment given to `begin_after`.
    """

    def __init__(self, now: Callable[[], int], elapsed: Callable[[], float] = trio.current_time) -> None:
        """`now`: the wall clock in microseconds; `elapsed`: the monotonic clock in seconds."""
        self._now = now
        self._elapsed = elapsed
        self._least: dict[int, int] = {}
        """The smallest lead of the wall clock, in microseconds, by hour of the monotonic clock."""
        self._lock = threading.Lock()

    def begin_after(self, arrived: int) -> None:
        """Continue from `arrived`, a moment known to have passed; 0 for none."""
        self()
        if arrived > 0:
            self._look(self._passed(), arrived)

    def __call__(self) -> int:
        """The present in microseconds. To be called regularly: only a call notices a wall clock that is behind."""
        passed = self._passed()  # first: a pause in between must not look like a wall clock that is behind
        return self._look(passed, self._now())

    def _passed(self) -> int:
        return int(self._elapsed() * SECOND)

    def _look(self, elapsed: int, wall: int) -> int:
        ahead, hour = wall - elapsed, elapsed // _HOUR
        with self._lock:
            if hour not in self._least:
                before = max(self._least, default=hour)  # whatever its age: one reading alone is never believed
                self._least = {
                    one: least
                    for one, least in self._least.items()
                    if one == before or one > hour - CLOCK_DOUBTED_HOURS
                }
            self._least[hour] = min(ahead, self._least.get(hour, ahead))
            return elapsed + min(self._least.values())
