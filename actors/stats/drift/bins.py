"""Bins between the reference's quantiles, and how many observations of each side fall into them."""

from __future__ import annotations

import numpy as np

from actors.stats.drift.sample import Floats, Sample

BINS = 10


def edges_of(reference: Sample, bins: int = BINS) -> Floats:
    """The inner edges of the bins, ascending. Bin i holds values in (edges[i - 1], edges[i]]; the first and the
    last bin are open-ended. Equal quantiles are merged. A value so frequent that two quantiles fall on it gets a
    bin of its own: otherwise a shift to one side of it would stay in the same bin as the value itself.

    >>> from actors.stats.drift.sample import of
    >>> edges_of(of(range(1, 101)), 4).tolist()
    [25.0, 50.0, 75.0]
    >>> edges_of(of([0.0] * 80 + [1.0] * 20), 4).tolist()  # three bins: below 0, 0, above 0
    [-5e-324, 0.0]
    """
    quantiles, times = np.unique(reference.quantiles(np.arange(1, bins) / bins), return_counts=True)
    with np.errstate(over="ignore", under="ignore"):
        below = np.nextafter(quantiles[times > 1], -np.inf)
    return np.unique(np.concatenate((quantiles, below)))


def counts_in(sample: Sample, edges: Floats) -> Floats:
    """How many observations fall into each bin: float64[len(edges) + 1]."""
    shares = np.concatenate(([0.0], sample.share_up_to(edges), [1.0]))
    return np.asarray(np.diff(shares) * sample.count, np.float64)


def counts_of(reference: Sample, current: Sample, bins: int = BINS) -> tuple[Floats, Floats]:
    """The counts of both samples in the reference's bins, without bins that are empty on both sides."""
    edges = edges_of(reference, bins)
    return occupied(counts_in(reference, edges), counts_in(current, edges))


def occupied(reference: Floats, current: Floats) -> tuple[Floats, Floats]:
    """Remove the bins that are empty on both sides."""
    some = reference + current > 0
    return reference[some], current[some]
