"""How far the mean of vectors moved, computed from the mean and the variance of each component."""

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
    """The vectors of one side: their count, and each component's mean and population variance (float64[d])."""

    count: int
    means: Floats
    variances: Floats


class Shift(NamedTuple):
    """The shift between two sides.

    `size`: the root mean square of the components' standardised shifts, less what is expected by chance; so if
    every component moved equally far, it is how far, in standard deviations. Infinite if a component that is
    constant on both sides changed.

    `largest`: the signed shift of the component that moved most, whose number is `component`. `p_value`: that of
    this component by the t tests, times the number of components (Bonferroni), which is valid however the
    components depend on each other. `p_diagonal`: by a chi-square test of the sum of the squared z values, which
    assumes a diagonal covariance. It detects a small shift of many components sooner, but calls drift far too
    often if components are correlated, as those of embeddings are; so it is only informative.
    """

    size: float
    largest: float
    component: int
    p_value: float
    p_diagonal: float


def shift(reference: VectorSide, current: VectorSide) -> Shift:
    """Compute the shift. Raises ValueError if dimensions differ or are 0, or a side has fewer than two vectors.

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
    alive = (spread > 0) | (difference != 0)  # leaves out components with the same constant on both sides
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
