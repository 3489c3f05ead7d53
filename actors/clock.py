"""The arrival clock: wall time in microseconds that never stands still or steps back."""

from __future__ import annotations

from collections.abc import Callable

from actors import timestamps


class ArrivalClock:
    """Each tick is later than all before it, also those of earlier processes (see `start_after`)."""

    def __init__(self, now: Callable[[], int] = timestamps.now) -> None:
        self.now = now
        self._last = 0

    def start_after(self, arrived: int) -> None:
        """Ticks will be later than this."""
        self._last = max(self._last, arrived)

    def tick(self) -> int:
        """The present, or a microsecond after the last tick where the wall clock says less."""
        self._last = max(self.now(), self._last + 1)
        return self._last
