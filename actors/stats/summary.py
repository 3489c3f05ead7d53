"""The statistics of one feature's stream of observations."""

from __future__ import annotations

import msgspec

from actors.columns import Block
from actors.stats import moments
from actors.stats.distinct import Distinct, keys_of
from actors.stats.moments import Moments


class Figures(msgspec.Struct, frozen=True):
    """The statistics at one moment. mean and std (population) are of float64, min and max of the values' type."""

    count: int
    null_count: int
    unique_values: int
    unique_values_exact: bool
    mean: float | None
    std: float | None
    min: float | int | None
    max: float | int | None
    last_updated: int | None


class Summary(msgspec.Struct):
    """Over every accepted observation: corrections and repeats count each time they are accepted.

    `created` is that of the feature; `last_updated` the arrival of the newest observation.
    """

    created: int
    count: int = 0
    null_count: int = 0
    last_updated: int | None = None
    distinct: Distinct = msgspec.field(default_factory=Distinct)
    moments: Moments = msgspec.field(default_factory=Moments)

    def add(self, block: Block, arrived: int) -> None:
        """Take in a block of observations."""
        nulls = int(block.nulls.sum())
        values = block.values[~block.nulls] if nulls else block.values
        self.count += len(block.nulls)
        self.null_count += nulls
        self.last_updated = arrived
        if len(values) == 0:
            return
        self.distinct.add(keys_of(values))
        if values.ndim == 1 and values.dtype.kind in "fi":
            self.moments.merge(moments.of(values))

    def merge(self, other: Summary) -> None:
        """Take in what the other has seen."""
        self.count += other.count
        self.null_count += other.null_count
        self.last_updated = max(filter(None, (self.last_updated, other.last_updated)), default=None)
        self.distinct.merge(other.distinct)
        self.moments.merge(other.moments)

    def figures(self) -> Figures:
        """What the summary says now."""
        moments, distinct = self.moments, self.distinct
        return Figures(
            self.count,
            self.null_count,
            distinct.estimate(),
            distinct.exact,
            moments.mean if moments.count else None,
            moments.std,
            moments.min,
            moments.max,
            self.last_updated,
        )
