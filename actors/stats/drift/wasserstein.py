"""The first Wasserstein distance: the area between two cumulative distributions, in the unit of the values.

Also called earth mover's distance; in one dimension by the formula of Vallender (1974).
"""

from __future__ import annotations

import math

import numpy as np

from actors.stats.drift.sample import Sample


def distance(reference: Sample, current: Sample) -> float:
    """How far observations have to be moved on average to turn one sample into the other. Infinite or NaN if
    float64 overflows.

    >>> from actors.stats.drift.sample import of
    >>> distance(of([0, 1, 3]), of([5, 6, 8]))
    5.0
    """
    points = np.sort(np.concatenate((reference.values, current.values)), kind="stable")
    gaps = np.abs(reference.share_up_to(points[:-1]) - current.share_up_to(points[:-1]))
    with np.errstate(over="ignore", invalid="ignore"):
        return float((gaps * np.diff(points)).sum())


def normed(reference: Sample, current: Sample) -> float:
    """`distance` in standard deviations of the reference; infinite if a constant reference has changed."""
    far, spread = distance(reference, current), reference.std
    if far == 0:
        return 0.0
    return far / spread if spread > 0 else math.inf
