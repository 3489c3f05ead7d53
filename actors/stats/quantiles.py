"""Quantiles of a stream: exact for few values, then estimated by a KLL sketch.

This is Apache DataSketches' KLL (Karnin, Lang & Liberty, "Optimal quantile approximation in streams", 2016). With
k = 500 it takes 12 KB, and ranks are off by at most 0.6 % with 99 % confidence, however long the stream is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from datasketches import kll_doubles_sketch
from numpy.typing import NDArray

K = 500
SMALL_K = 100
LARGE = 1e307
LARGE_K = 4_096
"""For summaries that are computed for one query and not kept, which are exact up to this many values."""


class Weighted(NamedTuple):
    """The values that a sketch retains, ascending (float64[m]), and how many each represents (float64[m])."""

    values: NDArray[np.float64]
    weights: NDArray[np.float64]


class Quantiles(msgspec.Struct, gc=False):
    """The quantiles of float64 values.

    >>> quantiles = Quantiles()
    >>> quantiles.add(np.arange(101.0))
    >>> quantiles.at([0.5, 0.95]), quantiles.exact
    ([50.0, 95.0], True)
    """

    k: int = K
    sketch: kll_doubles_sketch | None = None

    @property
    def exact(self) -> bool:
        """Whether every value is still kept."""
        return self.sketch is None or not self.sketch.is_estimation_mode()

    @property
    def rank_error(self) -> float:
        """How far a rank may be off, as a fraction of the count, with 99 % confidence; 0 if exact."""
        return 0.0 if self.sketch is None or self.exact else float(self.sketch.normalized_rank_error(False))

    def add(self, values: NDArray[np.float64]) -> None:
        """Add a column of values."""
        if len(values) == 0:
            return
        if self.sketch is None:
            self.sketch = kll_doubles_sketch(self.k)
        self.sketch.update(np.require(values, np.float64, "W"))  # the sketch refuses read-only arrays

    def merge(self, other: Quantiles) -> None:
        """Merge another one into this."""
        if other.sketch is None:
            return
        if self.sketch is None:
            self.sketch = kll_doubles_sketch(self.k)
        self.sketch.merge(other.sketch)

    def weighted(self) -> Weighted:
        """The retained values with their weights."""
        if self.sketch is None or self.sketch.is_empty():
            return Weighted(np.zeros(0), np.zeros(0))
        values = np.sort(np.array([value for value, _ in self.sketch], np.float64))
        if self.exact:
            return Weighted(values, np.ones(len(values)))
        # From the CDF rather than the weights that come with the values, which can be wrong after a merge.
        values = np.unique(values)
        reached = np.array(self.sketch.get_cdf(values.tolist(), True)[:-1]) * self.sketch.n
        weights = np.diff(np.rint(reached), prepend=0.0)
        return Weighted(values[weights > 0], weights[weights > 0])

    def at(self, shares: Sequence[float]) -> list[float]:
        """The quantiles at `shares`, each from 0 to 1; an empty list without values.

        While exact, they are interpolated linearly between values (Hyndman & Fan 1996, type 7; numpy's default).
        """
        if self.sketch is None or self.sketch.is_empty():
            return []
        if self.exact:
            values = self.weighted().values
            # The largest numbers are halved, as their differences would overflow.
            unit = 2.0 if max(abs(values[0]), abs(values[-1])) > LARGE else 1.0
            return [float(found) * unit for found in np.quantile(values / unit, shares)]
        return [float(found) for found in self.sketch.get_quantiles(list(shares), True)]
