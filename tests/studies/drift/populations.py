"""What the samples are drawn from, and what a shift by some standard deviations is for each.

normal, heavy tails   values are moved: x + shift * std
log-normal            values are scaled so that the mean moves by shift * std; nothing becomes negative
zero-inflated         the values beside the zeros are scaled likewise; the share of zeros stays
five categories       a part of each category moves into the next; the mean of the index moves by shift * std
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, float], Floats]

ZEROS = 0.6
SHARES = np.array([0.4, 0.3, 0.15, 0.1, 0.05])


def normal(rng: np.random.Generator, count: int, shift: float) -> Floats:
    """Standard deviation 1."""
    return rng.normal(shift, 1.0, count)


def heavy_tails(rng: np.random.Generator, count: int, shift: float) -> Floats:
    """Student's t with three degrees of freedom."""
    return rng.standard_t(3, count) + shift * math.sqrt(3)


def log_normal(rng: np.random.Generator, count: int, shift: float) -> Floats:
    """The logarithm has standard deviation 1."""
    mean, square = math.exp(0.5), math.exp(2)
    return rng.lognormal(size=count) * _factor(shift, mean, square)


def zero_inflated(rng: np.random.Generator, count: int, shift: float) -> Floats:
    """60 % zeros, the rest log-normal."""
    mean, square = (1 - ZEROS) * math.exp(0.5), (1 - ZEROS) * math.exp(2)
    return rng.lognormal(size=count) * (rng.random(count) >= ZEROS) * _factor(shift, mean, square)


def _factor(shift: float, mean: float, square: float) -> float:
    return 1 + shift * math.sqrt(square - mean**2) / mean


def five_categories(rng: np.random.Generator, count: int, shift: float) -> Floats:
    """The index of the category, 0 to 4."""
    index = np.arange(5)
    mean = (SHARES * index).sum()
    std = math.sqrt((SHARES * index**2).sum() - mean**2)
    moving = np.append(SHARES[:-1], 0.0) * (shift * std / SHARES[:-1].sum())
    return rng.choice(5, count, p=SHARES - moving + np.roll(moving, 1)).astype(np.float64)


POPULATIONS: dict[str, Draw] = {
    "normal": normal,
    "log-normal": log_normal,
    "zero-inflated": zero_inflated,
    "heavy tails": heavy_tails,
    "five categories": five_categories,
}
CATEGORICAL = {"five categories"}
