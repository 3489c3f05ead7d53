"""Scores and alerts as NannyML 0.13 defines them, to compare with and to move from.

From its documentation and published source: the Jensen-Shannon distance to base 2. Numbers are put into bins of
equal width by Doane's rule over the reference; what lies outside them, and a category the reference never had,
goes into one more bin. The threshold is the mean plus three standard deviations of the distances of the ten chunks
of the reference from the whole; before there was such a threshold it was 0.1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from actors.stats.drift import jensen_shannon
from actors.stats.drift.sample import Floats

DISTANCE = 0.1
CHUNKS = 10

Distance = Callable[[Floats], float]


def from_numbers(reference: Floats) -> Distance:
    """The function that tells how far a chunk of numbers is from the reference."""
    edges = np.histogram_bin_edges(reference, bins="doane")
    shares = np.histogram(reference, edges)[0] / len(reference)
    return lambda chunk: _distance(shares, np.histogram(chunk, edges)[0] / len(chunk))


def from_categories(reference: Floats) -> Distance:
    """The same for categories that are given as numbers, which stand for themselves alone."""
    values, counts = np.unique(reference, return_counts=True)
    shares = counts / len(reference)
    return lambda chunk: _distance(shares, (chunk[:, None] == values).sum(0) / len(chunk))


def alerts(reference: Floats, current: Floats, far: Distance) -> list[bool]:
    """For each chunk of the current values whether it alerts; both sides in the order of time. `far` is what one
    of the functions above made of the reference.
    """
    usual = np.array([far(chunk) for chunk in _chunks(reference)])
    threshold = usual.mean() + 3 * usual.std()
    return [bool(far(chunk) > threshold) for chunk in _chunks(current)]


def _chunks(values: Floats) -> list[Floats]:
    """Ten of one size, and a smaller one where something is left over."""
    size = max(1, len(values) // CHUNKS)
    return [values[start : start + size] for start in range(0, len(values), size)]


def _distance(reference: Floats, chunk: Floats) -> float:
    outside = 1 - chunk.sum()
    if outside > 0:
        reference, chunk = np.append(reference, 0.0), np.append(chunk, outside)
    return jensen_shannon.distance(reference, chunk)
