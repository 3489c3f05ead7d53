"""Results of a workload on Timewell and on a peer."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from msgspec import Struct

from loadtest.compare.work import Timed, Workload
from loadtest.machine.measure import Result


class Side(Struct, rename="camel"):
    """Timewell or the peer. Samples in the unit of the workload, one for each round."""

    samples: list[float] = []
    processor_ms: float | None = None
    """Processor time of the servers for each request, batch or training set."""

    @property
    def median(self) -> float | None:
        return statistics.median(self.samples) if self.samples else None


class Comparison(Struct, rename="camel"):
    """A workload on Timewell and on a peer."""

    workload: str
    about: str
    unit: str
    peer: str
    ours: Side
    theirs: Side
    times_better: list[float]
    """For each round, how many times as fast as the peer Timewell was."""
    checked_values: int = 0
    """How many values were compared and found equal."""
    left_out: int = 0
    """How many rows of the training set the peer left out, since some feature had no value yet."""
    at_least: float | None = None
    """If the peer exceeded the time limit: times_better is this or more."""
    limit_seconds: float | None = None
    failure: str | None = None
    """The error, if one occurred."""

    @property
    def spread(self) -> Result | None:
        """The median and the quartiles of `times_better`, if there are any."""
        return Result(self.workload, "x", self.times_better) if self.times_better else None


def sample(workload: Workload, done: Timed) -> float:
    """A round in the unit of its workload: a rate, or the seconds of one request."""
    return (
        done.finished * workload.each / done.seconds if workload.more_is_better else done.seconds / done.finished
    )


def times_better(workload: Workload, ours: float, theirs: float) -> float:
    """How many times as fast as the peer Timewell is."""
    return ours / theirs if workload.more_is_better else theirs / ours


def side(workload: Workload, rounds: Sequence[Timed]) -> Side:
    found = Side([sample(workload, done) for done in rounds])
    if spent := sum(done.processor_seconds or 0.0 for done in rounds):
        found.processor_ms = 1e3 * spent / sum(done.finished for done in rounds)
    return found


def comparison(workload: Workload, peer: str, ours: Sequence[Timed], theirs: Sequence[Timed]) -> Comparison:
    """Both sides, and the ratio of each pair of rounds."""
    mine, other = side(workload, ours), side(workload, theirs)
    ratios = [times_better(workload, *pair) for pair in zip(mine.samples, other.samples, strict=False)]
    return Comparison(workload.name, workload.about, workload.unit, peer, mine, other, ratios)


def unfinished(workload: Workload, peer: str, ours: Sequence[Timed], limit: float) -> Comparison:
    """The peer did not answer within the limit."""
    found = comparison(workload, peer, ours, [])
    found.limit_seconds = limit
    if (median := found.ours.median) is not None:
        found.at_least = times_better(workload, median, sample(workload, Timed(1, limit)))
    return found
