"""The windows that got observations after they had closed, until somebody takes them to be looked at again.

They are kept in memory alone, and a bounded number of them: of each feature the newest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from actors.table.columns import Keys

MOST_OF_A_FEATURE = 200
MOST_OF_ALL = 50_000
SPAN = 16_384
"""Windows so far back are marked in a table, which costs a fraction of sorting them out."""


class LateWindows:
    """By feature and start, `width` wide: when the last late observation came."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._arrived: dict[str, dict[int, int]] = {}
        self._count = 0

    def of(self, keys: Keys, arrived: int) -> dict[int, int]:
        """The starts of the windows that had closed before some observations of them came, each with `arrived`.

        There must be an observation.
        """
        closed, oldest, times = arrived // self._width, keys.bounds[0] // self._width, keys.times
        if oldest >= closed:
            return {}
        # Counted from the oldest, or else from the closing back, which is where the newest are.
        first = max(oldest, closed - SPAN)
        places = times // self._width - first
        some = np.zeros(closed - first, np.bool_)
        some[places[(places >= 0) & (places < len(some))]] = True
        if first > oldest and np.count_nonzero(some) < MOST_OF_A_FEATURE:
            starts = np.unique(places[places < len(some)])
        else:
            starts = np.flatnonzero(some)
        starts = (starts[-MOST_OF_A_FEATURE:] + first) * self._width
        return dict.fromkeys(starts.tolist(), arrived)

    def note(self, feature: str, late: Mapping[int, int]) -> None:
        """Such windows of a feature. Those of a batch's features are often the same and are looked for once."""
        if not late or self._count + len(late) > MOST_OF_ALL:
            return
        known = self._arrived.setdefault(feature, {})
        before = len(known)
        known.update(late)
        if len(known) > 2 * MOST_OF_A_FEATURE:  # not at each note
            for start in sorted(known)[:-MOST_OF_A_FEATURE]:
                del known[start]
        self._count += len(known) - before

    def take(self, settled: int, most: int) -> list[tuple[str, int, int]]:
        """(feature, start, last arrival) of up to so many, the newest windows first, of features of which nothing
        late has come since `settled`.
        """
        still = {feature for feature, known in self._arrived.items() if max(known.values()) < settled}
        found = [(feature, *one) for feature in still for one in self._arrived[feature].items()]
        taken = sorted(found, key=lambda one: -one[1])[:most]
        for feature, start, _ in taken:
            del self._arrived[feature][start]
            if not self._arrived[feature]:
                del self._arrived[feature]
        self._count -= len(taken)
        return taken

    def forget(self, feature: str) -> None:
        """The feature was deleted."""
        self._count -= len(self._arrived.pop(feature, ()))
