"""The mean and the variance of each component of a vector, mergeable.

A vector of more than MOST components is first reduced to MOST with random signs (Weinberger et al., "Feature
hashing for large scale multitask learning", 2009), which preserves distances between means in expectation.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

MOST = 768


class Components(msgspec.Struct, gc=False):
    """`mean` and `m2` (sum of squared distances from the mean) are float64[min(d, MOST)] as bytes."""

    count: int = 0
    mean: bytes = b""
    m2: bytes = b""

    def means(self) -> NDArray[np.float64]:
        """The mean of each component: float64[components]."""
        return np.frombuffer(self.mean, np.float64)

    def variances(self) -> NDArray[np.float64]:
        """The population variance of each component: float64[components]."""
        return np.frombuffer(self.m2, np.float64) / max(1, self.count)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add vectors: float32[n, d]."""
        if len(vectors):
            rows = _folded(vectors.astype(np.float64))
            mean = rows.mean(axis=0)
            self.merge(Components(len(rows), mean.tobytes(), ((rows - mean) ** 2).sum(axis=0).tobytes()))

    def merge(self, other: Components) -> None:
        """Merge another one into this (Chan, Golub & LeVeque 1979, as for `Moments`)."""
        if self.count == 0 or other.count == 0:
            if other.count:
                self.count, self.mean, self.m2 = other.count, other.mean, other.m2
            return
        count = self.count + other.count
        delta = other.means() - self.means()
        mean = self.means() + delta * (other.count / count)
        m2 = np.frombuffer(self.m2, np.float64) + np.frombuffer(other.m2, np.float64)
        m2 = m2 + delta**2 * (self.count * other.count / count)
        self.count, self.mean, self.m2 = count, mean.tobytes(), m2.tobytes()


def _folded(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    dimension = rows.shape[1]
    if dimension <= MOST:
        return rows
    folds = -(-dimension // MOST)
    padded = np.zeros((len(rows), folds * MOST))
    padded[:, :dimension] = rows * _signs(dimension)
    return padded.reshape(len(rows), folds, MOST).sum(axis=1)  # type: ignore[no-any-return]


@lru_cache(16)
def _signs(dimension: int) -> NDArray[np.float64]:
    return np.where(np.random.default_rng(dimension).random(dimension) < 0.5, -1.0, 1.0)
