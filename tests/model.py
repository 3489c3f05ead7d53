"""The naive oracle: dicts and lists, and the contract read aloud. Slow, and too simple to be wrong."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PERCENTILES = {"median": 50, "p90": 90, "p95": 95, "p99": 99}


def rfc3339(micros: int) -> str:
    """A timestamp to send, always with six digits."""
    return (EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Model:
    """What a feature store of one entity type answers."""

    def __init__(self) -> None:
        self.types: dict[str, str] = {}
        self.values: dict[tuple[str, str], dict[int, Any]] = {}
        self.accepted: dict[str, list[Any]] = {}
        self.kept: dict[tuple[str, str], int] = {}
        """How many observations of each pair were accepted and not erased since."""

    def register(self, feature: str, value_type: str) -> None:
        self.types[feature] = value_type
        self.accepted.setdefault(feature, [])

    def delete(self, feature: str) -> None:
        del self.types[feature], self.accepted[feature]
        self.values = {pair: seen for pair, seen in self.values.items() if pair[0] != feature}
        self.kept = {pair: count for pair, count in self.kept.items() if pair[0] != feature}

    def erase(self, entity: str) -> tuple[int, int]:
        """How many observations went, and of how many features. Statistics of the stream stay."""
        gone = [self.kept.pop(pair) for pair in list(self.kept) if pair[1] == entity]
        self.values = {pair: seen for pair, seen in self.values.items() if pair[1] != entity}
        return sum(gone), len(gone)

    def ids(self, entity_type: str, prefix: str) -> list[str]:
        """The ids that anything is known of, sorted."""
        ids = {id_ for feature, id_ in self.values if feature.startswith(f"{entity_type}.")}
        return sorted(id_ for id_ in ids if id_.startswith(prefix))

    def write(self, feature: str, entity: str, value: Any, time: int) -> None:
        self.values.setdefault((feature, entity), {})[time] = value
        self.accepted[feature].append(value)
        self.kept[feature, entity] = self.kept.get((feature, entity), 0) + 1

    def latest(self, feature: str, entity: str, at: int) -> tuple[str, Any]:
        """Status and value as of a moment."""
        seen = {time: value for time, value in self.values.get((feature, entity), {}).items() if time <= at}
        if not seen:
            return "missing", None
        value = seen[max(seen)]
        return ("null" if value is None else "present"), value

    def between(self, feature: str, entity: str, start: int, end: int) -> list[tuple[int, Any]]:
        seen = self.values.get((feature, entity), {})
        return sorted((time, value) for time, value in seen.items() if start <= time <= end)

    def aggregate(self, feature: str, entity: str, start: int, end: int, name: str) -> Any:
        return reduce(name, [value for _, value in self.between(feature, entity, start, end)])

    def closed(
        self, feature: str, entity: str, start: int, end: int, width: int, name: str, closed: str
    ) -> list[Any]:
        """Windows of a range of which some ends do not count. Where the start does not, windows are (a, b]."""
        answers = []
        for low in range(start, max(end, start + 1), width):
            high = min(low + width, end)
            rows = [
                value
                for time, value in self.between(feature, entity, low, high)
                if (low < time or (time == low and closed in ("both", "left")))
                and (
                    time < high
                    or (closed in ("right", "neither") and high < end)
                    or (closed in ("right", "both") and high == end)
                )
            ]
            answers.append(reduce(name, rows))
        return answers

    def windows(self, feature: str, entity: str, start: int, end: int, width: int, name: str) -> list[Any]:
        """Half-open windows but for the last, which is closed."""
        answers = []
        low = start
        while True:
            high = low + width
            last = high >= end
            rows = self.between(feature, entity, low, end if last else high - 1)
            answers.append(reduce(name, [value for _, value in rows]))
            if last:
                return answers
            low = high


def reduce(name: str, given: Sequence[Any]) -> Any:  # noqa: C901
    """One aggregation over the values of a range in time order."""
    values = [value for value in given if value is not None]
    if name == "count":
        return len(values)
    if name == "sum":
        return math.fsum(values) if any(isinstance(value, float) for value in values) else sum(values)
    if not values:
        return None
    match name:
        case "distinct":
            return len({repr(value) for value in values})
        case "latest":
            return values[-1]
        case "first":
            return values[0]
        case "min":
            return min(values)
        case "max":
            return max(values)
        case "avg":
            return statistics.fmean(values)
        case "std":
            return statistics.pstdev(values)
    return float(np.percentile(np.array(values, float), PERCENTILES[name]))
