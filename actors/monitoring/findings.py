"""Evaluates a check against a summary of the stream.

What the summary cannot tell (how many values are out of range, once some are) is counted over the observations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from itertools import compress
from typing import Any, Literal, NamedTuple

import numpy as np

from actors.domain import Feature
from actors.monitoring.checks import (
    Check,
    DriftConfig,
    EnumConfig,
    FreshnessConfig,
    NullConfig,
    PatternConfig,
    RangeConfig,
    UniqueConfig,
    VolumeConfig,
    bounds_of,
)
from actors.stats.drift.judgement import Judgement
from actors.stats.summary import Accepted, Summary
from actors.stats.top_values import LONGEST_BYTES
from actors.timestamps import SECOND, duration, format_timestamp
from actors.types.constraints import constraint_value
from actors.types.patterns import Search, Unusable
from actors.types.type import Nulls
from actors.types.values import type_of


class Finding(NamedTuple):
    """The result of a check. `observed`: the figure that was compared: a rate, a count, seconds, a drift score."""

    status: Literal["passing", "failing", "insufficient"]
    observed: float | int | None
    message: str


Reader = Callable[[], Iterable[Accepted]]
"""Reads the observations that a summary was computed from."""


def evaluate(
    check: Check, feature: Feature, summary: Summary, newest: int | None, now: int, read: Reader
) -> Finding:
    """Evaluate any check but a drift check.

    `newest`: the newest event time, None for none; `now`: the wall clock; `read` may block.
    """
    config = check.typed
    match config:
        case FreshnessConfig():
            return _freshness(config, newest, feature.created, now)
        case VolumeConfig():
            found, low, high = summary.count, config.min, config.max
            return _bounded(found, low, high, f"{found} observations in the last {config.window}")
    if summary.count == 0:
        return Finding("insufficient", None, "no observations to look at")
    if isinstance(config, NullConfig):
        rate = summary.null_count / summary.count
        return _rate(rate, config.max_null_rate, f"{summary.null_count} of {summary.count} are null")
    if isinstance(config, UniqueConfig):
        distinct = summary.distinct
        about = "" if distinct.exact else "about "
        found = distinct.estimate()
        return _bounded(found, config.min_unique, config.max_unique, f"{about}{found} distinct values")
    values = summary.count - summary.null_count
    if values == 0:
        return Finding("insufficient", None, "nothing but nulls to look at")
    try:
        broken, values = _violations(config, feature, summary, read)
    except Unusable as error:
        return Finding(
            "insufficient", None, f"config.regex {error}; replace the check by one with another pattern"
        )
    what = f"{broken} of {values} values {_BREAKS[type(config)]}"
    return _rate(broken / max(1, values), config.max_violation_rate, what)


_BREAKS: dict[type, str] = {
    RangeConfig: "are out of range",
    EnumConfig: "are not among the allowed ones",
    PatternConfig: "do not match",
}


def _freshness(config: FreshnessConfig, newest: int | None, created: int, now: int) -> Finding:
    if newest is None:  # a feature that was just registered has max_age to get its first value
        age = max(0.0, (now - created) / SECOND)
        message = f"never written up to now, registered {age:.0f} s ago (at most {config.max_age})"
        return Finding("insufficient" if age * SECOND <= duration(config.max_age) else "failing", None, message)
    age = max(0.0, (now - newest) / SECOND)
    message = f"the newest event time is {format_timestamp(newest)}, {age:.0f} s ago (at most {config.max_age})"
    return Finding("passing" if age * SECOND <= duration(config.max_age) else "failing", age, message)


def _rate(rate: float, most: float, what: str) -> Finding:
    status: Any = "passing" if rate <= most else "failing"
    return Finding(status, rate, f"{what}: {rate:.4g} (at most {most:g})")


def _bounded(found: int, low: int | None, high: int | None, what: str) -> Finding:
    if low is not None and found < low:
        return Finding("failing", found, f"{what}, at least {low} expected")
    if high is not None and found > high:
        return Finding("failing", found, f"{what}, at most {high} expected")
    return Finding("passing", found, what)


def _violations(config: Any, feature: Feature, summary: Summary, read: Reader) -> tuple[int, int]:
    """Count the values that break the rule, and all values: from the summary, or else from the observations."""
    if isinstance(config, RangeConfig):
        low, high = bounds_of(feature, config)
        moments = summary.numbers.moments
        assert moments.min is not None and moments.max is not None
        if (low is None or moments.min >= low) and (high is None or moments.max <= high):
            return 0, moments.count
        return _count(read, lambda values: _outside(values, low, high))
    if isinstance(config, EnumConfig):
        allowed = {constraint_value(feature.value_type, value, "config.values") for value in config.values}
        return _count_texts(summary, feature, read, lambda values: _foreign(values, allowed))
    return _count_texts(summary, feature, read, Search(config.regex).misses)


def _foreign(values: Sequence[Any], allowed: Set[Any]) -> Nulls:
    return np.fromiter((value not in allowed for value in values), np.bool_, len(values))


def _outside(values: Any, low: Any, high: Any) -> Nulls:
    outside = np.zeros(len(values), np.bool_)
    if low is not None:
        outside |= values < low
    if high is not None:
        outside |= values > high
    return outside


def _count(read: Reader, broken: Callable[[Any], Nulls]) -> tuple[int, int]:
    found = seen = 0
    for part in read():
        found += int(np.count_nonzero(broken(part.values) & ~part.nulls))
        seen += int(np.count_nonzero(~part.nulls))
    return found, seen


def _count_texts(
    summary: Summary, feature: Feature, read: Reader, broken: Callable[[Sequence[Any]], Nulls]
) -> tuple[int, int]:
    texts = summary.top.counts
    known: Sequence[Any] | None = None
    if summary.top.exact and _whole(texts):
        known = type_of(feature).values_counted(list(texts))
    if known is not None:
        counts = np.fromiter(texts.values(), np.int64, len(texts))
        return int(counts[broken(known)].sum()), int(counts.sum())

    def each(values: Any) -> Nulls:
        told = values.tolist()
        distinct = list({value for value in told if value is not None})
        bad = set(compress(distinct, broken(distinct).tolist()))
        return np.fromiter((value in bad for value in told), np.bool_, len(told))

    return _count(read, each)


def _whole(texts: Iterable[str]) -> bool:
    """Whether none of the texts can have been truncated for the summary."""
    return all(len(text.encode()) < LONGEST_BYTES - 4 for text in texts)


def evaluate_drift(check: Check, judgement: Judgement) -> Finding:
    """Evaluate a drift check."""
    config: DriftConfig = check.typed
    message = "; ".join(judgement.reasons) or judgement.verdict
    if judgement.verdict == "insufficient":
        return Finding("insufficient", judgement.score, message)
    # Without a threshold, drift of low severity is in the message, but does not fail the check.
    fails = judgement.verdict == "drift" and (config.threshold is not None or judgement.severity != "low")
    return Finding("failing" if fails else "passing", judgement.score, message)
