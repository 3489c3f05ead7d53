"""The statistics of a feature in the contract's form: null where a figure makes no sense for the value type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.domain import Feature
from actors.stats.distribution import Distribution
from actors.stats.summary import Summary
from actors.timestamps import format_timestamp
from actors.types.type import Type, plain
from actors.types.values import type_of
from timewell.monitoring_wire import HistogramAnswer, Spread, StatisticsAnswer, TopValue

SHARES = {"p01": 0.01, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}
TOP_VALUES_SHOWN = 20


def statistics_answer(feature: Feature, summary: Summary) -> StatisticsAnswer:
    """All statistics of a feature."""
    type_ = type_of(feature)
    distributed, shown = type_.compared == "amounts", type_.amount_to_json
    moments = summary.numbers.moments
    answer = StatisticsAnswer(
        feature_id=feature.id,
        count=summary.count,
        null_count=summary.null_count,
        unique_values=summary.distinct.estimate(),
        mean=plain(moments.mean) if type_.numeric and moments.count else None,
        std=plain(moments.std) if type_.numeric else None,
        min=shown(moments.min) if distributed else None,
        max=shown(moments.max) if distributed else None,
        last_updated=None if summary.last_updated is None else format_timestamp(summary.last_updated),
        quantiles=_quantiles(summary.numbers, shown) if distributed else None,
        unique_values_exact=summary.distinct.exact,
    )
    _add_what_the_type_has(answer, type_, summary)
    if summary.count:
        answer.lateness_seconds = _spread(summary.lateness)
    return answer


def _add_what_the_type_has(answer: StatisticsAnswer, type_: Type, summary: Summary) -> None:
    if type_.compared == "amounts":
        histogram = summary.numbers.histogram()
        answer.histogram = histogram and HistogramAnswer(
            [type_.amount_to_json(edge) for edge in histogram.edges], histogram.counts
        )
    elif type_.compared == "categories":
        most = summary.top.most(TOP_VALUES_SHOWN)
        answer.top_values = [TopValue(type_.counted_to_json(text), count) for text, count in most]
    if type_.further == "true_rate":
        counts = summary.top.counts
        total = sum(counts.values())
        answer.true_rate = plain(counts.get("true", 0) / total) if total else None
    elif type_.further == "lengths":
        answer.lengths = _spread(summary.numbers)
    elif type_.further == "norms":
        answer.norms = _spread(summary.numbers)


def _spread(distribution: Distribution) -> Spread:
    moments = distribution.moments
    mean = plain(moments.mean) if moments.count else None
    return Spread(
        mean, plain(moments.std), plain(moments.min), plain(moments.max), _quantiles(distribution, plain) or {}
    )


def _quantiles(distribution: Distribution, shown: Callable[[Any], Any]) -> dict[str, Any] | None:
    found = distribution.quantiles.at(list(SHARES.values()))
    return {name: shown(value) for name, value in zip(SHARES, found, strict=True)} if found else None
