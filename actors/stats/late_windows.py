"""Windows that got observations after they had closed, until they are taken to be scored again.

They are kept in memory only, and in a bounded number: the newest of each feature.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from actors.table.batch import Table

MOST_OF_A_FEATURE = 200
MOST_OF_ALL = 50_000
SPAN = 16_384
"""The last SPAN windows are marked in an array, which costs a fraction of sorting all of them."""


class LateWindows:
    """The late windows, of `width` microseconds: by feature and start, when the last late observation arrived."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._arrived: dict[str, dict[int, int]] = {}
        self._count = 0

    def of(self, table: Table, arrived: int) -> dict[int, int]:
        """The starts of windows that had closed before observations in them arrived, each mapped to `arrived`.

        `table` must have at least one row.
        """
        closed, oldest, times = arrived // self._width, table.bounds[0] // self._width, table.times
        if oldest >= closed:
            return {}
        # Covers all late windows, or if there may be too many the last SPAN, among which the newest are.
        first = max(oldest, closed - SPAN)
        places = times // self._width - first
        is_late = np.zeros(closed - first, np.bool_)
        is_late[places[(places >= 0) & (places < len(is_late))]] = True
        if first > oldest and np.count_nonzero(is_late) < MOST_OF_A_FEATURE:
            # Not np.unique, which takes 80 ms for 300,000 rows that all differ; sorting takes 4.
            starts = np.sort(places[places < len(is_late)])
            starts = starts[np.append(True, starts[1:] != starts[:-1])]
        else:
            starts = np.flatnonzero(is_late)
        starts = (starts[-MOST_OF_A_FEATURE:] + first) * self._width
        return dict.fromkeys(starts.tolist(), arrived)

    def note(self, feature: str, late: Mapping[int, int]) -> None:
        """Note late windows of a feature, as returned by `of`, whose result all features of a table share."""
        if not late or self._count + len(late) > MOST_OF_ALL:
            return
        known = self._arrived.setdefault(feature, {})
        before = len(known)
        known.update(late)
        if len(known) > 2 * MOST_OF_A_FEATURE:  # not on every call
            for start in sorted(known)[:-MOST_OF_A_FEATURE]:
                del known[start]
        self._count += len(known) - before

    def take(self, settled: int, most: int) -> list[tuple[str, int, int]]:
        """Remove and return up to `most` windows, newest first: (feature, start, last arrival).

        Only of features of which nothing late has arrived since `settled`.
        """
        quiet = {feature for feature, known in self._arrived.items() if max(known.values()) < settled}
        windows = [(feature, *window) for feature in quiet for window in self._arrived[feature].items()]
        taken = sorted(windows, key=lambda window: -window[1])[:most]
        for feature, start, _ in taken:
            del self._arrived[feature][start]
            if not self._arrived[feature]:
                del self._arrived[feature]
        self._count -= len(taken)
        return taken

    def forget(self, feature: str) -> None:
        """Drop a feature that was deleted."""
        self._count -= len(self._arrived.pop(feature, ()))
