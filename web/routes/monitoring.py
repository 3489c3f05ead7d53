"""What the monitor knows of a feature's write stream."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response

from actors.domain import NUMERIC, Feature
from actors.router import Router
from actors.stats.summary import Figures
from actors.timestamps import format_timestamp
from web.requests import Query, encode
from web.schema import StatisticsAnswer


def blueprint(router: Router) -> Blueprint:
    """The chapter "Monitoring"."""
    routes = Blueprint("monitoring", __name__)

    @routes.get("/features/<reference>/stats")
    async def stats(reference: str) -> Response:
        Query(())
        feature = router.registry.resolve(reference)
        return encode(statistics_answer(feature, await router.statistics(feature)))

    return routes


def statistics_answer(feature: Feature, figures: Figures) -> StatisticsAnswer:
    """The figures as the contract shows them: null where they make no sense for the type."""
    numeric = feature.value_type in NUMERIC
    return StatisticsAnswer(
        feature_id=feature.id,
        count=figures.count,
        null_count=figures.null_count,
        unique_values=figures.unique_values,
        mean=_plain(figures.mean) if numeric else None,
        std=_plain(figures.std) if numeric else None,
        min=_bound(feature, figures.min),
        max=_bound(feature, figures.max),
        last_updated=None if figures.last_updated is None else format_timestamp(figures.last_updated),
        unique_values_exact=figures.unique_values_exact,
    )


def _bound(feature: Feature, value: float | int | None) -> Any:
    if value is None or feature.value_type in NUMERIC:
        return _plain(value)
    return format_timestamp(int(value)) if feature.value_type == "timestamp" else None


def _plain(value: float | int | None) -> float | int | None:
    """5 rather than 5.0, as everywhere."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value
