"""A summary of a stream as the contract shows it: null where a figure makes no sense for the type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from actors.domain import NUMERIC, Feature
from actors.stats.distribution import Distribution
from actors.stats.summary import Summary
from actors.timestamps import LAST_MOMENT, format_timestamp
from timewell.monitoring_wire import HistogramAnswer, Spread, StatisticsAnswer, TopValue

SHARES = {"p01": 0.01, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}
TOP_VALUES_SHOWN = 20
_DISTRIBUTED = (*NUMERIC, "timestamp")
_COUNTED = ("string", "boolean", "json")


def statistics_answer(feature: Feature, summary: Summary) -> StatisticsAnswer:
    """All figures of a feature."""
    numeric = feature.value_type in NUMERIC
    distributed = feature.value_type in _DISTRIBUTED
    shown = _as_timestamp if feature.value_type == "timestamp" else plain
    moments = summary.numbers.moments
    answer = StatisticsAnswer(
        feature_id=feature.id,
        count=summary.count,
        null_count=summary.null_count,
        unique_values=summary.distinct.estimate(),
        mean=plain(moments.mean) if numeric and moments.count else None,
        std=plain(moments.std) if numeric else None,
        min=shown(moments.min) if distributed else None,
        max=shown(moments.max) if distributed else None,
        last_updated=None if summary.last_updated is None else format_timestamp(summary.last_updated),
        quantiles=_quantiles(summary.numbers, shown) if distributed else None,
        unique_values_exact=summary.distinct.exact,
    )
    _add_what_the_type_has(answer, feature, summary, shown)
    if summary.count:
        answer.lateness_seconds = _spread(summary.lateness)
    return answer


def _add_what_the_type_has(
    answer: StatisticsAnswer, feature: Feature, summary: Summary, shown: Callable[[Any], Any]
) -> None:
    if feature.value_type in _DISTRIBUTED:
        histogram = summary.numbers.histogram()
        answer.histogram = histogram and HistogramAnswer(
            [shown(edge) for edge in histogram.edges], histogram.counts
        )
    elif feature.value_type in _COUNTED:
        answer.top_values = [
            TopValue(_value_of(feature, text), count) for text, count in summary.top.most(TOP_VALUES_SHOWN)
        ]
    if feature.value_type == "boolean":
        counts = summary.top.counts
        total = sum(counts.values())
        answer.true_rate = plain(counts.get("true", 0) / total) if total else None
    elif feature.value_type in ("string", "json"):
        answer.lengths = _spread(summary.numbers)
    elif feature.value_type == "vector":
        answer.norms = _spread(summary.numbers)


def _value_of(feature: Feature, text: str) -> Any:
    if feature.value_type == "string":
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:  # one that was cut
        return text


def _spread(distribution: Distribution) -> Spread:
    moments = distribution.moments
    mean = plain(moments.mean) if moments.count else None
    return Spread(
        mean, plain(moments.std), plain(moments.min), plain(moments.max), _quantiles(distribution, plain) or {}
    )


def _quantiles(distribution: Distribution, shown: Callable[[Any], Any]) -> dict[str, Any] | None:
    found = distribution.quantiles.at(list(SHARES.values()))
    return {name: shown(value) for name, value in zip(SHARES, found, strict=True)} if found else None


def _as_timestamp(value: float | int | None) -> Any:
    # float64 rounds the last microseconds of the year 9999 into the next.
    return None if value is None else format_timestamp(min(round(value), LAST_MOMENT))


def plain(value: float | int | None) -> float | int | None:
    """5 rather than 5.0, as everywhere."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value
