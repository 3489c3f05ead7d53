"""Whether memory and latency have grown over a soak."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from loadtest.machine.facts import MEGABYTE
from loadtest.openloop.outcome import Latency

LEAST_SECONDS = 180.0
"""Shorter runs are not judged: a few checkpoints would dominate."""
MOST_BINS = 60
GROWTH_SHARE, GROWTH_BYTES = 0.1, 16 * MEGABYTE
"""Memory is flat if it grows by less than this share plus these bytes over the judged time: the longer the soak,
the smaller the leak that it finds."""
SLOWER_RATIO, SLOWER_MS = 1.5, 2.0
"""Latency has grown if p50 or p99 of the last third exceeds that of the first by this factor plus these ms."""


class Verdict(msgspec.Struct, frozen=True):
    """`passed`: None if the run was too short to judge."""

    name: str
    passed: bool | None
    words: str

    def __str__(self) -> str:
        return f"{ {True: 'pass', False: 'FAIL', None: 'not judged'}[self.passed] }: {self.name}: {self.words}"


def memory(samples: Sequence[tuple[float, int]], start: float, end: float) -> Verdict:
    """From (seconds, resident bytes): the slope of the second half. In the first, caches fill."""
    start += (end - start) / 2
    judged = np.array([one for one in samples if start <= one[0] <= end], np.float64).reshape(-1, 2)
    if end - start < LEAST_SECONDS or len(judged) < 3:
        return Verdict("memory", None, f"less than {LEAST_SECONDS:g} s in the second half")
    growth = slope(judged) * (end - start)
    middle = float(np.median(judged[:, 1]))
    words = f"{middle / MEGABYTE:.0f} MB, {growth / MEGABYTE:+.1f} MB over the last {end - start:.0f} s"
    return Verdict("memory", growth <= GROWTH_SHARE * middle + GROWTH_BYTES, words)


def slope(samples: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """The slope of float64[n, 2], second column over first: the median over all pairs of bins (Theil-Sen).

    The bins are medians, so that neither a checkpoint's peak nor uneven sampling matters.
    """
    bins = np.array([np.median(one, axis=0) for one in np.array_split(samples, min(MOST_BINS, len(samples)))])
    earlier, later = np.triu_indices(len(bins), 1)
    rises = bins[later] - bins[earlier]
    return float(np.median(rises[:, 1] / rises[:, 0]))


def slower(first: Latency, last: Latency, seconds: float) -> Verdict:
    """Whether requests of the last third took longer than those of the first."""
    words = f"p50 {first.p50:.2f} -> {last.p50:.2f} ms, p99 {first.p99:.2f} -> {last.p99:.2f} ms, thirds compared"
    if seconds < LEAST_SECONDS:
        return Verdict("latency", None, f"{words}; less than {LEAST_SECONDS:g} s")
    pairs = ((first.p50, last.p50), (first.p99, last.p99))
    return Verdict("latency", all(after <= SLOWER_RATIO * before + SLOWER_MS for before, after in pairs), words)
