"""Statistics of a feature's stream, in whole or over a period: the saved summaries merged with the monitor's.

A period is exact whatever its bounds. Windows whose observations all lie in it contribute their summaries; where a
bound cuts through a window, the accepted observations themselves are read from journal and history.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from actors.domain import Feature
from actors.errors import Unavailable
from actors.mailbox import Mailbox
from actors.messages import Fresh
from actors.settings import STATISTICS_READERS
from actors.stats.state import decode
from actors.stats.summary import Summary, of_a_period, of_all
from actors.stats.windows import WHOLE, Window
from actors.storage.protocol import History, SavedSummaries, Summaries

_ATTEMPTS = 5
"""How often reading is retried because a checkpoint came between reading the saved summaries and the monitor's."""


class Statistics:
    """Reads statistics. Safe for concurrent use by tasks of one thread."""

    def __init__(self, monitor: Mailbox, summaries: Summaries, history: History) -> None:
        self._monitor = monitor
        self._summaries = summaries
        self._history = history
        self._readers = trio.CapacityLimiter(STATISTICS_READERS)

    async def whole(self, feature: Feature) -> Summary:
        """The statistics of everything accepted."""

        def read() -> SavedSummaries:
            return self._summaries.read_whole(feature)

        for _ in range(_ATTEMPTS):
            saved = await trio.to_thread.run_sync(read, limiter=self._readers)
            fresh: SavedSummaries | None = await self._monitor.ask(Fresh(feature, saved.position, whole=True))
            if fresh is not None:
                summary = of_all(feature.created)
                for states in (saved.states, fresh.states):
                    if WHOLE in states:
                        summary.merge(decode(states[WHOLE], Summary))
                return summary
        raise Unavailable("the statistics kept changing while they were read")

    async def period(self, feature: Feature, start: int, end: int) -> Summary:
        """The statistics of what was accepted with start <= event time <= end.

        Raises TooLarge if a bound cuts a window with too many observations to read.
        """
        for _ in range(_ATTEMPTS):
            saved = await trio.to_thread.run_sync(self._summaries.read, feature, start, end, limiter=self._readers)
            fresh: SavedSummaries | None = await self._monitor.ask(Fresh(feature, saved.position))
            if fresh is not None:
                return await trio.to_thread.run_sync(
                    self._put_together, feature, start, end, saved, fresh, limiter=self._readers
                )
        raise Unavailable("the statistics kept changing while they were read")

    def _put_together(
        self, feature: Feature, start: int, end: int, saved: SavedSummaries, fresh: SavedSummaries
    ) -> Summary:
        inside, cut = _sorted_out([saved.states, fresh.states], start, end)
        summary = of_a_period(feature.created)
        for window, part in inside:
            if not any(wide.start <= window.start <= wide.last for wide in cut):
                summary.merge(part)
        for window in cut:
            rows = self._history.observations(feature, max(start, window.start), min(end, window.last))
            for accepted in rows:
                if len(accepted.times):
                    summary.add(accepted)
        return summary


def _sorted_out(
    sources: list[Mapping[Window, bytes]], start: int, end: int
) -> tuple[list[tuple[Window, Summary]], list[Window]]:
    """Find the summaries that lie within the period, and the windows that a bound cuts, none inside another.

    A summary that still has its raw observations is reduced to the period here.
    """
    inside, cut = [], set()
    for states in sources:
        for window, state in states.items():
            if window.width == 0 or window.last < start or window.start > end:
                continue
            summary = decode(state, Summary)
            if summary.raw is not None:
                summary.raw = summary.raw.between(start, end)
                inside.append((window, summary))
                continue
            if summary.oldest is None or summary.newest is None:
                continue
            if start <= summary.oldest and summary.newest <= end:
                inside.append((window, summary))
            elif summary.oldest <= end and summary.newest >= start:
                cut.add(window)
    return inside, _widest(cut, [window for window, _ in inside])


def _widest(cut: set[Window], inside: list[Window]) -> list[Window]:
    """The windows to read: the cut ones, each replaced by a wider window around it if there is one.

    Late arrivals can begin a wide window around narrow ones. Two windows that overlap are always nested.
    """
    around = {wide for wide in inside for narrow in cut if wide.start <= narrow.start <= wide.last}
    widest: list[Window] = []
    for window in sorted(cut | around, reverse=True):
        if not any(wide.start <= window.start <= wide.last for wide in widest):
            widest.append(window)
    return widest
