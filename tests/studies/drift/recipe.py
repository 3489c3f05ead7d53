"""Samples without a random generator, the same with every version of numpy: quantiles at the fractions of the
multiples of the golden ratio, which fill the unit interval evenly (Weyl 1916), more evenly than chance does.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GOLDEN = (math.sqrt(5) - 1) / 2


def normal(count: int, shift: float = 0.0, scale: float = 1.0, start: int = 1) -> Floats:
    """`start` tells one sample from another."""
    steps = (np.arange(start, start + count) * _GOLDEN) % 1
    return np.array([NormalDist(shift, scale).inv_cdf(step) for step in steps.tolist()])


def whole(values: Floats, width: float) -> Floats:
    """Ties: the values in steps of the width."""
    return np.floor(values / width)


PAIRS: dict[str, tuple[Floats, Floats]] = {
    "normal, small": (normal(500), normal(400, 0.2, 1.1, start=7000)),
    "normal, large": (normal(3000), normal(2500, 0.1, start=9000)),
    "normal, one size": (normal(800), normal(800, 0.15, start=5000)),
    "log-normal": (np.exp(normal(1200)), np.exp(normal(900, 0.1, start=4000))),
    "outside": (normal(600), normal(300, 1.5, 2.0, start=4000)),
    "few steps": (whole(normal(900), 0.5), whole(normal(700, 0.2, start=3000), 0.5)),
    "many steps": (whole(normal(900), 0.05), whole(normal(700, 0.2, start=3000), 0.05)),
    "four values": (whole(normal(700), 2.0), whole(normal(650, 0.2, start=3000), 2.0)),
    "four values, large": (whole(normal(2000), 2.0), whole(normal(1500, 0.2, start=3000), 2.0)),
    "two values": (np.sign(normal(400)), np.sign(normal(300, 0.2, start=3000))),
}
