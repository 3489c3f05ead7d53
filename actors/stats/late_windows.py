"""The windows that got observations after they had closed, until somebody takes them to be looked at again.

They are kept in memory alone, and a bounded number of them: of each feature the newest.
"""

from __future__ import annotations

import numpy as np

from actors.columns import Times

MOST_OF_A_FEATURE = 200
MOST_OF_ALL = 50_000


class LateWindows:
    """By feature and start, `width` wide: when the last late observation came."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._arrived: dict[str, dict[int, int]] = {}
        self._count = 0

    def note(self, feature: str, times: Times, arrived: int) -> None:
        """Some observations came at `arrived`."""
        closed = arrived // self._width * self._width
        if not len(times) or times.min() >= closed:
            return
        starts = np.unique(times[times < closed] // self._width)[-MOST_OF_A_FEATURE:] * self._width
        if self._count + len(starts) > MOST_OF_ALL:
            return
        known = self._arrived.setdefault(feature, {})
        before = len(known)
        known.update(dict.fromkeys(starts.tolist(), arrived))
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
