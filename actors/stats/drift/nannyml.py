"""Scores and alerts as NannyML 0.13 defines them, for comparison and for users who migrate from it.

From its documentation and published source: the Jensen-Shannon distance to base 2. Numbers go into bins of equal
width by Doane's rule over the reference; values outside of them, and categories that the reference does not have,
go into one extra bin. The threshold is the mean plus three standard deviations of the distances of the reference's
ten chunks from the whole reference; older versions had a fixed threshold of 0.1.
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
    """A function that computes the distance of a chunk of numbers from the reference."""
    edges = np.histogram_bin_edges(reference, bins="doane")
    shares = np.histogram(reference, edges)[0] / len(reference)
    return lambda chunk: _distance(shares, np.histogram(chunk, edges)[0] / len(chunk))


def from_categories(reference: Floats) -> Distance:
    """A function that computes the distance of a chunk of categories, given as numbers, from the reference."""
    values, counts = np.unique(reference, return_counts=True)
    shares = counts / len(reference)
    return lambda chunk: _distance(shares, (chunk[:, None] == values).sum(0) / len(chunk))


def alerts(reference: Floats, current: Floats, far: Distance) -> list[bool]:
    """Whether each chunk of the current values raises an alert. Both sides are in order of time. `far`: a function
    made by one of the above from the reference.
    """
    usual = np.array([far(chunk) for chunk in _chunks(reference)])
    threshold = usual.mean() + 3 * usual.std()
    return [bool(far(chunk) > threshold) for chunk in _chunks(current)]


def _chunks(values: Floats) -> list[Floats]:
    """Split values into CHUNKS chunks of equal size; a remainder makes further chunks."""
    size = max(1, len(values) // CHUNKS)
    return [values[start : start + size] for start in range(0, len(values), size)]


def _distance(reference: Floats, chunk: Floats) -> float:
    outside = 1 - chunk.sum()
    if outside > 0:
        reference, chunk = np.append(reference, 0.0), np.append(chunk, outside)
    return jensen_shannon.distance(reference, chunk)
