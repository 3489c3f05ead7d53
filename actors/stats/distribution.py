"""The distribution of a number: its moments and its quantiles together, and a histogram of them."""

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
    """`counts[i]` values lie in [edges[i], edges[i+1]), the last bin closed. `len(edges) == len(counts) + 1`."""

    edges: list[float]
    counts: list[int]


class Distribution(msgspec.Struct, gc=False):
    """Of float64 or int64 values. Exact moments; quantiles as `Quantiles` has them."""

    moments: Moments = msgspec.field(default_factory=Moments)
    quantiles: Quantiles = msgspec.field(default_factory=Quantiles)

    def add(self, values: NDArray[np.float64] | NDArray[np.int64]) -> None:
        """Take in a column."""
        if len(values):
            self.moments.merge(moments.of(values))
            self.quantiles.add(values.astype(np.float64, copy=False))

    def merge(self, other: Distribution) -> None:
        """Take in what the other has seen."""
        self.moments.merge(other.moments)
        self.quantiles.merge(other.quantiles)

    def histogram(self) -> Histogram | None:
        """Equal bins from the least to the greatest value; None without values.

        The counts are those of what the quantile sketch kept, so exact as long as it is, and add up to the count.
        """
        low, high = self.moments.min, self.moments.max
        if low is None or high is None:
            return None
        low, high = float(low), float(high)
        if low == high:
            return Histogram([low, high], [self.moments.count])
        kept = self.quantiles.weighted()
        shares = np.arange(BINS + 1) / BINS
        # Neither the largest numbers overflow here, nor do neighbouring ones change places.
        edges = np.maximum.accumulate(np.clip(low * (1 - shares) + high * shares, low, high))
        counts, _ = np.histogram(np.clip(kept.values, low, high), edges, weights=kept.weights)
        return Histogram(edges.tolist(), np.rint(counts).astype(np.int64).tolist())
