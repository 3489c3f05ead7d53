"""The distribution of a number: moments and quantiles together, and a histogram derived from them."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.stats import moments
from actors.stats.moments import Moments
from actors.stats.quantiles import Quantiles

BINS = 20


class Histogram(NamedTuple):
    """`counts[i]` values lie in [edges[i], edges[i+1]); the last bin is closed. len(edges) == len(counts) + 1."""

    edges: list[float]
    counts: list[int]


class Distribution(msgspec.Struct, gc=False):
    """The distribution of float64 or int64 values. Moments are exact; for quantiles see `Quantiles`."""

    moments: Moments = msgspec.field(default_factory=Moments)
    quantiles: Quantiles = msgspec.field(default_factory=Quantiles)

    def add(self, values: NDArray[np.float64] | NDArray[np.int64]) -> None:
        """Add a column of values."""
        if len(values):
            self.moments.merge(moments.of(values))
            self.quantiles.add(values.astype(np.float64, copy=False))

    def merge(self, other: Distribution) -> None:
        """Merge another one into this."""
        self.moments.merge(other.moments)
        self.quantiles.merge(other.quantiles)

    def histogram(self) -> Histogram | None:
        """A histogram of BINS equal bins from the smallest to the largest value; None without values.

        It is computed from the quantile sketch, so its counts are exact as long as the sketch is. They always add
        up to the total count.
        """
        low, high = self.moments.min, self.moments.max
        if low is None or high is None:
            return None
        low, high = float(low), float(high)
        if low == high:
            return Histogram([low, high], [self.moments.count])
        kept = self.quantiles.weighted()
        shares = np.arange(BINS + 1) / BINS
        # Avoids overflow for the largest numbers, and edges out of order for neighbouring ones.
        edges = np.maximum.accumulate(np.clip(low * (1 - shares) + high * shares, low, high))
        counts, _ = np.histogram(np.clip(kept.values, low, high), edges, weights=kept.weights)
        return Histogram(edges.tolist(), np.rint(counts).astype(np.int64).tolist())
