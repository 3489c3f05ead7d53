"""Samples of one quantity, and their median and quartiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from loadtest.machine.tables import number


class Target(NamedTuple):
    """A bound on the median: from below (`at_least`) or from above."""

    bound: float
    at_least: bool

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


class Result(NamedTuple):
    """Samples of one quantity in one unit. Without a target it is for comparison only."""

    name: str
    unit: str
    samples: Sequence[float]
    target: Target | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper one; half of the samples lie between."""
        if len(self.samples) < 2:
            return self.samples[0], self.samples[0]
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return low, high

    @property
    def middle_half(self) -> str:
        """The interquartile range as text; empty for a single sample."""
        return " .. ".join(map(number, self.quartiles)) if len(self.samples) > 1 else ""

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None without a target."""
        return None if self.target is None else self.target.met(self.median)


def at_least(bound: float) -> Target:
    return Target(bound, True)


def at_most(bound: float) -> Target:
    return Target(bound, False)


def seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def repeated(call: Callable[[], Any], times: int) -> list[float]:
    """Seconds of each of several calls, after one to warm up."""
    call()
    return [seconds(call) for _ in range(times)]
