"""How far the mean of vectors moved, from the mean and the variance of each component alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from actors.stats.drift import mean_shift, tails
from actors.stats.drift.sample import Floats
from actors.stats.moments import Moments


@dataclass(frozen=True)
class VectorSide:
    """Of the vectors of one side: how many, and per component the mean and the population variance, float64[d]."""

    count: int
    means: Floats
    variances: Floats


class Shift(NamedTuple):
    """`size` is the root of the mean square of the components' standardised shifts, less what chance is expected
    to add: what every component would have to move by, in its own standard deviations. Infinite where a component
    that was constant on both sides changed.

    `largest` is the signed shift of the component `component` that moved most. `p_value` is that of this component
    by the t tests times the number of components (Bonferroni): right however the components depend on each other.
    `p_diagonal` takes the sum of the squared z values for chi-square with d degrees of freedom, which supposes a
    diagonal covariance: it sees a small shift of many components sooner, but calls drift far too often where they
    are correlated, as those of embeddings are. So it is for information.
    """

    size: float
    largest: float
    component: int
    p_value: float
    p_diagonal: float


def shift(reference: VectorSide, current: VectorSide) -> Shift:
    """ValueError when the dimensions differ, are 0, or a side has fewer than two vectors.

    >>> before = VectorSide(100, np.array([0.0, 1.0]), np.array([1.0, 4.0]))
    >>> result = shift(before, VectorSide(100, np.array([0.8, 1.0]), np.array([1.0, 4.0])))
    >>> round(result.size, 4), result.largest, result.component, result.p_value < 1e-6
    (0.5477, 0.8, 0, True)
    """
    if reference.means.shape != current.means.shape or not len(reference.means):
        raise ValueError("the vectors of both sides need the same, positive dimension")
    if min(reference.count, current.count) < 2:
        raise ValueError("both sides need at least two vectors")
    difference = current.means - reference.means
    spread = (reference.variances + current.variances) / 2
    error = reference.variances / (reference.count - 1) + current.variances / (current.count - 1)
    alive = (spread > 0) | (difference != 0)  # a component that is constant on both sides says nothing
    if not alive.any():
        return Shift(0.0, 0.0, 0, 1.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shifts = np.where(alive, difference / np.sqrt(spread), 0.0)
        squares = np.where(alive, difference**2 / error, 0.0)
    dimension = int(alive.sum())
    component = int(np.nanargmax(np.abs(shifts)))
    size = math.sqrt(float((shifts**2).sum()) / dimension)
    effective = reference.count * current.count / (reference.count + current.count)
    single = mean_shift.p_value(_moments(reference, component), _moments(current, component))
    return Shift(
        mean_shift.without_chance(size, effective),
        float(shifts[component]),
        component,
        min(1.0, dimension * single),
        tails.chi_square(float(squares.sum()), dimension),
    )


def _moments(side: VectorSide, component: int) -> Moments:
    mean, variance = float(side.means[component]), float(side.variances[component])
    return Moments(side.count, mean, variance * side.count)
